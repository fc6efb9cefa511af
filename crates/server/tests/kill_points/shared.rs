//! The simulator's checkers over what a point leaves: the directory, opened once more, what callers
//! were told, and what the receivers wrote down.
//!
//! Absent here: what the demo's checkers hold beside them.

use std::path::Path;
use std::sync::Arc;

use postrider::cli::demo::evidence::Said;
use postrider::fake::Record;
use postrider::http::intake::Locate;
use postrider::registry::{KEY_PACE, Registry};
use postrider::run::gate;
use postrider::stamp::OuterIds;
use postrider::store::Ledger as _;
use postrider::store::embedded::{Options, open};
use postrider::vault::{MASTER_KEY_FILE, Vault};
use postrider_core::id::CorrelationId;
use postrider_core::time::Time;
use uuid::Uuid;

use crate::history_kit::afterwards::{Answer, Arrival, Remains};

/// Everything that is left. The engine must be gone.
pub fn remains<'a>(
    data: &Path,
    said: impl Iterator<Item = &'a Said>,
    received: &[Record],
) -> Remains {
    let vault = Arc::new(Vault::open(&data.join(MASTER_KEY_FILE)).expect("the master key"));
    let ids = OuterIds::new(&vault);
    let registry = Registry::open(data, &vault, KEY_PACE).expect("the registry");
    let (mut ledger, reader) = open(data, Options::new(Arc::clone(&vault))).expect("the store");
    ledger.recover(&mut |_| ()).expect("it recovers");
    let mut remains = Remains::of(&*reader).expect("it reads");
    let policies = registry.policies();
    remains.policies = policies.versions().to_vec();
    let directory = registry.directory();
    remains.gates = directory.iter().map(|it| gate(it, &policies)).collect();
    remains.answers = said.map(|said| answer(&ids, said)).collect();
    remains.arrivals = received.iter().filter_map(arrival).collect();
    remains
}

fn answer(ids: &OuterIds, said: &Said) -> Answer {
    let uuid = |text: &str| text.parse::<Uuid>().expect("a UUID").as_u128();
    let decoded = |text: &String| {
        let outer = CorrelationId(uuid(text));
        (ids.delivery(outer), outer)
    };
    Answer {
        repeat: said.repeat,
        event: ids.event(uuid(&said.event)),
        deliveries: said.deliveries.iter().map(decoded).collect(),
    }
}

/// A request that says whose it is.
fn arrival(record: &Record) -> Option<Arrival> {
    let outer: Uuid = record.correlation_id.parse().ok()?;
    Some(Arrival {
        at: Time(i64::try_from(record.arrived_us / 1_000).ok()?),
        attempt: (CorrelationId(outer.as_u128()), record.attempt),
        processed: record.processed,
    })
}
