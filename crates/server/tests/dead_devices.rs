//! A broadcast to 100,000 browsers of which every fifth is gone: each of these is retired once and
//! never tried again, none of the others is touched, and a restart in the middle changes nothing.

mod node_kit;

use std::collections::BTreeMap;
use std::time::Duration;

use node_kit::{rest, start, submission, submit};
use postrider::fake::{Fake, Filter, Settings};
use postrider::registry::{
    Credentials, Device, EndpointDraft, EndpointState, Kind, RouteDraft, TlsProfile, VapidKey,
    WebPushKeys,
};
use postrider::run::Node;
use postrider_core::cause::Cause;
use postrider_core::id::{EndpointId, PolicyId};
use postrider_core::ledger::State;
use postrider_core::policy::{Guarantee, Policy};

/// Browsers that are registered.
const BROWSERS: usize = 100_000;
/// Every so many is gone.
const DEAD_ONE_IN: usize = 5;
/// Registrations in one commit.
const BATCH: usize = 10_000;
/// Submissions in one request.
const REQUEST: usize = 1_000;
/// The browser's keys: those of RFC 8291, Appendix A.
const P256DH: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6S\
    RpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

/// A subscription at the push service, and the endpoint that stands for it.
struct Browser {
    endpoint: EndpointId,
    token: String,
    dead: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_are_retired_once_and_the_living_are_not_touched() {
    let settings = Settings {
        records_max: 2 * BROWSERS,
        ..Settings::default()
    };
    let fake = Fake::start(settings).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = node_kit::config(dir.path(), Policy::web_push(PolicyId(0)));
    let mut node = start(&config);
    let browsers = register(&node, &fake);
    let half = BROWSERS / 2;
    broadcast(&node, &browsers[..half]).await;
    // What is under way ends, what waits goes on after the restart.
    tokio::task::block_in_place(|| node.stop()).unwrap();
    node = start(&config);
    broadcast(&node, &browsers[half..]).await;
    rest(&node).await;
    every_dead_one_is_retired(&node, &browsers).await;
    let seen = requests(&fake);
    for browser in &browsers {
        let rows = node_kit::deliveries(&node, browser.endpoint);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        let expected = match browser.dead {
            true => (State::Rejected, Cause::Gone),
            false => (State::Accepted, Cause::Accepted),
        };
        assert_eq!((row.state, row.cause), expected);
        assert!(
            !row.is_dead_letter(),
            "nobody has to look at a browser that left"
        );
        let answers = &seen[&browser.token];
        let requests = answers.len();
        assert!(
            requests <= row.attempt as usize,
            "every request is an attempt"
        );
        assert!(requests == 1 || row.may_have_acted, "{answers:?}");
        let gone = answers.iter().filter(|answer| **answer == 410).count();
        let last = answers.last() == Some(&410);
        assert_eq!((gone, last), (usize::from(browser.dead), browser.dead));
    }
    // A second broadcast asks nobody who is gone.
    broadcast(&node, &browsers[..REQUEST]).await;
    rest(&node).await;
    let then = requests(&fake);
    for browser in &browsers[..REQUEST] {
        let more = then[&browser.token].len() - seen[&browser.token].len();
        assert_eq!(more == 0, browser.dead);
    }
    tokio::task::block_in_place(|| node.stop()).unwrap();
}

fn register(node: &Node, fake: &Fake) -> Vec<Browser> {
    let now = node.clock.now();
    let tenant = node.registry.ensure_tenant("acme", now).unwrap().id;
    let private = postrider::channel::web_push::vapid::VapidKey::generate();
    let public = postrider::channel::web_push::vapid::VapidKey::parse(&private)
        .unwrap()
        .public()
        .to_owned();
    let route = RouteDraft {
        name: "browsers".into(),
        credentials: Credentials::WebPush {
            subject: "mailto:ops@example.com".into(),
            keys: vec![VapidKey {
                public: public.clone(),
                private,
                created_at: now,
            }],
        },
        server: None,
        tls: TlsProfile::default(),
    };
    let route = node.registry.create_route(tenant, route, now).unwrap().id;
    let policy = node.registry.policies().named("web_push").unwrap().id;
    let mut browsers = Vec::with_capacity(BROWSERS);
    for batch in 0..BROWSERS / BATCH {
        let urls: Vec<String> = (0..BATCH)
            .map(|_| fake.push().subscribe(Some(&public)).unwrap())
            .collect();
        let draft = |url: &String| EndpointDraft {
            route: Some(route),
            device: Some(Device {
                refreshed_at: now,
                ..Device::default()
            }),
            ..EndpointDraft::new(
                url.parse().unwrap(),
                Kind::WebPush(WebPushKeys {
                    p256dh: P256DH.into(),
                    auth: AUTH.into(),
                    vapid_key: public.clone(),
                }),
                policy,
            )
        };
        let drafts = urls.iter().map(draft).collect();
        let made = node.registry.create_endpoints(tenant, drafts, now).unwrap();
        for (place, (url, endpoint)) in urls.iter().zip(made).enumerate() {
            let token = url.rsplit('/').next().unwrap().to_owned();
            let dead = (batch * BATCH + place).is_multiple_of(DEAD_ONE_IN);
            if dead {
                fake.push().end(&token).unwrap();
            }
            browsers.push(Browser {
                endpoint: endpoint.id,
                token,
                dead,
            });
        }
    }
    browsers
}

/// One notification to each, in requests of a thousand, as fast as they are taken.
async fn broadcast(node: &Node, browsers: &[Browser]) {
    for some in browsers.chunks(REQUEST) {
        let now = node.clock.now();
        let one = |browser: &Browser| {
            let endpoint = node.registry.endpoint(browser.endpoint).unwrap();
            let number = rand::random();
            submission(&endpoint, Guarantee::EffectivelyOnce, number, now)
        };
        submit(node, some.iter().map(one).collect()).await;
    }
}

/// Retiring is written down behind the answers.
async fn every_dead_one_is_retired(node: &Node, browsers: &[Browser]) {
    let is_right = |browser: &Browser| {
        let endpoint = node.registry.endpoint(browser.endpoint).unwrap();
        match (&endpoint.state, browser.dead) {
            (EndpointState::Retired { cause, .. }, true) => {
                assert_eq!((*cause, endpoint.revision), (Cause::Gone, 2), "once");
                true
            }
            (EndpointState::Active, false) => true,
            (EndpointState::Active, true) => false,
            (state, _) => panic!("{state:?}"),
        }
    };
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let all = async {
        while !browsers.iter().all(is_right) {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("every dead one is retired");
}

/// What the requests to each subscription were answered with, in order.
fn requests(fake: &Fake) -> BTreeMap<String, Vec<u16>> {
    let mut seen: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for record in fake.requests(&Filter::default()) {
        let token = record
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        seen.entry(token).or_default().push(record.http_status);
    }
    seen
}
