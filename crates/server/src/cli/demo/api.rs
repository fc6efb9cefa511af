//! One caller of the engine's API: one connection, kept as long as it lives.
//!
//! A request whose answer does not come is [`Lost`]: the caller knows nothing and asks again.
//! Absent here: repeating by itself, and names. The address is the engine's own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The header in which a key of the whole installation names the tenant it acts for.
const TENANT_HEADER: &str = "postrider-tenant";
/// Longest wait for an answer.
const ANSWER_MS_MAX: u64 = 30_000;
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// A caller.
pub struct Api {
    address: SocketAddr,
    key: String,
    tenant: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub http_status: u16,
    /// Body, whole.
    pub body: Bytes,
    /// The `Retry-After` it came with, in seconds.
    pub retry_after_s: Option<u64>,
}

/// No answer came, and nothing is known.
#[derive(Debug, thiserror::Error)]
#[error("no answer: {0}")]
pub struct Lost(pub String);

impl Answer {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether it is a 2xx.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        (200..300).contains(&self.http_status)
    }

    /// The answer in one line, for an error.
    #[must_use]
    pub fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.chars().take(300).collect();
        format!("HTTP {} {text}", self.http_status)
    }
}

impl Api {
    /// A caller that shows this key. Connects at the first request.
    #[must_use]
    pub fn new(address: SocketAddr, key: &str) -> Api {
        Api {
            address,
            key: key.to_owned(),
            tenant: None,
            sender: None,
        }
    }

    /// The same, acting inside of this tenant: for keys of the whole installation.
    #[must_use]
    pub fn within(mut self, tenant: &str) -> Api {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Reads something.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn get(&mut self, path: &str) -> Result<Answer, Lost> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Does something.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<Answer, Lost> {
        self.ask(Method::POST, path, body.into()).await
    }

    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, Lost> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let answer = match tokio::time::timeout(limit, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_late) => Err(Lost(format!("none within {ANSWER_MS_MAX} ms"))),
        };
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn exchange(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, Lost> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(tenant) = &self.tenant {
            request = request.header(TENANT_HEADER, tenant);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Lost(error.to_string()))?;
        let sender = self.sender().await?;
        let lost = |error: hyper::Error| Lost(error.to_string());
        let response = sender.send_request(request).await.map_err(lost)?;
        let http_status = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after_s = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Lost(error.to_string()))?;
        Ok(Answer {
            http_status,
            body: body.to_bytes(),
            retry_after_s,
        })
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Lost> {
        let usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.sender = Some(self.connect().await?);
        }
        self.sender
            .as_mut()
            .ok_or_else(|| Lost("not connected".into()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Lost> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the API of an engine that this process started, on loopback"
        )]
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|error| Lost(error.to_string()))?;
        // Not set is only slower.
        let _set = stream.set_nodelay(true);
        let (sender, driver) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Lost(error.to_string()))?;
        tokio::spawn(driver);
        Ok(sender)
    }
}
