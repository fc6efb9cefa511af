//! Endpoints that ended are forgotten once the ledger names them no more: an app whose users come
//! and go would otherwise make memory grow for ever.
//!
//! Absent here: when the ledger forgets; see the embedded store's `purge`.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::id::EndpointId;
use postrider_core::time::Time;

use crate::clock::Clock;
use crate::registry::{Registry, RegistryError};
use crate::store::{Query, ReadError, Reader};

/// Between two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(3_600);

/// Forgets what ended, an hour apart.
pub(super) struct Forgetting {
    pub(super) registry: Arc<Registry>,
    pub(super) reader: Arc<dyn Reader>,
    pub(super) clock: Arc<Clock>,
    /// How long the ledger remembers.
    pub(super) keep_ms: i64,
}

/// A round could not be finished; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum ForgettingError {
    /// The registry could not be written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The ledger could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Forgetting {
    /// Goes on until the task is ended.
    pub(super) async fn run(self) {
        let mut round = tokio::time::interval(ROUND_EVERY);
        loop {
            round.tick().await;
            let (registry, reader) = (Arc::clone(&self.registry), Arc::clone(&self.reader));
            let before = self.clock.now().plus(-self.keep_ms);
            let round = move || forget(&registry, &*reader, before);
            match tokio::task::spawn_blocking(round).await {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(forgotten)) => {
                    tracing::info!(forgotten, "endpoints that ended are forgotten")
                }
                Ok(Err(error)) => tracing::warn!(%error, "endpoints that ended are kept for now"),
            }
        }
    }
}

/// Forgets the endpoints that ended before a moment and of which the ledger has no delivery.
///
/// # Errors
/// [`ForgettingError`].
pub fn forget(
    registry: &Registry,
    reader: &dyn Reader,
    before: Time,
) -> Result<usize, ForgettingError> {
    registry.forget_ended(before, |endpoint: EndpointId| {
        let newest = Query {
            endpoint: Some(endpoint),
            limit: 1,
            ..Query::default()
        };
        Ok(!reader.list(&newest)?.deliveries.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use postrider_core::cause::Cause;
    use postrider_core::id::PolicyId;
    use postrider_core::policy::Policy;

    use super::*;
    use crate::registry::{Change, Endpoint, EndpointDraft, Gatekeeper, KEY_PACE, Kind, Registry};
    use crate::store::conformance::author::{Author, Wish};
    use crate::store::model::ModelStore;
    use crate::store::{Ledger as _, Verdict};
    use crate::vault::Vault;

    #[derive(Default)]
    struct Forgotten(Mutex<Vec<EndpointId>>);

    impl Gatekeeper for Forgotten {
        fn endpoint_changed(&self, _: &Arc<Endpoint>, _: Change) {}

        fn endpoint_forgotten(&self, id: EndpointId) {
            self.0.lock().push(id);
        }

        fn policy_changed(&self, _: &Arc<Policy>) {}
    }

    fn draft() -> EndpointDraft {
        let url = "https://push.example.com/a".parse().unwrap();
        EndpointDraft {
            recipient: "anna".to_owned(),
            ..EndpointDraft::new(url, Kind::Webhook, PolicyId(1))
        }
    }

    #[test]
    fn what_ended_long_ago_and_nothing_names_is_forgotten_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Registry::open(dir.path(), &Vault::of(&[7; 32]), KEY_PACE).unwrap();
        let registry = open();
        let heard = Arc::new(Forgotten::default());
        registry.announce_to(heard.clone());
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id;
        let made = || registry.create_endpoint(tenant, draft(), Time(1)).unwrap();
        let [alive, named, lately, retired, deleted] = [(); 5].map(|()| made());
        for endpoint in [&named, &retired] {
            registry.retire(endpoint.id, Cause::Gone, Time(50)).unwrap();
        }
        registry.retire(lately.id, Cause::Gone, Time(150)).unwrap();
        registry.delete_endpoint(deleted.id, Time(60)).unwrap();

        let store = ModelStore::default();
        let (mut ledger, reader) = store.open();
        let recovery = ledger.recover(&mut |_| {}).unwrap();
        let mut author = Author::after(&recovery, Time(40));
        let admitted = author.admit(&Wish::one(1, named.id.0));
        assert_eq!(ledger.record(&[admitted]).unwrap(), [Verdict::Recorded]);

        assert_eq!(forget(&registry, &*reader, Time(100)).unwrap(), 2);
        let mut gone = heard.0.lock().clone();
        gone.sort();
        assert_eq!(gone, [retired.id, deleted.id]);
        assert_eq!(forget(&registry, &*reader, Time(100)).unwrap(), 0);
        store.purge(|_, _| true);
        assert_eq!(
            forget(&registry, &*reader, Time(100)).unwrap(),
            1,
            "the last row has gone"
        );

        drop(registry);
        let registry = open();
        for endpoint in [&named, &retired, &deleted] {
            assert!(registry.endpoint(endpoint.id).is_none());
            assert!(registry.endpoint_by_uuid(endpoint.uuid).is_none());
        }
        assert!(registry.endpoint(lately.id).is_some() && registry.endpoint(alive.id).is_some());
        let mut found = Vec::new();
        registry
            .directory()
            .of_recipient(tenant, "anna", &mut found);
        assert_eq!(found.len(), 1);
        let next = registry
            .create_endpoint(tenant, draft(), Time(200))
            .unwrap();
        assert!(next.id > deleted.id, "an id means one endpoint for ever");
    }
}
