//! Receivers that misbehave, byte by byte: each ends in the documented kind and cause, within its
//! time limit, and leaves no socket behind.

mod wire_kit;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider::transport::{Limits, Transport};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::{self, *};
use postrider_core::outcome::{EVIDENCE_BYTES_MAX, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use wire_kit::*;

/// Longest time an attempt may take: below the response limit of a [`patient`] transport, so that
/// no test passes by running into it.
const ATTEMPT_MAX: Duration = Duration::from_millis(4_500);

async fn one(receiver: &Receiver, limits: Limits) -> Outcome {
    let transport = Transport::new(limits, open_policy());
    let start = Instant::now();
    let outcome = outcome(&transport, &Arc::new(endpoint(&receiver.url()))).await;
    assert!(start.elapsed() < ATTEMPT_MAX, "{:?}", start.elapsed());
    assert_eq!(receiver.connections(), 1);
    outcome
}

/// What each says after it has read the request. `{}` goes on for ever.
const SAYINGS: &[(&str, &[u8], &[u8], OutcomeKind, Cause)] = &[
    (
        "nothing, and hangs",
        b"",
        b"",
        Unknown,
        Cause::ResponseTimeout,
    ),
    (
        "half a status line, and hangs",
        b"HTTP/1.1 2",
        b"",
        Unknown,
        Cause::ResponseTimeout,
    ),
    (
        "endless headers",
        b"HTTP/1.1 200 OK\r\n",
        b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "one endless header",
        b"HTTP/1.1 200 OK\r\nx-a: ",
        b"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "an endless status line",
        b"HTTP/1.1 200 O",
        b"KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "endless noise",
        b"",
        b"\x16\x03\x01\x00\xfa",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "HTTP/2 unasked",
        b"",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "HTTP/0.9",
        b"<html>hello</html>\r\n",
        b"",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "a status of two digits",
        b"HTTP/1.1 99 Huh\r\n\r\n",
        b"",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "a status of four digits",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "status 000",
        b"HTTP/1.1 000 Huh\r\n\r\n",
        b"",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "status 999",
        b"HTTP/1.1 999 Huh\r\ncontent-length: 0\r\n\r\n",
        b"",
        Reject,
        Cause::Unresolved,
    ),
    (
        "an upgrade nobody asked for",
        b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"",
        Reject,
        Cause::Unresolved,
    ),
    (
        "100 for ever",
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "100, then an answer",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Hm\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"",
        Accept,
        Cause::Accepted,
    ),
    (
        "two lengths",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "a length that is no number",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"",
        Unknown,
        Cause::ResponseInvalid,
    ),
    (
        "a huge length and nothing more",
        b"HTTP/1.1 200 OK\r\ncontent-length: 900000000000000\r\n\r\n",
        b"",
        Accept,
        Cause::Accepted,
    ),
    (
        "an endless body",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"a lot to say about how well it went  ",
        Accept,
        Cause::Accepted,
    ),
    (
        "endless chunks",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n",
        Accept,
        Cause::Accepted,
    ),
    (
        "a broken chunk",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"",
        Accept,
        Cause::Accepted,
    ),
    (
        "an endless refusal",
        b"HTTP/1.1 400 Bad\r\n\r\n",
        b"a lot to say about what went wrong here",
        Reject,
        Cause::BadRequest,
    ),
    (
        "a refusal that hangs",
        b"HTTP/1.1 410 Gone\r\ncontent-length: 10\r\n\r\nabc",
        b"",
        Gone,
        Cause::Gone,
    ),
    (
        "an endless error",
        b"HTTP/1.1 500 Oh\r\n\r\n",
        b"Traceback (most recent call last)\n",
        Retry,
        Cause::ServiceDegraded,
    ),
];

#[tokio::test]
async fn what_a_receiver_says_ends_as_documented() {
    for &(name, opening, more, kind, cause) in SAYINGS {
        let (closed, mut seen) = mpsc::channel(1);
        let receiver = Receiver::start(move |mut stream, _| {
            let closed = closed.clone();
            async move {
                read_request(&mut stream).await.unwrap();
                // It may hang up on us at any moment, that is the point.
                let mut open = stream.write_all(opening).await.is_ok();
                while open && !more.is_empty() {
                    open = stream.write_all(more).await.is_ok();
                }
                // The other side must close, whatever we do.
                while !matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)) {}
                closed.send(()).await.unwrap();
            }
        })
        .await;
        let limits = match cause {
            Cause::ResponseTimeout => hasty(),
            _ => patient(),
        };
        let transport = Transport::new(limits, open_policy());
        let start = Instant::now();
        let outcome = outcome(&transport, &Arc::new(endpoint(&receiver.url()))).await;
        assert!(
            start.elapsed() < ATTEMPT_MAX,
            "{name}: {:?}",
            start.elapsed()
        );
        assert_eq!(brief(&outcome), (kind, cause), "{name}: {outcome:?}");
        assert_eq!(
            outcome.may_have_acted,
            matches!(kind, Unknown | Retry),
            "{name}"
        );
        assert!(!outcome.unsent, "{name}");
        assert!(outcome.evidence.len() <= EVIDENCE_BYTES_MAX, "{name}");
        drop(transport);
        seen.recv().await.unwrap();
        assert_eq!(receiver.connections(), 1, "{name}");
    }
}

#[tokio::test]
async fn an_answer_a_byte_at_a_time_is_cut_off() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for byte in b"HTTP/1.1 200 OK\r\nserver: a very slow one indeed\r\n\r\n" {
            tick.tick().await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    })
    .await;
    assert_eq!(
        brief(&one(&receiver, hasty()).await),
        (Unknown, Cause::ResponseTimeout)
    );
}

#[tokio::test]
async fn a_connection_that_ends_after_the_request_is_unknown() {
    for abrupt in [false, true] {
        let receiver = Receiver::start(move |mut stream, _| async move {
            read_request(&mut stream).await.unwrap();
            if abrupt {
                reset(stream);
            }
        })
        .await;
        let outcome = one(&receiver, patient()).await;
        assert_eq!(
            brief(&outcome),
            (Unknown, Cause::ConnectionLost),
            "{outcome:?}"
        );
        assert!(outcome.may_have_acted && !outcome.unsent);
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_request_is_unsent_or_unknown() {
    for abrupt in [false, true] {
        let receiver = Receiver::start(move |stream, _| async move {
            if abrupt {
                reset(stream);
            }
        })
        .await;
        // Whether our first byte or their end comes first is a race; what is said of it is not.
        let outcome = one(&receiver, patient()).await;
        if outcome.unsent {
            assert_eq!(brief(&outcome), (Retry, Cause::ConnectFailed));
        } else {
            assert_eq!(brief(&outcome), (Unknown, Cause::ConnectionLost));
        }
        assert_eq!(outcome.may_have_acted, !outcome.unsent);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_after_an_acceptance_changes_nothing() {
    for abrupt in [false, true] {
        let receiver = Receiver::start(move |mut stream, _| async move {
            read_request(&mut stream).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this";
            stream.write_all(answer).await.unwrap();
            if abrupt {
                reset(stream);
            }
        })
        .await;
        let outcome = one(&receiver, patient()).await;
        // A reset may overtake the head on its way up; then nobody has read it.
        if abrupt && outcome.kind == Unknown {
            assert_eq!(outcome.cause, Cause::ConnectionLost);
        } else {
            assert_eq!(brief(&outcome), (Accept, Cause::Accepted));
        }
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let transport = Transport::new(patient(), open_policy());
    let outcome = outcome(&transport, &Arc::new(endpoint(&url))).await;
    assert_eq!(brief(&outcome), (Retry, Cause::ConnectRefused));
    assert!(outcome.unsent && !outcome.may_have_acted);
}

/// A socket whose queue of connections is full: the kernel drops what else comes, as a firewall
/// would.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "it fills the queue of a listener of its own"
)]
async fn a_connection_that_is_never_made_ends_in_time() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        let connecting = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(700), connecting).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => break,
        }
        assert!(waiting.len() < 64, "the queue has no end");
    }
    let transport = Transport::new(hasty(), open_policy());
    let outcome = outcome(
        &transport,
        &Arc::new(endpoint(&format!("http://{address}/"))),
    )
    .await;
    assert_eq!(brief(&outcome), (Retry, Cause::ConnectTimeout));
    assert!(outcome.unsent && !outcome.may_have_acted);
}

/// The race that keeps senders awake: the server closes a kept connection just before it is used
/// again. Each request must arrive once, on a connection that lives. The server has a thread of its
/// own and the test blocks until it has closed, so our runtime cannot have heard of it.
#[tokio::test]
async fn a_kept_connection_that_was_closed_loses_and_doubles_nothing() {
    const ROUNDS: usize = 20;
    for abrupt in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (close, told) = std::sync::mpsc::channel::<()>();
        let (tell, closed) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                let mut stream = listener.accept().unwrap().0;
                let mut request = Vec::new();
                while !request.ends_with(b"{\"a\":1}") {
                    let mut buffer = [0; 2_048];
                    let read = stream.read(&mut buffer).unwrap();
                    assert_ne!(read, 0, "a request was begun and broken off");
                    request.extend_from_slice(&buffer[..read]);
                }
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .unwrap();
                told.recv().unwrap();
                if abrupt {
                    socket2::SockRef::from(&stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                } else {
                    // Whatever came on this connection meanwhile was lost.
                    stream.set_nonblocking(true).unwrap();
                    assert!(stream.read(&mut [0; 64]).is_err());
                }
                drop(stream);
                tell.send(()).unwrap();
            }
        });
        let transport = Transport::new(patient(), open_policy());
        let endpoint = Arc::new(endpoint(&url));
        for round in 0..ROUNDS {
            let outcome = outcome(&transport, &endpoint).await;
            assert_eq!(brief(&outcome), (Accept, Cause::Accepted), "round {round}");
            assert_eq!(transport.idle_connections(), 1);
            close.send(()).unwrap();
            closed.recv().unwrap();
        }
        server.join().unwrap();
    }
}

#[tokio::test]
async fn words_on_an_idle_connection_end_it() {
    let said = Arc::new(Notify::new());
    let signal = said.clone();
    let receiver = Receiver::start(move |mut stream, number| {
        let said = signal.clone();
        async move {
            read_request(&mut stream).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
            if number == 0 {
                // What nginx and others send before they close an idle connection.
                let late = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(late).await.unwrap();
                said.notify_one();
            }
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await;
    let transport = Transport::new(patient(), open_policy());
    let endpoint = Arc::new(endpoint(&receiver.url()));
    assert_eq!(outcome(&transport, &endpoint).await.kind, Accept);
    said.notified().await;
    assert_eq!(outcome(&transport, &endpoint).await.kind, Accept);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn connection_close_is_heeded_and_the_rest_is_kept() {
    let closing =
        answering(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let keeping = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
    let transport = Transport::new(patient(), open_policy());
    for (receiver, connections) in [(&closing, 3), (&keeping, 1)] {
        let endpoint = Arc::new(endpoint(&receiver.url()));
        for _ in 0..3 {
            assert_eq!(outcome(&transport, &endpoint).await.kind, Accept);
        }
        assert_eq!(receiver.connections(), connections);
    }
    assert_eq!(transport.idle_connections(), 1);
}

#[tokio::test]
async fn a_dropped_attempt_closes_its_connection() {
    let (arrived, mut requests) = mpsc::channel(1);
    let (closed, mut ends) = mpsc::channel(1);
    let receiver = Receiver::start(move |mut stream, _| {
        let (arrived, closed) = (arrived.clone(), closed.clone());
        async move {
            read_request(&mut stream).await.unwrap();
            arrived.send(()).await.unwrap();
            assert!(matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)));
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let transport = Arc::new(Transport::new(Default::default(), open_policy()));
    let endpoint = Arc::new(endpoint(&receiver.url()));
    let shared = transport.clone();
    let running = tokio::spawn(async move { outcome(&shared, &endpoint).await });
    requests.recv().await.unwrap();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    ends.recv().await.unwrap();
    assert_eq!(transport.idle_connections(), 0);
}
