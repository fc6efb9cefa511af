//! The browsers' side of the push service: the websocket protocol that Firefox speaks to it.
//!
//! What is said, one JSON object a frame, with the names that autopush gives them:
//!
//! | from the browser | answer |
//! | --- | --- |
//! | `hello` with `uaid` or without; it has to come first | `hello` with the `uaid` to come back under |
//! | `register` a `channelID`, perhaps for one `key` | `register` with its `pushEndpoint` |
//! | `unregister` a `channelID` | `unregister`; senders get 410 from now on |
//! | `ack` one or more versions, each with a code | none |
//! | `nack` of a version: the page's own code went wrong with it | none |
//! | `{}`, a ping | `{}` |
//!
//! and, when something was pushed, a `notification` with its `version`, its encrypted `data` and
//! the `headers` by which it is decrypted. Firefox is sent here by its preference
//! `dom.push.serverURL`.
//!
//! Absent here: what is kept of subscriptions, TLS, and broadcasts, which are Mozilla's own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::{Message as Frame, WebSocketConfig};
use uuid::Uuid;

use super::{Agent, Pushed, Refused, Subscriptions};

/// Browsers that are connected at a time; more wait to be accepted.
pub const BROWSERS_MAX: usize = 1_000;
/// Longest frame that a browser may send.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Longest time from a connection to its hello.
pub const HELLO_MS: u64 = 10_000;
/// Wait after an accept that failed, so that a lack of file descriptors is not a busy loop.
const ACCEPT_PAUSE_MS: u64 = 20;

/// The subprotocol that browsers ask for.
const SUBPROTOCOL: &str = "push-notification";
const SUBPROTOCOL_HEADER: &str = "sec-websocket-protocol";

/// Where browsers connect. It stops, and they are cut off, when it is dropped.
#[derive(Debug)]
pub struct UserAgents {
    address: SocketAddr,
    accepting: tokio::task::AbortHandle,
}

impl UserAgents {
    /// Serves the browsers that connect to this listener.
    ///
    /// # Errors
    /// The listener does not know its address.
    pub fn start(listener: TcpListener, service: Arc<Subscriptions>) -> io::Result<UserAgents> {
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, service)).abort_handle();
        Ok(UserAgents { address, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What Firefox takes as `dom.push.serverURL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }
}

impl Drop for UserAgents {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, service: Arc<Subscriptions>) {
    let places = Arc::new(Semaphore::new(BROWSERS_MAX));
    // Dropped, and with it every connection, when accepting is aborted.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            continue;
        };
        let service = Arc::clone(&service);
        connections.spawn(async move {
            let ended = serve(stream, service).await;
            tracing::debug!(?ended, "a browser is gone");
            drop(place);
        });
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Socket(#[from] tokio_tungstenite::tungstenite::Error),
    #[error("the browser said what the protocol does not know: {0}")]
    Unheard(#[from] serde_json::Error),
    #[error("the first thing to say is hello, within {HELLO_MS} ms")]
    NoHello,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the browser closed the connection")]
    Closed,
    #[error("another connection of the same browser took its place")]
    Taken,
}

/// What a browser says.
#[derive(Debug, Deserialize)]
#[serde(tag = "messageType", rename_all = "snake_case")]
enum Said {
    Hello {
        uaid: Option<String>,
        use_webpush: Option<bool>,
    },
    Register {
        #[serde(rename = "channelID")]
        channel: String,
        key: Option<String>,
    },
    Unregister {
        #[serde(rename = "channelID")]
        channel: String,
    },
    Ack {
        updates: Vec<Update>,
    },
    Nack {
        version: String,
        code: Option<u16>,
    },
    BroadcastSubscribe {},
}

#[derive(Debug, Deserialize)]
struct Update {
    version: String,
    code: Option<u16>,
}

type Socket = WebSocketStream<TcpStream>;

async fn serve(stream: TcpStream, service: Arc<Subscriptions>) -> Result<(), Ended> {
    let limit = Duration::from_millis(HELLO_MS);
    let greeted = tokio::time::timeout(limit, greet(stream, &service)).await;
    let (mut socket, agent) = greeted.map_err(|_elapsed| Ended::NoHello)??;
    let ended = converse(&mut socket, &agent).await;
    let _gone = socket.close(None).await;
    ended
}

/// The upgrade and the hello.
async fn greet(stream: TcpStream, service: &Arc<Subscriptions>) -> Result<(Socket, Agent), Ended> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let mut socket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, subprotocol, Some(config)).await?;
    let Some(Said::Hello { uaid, use_webpush }) = hear(&mut socket).await? else {
        return Err(Ended::NoHello);
    };
    if use_webpush != Some(true) {
        return Err(Ended::NoHello);
    }
    let agent = service.connect(uaid.as_deref())?;
    let hello = json!({
        "messageType": "hello", "status": 200, "uaid": agent.id(),
        "use_webpush": true, "broadcasts": {},
    });
    say(&mut socket, &hello).await?;
    Ok((socket, agent))
}

/// Firefox asks for the subprotocol and would take any answer; others would not.
#[expect(
    clippy::result_large_err,
    reason = "the callback's type is the library's"
)]
fn subprotocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let asked = request.headers().get(SUBPROTOCOL_HEADER);
    if asked.is_some_and(|asked| asked == SUBPROTOCOL) {
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(SUBPROTOCOL_HEADER, chosen);
    }
    Ok(response)
}

async fn converse(socket: &mut Socket, agent: &Agent) -> Result<(), Ended> {
    loop {
        tokio::select! {
            said = hear(socket) => {
                let answer = match said? {
                    Some(said) => answer(said, agent)?,
                    None => Some(json!({})),
                };
                if let Some(answer) = answer {
                    say(socket, &answer).await?;
                }
            }
            pushed = agent.next() => say(socket, &notification(&pushed)).await?,
            () = agent.ended() => return Err(Ended::Taken),
        }
    }
}

/// The next thing a browser says; none for a ping. May be dropped without losing anything.
async fn hear(socket: &mut Socket) -> Result<Option<Said>, Ended> {
    loop {
        let Some(frame) = socket.next().await else {
            return Err(Ended::Closed);
        };
        match frame? {
            Frame::Text(text) if text.trim() == "{}" => return Ok(None),
            Frame::Text(text) => return Ok(Some(serde_json::from_str(&text)?)),
            Frame::Close(_) => return Err(Ended::Closed),
            // Pings of the websocket itself are answered by the library.
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, words: &Value) -> Result<(), Ended> {
    Ok(socket.send(Frame::text(words.to_string())).await?)
}

fn answer(said: Said, agent: &Agent) -> Result<Option<Value>, Ended> {
    Ok(match said {
        Said::Hello { .. } => return Err(Ended::NoHello),
        Said::Register { channel, key } => Some(register(agent, &channel, key.as_deref())),
        Said::Unregister { channel } => {
            // The browser has forgotten it either way, so it is told the same either way.
            let _known = agent.unregister(&channel);
            Some(json!({ "messageType": "unregister", "status": 200, "channelID": channel }))
        }
        Said::Ack { updates } => {
            for Update { version, code } in updates {
                agent.acknowledge(&version, code.unwrap_or(super::ACKNOWLEDGED));
            }
            None
        }
        Said::Nack { version, code } => {
            tracing::debug!(
                version,
                code,
                "a page's worker could not use a notification"
            );
            None
        }
        Said::BroadcastSubscribe {} => None,
    })
}

fn register(agent: &Agent, channel: &str, key: Option<&str>) -> Value {
    // Autopush takes nothing but a UUID with hyphens.
    let is_uuid = channel.len() == 36 && Uuid::try_parse(channel).is_ok();
    let endpoint = if is_uuid {
        agent.register(channel, key)
    } else {
        Err(Refused::Id(channel.to_owned()))
    };
    match endpoint {
        Ok(endpoint) => json!({
            "messageType": "register", "status": 200,
            "channelID": channel, "pushEndpoint": endpoint,
        }),
        Err(refused) => json!({
            "messageType": "register", "channelID": channel, "error": refused.to_string(),
            "status": if refused == Refused::Full { 503 } else { 400 },
        }),
    }
}

fn notification(pushed: &Pushed) -> Value {
    let mut words = json!({
        "messageType": "notification",
        "channelID": pushed.channel,
        "version": pushed.version,
        "ttl": pushed.ttl_s,
    });
    if !pushed.body.is_empty() {
        words["data"] = URL_SAFE_NO_PAD.encode(&pushed.body).into();
        words["headers"] = json!({ "encoding": pushed.encoding });
    }
    words
}

#[cfg(test)]
mod tests;
