//! A browser's side of the conversation, written from what Firefox sends.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::super::{End, Missing, Parcel};
use super::*;

/// Longest wait for anything in these tests.
const DEADLINE: Duration = Duration::from_secs(20);

const CHANNEL: &str = "b6c4b1a0-13e8-479e-8462-184610fc726f";
/// With padding, as Firefox sends it.
const KEY: &str =
    "BATqR4RC9YTG7pXWuWdbLiqg_RCVfgaLJ95zTcfrX5F_km1J5Tckgbhd-WMAEPrjKCmAY63p8JZ8bPG3DhTyrF8=";

struct Browser(WebSocketStream<TcpStream>);

impl Browser {
    #[expect(
        clippy::disallowed_methods,
        reason = "the browser's own connection, on loopback"
    )]
    async fn connect(address: SocketAddr) -> Browser {
        let mut request = format!("ws://{address}/")
            .into_client_request()
            .expect("a URL");
        let asked = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert(SUBPROTOCOL_HEADER, asked);
        let stream = TcpStream::connect(address).await.expect("it listens");
        let (socket, response) = tokio_tungstenite::client_async(request, stream)
            .await
            .expect("it upgrades");
        assert_eq!(response.headers()[SUBPROTOCOL_HEADER], SUBPROTOCOL);
        Browser(socket)
    }

    /// Connected, and greeted; with the id to come back under.
    async fn greeted(address: SocketAddr, uaid: Option<&str>) -> (Browser, String) {
        let mut browser = Browser::connect(address).await;
        let mut hello = json!({ "messageType": "hello", "broadcasts": {}, "use_webpush": true });
        if let Some(uaid) = uaid {
            hello["uaid"] = uaid.into();
        }
        let reply = browser.ask(hello).await;
        assert_eq!(reply["messageType"], "hello");
        assert_eq!(
            (&reply["status"], &reply["use_webpush"]),
            (&json!(200), &json!(true))
        );
        let uaid = reply["uaid"].as_str().expect("an id").to_owned();
        (browser, uaid)
    }

    async fn say(&mut self, words: Value) {
        self.0
            .send(Frame::text(words.to_string()))
            .await
            .expect("it listens");
    }

    /// What comes next; null once the connection has ended.
    async fn hear(&mut self) -> Value {
        let next = tokio::time::timeout(DEADLINE, self.0.next());
        match next.await.expect("an answer in time") {
            Some(Ok(Frame::Text(text))) => serde_json::from_str(&text).expect("JSON"),
            _ => Value::Null,
        }
    }

    async fn ask(&mut self, words: Value) -> Value {
        self.say(words).await;
        self.hear().await
    }

    /// Registers a channel; the token at the end of its endpoint.
    async fn register(&mut self) -> String {
        let words = json!({ "messageType": "register", "channelID": CHANNEL, "key": KEY });
        let reply = self.ask(words).await;
        assert_eq!(
            (&reply["status"], &reply["channelID"]),
            (&json!(200), &json!(CHANNEL))
        );
        let endpoint = reply["pushEndpoint"].as_str().expect("an endpoint");
        assert!(
            endpoint.starts_with("http://127.0.0.1:1/wpush/v2/"),
            "{endpoint}"
        );
        endpoint.rsplit('/').next().expect("a token").to_owned()
    }
}

async fn service() -> (Arc<Subscriptions>, UserAgents) {
    let service = Subscriptions::new("http://127.0.0.1:1");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = TcpListener::bind(listen).await.expect("a free port");
    let agents = UserAgents::start(listener, Arc::clone(&service));
    (service, agents.expect("it listens"))
}

fn parcel(body: &'static [u8]) -> Parcel {
    Parcel {
        ttl_s: 60,
        encoding: "aes128gcm".into(),
        body: Bytes::from_static(body),
        ..Parcel::default()
    }
}

fn acknowledgement(version: &Value, code: u16) -> Value {
    let update = json!({ "channelID": CHANNEL, "version": version, "code": code });
    json!({ "messageType": "ack", "updates": [update] })
}

#[tokio::test]
async fn a_browser_subscribes_is_told_and_acknowledges() {
    let (service, agents) = service().await;
    let (mut browser, _uaid) = Browser::greeted(agents.address(), None).await;
    let token = browser.register().await;
    assert_eq!(
        service.key(&token).expect("known").as_deref(),
        Some(&KEY[..87])
    );

    service.push(&token, parcel(b"\xffsecret")).expect("taken");
    let told = browser.hear().await;
    assert_eq!(told["messageType"], "notification");
    assert_eq!(
        (&told["channelID"], &told["data"]),
        (&json!(CHANNEL), &json!("_3NlY3JldA"))
    );
    assert_eq!(told["headers"], json!({ "encoding": "aes128gcm" }));
    browser.say(acknowledgement(&told["version"], 101)).await;
    // A ping's answer comes after everything that was said before it.
    assert_eq!(browser.ask(json!({})).await, json!({}));
    let history = service.history(Some(&token));
    assert_eq!((history[0].end, history[0].code), (End::Acknowledged, 101));

    service.push(&token, parcel(b"")).expect("taken");
    let told = browser.hear().await;
    assert!(
        told.get("data").is_none() && told.get("headers").is_none(),
        "{told}"
    );
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_on_the_next_connection() {
    let (service, agents) = service().await;
    let (mut browser, uaid) = Browser::greeted(agents.address(), None).await;
    let token = browser.register().await;
    service.push(&token, parcel(b"one")).expect("taken");
    let first = browser.hear().await;

    let (mut again, same) = Browser::greeted(agents.address(), Some(&uaid)).await;
    assert_eq!(same, uaid);
    assert_eq!(
        browser.hear().await,
        Value::Null,
        "the connection before is over"
    );
    let second = again.hear().await;
    assert_eq!(second, first);
    again.say(acknowledgement(&second["version"], 100)).await;
    assert_eq!(again.ask(json!({})).await, json!({}));

    let (mut last, _) = Browser::greeted(agents.address(), Some(&uaid)).await;
    assert_eq!(last.ask(json!({})).await, json!({}), "nothing is left");
}

#[tokio::test]
async fn an_unregistered_channel_is_gone() {
    let (service, agents) = service().await;
    let (mut browser, _uaid) = Browser::greeted(agents.address(), None).await;
    let token = browser.register().await;
    let words = json!({ "messageType": "unregister", "channelID": CHANNEL, "code": 200 });
    for _ in 0..2 {
        let reply = browser.ask(words.clone()).await;
        assert_eq!(
            (&reply["status"], &reply["channelID"]),
            (&json!(200), &json!(CHANNEL))
        );
    }
    assert_eq!(service.push(&token, parcel(b"late")), Err(Missing::Gone));
}

#[tokio::test]
async fn what_is_no_subscription_is_refused_and_what_is_no_protocol_ends_it() {
    let (_service, agents) = service().await;
    let (mut browser, _uaid) = Browser::greeted(agents.address(), None).await;
    let refused = [
        json!({ "messageType": "register", "channelID": "channel-1" }),
        json!({ "messageType": "register", "channelID": CHANNEL, "key": "AAAA" }),
    ];
    for words in refused {
        assert_eq!(browser.ask(words).await["status"], 400);
    }
    assert_eq!(
        browser.ask(json!({ "messageType": "shout" })).await,
        Value::Null
    );

    let unheard = [
        json!({ "messageType": "register", "channelID": CHANNEL }),
        json!({ "messageType": "hello" }),
        json!({}),
    ];
    for words in unheard {
        let mut browser = Browser::connect(agents.address()).await;
        assert_eq!(browser.ask(words).await, Value::Null);
    }
}

#[tokio::test]
async fn browsers_are_cut_off_when_it_stops() {
    let (_service, agents) = service().await;
    let (mut browser, _uaid) = Browser::greeted(agents.address(), None).await;
    drop(agents);
    assert_eq!(browser.hear().await, Value::Null);
}
