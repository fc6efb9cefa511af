//! A whole engine, `postrider serve --dev` as people start it, and its API.
//!
//! Absent here: what is asked of it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Longest wait for anything that the engine has to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running engine. It ends when it is dropped.
pub struct Engine {
    _process: Child,
    _place: tempfile::TempDir,
    address: String,
    key: String,
    /// Of the route of browsers: what a page subscribes with.
    pub public_key: String,
}

impl Engine {
    /// Starts an engine that may reach a push service on this machine, and knows browsers.
    pub async fn start(push_service: SocketAddr) -> Engine {
        let place = tempfile::tempdir().expect("a directory");
        let address = format!("127.0.0.1:{}", port().await);
        let config = format!(
            "[push]\nreceipt_url = \"http://{address}/v1/receipts\"\n\
             extra_hosts = [\"{push_service}\"]\n"
        );
        std::fs::write(place.path().join("postrider.toml"), config).expect("it is written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER") {
                command.env_remove(name);
            }
        }
        let mut process = command
            .args(["serve", "--dev", "--listen", &address])
            .args(["--sink", "127.0.0.1:0"])
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let key = async {
            loop {
                let line = lines.next_line().await.expect("UTF-8");
                let line = line.expect("it says where it is");
                if let Some(key) = line.strip_prefix("key ") {
                    return key.trim().to_owned();
                }
            }
        };
        let key = tokio::time::timeout(PATIENCE, key).await;
        let mut engine = Engine {
            _process: process,
            _place: place,
            address,
            key: key.expect("it is up in time"),
            public_key: String::new(),
        };
        let route = engine
            .ask(Method::GET, "/v1/routes/browsers", Value::Null)
            .await;
        engine.public_key = route["public_keys"][0].as_str().expect("a key").to_owned();
        engine
    }

    /// Registers a browser for a person; the endpoint's id.
    pub async fn register(&self, recipient: &str, registration: &Value) -> String {
        let device = json!({ "recipient": recipient, "web_push": registration });
        let device = self.ask(Method::POST, "/v1/devices", device).await;
        device["id"].as_str().expect("an id").to_owned()
    }

    /// Submits an event; the delivery's id.
    pub async fn send(&self, event: Value) -> String {
        let admitted = self.ask(Method::POST, "/v1/events", event).await;
        let deliveries = admitted["deliveries"].as_array().expect("a list");
        assert_eq!(deliveries.len(), 1, "{admitted}");
        deliveries[0]["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a delivery is as wanted.
    pub async fn wait_for(&self, delivery: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/deliveries/{delivery}");
        self.wait_at(&path, wanted).await
    }

    /// Waits until what a path shows is as wanted.
    pub async fn wait_at(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let mut last = Value::Null;
        let found = async {
            while !wanted(&last) {
                look.tick().await;
                last = self.ask(Method::GET, path, Value::Null).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, found).await;
        assert!(in_time.is_ok(), "{last:#}");
        last
    }

    /// Asks the API for something that it has to grant.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key));
        let mut bytes = Bytes::new();
        if !body.is_null() {
            request = request.header(header::CONTENT_TYPE, "application/json");
            bytes = body.to_string().into();
        }
        let request = request.body(Full::new(bytes)).expect("a request");
        let answered = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        let (http_status, text) = answered.expect("an answer in time");
        assert!(http_status.is_success(), "{path}: {http_status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the application's own connection, on loopback"
    )]
    async fn exchange(&self, request: Request<Full<Bytes>>) -> (http::StatusCode, String) {
        let stream = TcpStream::connect(&self.address).await.expect("it listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("it speaks HTTP");
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        (head.status, String::from_utf8_lossy(&body).into_owned())
    }
}

/// A port that is free, and that no connection of somebody else is given meanwhile: those come from
/// the ports above 32,768. The engine has to know it before it starts, to write it into what it
/// sends.
async fn port() -> u16 {
    for _ in 0..1_000 {
        let port = rand::random_range(20_000..32_768);
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
