//! Signatures, judged by others: real hand-overs are caught by a listener and verified by the
//! `stripe` and `standardwebhooks` packages from PyPI, which `package_kit` installs.

#[allow(dead_code, reason = "a test of its own uses its own part of it")]
mod package_kit;
mod wire_kit;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use postrider::transport::{Limits, Transport};
use postrider_core::time::MINUTE_MS;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use wire_kit::*;

/// The verifiers, at the versions this was written against.
const PACKAGES: [&str; 2] = ["stripe==16.1.0", "standardwebhooks==1.1.0"];

/// Reads cases from standard input, writes one verdict a line: what each package thinks.
const VERIFIER: &str = r#"
import base64, json, sys
import stripe, standardwebhooks

def judge(verify):
    try:
        verify()
        return "good"
    except (stripe.SignatureVerificationError, standardwebhooks.WebhookVerificationError) as error:
        return "bad: " + str(error)

for line in sys.stdin:
    case = json.loads(line)
    body = base64.b64decode(case["body"])
    headers = case["headers"]
    print(json.dumps([
        judge(lambda: stripe.WebhookSignature.verify_header(
            body.decode(), headers["x-postrider-signature"], case["secret"], 300)),
        judge(lambda: standardwebhooks.Webhook(case["secret"]).verify(body, headers)),
    ]))
"#;

/// The interpreter that has the packages.
fn interpreter() -> PathBuf {
    package_kit::pypi("signature-verifiers", &PACKAGES).join("bin/python")
}

/// What both packages think of each case.
fn verdicts(cases: &[(&Seen, &str)]) -> Vec<[String; 2]> {
    let mut python = Command::new(interpreter())
        .args(["-c", VERIFIER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    for (seen, secret) in cases {
        use base64::Engine as _;
        let headers: serde_json::Map<_, _> = seen
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let body = base64::engine::general_purpose::STANDARD.encode(&seen.body);
        let case = serde_json::json!({ "secret": secret, "headers": headers, "body": body });
        writeln!(input, "{case}").unwrap();
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Hand-overs of `payload` to an endpoint with these secrets, as they arrived.
async fn handed_over(payloads: &[&str], secrets: Vec<postrider::registry::Secret>) -> Vec<Seen> {
    let (tell, mut told) = mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            while let Some(seen) = read_request(&mut stream).await {
                tell.send(seen).unwrap();
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    let transport = Transport::new(Limits::default(), open_policy());
    let mut endpoint = endpoint(&receiver.url());
    endpoint.secrets = secrets;
    let prepared = transport.prepared(&Arc::new(endpoint));
    let mut arrived = Vec::new();
    for (payload, attempt) in payloads.iter().zip(1..) {
        let (event, dispatch) = (event(payload), dispatch(attempt));
        transport
            .attempt(&prepared, &event, &dispatch, wall())
            .await;
        arrived.push(told.recv().await.unwrap());
    }
    arrived
}

const GOOD: &str = "good";

/// Bodies whose bytes a verifier that parses and prints them again would change.
const PAYLOADS: [&str; 5] = [
    "{\"id\":1}",
    "{ \"b\" : 1.0,\n\t\"a\": \"\\u00e4\" }\n",
    "{\"words\":\"Grüße, 世界 🌍\"}",
    "{\"a\":1,\"a\":2}",
    "[]",
];

#[tokio::test]
async fn public_verifiers_accept_what_was_sent_and_nothing_else() {
    let seen = handed_over(&PAYLOADS, vec![secret(SECRET, None)]).await;
    let cases: Vec<_> = seen.iter().map(|seen| (seen, SECRET)).collect();
    for (verdict, payload) in verdicts(&cases).iter().zip(PAYLOADS) {
        assert_eq!(verdict, &[GOOD, GOOD], "{payload}");
    }

    let edit = |change: &dyn Fn(&mut Seen)| {
        let mut edited = seen[0].clone();
        change(&mut edited);
        edited
    };
    let set = |seen: &mut Seen, name: &str, value: String| {
        seen.headers
            .iter_mut()
            .find(|(known, _)| known == name)
            .unwrap()
            .1 = value;
    };
    let body = edit(&|seen| seen.body[6] = b'2');
    let space = edit(&|seen| seen.body.push(b' '));
    let id = edit(&|seen| set(seen, "webhook-id", "another".into()));
    let old = edit(&|seen| {
        let long_ago = wall().plus(-6 * MINUTE_MS).0 / 1_000;
        set(seen, "webhook-timestamp", long_ago.to_string());
        let signature = seen.header("x-postrider-signature");
        let rest = signature.split_once(',').unwrap().1.to_owned();
        set(
            seen,
            "x-postrider-signature",
            format!("t={long_ago},{rest}"),
        );
    });
    let cases = [
        (&body, SECRET),
        (&space, SECRET),
        (&old, SECRET),
        (&seen[0], OLDER_SECRET),
    ];
    for verdict in verdicts(&cases) {
        assert!(
            verdict.iter().all(|verdict| verdict.starts_with("bad")),
            "{verdict:?}"
        );
    }
    // The id is part of what Standard Webhooks signs, and not of the other.
    let [stripe, standard] = &verdicts(&[(&id, SECRET)])[0];
    assert!(
        stripe == GOOD && standard.starts_with("bad"),
        "{stripe}, {standard}"
    );
}

#[tokio::test]
async fn while_secrets_rotate_both_verify_and_afterwards_only_the_new_one() {
    let later = wall().plus(60 * MINUTE_MS);
    let rotating = vec![secret(SECRET, None), secret(OLDER_SECRET, Some(later))];
    let seen = &handed_over(&PAYLOADS[..1], rotating).await[0];
    for verdict in verdicts(&[(seen, SECRET), (seen, OLDER_SECRET)]) {
        assert_eq!(verdict, [GOOD, GOOD]);
    }
    let past = vec![secret(SECRET, None), secret(OLDER_SECRET, Some(wall()))];
    let seen = &handed_over(&PAYLOADS[..1], past).await[0];
    let [new, old] = verdicts(&[(seen, SECRET), (seen, OLDER_SECRET)])
        .try_into()
        .unwrap();
    assert_eq!(new, [GOOD, GOOD]);
    assert!(
        old.iter().all(|verdict| verdict.starts_with("bad")),
        "{old:?}"
    );
}
