//! Every metric there is, by name.
//!
//! Handles are fields: who counts something holds the handle and looks nothing up. Labels come from
//! closed lists (causes, outcome kinds, states, routes), so the number of series has a bound that
//! does not depend on traffic.
//!
//! Absent here: tenants and endpoints as labels, of which there is no bound.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::histogram::{Latency, Size};

/// Media type of the text that [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Causes are stored as one byte.
const CAUSES_MAX: usize = 256;

/// A way from one point to the next in a delivery's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// From reading a request to the commit that makes it durable.
    IntakeToDurable,
    /// From that commit to the first byte to the receiver.
    DurableToSend,
    /// From the first byte to the receiver's answer.
    Response,
    /// From the answer to the commit of the entry about it: the acknowledgment latency.
    ResponseToDurable,
    /// From admission to the receiver's acceptance.
    AcceptToArrival,
}

impl Hop {
    const NAMES: [&str; 5] = [
        "intake_to_durable",
        "durable_to_send",
        "response",
        "response_to_durable",
        "accept_to_arrival",
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HopLabel {
    hop: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    channel: &'static str,
    outcome: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettledLabels {
    state: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    channel: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    class: &'static str,
}

/// A number with a fraction that goes up and down.
pub type Seconds = Gauge<f64, AtomicU64>;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:ty;)*) => {
        /// Handles of all metrics. Sharing is by reference: keep it in an `Arc`.
        pub struct Metrics {
            registry: Registry,
            hops: [Latency; 5],
            attempts: Family<AttemptLabels, Counter>,
            attempt_handles: Box<[OnceLock<Counter>]>,
            settled: Family<SettledLabels, Counter>,
            ended: Family<EndLabels, Counter>,
            routes_held: Family<CauseLabel, Gauge>,
            requests: Family<RouteLabels, Counter>,
            /// Submissions refused because too much was waiting.
            pub refused_overloaded: Counter,
            /// Submissions refused because the disk was full.
            pub refused_storage_full: Counter,
            /// Submissions refused because the process was about to end.
            pub refused_draining: Counter,
            /// Breakers that let nothing through.
            pub breakers_open: Gauge,
            /// Breakers that have one probe under way.
            pub breakers_probing: Gauge,
            $($(#[doc = $doc])* pub $name: $kind,)*
        }

        impl Metrics {
            fn with(mut registry: Registry, families: Families) -> Metrics {
                $(
                    let $name = <$kind>::default();
                    let help = concat!($($doc),*).trim().trim_end_matches('.');
                    registry.register(stringify!($name), help, $name.clone());
                )*
                Metrics {
                    registry,
                    hops: families.hops,
                    attempts: families.attempts,
                    attempt_handles: (0..Channel::ALL.len() * CAUSES_MAX * OutcomeKind::ALL.len())
                        .map(|_| OnceLock::new())
                        .collect(),
                    settled: families.settled,
                    ended: families.ended,
                    routes_held: families.routes_held,
                    requests: families.requests,
                    refused_overloaded: families.refused[0].clone(),
                    refused_storage_full: families.refused[1].clone(),
                    refused_draining: families.refused[2].clone(),
                    breakers_open: families.breakers[0].clone(),
                    breakers_probing: families.breakers[1].clone(),
                    $($name,)*
                }
            }
        }
    };
}

metrics! {
    /// Events admitted.
    admissions: Counter;
    /// Deliveries that admitted events became.
    deliveries: Counter;
    /// Repeats that were answered with the first one's ids.
    duplicates: Counter;
    /// Keys that came again with other content.
    key_conflicts: Counter;
    /// Times that a receiver named a waiting time beyond the cap.
    retry_after_incidents: Counter;
    /// Rows of the ledger that were not as the engine expected.
    ledger_conflicts: Counter;
    /// Unsettled deliveries in memory.
    window_deliveries: Gauge;
    /// Deliveries that are due and wait for a slot or a gate.
    queue_due: Gauge;
    /// Submissions on their way to the engine.
    queue_intake: Gauge;
    /// Records on their way to the disk.
    queue_records: Gauge;
    /// Attempts of which nothing is known because a part of ours panicked.
    attempts_panicked: Counter;
    /// Attempts under way.
    slots_in_use: Gauge;
    /// Age of the delivery that has been due for longest.
    oldest_due_age_seconds: Seconds;
    /// Idempotency keys that are remembered.
    dedupe_keys: Gauge;
    /// Commits to the ledger.
    commits: Counter;
    /// Records in a commit.
    commit_records: Size;
    /// Time of a commit, from its first statement to its return from the disk.
    commit_seconds: Latency;
    /// Time of making a commit durable, as a part of the above.
    sync_seconds: Latency;
    /// Entries of the journal that are not yet in the look-up indexes.
    merge_lag_entries: Gauge;
    /// Free bytes on the data directory's device.
    storage_free_bytes: Gauge;
    /// Endpoints that are not deleted.
    endpoints: Gauge;
    /// Connections to the API that are open.
    api_connections: Gauge;
    /// Connections to the API that were closed at once for being too many.
    api_connections_refused: Counter;
    /// Attempt lines that were counted instead of written.
    log_lines_skipped: Counter;
}

struct Families {
    hops: [Latency; 5],
    attempts: Family<AttemptLabels, Counter>,
    settled: Family<SettledLabels, Counter>,
    ended: Family<EndLabels, Counter>,
    routes_held: Family<CauseLabel, Gauge>,
    requests: Family<RouteLabels, Counter>,
    refused: [Counter; 3],
    breakers: [Gauge; 2],
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("postrider");
        let hops = Family::<HopLabel, Latency>::default();
        let attempts = Family::default();
        let settled = Family::default();
        let ended = Family::default();
        let routes_held = Family::default();
        let requests = Family::default();
        let refused = Family::<WhyLabel, Counter>::default();
        let breakers = Family::<StateLabel, Gauge>::default();
        registry.register_with_unit("hop", "Time of one hop", Unit::Seconds, hops.clone());
        registry.register(
            "attempts",
            "Attempts that ended, by channel, outcome and cause",
            attempts.clone(),
        );
        registry.register(
            "settled",
            "Deliveries settled, by state and cause",
            settled.clone(),
        );
        registry.register(
            "endpoints_ended",
            "Endpoints that nothing more is sent to for what was answered, by channel and cause",
            ended.clone(),
        );
        registry.register(
            "routes_held",
            "Routes that a provider makes wait (credentials, address, quota), by cause",
            routes_held.clone(),
        );
        registry.register(
            "http_requests",
            "Requests to the API, by route",
            requests.clone(),
        );
        registry.register(
            "refusals",
            "Submissions refused for want of room",
            refused.clone(),
        );
        registry.register("breakers", "Breakers that are not closed", breakers.clone());
        let families = Families {
            hops: Hop::NAMES.map(|hop| hops.get_or_create_owned(&HopLabel { hop })),
            attempts,
            settled,
            ended,
            routes_held,
            requests,
            refused: ["overloaded", "storage_full", "draining"]
                .map(|why| refused.get_or_create_owned(&WhyLabel { why })),
            breakers: ["open", "probing"]
                .map(|state| breakers.get_or_create_owned(&StateLabel { state })),
        };
        Metrics::with(registry, families)
    }
}

impl Metrics {
    /// The histogram of a hop; in microseconds.
    #[must_use]
    pub fn hop(&self, hop: Hop) -> &Latency {
        &self.hops[hop as usize]
    }

    /// Counts an attempt that ended.
    pub fn attempt(&self, channel: Channel, kind: OutcomeKind, cause: Cause) {
        let place = (channel as usize - 1) * CAUSES_MAX + usize::from(cause.number());
        let place = place * OutcomeKind::ALL.len() + (kind as usize - 1);
        let labels = || AttemptLabels {
            channel: channel.name(),
            outcome: kind.name(),
            cause: cause.code(),
        };
        self.attempt_handles[place]
            .get_or_init(|| self.attempts.get_or_create_owned(&labels()))
            .inc();
    }

    /// Counts a delivery that was settled.
    pub fn settled(&self, state: State, cause: Cause) {
        let labels = SettledLabels {
            state: state.name(),
            cause: cause.code(),
        };
        self.settled.get_or_create(&labels).inc();
    }

    /// Counts an endpoint that an answer has ended.
    pub fn ended(&self, channel: Channel, cause: Cause) {
        let labels = EndLabels {
            channel: channel.name(),
            cause: cause.code(),
        };
        self.ended.get_or_create(&labels).inc();
    }

    /// Counts a route that is held for `cause`, or is no longer.
    pub fn route_held(&self, cause: Cause, held: bool) {
        let labels = CauseLabel {
            cause: cause.code(),
        };
        let gauge = self.routes_held.get_or_create(&labels);
        gauge.inc_by(if held { 1 } else { -1 });
    }

    /// Counts a request to the API.
    pub fn request(&self, route: &'static str, http_status: u16) {
        let class = match http_status / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        };
        self.requests
            .get_or_create(&RouteLabels { route, class })
            .inc();
    }

    /// All metrics as OpenMetrics text; its media type is [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// [`fmt::Error`], if there is no memory for the text.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown_under_its_name() {
        let metrics = Metrics::default();
        metrics.admissions.inc_by(3);
        metrics.attempt(Channel::Webhook, OutcomeKind::Accept, Cause::Accepted);
        metrics.attempt(Channel::Webhook, OutcomeKind::Accept, Cause::Accepted);
        metrics.attempt(Channel::Fcm, OutcomeKind::Unknown, Cause::ResponseTimeout);
        metrics.ended(Channel::Apns, Cause::Gone);
        metrics.route_held(Cause::AuthFailure, true);
        metrics.settled(State::Accepted, Cause::Accepted);
        metrics.request("/v1/events", 202);
        metrics.refused_overloaded.inc();
        metrics.oldest_due_age_seconds.set(1.5);
        metrics.hop(Hop::ResponseToDurable).observe(900);
        let text = metrics.render().unwrap();
        for line in [
            "postrider_admissions_total 3",
            concat!(
                "postrider_attempts_total",
                "{channel=\"webhook\",outcome=\"accept\",cause=\"PENDING_DELIVERY\"} 2"
            ),
            concat!(
                "postrider_attempts_total",
                "{channel=\"fcm\",outcome=\"unknown\",cause=\"RESPONSE_TIMEOUT\"} 1"
            ),
            "postrider_endpoints_ended_total{channel=\"apns\",cause=\"GONE\"} 1",
            "postrider_routes_held{cause=\"AUTH_FAILURE\"} 1",
            "postrider_settled_total{state=\"accepted\",cause=\"PENDING_DELIVERY\"} 1",
            "postrider_http_requests_total{route=\"/v1/events\",class=\"2xx\"} 1",
            "postrider_refusals_total{why=\"overloaded\"} 1",
            "postrider_oldest_due_age_seconds 1.5",
            "postrider_hop_seconds_bucket{le=\"0.001\",hop=\"response_to_durable\"} 1",
            "postrider_commit_seconds_count 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
