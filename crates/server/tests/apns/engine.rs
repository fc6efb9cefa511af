//! Our channel, through a whole node and over real connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider::fake::apns::{Act, Device, Script, Wanted};
use postrider::registry::{Endpoint, EndpointState};
use postrider_core::cause::Cause;
use postrider_core::ledger::State;
use postrider_core::time::{MINUTE_MS, SECOND_MS};

use super::kit::{APP, Key, token};
use super::rig::{Rig, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_idle_for_too_long_makes_way_for_another() {
    let rig = Rig::start().await;
    let route = rig.route("main", &rig.key);
    let device = rig.device(&route, 1);
    let script = Script {
        token: token(1),
        acts: [Act::refuse(400, "IdleTimeout")].into(),
        forever: false,
    };
    rig.service().script(script).unwrap();
    rig.alert(std::slice::from_ref(&device), 1).await;
    super::node_kit::rest(&rig.node).await;
    let row = rig.row(device.id);
    assert_eq!((row.state, row.attempt), (State::Accepted, 2));
    let came = rig.service().notifications(&Wanted::default());
    assert_ne!(came[0].connection, came[1].connection);
    rig.node.stop().unwrap();
}

fn is_retired(rig: &Rig, device: &Endpoint) -> bool {
    let endpoint = rig.node.registry.endpoint(device.id).unwrap();
    matches!(endpoint.state, EndpointState::Retired { .. })
}

/// Requests for a device so far.
fn arrived(rig: &Rig, device: &Endpoint) -> usize {
    let token = device.url.path().rsplit('/').next().map(str::to_owned);
    let wanted = Wanted {
        token,
        ..Wanted::default()
    };
    rig.service().notifications(&wanted).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_until_the_first_answer_then_as_many_as_the_far_side_says() {
    let rig = Rig::start().await;
    let route = rig.route("main", &rig.key);
    let devices: Vec<_> = (1..=300).map(|n| rig.device(&route, n)).collect();
    let service = rig.service();
    service.streams(1, 1_000);
    service.hold(true);
    rig.alert(&devices, 1).await;
    // One on each connection, and no connection more than allowed.
    eventually("a request on each connection", || service.held() == 4).await;
    assert_eq!(service.connections(), 4);
    service.hold(false);
    eventually("all of them", || service.arrived() == 300).await;
    // Fewer streams from now on, and the rest waits here.
    service.allow_streams(2);
    service.hold(true);
    rig.alert(&devices, 2).await;
    eventually("two on each connection", || service.held() == 8).await;
    service.allow_streams(50);
    eventually("fifty on each connection", || service.held() >= 150).await;
    service.hold(false);
    eventually("all of them", || service.arrived() == 600).await;
    super::node_kit::rest(&rig.node).await;
    assert_eq!(
        service.refused_streams(),
        0,
        "the client kept to what was said"
    );
    assert_eq!(service.connections(), 4);
    let accepted = Wanted {
        http_status: Some(200),
        ..Wanted::default()
    };
    assert_eq!(service.notifications(&accepted).len(), 600);
    rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goaway_in_the_middle_loses_nothing_and_shows_nothing_twice() {
    let rig = Rig::start().await;
    let route = rig.route("main", &rig.key);
    let devices: Vec<_> = (1..=200).map(|n| rig.device(&route, n)).collect();
    let service = rig.service();
    service.streams(100, 100);
    service.hold(true);
    rig.alert(&devices, 1).await;
    eventually("a request for each device", || service.held() == 200).await;
    // On each connection ten were processed and got no answer; the rest were not.
    service.go_away("Shutdown", 10);
    service.hold(false);
    super::node_kit::rest(&rig.node).await;
    let mut unknown = 0;
    for device in &devices {
        let row = rig.row(device.id);
        assert_eq!((row.state, row.cause), (State::Accepted, Cause::Accepted));
        let token = device.url.path().rsplit('/').next().unwrap();
        let shown = service.shown(token);
        assert_eq!(shown.len(), 1, "{shown:?}");
        // Only a request that was processed and not answered came twice, and was an attempt.
        assert_eq!(u32::try_from(shown[0].times), Ok(row.attempt), "{shown:?}");
        assert_eq!(row.may_have_acted, row.attempt == 2);
        unknown += u32::from(row.attempt == 2);
    }
    let connections = u32::try_from(service.connections()).unwrap();
    assert!(connections >= 4, "{connections}");
    assert!((10..=40).contains(&unknown), "{unknown} were in doubt");
    rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_renewed_on_other_connections_and_nothing_is_lost() {
    let rig = Rig::start().await;
    let route = rig.route("main", &rig.key);
    let devices: Vec<_> = (1..=100).map(|n| rig.device(&route, n)).collect();
    let service = rig.service();
    rig.alert(&devices, 1).await;
    super::node_kit::rest(&rig.node).await;
    // Apple's clock is ahead of ours, by as much as makes the token an hour old.
    let age_s = rig.node.clock.wall().0 / SECOND_MS - issued(&rig).last().unwrap();
    service.clock_ahead(3_601 - age_s);
    rig.alert(&devices, 2).await;
    super::node_kit::rest(&rig.node).await;
    for device in &devices {
        let rows = super::node_kit::deliveries(&rig.node, device.id);
        let all = rows.iter().all(|row| row.state == State::Accepted);
        assert!(all && rows.len() == 2, "{rows:?}");
    }
    assert_eq!(issued(&rig).len(), 2, "one renewal, for all");
    let refused = Wanted {
        reason: Some("ExpiredProviderToken".to_owned()),
        ..Wanted::default()
    };
    let refused = service.notifications(&refused);
    let wedged: BTreeSet<u64> = refused.iter().map(|it| it.connection).collect();
    assert!(!wedged.is_empty(), "nobody met the expired token");
    // Another that stands and never saw the old token serves as well as a new one.
    let left = service.connections() - wedged.len() as u64;
    eventually(
        "an end of every connection that saw an expired token",
        || service.standing() as u64 <= left,
    )
    .await;
    rig.node.stop().unwrap();
}

/// Times of issue of the tokens that were let in.
fn issued(rig: &Rig) -> BTreeSet<i64> {
    let accepted = Wanted {
        http_status: Some(200),
        ..Wanted::default()
    };
    let all = rig.service().notifications(&accepted);
    all.iter().map(|it| it.issued_s).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_holds_the_route_and_a_right_one_opens_it() {
    let rig = Rig::start().await;
    let wrong = Key::new();
    let route = rig.route("main", &wrong);
    let devices: Vec<_> = (1..=50).map(|n| rig.device(&route, n)).collect();
    rig.alert(&devices, 1).await;
    let rows = || devices.iter().map(|device| rig.row(device.id));
    eventually("a refusal", || {
        rows().any(|row| row.cause == Cause::AuthFailure)
    })
    .await;
    eventually("an end of what was on its way", || {
        rows().all(|row| row.state == State::Scheduled)
    })
    .await;
    assert!(
        rows().all(|row| row.attempt == u32::from(row.unspent)),
        "no attempt is spent"
    );
    let refused = rig.service().arrived();
    assert!(devices.iter().all(|device| !is_retired(&rig, device)));
    rig.renew(route.id, &rig.key);
    super::node_kit::rest(&rig.node).await;
    for row in rows() {
        assert_eq!((row.state, row.cause), (State::Accepted, Cause::Accepted));
    }
    assert_eq!(rig.service().arrived(), refused + 50);
    rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_token_that_was_registered_again_lives() {
    let rig = Rig::start().await;
    let route = rig.route("main", &rig.key);
    let now_ms = rig.node.clock.wall().0;
    let mut devices: BTreeMap<&str, Arc<Endpoint>> = BTreeMap::new();
    let table = [
        ("dead", 1, now_ms + MINUTE_MS),
        ("alive", 2, now_ms - MINUTE_MS),
    ];
    for (name, number, gone_since) in table {
        let gone = Device {
            token: token(number),
            app: APP.to_owned(),
            gone_since: Some(gone_since),
        };
        rig.service().device(gone).unwrap();
        devices.insert(name, rig.device(&route, number));
    }
    let all: Vec<_> = devices.values().cloned().collect();
    rig.alert(&all, 1).await;
    super::node_kit::rest(&rig.node).await;
    eventually("its retirement", || is_retired(&rig, &devices["dead"])).await;
    assert!(!is_retired(&rig, &devices["alive"]));
    for device in &all {
        assert_eq!(rig.row(device.id).state, State::Rejected);
        assert_eq!(arrived(&rig, device), 1, "it is not tried again");
    }
    rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shown_without_an_answer_is_shown_once() {
    let rig = Rig::start().await;
    let route = rig.route("main", &rig.key);
    let device = rig.device(&route, 1);
    let silent = Act {
        end: Some(postrider::fake::apns::End::Reset),
        ..Act::default()
    };
    let script = Script {
        token: token(1),
        acts: [silent].into(),
        forever: false,
    };
    rig.service().script(script).unwrap();
    rig.alert(std::slice::from_ref(&device), 1).await;
    super::node_kit::rest(&rig.node).await;
    let row = rig.row(device.id);
    assert_eq!((row.state, row.attempt), (State::Accepted, 2));
    let came = rig.service().notifications(&Wanted::default());
    assert_eq!(came.len(), 2);
    assert_eq!(came[0].apns_id, came[1].apns_id);
    assert_eq!(came[0].body, came[1].body);
    assert_eq!(came[0].expiration, came[1].expiration);
    let shown = rig.service().shown(&token(1));
    assert_eq!((shown.len(), shown[0].times), (1, 2));
    rig.node.stop().unwrap();
}
