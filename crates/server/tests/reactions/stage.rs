//! A whole node in which answers are given, one after the other, and what is seen of each.
//!
//! Absent here: second attempts. Whoever waits for one is paused once its line is checked, so that
//! whatever `/metrics` counts is of the next line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider::config::Config;
use postrider::observe::Metrics;
use postrider::registry::{Device, Endpoint, EndpointDraft, EndpointState, Kind, Route};
use postrider::run::Node;
use postrider_core::Bytes;
use postrider_core::endpoint::Channel;
use postrider_core::id::PolicyId;
use postrider_core::ledger::{Delivery, Fact, State};
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::{BreakerPolicy, Guarantee, Jitter, Policy, Schedule};
use postrider_core::time::{HOUR_MS, MINUTE_MS, SECOND_MS};
use url::Url;

use super::kit::{Case, Registry, Said, counted};
use super::node_kit::{deliveries, submission, submit, tenant};

/// What every retry waits unless a provider asks for more: below the shortest that one asks for.
const PLANNED_MS: i64 = 5 * SECOND_MS;
/// Longest wait for a moment that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A provider that answers as it is told.
pub trait Provider {
    fn channel(&self) -> Channel;
    /// A route of its own for a line of the list: what is learnt of its credentials is no business
    /// of the others.
    fn route(&self, node: &Node, from: &str, name: &str) -> Arc<Route>;
    /// A device of this number which will be answered so.
    fn device(&self, route: &Route, from: &str, number: u32, said: &Said) -> (Url, Kind);
    /// What nobody needs to know who reads of the device of this number.
    fn address(&self, number: u32) -> String;
    /// Requests for it so far.
    fn arrived(&self, from: &str, number: u32) -> usize;
}

/// One failure opens a breaker.
pub fn policy() -> Policy {
    Policy {
        name: "rows".into(),
        schedule: Schedule::Fixed {
            waits_ms: vec![PLANNED_MS],
        },
        jitter: Jitter::None,
        throttle_ms: PLANNED_MS,
        breaker: BreakerPolicy {
            error_percent: 1,
            answers_min: 1,
            answers_max: 1,
            window_ms: MINUTE_MS,
            open_ms: HOUR_MS,
        },
        ..Policy::brief(PolicyId(0))
    }
}

/// Gives each answer of a list, and holds what comes of it against the list.
pub async fn play(config: &Config, provider: &dyn Provider, list: &[Case]) {
    let metrics = Arc::new(Metrics::default());
    let node = Node::start(config, &metrics, None).expect("the node starts");
    let stage = Stage {
        node,
        metrics,
        provider,
    };
    let mut number = 0;
    for case in list {
        number += 1;
        let name = format!("route-{number}");
        let route = provider.route(&stage.node, case.from, &name);
        for said in &case.before {
            let endpoint = stage.device(case, &route, number, said);
            stage.answered(case, &endpoint).await;
            stage.pause(&endpoint);
            number += 1;
        }
        let endpoint = stage.device(case, &route, number, &case.said);
        stage.check(case, number, &endpoint).await;
    }
    stage.node.stop().expect("a clean end");
}

struct Stage<'a> {
    node: Node,
    metrics: Arc<Metrics>,
    provider: &'a dyn Provider,
}

impl Stage<'_> {
    fn device(&self, case: &Case, route: &Route, number: u32, said: &Said) -> Arc<Endpoint> {
        let node = &self.node;
        let (url, kind) = self.provider.device(route, case.from, number, said);
        let now = node.clock.now();
        let draft = EndpointDraft {
            route: Some(route.id),
            device: Some(Device {
                refreshed_at: now,
                ..Device::default()
            }),
            ..EndpointDraft::new(
                url,
                kind,
                node.registry.policies().named("rows").expect("known").id,
            )
        };
        let made = node.registry.create_endpoint(tenant(node), draft, now);
        made.expect("an endpoint")
    }

    /// Sends one event, and waits for the first answer.
    async fn answered(&self, case: &Case, endpoint: &Endpoint) -> Delivery {
        let node = &self.node;
        let mut told = submission(endpoint, Guarantee::EffectivelyOnce, 1, node.clock.now());
        told.event.payload = Bytes::from_static(br#"{"notification":{"title":"t"}}"#);
        submit(node, vec![told]).await;
        let row = || deliveries(node, endpoint.id).pop();
        let is_answered = |row: &Delivery| row.attempt > 0 && row.state != State::InFlight;
        eventually(|| row().is_some_and(|row| is_answered(&row)))
            .await
            .unwrap_or_else(|()| panic!("no answer to {case:?}"));
        row().expect("there is one")
    }

    async fn check(&self, case: &Case, number: u32, endpoint: &Endpoint) {
        let (node, end) = (&self.node, &case.end);
        let (before, from) = (self.counts(), node.clock.now());
        let row = self.answered(case, endpoint).await;
        let until = node.clock.now();
        let seen = || (row.state, row.cause, row.attempt, row.may_have_acted);
        assert_eq!(seen(), (end.state, end.cause, 1, end.acted), "{case:?}");
        let expected = counted(self.provider.channel(), end);
        let _late = eventually(|| grown(&before, &self.counts()) == expected).await;
        assert_eq!(grown(&before, &self.counts()), expected, "{case:?}");
        let now = node.registry.endpoint(endpoint.id).expect("it is known");
        let ended = match now.state {
            EndpointState::Retired { cause, .. } => Some(cause),
            _ => None,
        };
        let must = (end.registry == Registry::Ends).then_some(end.cause);
        assert_eq!(ended, must, "{case:?}");
        let is_blocked = end.outcome == OutcomeKind::Blocked;
        assert_eq!(row.unspent, u16::from(is_blocked), "{case:?}");
        if !end.state.is_settled() && !is_blocked {
            let wait_ms = PLANNED_MS.max(end.wait_s * SECOND_MS);
            let due = from.plus(wait_ms)..=until.plus(wait_ms);
            let waits_ms = row.due_at.since(from);
            assert!(due.contains(&row.due_at), "{waits_ms} ms: {case:?}");
        }
        assert_eq!(self.provider.arrived(case.from, number), 1, "{case:?}");
        self.check_evidence(case, number, &row);
        self.pause(endpoint);
    }

    /// What is kept of the answer does not give the device away, and nothing else is left out.
    fn check_evidence(&self, case: &Case, number: u32, row: &Delivery) {
        let entries = self.node.reader.history(row).expect("it can be read");
        let kept = entries.iter().find_map(|entry| match &entry.fact {
            Fact::Answered { outcome, .. } => Some(String::from_utf8_lossy(&outcome.evidence)),
            _ => None,
        });
        let kept = kept.expect("it was answered");
        assert!(!kept.contains(&self.provider.address(number)), "{kept}");
        if case.end.outcome != OutcomeKind::Accept {
            let body = case.said.body_to("[address]");
            assert!(kept.ends_with(&body), "{kept} is not {body}");
        }
    }

    /// No attempt of what waits here disturbs the next line.
    fn pause(&self, endpoint: &Endpoint) {
        let now = self.node.clock.now();
        // One that has ended cannot be paused, and need not be.
        let _ended = self.node.registry.pause(endpoint.id, "checked", now);
    }

    /// Everything that `/metrics` says of answers.
    fn counts(&self) -> BTreeMap<String, i64> {
        const OF_ANSWERS: [&str; 6] = [
            "postrider_attempts_total",
            "postrider_settled_total",
            "postrider_endpoints_ended_total",
            "postrider_routes_held",
            "postrider_breakers",
            "postrider_retry_after_incidents_total",
        ];
        let text = self.metrics.render().expect("metrics are text");
        let lines = text
            .lines()
            .filter(|line| OF_ANSWERS.iter().any(|name| line.starts_with(name)));
        lines
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a sample");
                (series.to_owned(), value.parse().expect("a whole number"))
            })
            .collect()
    }
}

/// What is more, or less, than before.
fn grown(before: &BTreeMap<String, i64>, now: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let differences = now.iter().map(|(series, value)| {
        let before = before.get(series).copied().unwrap_or(0);
        (series.clone(), value - before)
    });
    differences.filter(|(_, by)| *by != 0).collect()
}

/// Waits until it is so; `Err` if it does not become so in time.
async fn eventually(mut holds: impl FnMut() -> bool) -> Result<(), ()> {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    let becomes = async {
        while !holds() {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, becomes).await.map_err(drop)
}
