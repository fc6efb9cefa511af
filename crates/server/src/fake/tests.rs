//! The fake as a client meets it: over sockets.

#![expect(
    clippy::disallowed_methods,
    reason = "the fake's own clients, on loopback"
)]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Act, Answer, Behaviour, Fake, Filter, RetryAfter, Settings, StartError, When};

/// Longest wait for anything in these tests.
const DEADLINE: Duration = Duration::from_secs(20);

async fn fake() -> Fake {
    let settings = Settings {
        body_keep_bytes: 64,
        ..Settings::default()
    };
    Fake::start(settings).await.expect("it starts")
}

/// Sends raw bytes and reads until the end, or until `enough` bytes have come.
async fn exchange(fake: &Fake, request: &str, enough: usize) -> Result<String, std::io::Error> {
    let work = async {
        let mut stream = TcpStream::connect(fake.address()).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut got = Vec::new();
        while got.len() < enough {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await? {
                0 => break,
                length => got.extend_from_slice(&piece[..length]),
            }
        }
        Ok(String::from_utf8_lossy(&got).into_owned())
    };
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("an end before the deadline")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    )
}

async fn ask(fake: &Fake, path: &str) -> Result<String, std::io::Error> {
    exchange(fake, &post(path, "", "{}"), usize::MAX).await
}

#[tokio::test]
async fn a_request_is_answered_and_recorded() {
    let fake = fake().await;
    let headers = "x-webhook-idempotency-key: k1\r\nx-postrider-correlation-id: c1\r\n\
                   x-postrider-attempt: 3\r\nx-event-sequence-id: 7\r\n\
                   x-event-previous-sequence-id: 6\r\n";
    let answer = exchange(&fake, &post("/a?b=c", headers, r#"{"n":1}"#), usize::MAX).await;
    assert!(
        answer
            .expect("an answer")
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    let records = fake.requests(&Filter::path("/a"));
    let [record] = &*records else {
        panic!("{records:?}")
    };
    assert_eq!((&*record.key, &*record.correlation_id), ("k1", "c1"));
    assert_eq!((record.attempt, record.sequence), (3, 7));
    assert_eq!(record.previous_sequence, Some(6));
    assert_eq!((record.http_status, record.processed), (200, true));
    assert_eq!((record.body_bytes, &*record.body), (7, r#"{"n":1}"#));
    assert_eq!(record.body_crc32c, crc32c::crc32c(br#"{"n":1}"#));
    assert!(record.arrived_us > 0 && record.answered_us == record.arrived_us);
}

#[tokio::test]
async fn answers_carry_what_the_script_says() {
    let fake = fake().await;
    let cases = [
        (RetryAfter::Seconds(7), "retry-after: 7\r\n"),
        (RetryAfter::Date(-60), " GMT\r\n"),
        (RetryAfter::Absurd, "retry-after: 9999999999999999"),
        (RetryAfter::Malformed, "retry-after: when I am ready"),
    ];
    for (retry_after, expected) in cases {
        let act = Act::Answer(Answer {
            http_status: 429,
            headers: vec![("x-colour".into(), "blue".into())],
            retry_after: Some(retry_after),
            delay_ms: 1,
            body: "slower".into(),
            processes: Some(true),
        });
        fake.set(Behaviour::of("/slow").rule(When::Always, act))
            .expect("valid");
        let answer = ask(&fake, "/slow").await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(answer.contains(expected), "{answer}");
        assert!(
            answer.contains("x-colour: blue") && answer.ends_with("slower"),
            "{answer}"
        );
    }
    let records = fake.requests(&Filter::path("/slow"));
    assert!(
        records
            .iter()
            .all(|record| record.processed && record.answered_us > 0)
    );
}

#[tokio::test]
async fn misdeeds_are_done_on_the_wire() {
    let fake = fake().await;
    let acts = [
        ("/reset/before", Act::ResetBeforeBody),
        ("/reset/after", Act::ResetAfterRequest),
        ("/close", Act::CloseAfterRequest),
        ("/garbage", Act::Garbage),
        ("/cut", Act::CutBody),
        ("/slow-body", Act::SlowBody(100_000)),
        ("/slow-headers", Act::SlowHeaders(100_000)),
    ];
    for (path, act) in acts {
        fake.set(Behaviour::of(path).rule(When::Always, act))
            .expect("valid");
    }
    for path in ["/reset/before", "/reset/after"] {
        let error = ask(&fake, path).await.expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{path}");
    }
    assert_eq!(ask(&fake, "/close").await.expect("an end"), "");
    assert!(
        ask(&fake, "/garbage")
            .await
            .expect("bytes")
            .contains("NOT/HTTP")
    );
    let cut = ask(&fake, "/cut").await.expect("a part");
    assert!(
        cut.contains("content-length: 100\r\n") && cut.len() < 200,
        "{cut}"
    );
    assert!(
        ask(&fake, "/slow-body")
            .await
            .expect("a body")
            .ends_with(&".".repeat(1_000))
    );
    assert!(
        ask(&fake, "/slow-headers")
            .await
            .expect("a head")
            .ends_with("\r\n\r\n")
    );
    let before = fake.requests(&Filter::path("/reset/before"));
    assert!(!before[0].processed && before[0].body_bytes == 0 && before[0].answered_us == 0);
    assert!(fake.requests(&Filter::path("/reset/after"))[0].processed);
}

#[tokio::test]
async fn answers_without_an_end_and_without_a_beginning() {
    let fake = fake().await;
    for (path, act) in [
        ("/headers", Act::EndlessHeaders),
        ("/body", Act::EndlessBody),
        ("/hang", Act::Hang),
    ] {
        fake.set(Behaviour::of(path).rule(When::Always, act))
            .expect("valid");
    }
    for path in ["/headers", "/body"] {
        let much = exchange(&fake, &post(path, "", "{}"), 3_000_000)
            .await
            .expect("bytes");
        assert!(much.len() >= 3_000_000 && much.starts_with("HTTP/1.1 200"));
    }
    let mut stream = TcpStream::connect(fake.address())
        .await
        .expect("a connection");
    stream
        .write_all(post("/hang", "", "{}").as_bytes())
        .await
        .expect("sent");
    let mut byte = [0];
    let nothing = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut byte)).await;
    assert!(nothing.is_err(), "a hanging path says nothing");
    assert_eq!(fake.requests(&Filter::path("/hang"))[0].http_status, 0);
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    let fake = fake().await;
    let secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    fake.set(Behaviour::of("/s").secret(secret)).expect("valid");
    let answer = ask(&fake, "/s").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let record = &fake.requests(&Filter::path("/s"))[0];
    assert_eq!(record.signature, super::Verdict::Missing);
    assert!(!record.processed);
}

#[tokio::test]
async fn the_admin_paths_script_list_count_and_clear() {
    let fake = fake().await;
    let admin = async |request: String| {
        let answer = exchange(&fake, &request, usize::MAX)
            .await
            .expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].to_owned(), body.to_owned())
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let script = r#"{"path":"/a","rules":[{"when":{"first":1},"do":{"answer":{"status":503}}}]}
                    {"path":"/b/*","rules":[{"do":{"answer":{"status":404}}}]}"#;
    assert_eq!(admin(post("/_/behaviour", "", script)).await.0, "200");
    let first = [
        ask(&fake, "/a").await,
        ask(&fake, "/a").await,
        ask(&fake, "/b/1").await,
    ];
    let codes = first.map(|answer| answer.expect("an answer")[9..12].to_owned());
    assert_eq!(codes, ["503", "200", "404"]);
    assert_eq!(admin(get("/_/behaviour")).await.1.lines().count(), 2);
    let (_, found) = admin(get("/_/requests?path=%2Fa&status=503")).await;
    assert_eq!(found.lines().count(), 1);
    assert!(found.contains(r#""path":"/a""#), "{found}");
    let (_, count) = admin(get("/_/requests/count?path=/a")).await;
    assert_eq!(count, "{\"count\":2,\"arrived\":3}\n");
    assert_eq!(admin(get("/_/requests?colour=1")).await.0, "400");
    assert_eq!(
        admin(post("/_/behaviour", "", r#"{"path":"x"}"#)).await.0,
        "400"
    );
    assert_eq!(admin(get("/_/nothing")).await.0, "404");
    assert_eq!(admin(post("/_/clear", "", "")).await.0, "200");
    assert_eq!(fake.arrived(), 0);
    let delete = get("/_/behaviour?path=/a").replace("GET", "DELETE");
    assert_eq!(admin(delete).await.0, "200");
    assert_eq!(admin(get("/_/behaviour")).await.1.lines().count(), 1);
}

#[tokio::test]
async fn h2c_is_spoken_and_a_misdeed_resets_the_stream() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let fake = fake().await;
    fake.set(Behaviour::of("/r").rule(When::Always, Act::ResetAfterRequest))
        .expect("valid");
    let stream = TcpStream::connect(fake.address())
        .await
        .expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("h2c");
    tokio::spawn(connection);
    for (path, fits) in [("/r", false), ("/ok", true)] {
        let request = http::Request::post(fake.url(path))
            .body(Full::new(hyper::body::Bytes::from_static(b"{}")))
            .expect("a request");
        let answer = sender.send_request(request).await;
        assert_eq!(answer.is_ok(), fits, "{path}");
        if let Ok(answer) = answer {
            assert_eq!(answer.status(), 200);
            assert!(answer.into_body().collect().await.is_ok());
        }
    }
    assert_eq!(fake.arrived(), 2);
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let settings = Settings {
        listen: "0.0.0.0:0".parse().expect("an address"),
        ..Settings::default()
    };
    let refused = Fake::start(settings).await.err();
    assert!(
        matches!(refused, Some(StartError::BeyondLoopback(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn tls_is_offered_with_a_certificate_that_its_pem_explains() {
    use super::{Certificate, Tls};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    for (certificate, fits) in [
        (Certificate::Good, true),
        (Certificate::Expired, false),
        (Certificate::WrongName, false),
    ] {
        let tls = Tls {
            certificate,
            ..Tls::default()
        };
        let at = "127.0.0.1:0".parse().expect("an address");
        let settings = Settings {
            tls: Some((at, tls)),
            ..Settings::default()
        };
        let fake = Fake::start(settings).await.expect("it starts");
        let (address, pem) = fake.tls().expect("TLS");
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM"))
            .expect("a root");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let shaken = connector.connect(name, stream).await;
        assert_eq!(shaken.is_ok(), fits, "{certificate:?}: {:?}", shaken.err());
    }
}
