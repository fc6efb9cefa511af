//! Other people's senders against the fake: npm `apns2` and `@parse/node-apn`. What they were told
//! is held against what the real service would have told them.

use std::process::{Command, Stdio};

use postrider::fake::apns::{Act, Apns, Device, Script, Service, Settings, Wanted};
use serde_json::{Value, json};

use super::kit::{APP, Key, token};
use crate::package_kit;

/// The senders, at the versions this was written against.
const PACKAGES: [&str; 2] = ["apns2@12.2.0", "@parse/node-apn@8.1.0"];

/// Sends by `apns2`: reads one case, writes one result a line. It is given a pool of its own
/// library that leads to the fake, because it knows no other port than 443.
const APNS2: &str = r#"
const { ApnsClient, Notification } = require('apns2');
const { Pool } = require('undici');
const given = JSON.parse(require('fs').readFileSync(0));
const client = new ApnsClient({
  team: given.team, keyId: given.keyId, signingKey: given.key, defaultTopic: given.app,
});
client.client.destroy();
client.client = new Pool(given.origin, {
  connections: 2, pipelining: 1, allowH2: true, maxConcurrentStreams: 100,
  connect: { ca: given.ca },
});
const send = (one) => client.send(new Notification(one.token, one.options)).then(
  () => ({ status: 200 }),
  (error) => ({ status: error.statusCode, reason: error.reason, timestamp: error.timestamp,
                words: error.statusCode ? undefined : String(error.stack) }),
);
(async () => {
  for (const one of given.cases) console.log(JSON.stringify(await send(one)));
  await client.destroy();
})();
"#;

/// The same by `@parse/node-apn`.
const NODE_APN: &str = r#"
const apn = require('@parse/node-apn');
const given = JSON.parse(require('fs').readFileSync(0));
const [address, port] = new URL(given.origin).host.split(':');
const provider = new apn.Provider({
  token: { key: given.key, keyId: given.keyId, teamId: given.team },
  address, port: Number(port), ca: given.ca, production: true, connectionRetryLimit: 0,
});
const send = async (one) => {
  const notification = new apn.Notification();
  notification.topic = given.app;
  notification.pushType = one.options.type || 'alert';
  notification.alert = one.options.alert;
  if (one.options.collapseId) notification.collapseId = one.options.collapseId;
  const { sent, failed } = await provider.send(notification, one.token);
  if (sent.length) return { status: 200 };
  const { status, response, error } = failed[0];
  return { status: Number(status), reason: response && response.reason,
           timestamp: response && response.timestamp, words: error && String(error) };
};
(async () => {
  for (const one of given.cases) console.log(JSON.stringify(await send(one)));
  await provider.shutdown();
})();
"#;

/// What a sender was told in each case.
async fn told(script: &'static str, given: Value) -> Vec<Value> {
    let run = tokio::task::spawn_blocking(move || {
        let mut node = Command::new("node")
            .args(["-e", script])
            .current_dir(package_kit::npm("apns-senders", &PACKAGES))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        serde_json::to_writer(node.stdin.take().unwrap(), &given).unwrap();
        let output = node.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    });
    let lines = run.await.unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Device 2 is gone, 3 has another app, and 4 is not served the first time.
fn prepare(service: &Service) {
    let gone = Device {
        token: token(2),
        app: APP.to_owned(),
        gone_since: Some(1_700_000_000_000),
    };
    let other = Device {
        token: token(3),
        app: "com.example.other".to_owned(),
        gone_since: None,
    };
    let busy = Script {
        token: token(4),
        acts: [Act::refuse(503, "ServiceUnavailable")].into(),
        forever: false,
    };
    service.device(gone).unwrap();
    service.device(other).unwrap();
    service.script(busy).unwrap();
}

/// Every kind of answer.
async fn both_are_told(script: &'static str) {
    let fake = Apns::start(Settings::default()).await.unwrap();
    let service = fake.service();
    let key = Key::new();
    key.trusted_by(service);
    prepare(service);
    let case = |token: String, options: Value| json!({ "token": token, "options": options });
    let plain = || json!({ "type": "alert", "alert": "Hi", "collapseId": "thread" });
    let long = json!({ "type": "alert", "alert": "x".repeat(4_096) });
    let cases = [
        case(token(1), plain()),
        case(token(1), plain()),
        case(token(2), plain()),
        case(token(3), plain()),
        case("beef".to_owned(), plain()),
        case(token(1), long),
        case(token(4), plain()),
        case(token(4), plain()),
        case(token(1), json!({ "type": "surprise", "alert": "Hi" })),
    ];
    let given = |key: &Key, cases: &[Value]| {
        json!({
            "team": key.team, "keyId": key.id, "key": key.p8, "app": APP,
            "origin": service.origin(), "ca": service.pem(), "cases": cases,
        })
    };
    let results = told(script, given(&key, &cases)).await;
    let expected = [
        (200, None),
        (200, None),
        (410, Some("Unregistered")),
        (400, Some("DeviceTokenNotForTopic")),
        (400, Some("BadDeviceToken")),
        (413, Some("PayloadTooLarge")),
        (503, Some("ServiceUnavailable")),
        (200, None),
        (400, Some("InvalidPushType")),
    ];
    assert_eq!(results.len(), expected.len());
    for (result, (http_status, reason)) in results.iter().zip(expected) {
        assert_eq!(result["status"], http_status, "{result}");
        assert_eq!(result["reason"].as_str(), reason, "{result}");
    }
    assert_eq!(results[2]["timestamp"], 1_700_000_000_000_i64);
    let shown = service.shown(&token(1));
    assert_eq!((shown.len(), shown[0].times), (1, 2), "{shown:?}");

    // A stranger's key.
    let stranger = Key::new();
    let results = told(script, given(&stranger, &cases[..1])).await;
    assert_eq!(results[0]["reason"], "InvalidProviderToken", "{results:?}");
    let refused = Wanted {
        reason: Some("InvalidProviderToken".to_owned()),
        ..Wanted::default()
    };
    assert_eq!(service.notifications(&refused).len(), 1);
}

#[tokio::test]
async fn apns2_sends_to_the_fake() {
    both_are_told(APNS2).await;
}

#[tokio::test]
async fn node_apn_sends_to_the_fake() {
    both_are_told(NODE_APN).await;
}
