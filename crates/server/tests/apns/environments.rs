//! A token of the one environment on a route to the other.

use std::sync::Arc;

use postrider::fake::apns::{Apns, Device, Settings, Wanted};
use postrider::registry::{EndpointState, Registered, Route};
use postrider_core::cause::Cause;
use postrider_core::ledger::{Fact, State};
use postrider_core::outcome::OutcomeKind;

use super::kit::{APP, token};
use super::node_kit::{deliveries, rest};
use super::rig::Rig;

/// Apple's two services, and a route to each for one app. Production knows no token.
struct Two {
    rig: Rig,
    sandbox: Apns,
    to_production: Arc<Route>,
    to_sandbox: Arc<Route>,
}

impl Two {
    async fn start() -> Two {
        let rig = Rig::start().await;
        let sandbox = Apns::start(Settings::default()).await.unwrap();
        rig.key.trusted_by(sandbox.service());
        rig.service().welcome_strangers(false);
        let to_production = rig.route("ios", &rig.key);
        let to_sandbox = rig.route_to(sandbox.service(), "ios-sandbox", &rig.key, true);
        Two {
            rig,
            sandbox,
            to_production,
            to_sandbox,
        }
    }

    /// Requests so far: in production, in the sandbox.
    fn arrived(&self) -> (u64, u64) {
        (
            self.rig.service().arrived(),
            self.sandbox.service().arrived(),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_sandbox_is_found_there_and_stays_there() {
    let two = Two::start().await;
    let (rig, registry) = (&two.rig, &two.rig.node.registry);
    let (device, _) = rig.register(&two.to_production, 1, "phone");
    rig.alert(std::slice::from_ref(&device), 1).await;
    rest(&rig.node).await;
    let row = rig.row(device.id);
    assert_eq!((row.state, row.attempt), (State::Accepted, 2));
    assert_eq!(two.arrived(), (1, 1));
    let said: Vec<_> = rig.node.reader.history(&row).unwrap();
    let said: Vec<_> = said
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::Answered { outcome, .. } => Some((outcome.kind, outcome.cause)),
            _ => None,
        })
        .collect();
    let refused = (OutcomeKind::Retry, Cause::BadToken);
    let taken = (OutcomeKind::Accept, Cause::Accepted);
    assert_eq!(said, [refused, taken], "the journal tells of both");
    let is_there = |why: &str| {
        let now = registry.endpoint(device.id).unwrap();
        assert_eq!(now.route, Some(two.to_sandbox.id), "{why}");
        let moved_from = now.device.as_ref().unwrap().moved_from;
        assert_eq!(moved_from, Some(two.to_production.id), "{why}");
    };
    is_there("it was moved");
    // The application does not know, and says what it always says.
    let (again, registered) = rig.register(&two.to_production, 1, "phone");
    assert_eq!((again.id, registered), (device.id, Registered::Refreshed));
    is_there("it stays");
    rig.alert(&[again], 2).await;
    rest(&rig.node).await;
    assert_eq!(two.arrived(), (1, 2), "production is not asked again");
    // Another token is another matter.
    let (other, registered) = rig.register(&two.to_production, 2, "phone");
    assert_eq!((other.id, registered), (device.id, Registered::Replaced));
    assert_eq!(other.route, Some(two.to_production.id));
    assert_eq!(other.device.as_ref().unwrap().moved_from, None);
    two.rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_neither_knows_is_tried_once_in_each() {
    let two = Two::start().await;
    let rig = &two.rig;
    two.sandbox.service().welcome_strangers(false);
    let (device, _) = rig.register(&two.to_production, 1, "phone");
    rig.alert(std::slice::from_ref(&device), 1).await;
    rest(&rig.node).await;
    let row = rig.row(device.id);
    assert_eq!((row.state, row.cause), (State::Rejected, Cause::BadToken));
    assert_eq!(two.arrived(), (1, 1));
    super::rig::eventually("its end", || {
        let state = &rig.node.registry.endpoint(device.id).unwrap().state;
        let bad = Cause::BadToken;
        matches!(state, EndpointState::Retired { cause, .. } if *cause == bad)
    })
    .await;
    two.rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_are_refused_at_once_move_the_device_once() {
    let two = Two::start().await;
    let rig = &two.rig;
    for service in [rig.service(), two.sandbox.service()] {
        service.streams(3, 3);
    }
    let (device, _) = rig.register(&two.to_production, 1, "phone");
    rig.service().hold(true);
    for number in 1..=3 {
        rig.alert(std::slice::from_ref(&device), number).await;
    }
    super::rig::eventually("all at once", || rig.service().held() == 3).await;
    rig.service().hold(false);
    rest(&rig.node).await;
    let rows = deliveries(&rig.node, device.id);
    assert!(
        rows.iter().all(|row| row.state == State::Accepted),
        "{rows:?}"
    );
    let taken = Wanted {
        http_status: Some(200),
        ..Wanted::default()
    };
    assert_eq!(two.sandbox.service().notifications(&taken).len(), 3);
    assert_eq!(two.arrived(), (3, 3), "each is refused once");
    let now = rig.node.registry.endpoint(device.id).unwrap();
    assert_eq!(now.route, Some(two.to_sandbox.id));
    two.rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_replaced_meanwhile_moves_nothing() {
    let two = Two::start().await;
    let (rig, registry) = (&two.rig, &two.rig.node.registry);
    let known = Device {
        token: token(2),
        app: APP.to_owned(),
        gone_since: None,
    };
    rig.service().device(known).unwrap();
    two.sandbox.service().welcome_strangers(false);
    let (device, _) = rig.register(&two.to_production, 1, "phone");
    rig.service().hold(true);
    rig.alert(std::slice::from_ref(&device), 1).await;
    super::rig::eventually("a request", || rig.service().held() == 1).await;
    let (again, registered) = rig.register(&two.to_production, 2, "phone");
    assert_eq!((again.id, registered), (device.id, Registered::Replaced));
    rig.service().hold(false);
    rest(&rig.node).await;
    let row = rig.row(device.id);
    assert_eq!((row.state, row.attempt), (State::Accepted, 2));
    assert_eq!(two.arrived(), (2, 0), "the new token was never refused");
    let now = registry.endpoint(device.id).unwrap();
    assert_eq!(now.route, Some(two.to_production.id));
    assert_eq!(now.device.as_ref().unwrap().moved_from, None);
    assert_eq!(now.state, EndpointState::Active);
    two.rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_open_route_to_the_other_one_it_is_over() {
    let rig = Rig::start().await;
    rig.service().welcome_strangers(false);
    let route = rig.route("ios", &rig.key);
    let (device, _) = rig.register(&route, 1, "phone");
    // The same environment, and a sandbox that a person has paused.
    rig.route("ios-again", &rig.key);
    let paused = rig.route_to(rig.service(), "ios-sandbox", &rig.key, true);
    let now = rig.node.clock.now();
    let pause = rig.node.registry.change_route(paused.id, now, |route| {
        route.paused = Some(("by hand".to_owned(), now));
        Ok(())
    });
    pause.unwrap();
    rig.alert(std::slice::from_ref(&device), 1).await;
    rest(&rig.node).await;
    let row = rig.row(device.id);
    assert_eq!((row.state, row.attempt), (State::Rejected, 1));
    assert_eq!(row.cause, Cause::BadToken);
    rig.node.stop().unwrap();
}
