//! TLS as receivers really speak it: private CAs, client certificates, versions, certificates that
//! are wrong in every way, HTTP/2 by ALPN, and pools that never mix two profiles.

mod wire_kit;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use postrider::channel::Attempted;
use postrider::registry::{Endpoint, TlsProfile, TlsVersion};
use postrider::transport::{EndpointFault, Limits, SystemResolver, TlsFault, Transport, check_tls};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::*;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wire_kit::*;

/// A private authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn issue(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate, key }
    }

    fn server(&self) -> Identity {
        self.issue("127.0.0.1", |_| {})
    }

    fn client(&self, name: &str) -> Identity {
        self.issue(name, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A profile that trusts this authority and none else.
    fn trusted(&self) -> TlsProfile {
        TlsProfile {
            ca_pem: Some(self.certificate.pem()),
            ..TlsProfile::default()
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        Arc::new(roots)
    }
}

fn with_client(profile: TlsProfile, identity: &Identity) -> TlsProfile {
    TlsProfile {
        client_cert_pem: Some(identity.certificate.pem()),
        client_key_pem: Some(identity.key.serialize_pem().into()),
        ..profile
    }
}

/// How a receiver speaks TLS.
struct Speaks<'a> {
    identity: &'a Identity,
    versions: &'a [&'static SupportedProtocolVersion],
    clients: Option<&'a Authority>,
    alpn: &'a [&'a str],
}

impl<'a> Speaks<'a> {
    fn plainly(identity: &'a Identity) -> Speaks<'a> {
        Speaks {
            identity,
            versions: rustls::ALL_VERSIONS,
            clients: None,
            alpn: &["http/1.1"],
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let key = PrivatePkcs8KeyDer::from(self.identity.key.serialize_der());
        let chain = vec![self.identity.certificate.der().clone()];
        let mut config = builder
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))
            .unwrap();
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A receiver that runs `script` for each connection on which TLS was agreed.
    async fn receive<S, F>(&self, script: S) -> Receiver
    where
        S: Fn(TlsStream<TcpStream>, usize) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = self.acceptor();
        Receiver::start(move |stream, number| {
            let (acceptor, script) = (acceptor.clone(), script.clone());
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    script(stream, number).await;
                }
            }
        })
        .await
    }

    /// A receiver that accepts everything over HTTP/1.1.
    async fn accepting(&self) -> Receiver {
        self.receive(|mut stream, _| async move {
            while read_request(&mut stream).await.is_some() {
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .unwrap();
            }
        })
        .await
    }
}

fn secure(receiver: &Receiver, tls: TlsProfile) -> Arc<Endpoint> {
    let mut endpoint = endpoint(&format!("https://{}/hook", receiver.address));
    endpoint.tls = tls;
    Arc::new(endpoint)
}

fn transport() -> Transport {
    Transport::new(patient(), open_policy())
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_those_who_name_it() {
    let authority = Authority::new();
    let server = authority.server();
    let receiver = Speaks::plainly(&server).accepting().await;
    let transport = transport();
    let trusting = secure(&receiver, authority.trusted());
    for _ in 0..3 {
        assert_eq!(outcome(&transport, &trusting).await.kind, Accept);
    }
    assert_eq!(receiver.connections(), 1, "the connection is kept");
    for tls in [TlsProfile::default(), Authority::new().trusted()] {
        let outcome = outcome(&transport, &secure(&receiver, tls)).await;
        assert_eq!(brief(&outcome), (Retry, Cause::TlsFailure));
        assert!(outcome.unsent && !outcome.may_have_acted);
        let words = String::from_utf8_lossy(&outcome.evidence).into_owned();
        assert!(words.contains("certificate"), "{words}");
    }
}

#[tokio::test]
async fn certificates_that_are_wrong_are_refused_before_a_byte_is_sent() {
    let authority = Authority::new();
    let mut self_signed = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    self_signed.is_ca = IsCa::ExplicitNoCa;
    let key = KeyPair::generate().unwrap();
    let certificate = self_signed.self_signed(&key).unwrap();
    let wrong = [
        ("self-signed", Identity { certificate, key }),
        ("another name", authority.issue("127.0.0.2", |_| {})),
        (
            "past its time",
            authority.issue("127.0.0.1", |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }),
        ),
        (
            "before its time",
            authority.issue("127.0.0.1", |params| {
                params.not_before = date_time_ymd(3000, 1, 1);
            }),
        ),
        ("for clients", authority.client("127.0.0.1")),
    ];
    for (name, identity) in &wrong {
        let receiver = Speaks::plainly(identity).accepting().await;
        let outcome = outcome(&transport(), &secure(&receiver, authority.trusted())).await;
        assert_eq!(brief(&outcome), (Retry, Cause::TlsFailure), "{name}");
        assert!(outcome.unsent, "{name}");
        assert_eq!(receiver.connections(), 1, "{name}");
    }
}

#[tokio::test]
async fn old_versions_are_spoken_only_where_the_profile_says_so() {
    let authority = Authority::new();
    let server = authority.server();
    let old = Speaks {
        versions: &[&rustls::version::TLS12],
        ..Speaks::plainly(&server)
    };
    let receiver = old.accepting().await;
    let outcome_of = async |min_version| {
        let tls = TlsProfile {
            min_version,
            ..authority.trusted()
        };
        outcome(&transport(), &secure(&receiver, tls)).await
    };
    let strict = outcome_of(TlsVersion::V1_3).await;
    assert_eq!(brief(&strict), (Retry, Cause::TlsFailure));
    assert!(strict.unsent);
    assert_eq!(outcome_of(TlsVersion::V1_2).await.kind, Accept);
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_in_time_and_one_that_is_no_tls_at_once() {
    let silent = Receiver::start(|mut stream, _| async move {
        while !matches!(stream.read(&mut [0; 256]).await, Ok(0) | Err(_)) {}
    })
    .await;
    let plain = Receiver::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 256]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let cut = Receiver::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 16]).await;
        reset(stream);
    })
    .await;
    let table = [
        (silent, hasty(), Cause::ConnectTimeout),
        (plain, patient(), Cause::TlsFailure),
        (cut, patient(), Cause::TlsFailure),
    ];
    for (receiver, limits, cause) in table {
        let transport = Transport::new(limits, open_policy());
        let outcome = outcome(&transport, &secure(&receiver, TlsProfile::default())).await;
        assert_eq!(brief(&outcome), (Retry, cause));
        assert!(outcome.unsent && !outcome.may_have_acted);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_one_that_is_missing_may_have_cost_a_request() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server();
    let asking = Speaks {
        clients: Some(&clients),
        ..Speaks::plainly(&server)
    };
    let receiver = asking.accepting().await;
    let transport = transport();
    let known = with_client(authority.trusted(), &clients.client("us"));
    assert_eq!(
        outcome(&transport, &secure(&receiver, known)).await.kind,
        Accept
    );
    let stranger = with_client(authority.trusted(), &Authority::new().client("us"));
    for tls in [authority.trusted(), stranger] {
        // In TLS 1.3 the refusal comes after we may speak: a written byte makes it Unknown.
        let outcome = outcome(&transport, &secure(&receiver, tls)).await;
        if outcome.unsent {
            assert_eq!(outcome.kind, Retry, "{outcome:?}");
        } else {
            assert_eq!(
                brief(&outcome),
                (Unknown, Cause::ConnectionLost),
                "{outcome:?}"
            );
            assert!(outcome.may_have_acted);
        }
    }
    let older = Speaks {
        versions: &[&rustls::version::TLS12],
        ..asking
    };
    let receiver = older.accepting().await;
    let tls = TlsProfile {
        min_version: TlsVersion::V1_2,
        ..authority.trusted()
    };
    let outcome = outcome(&transport, &secure(&receiver, tls)).await;
    assert_eq!(
        brief(&outcome),
        (Retry, Cause::TlsFailure),
        "in TLS 1.2 it comes before"
    );
    assert!(outcome.unsent);
}

/// Two tenants with one receiver and different client certificates: neither may ever ride on the
/// other's connection, nor resume the other's session.
#[tokio::test]
async fn profiles_never_share_a_connection() {
    for alpn in ["http/1.1", "h2"] {
        let (authority, clients) = (Authority::new(), Authority::new());
        let server = authority.server();
        let (tell, mut told) = mpsc::unbounded_channel();
        let asking = Speaks {
            clients: Some(&clients),
            alpn: &[alpn],
            ..Speaks::plainly(&server)
        };
        let receiver = asking
            .receive(move |stream, number| {
                let certificates = stream.get_ref().1.peer_certificates().unwrap();
                let shown = certificates[0].as_ref().to_vec();
                let tell = tell.clone();
                serve(stream, move |_| tell.send((number, shown.clone())).unwrap())
            })
            .await;
        let transport = transport();
        let (one, two) = (clients.client("one"), clients.client("two"));
        for round in 0..3 {
            for identity in [&one, &two] {
                let endpoint = secure(&receiver, with_client(authority.trusted(), identity));
                assert_eq!(outcome(&transport, &endpoint).await.kind, Accept);
                let (number, shown) = told.recv().await.unwrap();
                assert_eq!(
                    shown,
                    identity.certificate.der().as_ref(),
                    "{alpn}, round {round}"
                );
                assert_eq!(number, usize::from(std::ptr::eq(identity, &two)));
            }
        }
        assert_eq!(receiver.connections(), 2, "each kept its own");
    }
}

/// Serves HTTP/1.1 or HTTP/2, whatever was agreed on, and accepts everything.
async fn serve(
    stream: TlsStream<TcpStream>,
    seen: impl Fn(http::Request<Bytes>) + Clone + Send + Sync + 'static,
) {
    let service = hyper::service::service_fn(move |request: http::Request<_>| {
        let seen = seen.clone();
        async move {
            let (head, body): (_, hyper::body::Incoming) = request.into_parts();
            seen(http::Request::from_parts(
                head,
                body.collect().await?.to_bytes(),
            ));
            Ok::<_, hyper::Error>(http::Response::new(Full::<Bytes>::from("ok")))
        }
    });
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

#[tokio::test]
async fn http2_by_alpn_carries_many_requests_over_one_connection() {
    const REQUESTS: usize = 50;
    let authority = Authority::new();
    let server = authority.server();
    let (tell, mut told) = mpsc::unbounded_channel();
    let both = Speaks {
        alpn: &["h2", "http/1.1"],
        ..Speaks::plainly(&server)
    };
    let receiver = both
        .receive(move |stream, _| {
            let tell = tell.clone();
            serve(stream, move |request| tell.send(request).unwrap())
        })
        .await;
    let transport = Arc::new(transport());
    let endpoint = secure(&receiver, authority.trusted());
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        let (transport, endpoint) = (transport.clone(), endpoint.clone());
        running.spawn(async move { outcome(&transport, &endpoint).await });
    }
    for outcome in running.join_all().await {
        assert_eq!(brief(&outcome), (Accept, Cause::Accepted));
    }
    assert_eq!(
        receiver.connections(),
        1,
        "those who come at once wait for the first"
    );
    for _ in 0..REQUESTS {
        let request = told.recv().await.unwrap();
        assert_eq!(request.version(), http::Version::HTTP_2);
        assert_eq!(
            request.uri().to_string(),
            format!("https://{}/hook", receiver.address)
        );
        assert_eq!(request.headers()["webhook-id"].len(), 36);
        assert!(!request.headers().contains_key("host"));
        assert_eq!(request.body().as_ref(), b"{\"a\":1}");
    }
}

/// On a worker of a runtime as the engine's: there whoever was woken last goes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_http2_requests_at_once_are_few_writes() {
    const REQUESTS: usize = 100;
    let authority = Authority::new();
    let server = authority.server();
    let h2 = Speaks {
        alpn: &["h2"],
        ..Speaks::plainly(&server)
    };
    let receiver = h2.receive(|stream, _| serve(stream, |_| ())).await;
    let dialer = CountingDialer::default();
    let writes = dialer.0.clone();
    let resolver = Arc::new(SystemResolver::new());
    let transport = Transport::with_network(patient(), open_policy(), resolver, Arc::new(dialer));
    let (transport, endpoint) = (Arc::new(transport), secure(&receiver, authority.trusted()));
    // The connection stands, and the far side has said how much it takes at once.
    assert_eq!(outcome(&transport, &endpoint).await.kind, Accept);
    let before = writes.load(SeqCst);
    // Longer than what the HTTP/2 library copies into one write by itself.
    let payload = "x".repeat(1_000);
    let all_at_once = tokio::spawn(async move {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..REQUESTS {
            let (transport, prepared) = (transport.clone(), transport.prepared(&endpoint));
            let (event, dispatch) = (event(&payload), dispatch(1));
            running.spawn(async move {
                let attempted = transport.attempt(&prepared, &event, &dispatch, wall());
                matches!(attempted.await, Attempted::Answered(it) if it.kind == Accept)
            });
        }
        running.join_all().await
    });
    let accepted = all_at_once.await.unwrap();
    assert_eq!(accepted, [true; REQUESTS]);
    let written = writes.load(SeqCst) - before;
    assert!(written < REQUESTS / 2, "{written} writes");
    assert_eq!(receiver.connections(), 1);
}

/// One HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A receiver that agrees on HTTP/2, waits for the first request's head and answers with `frames`.
async fn framing(identity: &Identity, frames: Vec<u8>) -> Receiver {
    let h2 = Speaks {
        alpn: &["h2"],
        ..Speaks::plainly(identity)
    };
    h2.receive(move |mut stream, _| {
        let frames = frames.clone();
        async move {
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            stream.flush().await.unwrap();
            let mut bytes = Vec::new();
            // HEADERS (1) on stream 1.
            while !bytes
                .windows(6)
                .any(|w| w[0] == 1 && w[2..] == [0, 0, 0, 1])
            {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            stream.write_all(&frames).await.unwrap();
            stream.flush().await.unwrap();
            while !matches!(stream.read(&mut [0; 256]).await, Ok(0) | Err(_)) {}
        }
    })
    .await
}

#[tokio::test]
async fn what_http2_says_was_not_processed_is_no_attempt_and_nothing_else_is() {
    use postrider::channel::Attempted::{Answered, NotSent};
    let authority = Authority::new();
    let server = authority.server();
    let refused = frame(RST_STREAM, 0, 1, &7_u32.to_be_bytes());
    let cancelled = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let away = |last: u32, error: u32| {
        frame(
            GOAWAY,
            0,
            0,
            &[last.to_be_bytes(), error.to_be_bytes()].concat(),
        )
    };
    let table = [
        ("refused", refused, Some(Cause::Unprocessed)),
        ("cancelled", cancelled, None),
        (
            "going away, stream 1 not seen",
            away(0, 0),
            Some(Cause::Unprocessed),
        ),
        (
            "going away in anger, stream 1 not seen",
            away(0, 11),
            Some(Cause::Unprocessed),
        ),
        ("going away, stream 1 seen, and silence", away(1, 0), None),
        ("going away in anger, stream 1 seen", away(1, 2), None),
        ("noise", vec![0xff; 64], None),
    ];
    for (name, frames, unprocessed) in table {
        let receiver = framing(&server, frames).await;
        let endpoint = secure(&receiver, authority.trusted());
        // The far side may say no more; then it is the limit that ends it.
        let limits = match unprocessed {
            Some(_) => patient(),
            None => Limits {
                response_ms: 400,
                ..patient()
            },
        };
        let transport = Transport::new(limits, open_policy());
        match (attempt(&transport, &endpoint).await, unprocessed) {
            (NotSent(cause), Some(expected)) => assert_eq!(cause, expected, "{name}"),
            (Answered(outcome), None) => {
                assert_eq!(outcome.kind, Unknown, "{name}: {outcome:?}");
                assert!(outcome.may_have_acted, "{name}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
        assert_eq!(
            receiver.connections(),
            1,
            "{name}: nothing here tries again"
        );
    }
}

#[tokio::test]
async fn an_http2_connection_that_closed_is_replaced() {
    let authority = Authority::new();
    let server = authority.server();
    let h2 = Speaks {
        alpn: &["h2"],
        ..Speaks::plainly(&server)
    };
    let receiver = h2
        .receive(|stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let answer = http::Response::builder().status(204).body(()).unwrap();
            respond.send_response(answer, true).unwrap();
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        })
        .await;
    let transport = transport();
    let endpoint = secure(&receiver, authority.trusted());
    for round in 0..3 {
        // The farewell and the next request race; an answer to the race is never a doubt.
        let mut came = attempt(&transport, &endpoint).await;
        for _ in 0..3 {
            if let postrider::channel::Attempted::NotSent(cause) = came {
                assert_eq!(cause, Cause::Unprocessed);
                came = attempt(&transport, &endpoint).await;
            }
        }
        match came {
            postrider::channel::Attempted::Answered(outcome) => {
                assert_eq!(brief(&outcome), (Accept, Cause::Accepted), "round {round}");
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
}

#[test]
fn profiles_are_checked_when_they_are_written() {
    let authority = Authority::new();
    let (one, two) = (authority.client("one"), authority.client("two"));
    let good = with_client(authority.trusted(), &one);
    assert_eq!(check_tls(&TlsProfile::default()), Ok(()));
    assert_eq!(check_tls(&good), Ok(()));
    let pem = |text: &str| Some(text.to_owned());
    let table = [
        (
            TlsProfile {
                ca_pem: pem("nothing"),
                ..good.clone()
            },
            TlsFault::Ca,
        ),
        (
            TlsProfile {
                ca_pem: pem(""),
                ..good.clone()
            },
            TlsFault::Ca,
        ),
        (
            TlsProfile {
                client_cert_pem: pem("nothing"),
                ..good.clone()
            },
            TlsFault::Certificate,
        ),
        (
            TlsProfile {
                client_cert_pem: None,
                ..good.clone()
            },
            TlsFault::Pair,
        ),
        (
            TlsProfile {
                client_key_pem: None,
                ..good.clone()
            },
            TlsFault::Pair,
        ),
        (
            TlsProfile {
                client_key_pem: Some("nothing".into()),
                ..good.clone()
            },
            TlsFault::Key,
        ),
        (
            TlsProfile {
                client_key_pem: Some(two.key.serialize_pem().into()),
                ..good.clone()
            },
            TlsFault::Pair,
        ),
    ];
    let transport = transport();
    let mut endpoint = endpoint("https://example.com/");
    for (profile, fault) in table {
        assert_eq!(check_tls(&profile), Err(fault.clone()));
        endpoint.tls = profile;
        let found = transport.check(&endpoint);
        assert!(matches!(found, Err(EndpointFault::Tls(found)) if found == fault));
    }
}

#[test]
fn an_endpoint_is_checked_without_sending() {
    let transport = transport();
    let mut endpoint = endpoint("https://example.com/");
    transport.check(&endpoint).unwrap();
    endpoint.headers = vec![("Host".into(), "elsewhere".into())];
    assert!(matches!(
        transport.check(&endpoint),
        Err(EndpointFault::Webhook(_))
    ));
    endpoint.url = "https://10.0.0.1/".parse().unwrap();
    assert!(matches!(
        transport.check(&endpoint),
        Err(EndpointFault::Forbidden(_))
    ));
}

#[tokio::test]
async fn a_connection_is_not_used_again_once_the_policy_has_changed() {
    let authority = Authority::new();
    let server = authority.server();
    let receiver = Speaks::plainly(&server).accepting().await;
    let transport = transport();
    let endpoint = secure(&receiver, authority.trusted());
    let prepared = transport.prepared(&endpoint);
    let send = async || {
        let (event, dispatch) = (event("{}"), dispatch(1));
        transport
            .attempt(&prepared, &event, &dispatch, wall())
            .await
    };
    send().await;
    send().await;
    assert_eq!(
        (receiver.connections(), transport.idle_connections()),
        (1, 1)
    );
    transport.set_policy(open_policy());
    assert_eq!(transport.idle_connections(), 0);
    send().await;
    assert_eq!(receiver.connections(), 2);
    // A preparation that somebody still holds obeys the policy in force.
    transport.set_policy(Default::default());
    let forbidden = postrider::channel::Attempted::Answered(postrider_core::outcome::Outcome {
        unsent: true,
        evidence: b"127.0.0.1 is not an address that deliveries may reach"
            .to_vec()
            .into(),
        ..postrider_core::outcome::Outcome::bare(Reject, Cause::ForbiddenAddress)
    });
    assert_eq!(send().await, forbidden);
    assert_eq!(receiver.connections(), 2);
}
