//! The raw limit: the transport's own client posting to the same sink, no engine.
//!
//! It sends what a hand-over sends, byte for byte: the request that the webhook channel writes for
//! one attempt, with its signatures, made once and repeated. The independent generator repeats the
//! same one, so what the two differ in is the client alone.
//!
//! Absent here: records, anything durable, signing each time. What the engine does beside this is
//! what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::{Event, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, PolicyId, TenantId,
};
use postrider_core::policy::Guarantee;
use postrider_core::time::{DAY_MS, Time};
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use super::process::Usage;
use crate::channel::webhook::{self, Webhook, generate_secret};
use crate::channel::{Channel as _, Request};
use crate::cli::failure::Failure;
use crate::registry::{Endpoint, EndpointState, Secret, TlsProfile};
use crate::transport::{Limits, NetworkPolicy, Transport};

/// A hand-over that is sent again and again.
pub(super) struct HandOver {
    endpoint: Arc<Endpoint>,
    request: Request,
}

/// What a raw run came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub(super) per_s: f64,
    pub(super) cpu_us_per_request: f64,
}

impl HandOver {
    /// The one of `body` to `url`.
    pub(super) fn new(url: &str, body: Bytes) -> Result<HandOver, Failure> {
        let cannot = || Failure::no("the raw client could not write a request");
        let url: Url = url
            .parse()
            .map_err(|error: url::ParseError| cannot().because(error))?;
        let endpoint = endpoint(url);
        let prepared =
            webhook::Prepared::new(&endpoint).map_err(|error| cannot().because(error))?;
        Ok(HandOver {
            endpoint: Arc::new(endpoint),
            request: Webhook.encode(&prepared, &event(body), &dispatch(), Time(DAY_MS)),
        })
    }

    /// Its headers, for another client; `Host` and `Content-Length` are the client's to write.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.request
            .headers()
            .iter()
            .filter(|(name, _)| **name != http::header::HOST)
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }
}

/// Repeats a hand-over over `connections` for `time`. Runs on threads of its own, `threads` of
/// them, so that nothing else is counted.
pub(super) fn run(
    hand_over: &Arc<HandOver>,
    connections: usize,
    threads: usize,
    time: Duration,
) -> Result<Raw, Failure> {
    let cannot = || Failure::no("the raw client could not run");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| cannot().because(error))?;
    let transport = Arc::new(Transport::new(Limits::default(), loopback()?));
    let sent = Arc::new(AtomicU64::new(0));
    let before = Usage::of(std::process::id())?;
    let began = Instant::now();
    let ended: Result<(), String> = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            let client = Client {
                transport: Arc::clone(&transport),
                hand_over: Arc::clone(hand_over),
                sent: Arc::clone(&sent),
                until: began + time,
            };
            clients.spawn(client.run());
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    });
    ended.map_err(|why| cannot().because(why))?;
    let elapsed_s = began.elapsed().as_secs_f64();
    let used = Usage::of(std::process::id())?.since(before);
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds fit")]
    let (sent, cpu_us) = (sent.load(Relaxed).max(1) as f64, used.cpu_us as f64);
    Ok(Raw {
        per_s: sent / elapsed_s,
        cpu_us_per_request: cpu_us / sent,
    })
}

struct Client {
    transport: Arc<Transport>,
    hand_over: Arc<HandOver>,
    sent: Arc<AtomicU64>,
    until: Instant,
}

impl Client {
    async fn run(self) -> Result<(), String> {
        let prepared = self.transport.prepared(&self.hand_over.endpoint);
        while Instant::now() < self.until {
            let request = self.hand_over.request.clone();
            let answer = self.transport.send(&prepared, request).await;
            match answer.said {
                Ok(response) if response.http_status == 200 => self.sent.fetch_add(1, Relaxed),
                other => return Err(format!("the sink answered {other:?}")),
            };
        }
        Ok(())
    }
}

/// A way to this machine only.
pub(super) fn loopback() -> Result<NetworkPolicy, Failure> {
    let network = "127.0.0.0/8".parse();
    let network = network.map_err(|error| Failure::no("no network").because(format!("{error}")))?;
    Ok(NetworkPolicy {
        allow_http: true,
        allow: vec![network],
        ..NetworkPolicy::default()
    })
}

/// An endpoint that is reached without an engine.
pub(super) fn endpoint(url: Url) -> Endpoint {
    Endpoint {
        id: EndpointId(1),
        uuid: Uuid::nil(),
        tenant: TenantId(1),
        url,
        kind: crate::registry::Kind::Webhook,
        route: None,
        device: None,
        name: String::new(),
        recipient: String::new(),
        event_types: Vec::new(),
        policy: PolicyId(1),
        guarantee: None,
        rate: None,
        slots_max: None,
        secrets: vec![Secret {
            value: generate_secret(),
            created_at: Time(0),
            expires_at: None,
        }],
        tls: TlsProfile::default(),
        headers: Vec::new(),
        state: EndpointState::Active,
        created_at: Time(0),
        updated_at: Time(0),
        revision: 1,
    }
}

fn event(payload: Bytes) -> Event {
    Event {
        id: EventId(1),
        uuid: Uuid::new_v4().as_u128(),
        tenant: TenantId(1),
        key_digest: KeyDigest([0; 16]),
        body_digest: BodyDigest([0; 16]),
        business_id: "1".into(),
        event_type: "bench.tick".into(),
        version: 1,
        recipient: "one".into(),
        ordering_key: "".into(),
        collapse_key: "".into(),
        urgency: Urgency::Normal,
        traceparent: "".into(),
        content_type: "application/json".into(),
        admitted_at: Time(0),
        key_expires_at: Time(DAY_MS),
        first_delivery: DeliveryId(1),
        deliveries: 1,
        retry_of: None,
        payload,
    }
}

fn dispatch() -> Dispatch {
    Dispatch {
        delivery: DeliveryId(1),
        correlation: CorrelationId(Uuid::new_v4().as_u128()),
        tenant: TenantId(1),
        event: EventId(1),
        endpoint: EndpointId(1),
        attempt: 1,
        policy: PolicyId(1),
        guarantee: Guarantee::AtLeastOnce,
        lane: None,
        previous_accepted: 0,
        admitted_at: Time(0),
        expires_at: Time(DAY_MS),
        opened_at: Time(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_a_signed_hand_over() {
        let body = Bytes::from_static(b"{}");
        let hand_over = HandOver::new("http://127.0.0.1:9/raw/0", body).expect("one");
        let request = &hand_over.request;
        assert_eq!(request.uri().path(), "/raw/0");
        let names: Vec<&str> = hand_over.headers().map(|(name, _)| name).collect();
        for name in [
            "content-type",
            "webhook-signature",
            "x-postrider-signature",
            "traceparent",
        ] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert!(!names.contains(&"host") && request.headers().contains_key("host"));
    }
}
