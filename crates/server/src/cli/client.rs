//! The command line's way to a running engine: its HTTP API, one request at a time.
//!
//! Absent here: retries and redirects. What the engine answers is what the person gets to see.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

use super::failure::Failure;
use super::show::text;

/// Longest wait for a whole answer.
const ANSWER_MS_MAX: u64 = 30_000;
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Items of a page that is asked for.
const PAGE_ITEMS: usize = 100;
/// The file in which `serve --dev` leaves address and key for the other verbs.
pub const DEV_FILE: &str = "dev.json";

/// Which engine to ask, and as whom.
#[derive(Args, Debug, Clone)]
pub struct Reach {
    /// Address of the engine's API
    #[arg(long, env = "POSTRIDER_URL", value_name = "URL")]
    url: Option<Url>,
    /// API key
    #[arg(
        long,
        env = "POSTRIDER_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    key: Option<String>,
    /// Tenant that is meant, where the key opens the whole installation
    #[arg(long, env = "POSTRIDER_TENANT", value_name = "NAME")]
    tenant: Option<String>,
    /// Data directory in which `serve --dev` left its address and key
    #[arg(long, env = "POSTRIDER_DATA", value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

/// What `serve --dev` leaves behind for the other verbs, readable by its owner alone.
#[derive(Serialize, Deserialize)]
pub struct DevFile {
    /// Address of the API.
    pub url: String,
    /// A key of the whole installation that may do everything.
    pub key: String,
    /// Name of the development tenant.
    pub tenant: String,
    /// A key that may do everything inside of that tenant.
    pub tenant_key: String,
}

impl DevFile {
    /// The one in a data directory, if there is one that can be read.
    #[must_use]
    pub fn read(directory: &Path) -> Option<DevFile> {
        serde_json::from_slice(&std::fs::read(directory.join(DEV_FILE)).ok()?).ok()
    }
}

/// A running engine.
pub struct Client {
    url: Url,
    key: SecretString,
    tenant: Option<String>,
    runtime: tokio::runtime::Runtime,
}

/// An answer.
pub struct Answer {
    /// HTTP status.
    pub http_status: StatusCode,
    /// JSON, a text where it is none, or null if there was nothing.
    pub body: Value,
    /// The server's clock, as it said it.
    pub date: Option<String>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("{0} is not an address of an API: http://host:port or https://host")]
    Address(Url),
    #[error("no connection to {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("no TLS with {0}")]
    Tls(String, #[source] std::io::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("the request could not be put into words")]
    Malformed(#[from] http::Error),
    #[error("the answer broke off or is too long")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", ANSWER_MS_MAX / 1_000)]
    Late,
}

impl Reach {
    /// The engine that flags and environment name, or else the one that `serve --dev` left word of.
    ///
    /// # Errors
    /// [`Failure`] if neither says where the engine is or which key to use.
    pub fn client(&self) -> Result<Client, Failure> {
        let dev = DevFile::read(self.data().unwrap_or(Path::new(super::DATA_DIRECTORY)));
        let url = self
            .url
            .clone()
            .or_else(|| dev.as_ref().and_then(|dev| dev.url.parse().ok()));
        let (key, tenant) = match (&self.key, dev) {
            (None, Some(dev)) => (Some(dev.key), self.tenant.clone().or(Some(dev.tenant))),
            (key, _) => (key.clone(), self.tenant.clone()),
        };
        let (Some(url), Some(key)) = (url, key) else {
            return Err(Failure::usage("which engine to ask, and with which key, is not known")
                .hint(format!(
                    "set POSTRIDER_URL and POSTRIDER_KEY, or start `postrider serve --dev` with \
                     the same --data ({})",
                    self.data().unwrap_or(Path::new(super::DATA_DIRECTORY)).display()
                )));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::no("the network could not be set up").because(error))?;
        Ok(Client {
            url,
            key: key.into(),
            tenant,
            runtime,
        })
    }

    /// The data directory, if one is named.
    #[must_use]
    pub fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }
}

impl Client {
    /// Reads something.
    ///
    /// # Errors
    /// [`Failure`] if there is no answer, or it is not a 2xx.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(&Method::GET, path, None)
    }

    /// Does something.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(&Method::POST, path, Some(body))
    }

    /// The items of a list, page after page, at most `limit`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn pages(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < limit {
            let mut query = query.to_vec();
            query.push(("limit", PAGE_ITEMS.min(limit - items.len()).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let query = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query)
                .finish();
            let mut page = self.get(&format!("{path}?{query}"))?;
            if let Value::Array(found) = page["items"].take() {
                items.extend(found);
            }
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// Lets time pass.
    pub fn pause(&self, time: Duration) {
        self.runtime
            .block_on(async { tokio::time::sleep(time).await });
    }

    /// Asks, and takes anything but a 2xx for a no.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = self.send(method, path, body)?;
        if answer.http_status.is_success() {
            return Ok(answer.body);
        }
        Err(refused(&answer))
    }

    /// Asks, and returns whatever is answered.
    ///
    /// # Errors
    /// [`Failure`] if there is no answer.
    pub fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let exchange = self.exchange(method, path, body);
        let answer = self.runtime.block_on(async {
            tokio::time::timeout(limit, exchange)
                .await
                .unwrap_or(Err(Unanswered::Late))
        });
        answer.map_err(|error| {
            Failure::no(format!("the engine at {} did not answer", self.url))
                .because(error)
                .hint("is it running? `postrider serve --dev` starts one")
        })
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Unanswered> {
        let (Some(host), Some(port)) = (self.url.host_str(), self.url.port_or_known_default())
        else {
            return Err(Unanswered::Address(self.url.clone()));
        };
        let authority = format!("{host}:{port}");
        // A literal IPv6 address has brackets in a URL and none in an address.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        #[expect(
            clippy::disallowed_methods,
            reason = "the operator's own engine, which may well be on loopback"
        )]
        let tcp = TcpStream::connect((bare, port))
            .await
            .map_err(|error| Unanswered::Connect(authority.clone(), error))?;
        let base = self.url.path().trim_end_matches('/');
        let tenant = self
            .tenant
            .as_ref()
            .map(|tenant| ("postrider-tenant", tenant));
        let request = tenant
            .into_iter()
            .fold(Request::builder(), |request, (name, value)| {
                request.header(name, value)
            })
            .method(method)
            .uri(format!("{base}{path}"))
            .header(header::HOST, &authority)
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.key.expose_secret()),
            )
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.map_or_else(Bytes::new, |body| {
                Bytes::from(body.to_string())
            })))?;
        match self.url.scheme() {
            "http" => converse(tcp, request).await,
            "https" => {
                let tls = tls(bare, tcp).await;
                converse(tls.map_err(|e| Unanswered::Tls(authority, e))?, request).await
            }
            _ => Err(Unanswered::Address(self.url.clone())),
        }
    }
}

/// A caller's words as one segment of a path.
#[must_use]
pub fn escape(words: &str) -> String {
    url::form_urlencoded::byte_serialize(words.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

async fn tls(
    host: &str,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name =
        rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, tcp)
        .await
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let http_status = response.status();
    let date = response.headers().get(header::DATE);
    let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(Unanswered::Body)?
        .to_bytes();
    driver.abort();
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body)))
    };
    Ok(Answer {
        http_status,
        body,
        date,
    })
}

/// What an answer other than 2xx means to a person: the problem document in words (RFC 9457).
#[must_use]
pub fn refused(answer: &Answer) -> Failure {
    let word = |key| Some(text(&answer.body, key)).filter(|word| !word.is_empty());
    let title = word("title").unwrap_or_else(|| "the engine says no".to_owned());
    let mut what = format!("{title} (HTTP {})", answer.http_status.as_u16());
    if let Some(detail) = word("detail") {
        what = format!("{what}: {detail}");
    }
    if let (Some(field), Some(rule)) = (word("field"), word("rule")) {
        let value = word("value").map_or_else(String::new, |value| format!(", not {value}"));
        what = format!("{what}: `{field}` {rule}{value}");
    } else if let Some(rule) = word("rule") {
        what = format!("{what}: {rule}");
    }
    let failure = match answer.http_status {
        StatusCode::BAD_REQUEST
        | StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::UNPROCESSABLE_ENTITY => Failure::usage(what),
        _ => Failure::no(what),
    };
    match word("way_out") {
        Some(way_out) => failure.hint(way_out),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that reads one request head and answers it once; and what it read.
    fn once(http_status: &str, body: &str) -> (Url, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let length = body.len();
        let answer = format!("HTTP/1.1 {http_status}\r\ncontent-length: {length}\r\n\r\n{body}");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut read = Vec::new();
            let mut byte = [0];
            while !read.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                read.extend(byte);
            }
            stream
                .write_all(answer.as_bytes())
                .expect("the client reads");
            String::from_utf8_lossy(&read).into_owned()
        });
        (
            format!("http://{address}/base").parse().expect("a URL"),
            server,
        )
    }

    fn client(url: Url) -> Client {
        let reach = Reach {
            url: Some(url),
            key: Some("k".into()),
            tenant: None,
            data: Some("nowhere".into()),
        };
        reach.client().expect("both are given")
    }

    #[test]
    fn an_answer_is_read_and_the_key_is_shown() {
        let (url, server) = once("200 OK", r#"{"a":1}"#);
        let answer = client(url).get("/v1/x?y=z").expect("an answer");
        assert_eq!(answer["a"], 1);
        let head = server.join().expect("a request");
        assert!(
            head.starts_with("GET /base/v1/x?y=z HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains("authorization: Bearer k\r\n"), "{head}");
    }

    #[test]
    fn a_problem_document_becomes_words() {
        let (url, _server) = once(
            "404 Not Found",
            r#"{"title":"Not there","detail":"no such thing","way_out":"look elsewhere"}"#,
        );
        let failure = client(url).get("/v1/x").expect_err("a no");
        assert_eq!(failure.to_string(), "Not there (HTTP 404): no such thing");
    }

    #[test]
    fn an_engine_that_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let url = format!("http://{address}").parse().expect("a URL");
        let failure = client(url).get("/").expect_err("nobody listens");
        assert!(failure.to_string().contains("did not answer"), "{failure}");
        let source = std::error::Error::source(&failure).expect("a cause");
        assert_eq!(source.to_string(), format!("no connection to {address}"));
    }

    #[test]
    fn without_address_and_key_nothing_is_asked() {
        let reach = Reach {
            url: None,
            key: None,
            tenant: None,
            data: Some("nowhere".into()),
        };
        let failure = reach.client().err().expect("nothing is known");
        assert!(failure.to_string().contains("is not known"));
    }
}
