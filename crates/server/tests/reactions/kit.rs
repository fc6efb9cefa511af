//! An answer, and what must come of it.
//!
//! Absent here: whose answers. Each provider has a list of its own.

use std::collections::{BTreeMap, BTreeSet};

use postrider::channel::reaction::{self, Reactions};
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;

/// Stands in a body for the device's address.
pub const ADDRESS: &str = "{address}";

/// An answer as it comes over the wire.
#[derive(Clone, Debug)]
pub struct Said {
    pub http_status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
}

impl Said {
    pub fn new(http_status: u16, body: impl Into<String>) -> Said {
        Said {
            http_status,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

impl Said {
    /// The body as it is sent to a device with this address.
    pub fn body_to(&self, address: &str) -> String {
        self.body.replace(ADDRESS, address)
    }
}

/// One line of a list.
#[derive(Clone, Debug)]
pub struct Case {
    /// Who says it: of push services the host, else a word of the list's own.
    pub from: &'static str,
    pub said: Said,
    /// What other devices of the same route were answered before.
    pub before: Vec<Said>,
    /// What the service's own code is, as a channel reads it.
    pub reason: String,
    pub end: End,
    /// Some document, or somebody who saw it, names it.
    pub heard_of: bool,
}

impl Case {
    pub fn new(from: &'static str, said: Said, reason: &str, end: End) -> Case {
        Case {
            from,
            said,
            before: Vec::new(),
            reason: reason.to_owned(),
            end,
            heard_of: true,
        }
    }

    /// Nobody has seen this one yet.
    pub fn unheard_of(self) -> Case {
        Case {
            heard_of: false,
            ..self
        }
    }

    pub fn after(self, before: Said) -> Case {
        Case {
            before: vec![before],
            ..self
        }
    }

    /// With a header more.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Case {
        self.said.headers.push((name, value));
        self
    }
}

/// What becomes of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    Stays,
    /// Nothing more is sent to it, for the cause of the answer.
    Ends,
}

/// What the answer is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nothing is wrong with the endpoint or its route.
    None,
    /// It counts towards the endpoint's rest.
    Endpoint,
    /// The whole route waits.
    Route,
}

/// What must come of an answer.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub outcome: OutcomeKind,
    pub cause: Cause,
    pub state: State,
    pub registry: Registry,
    pub sign: Sign,
    /// Seconds until the next attempt; 0 where the policy says when.
    pub wait_s: i64,
    /// The provider may have done it all the same.
    pub acted: bool,
    /// Somebody should look.
    pub alert: bool,
}

const fn end(outcome: OutcomeKind, cause: Cause, state: State) -> End {
    End {
        outcome,
        cause,
        state,
        registry: Registry::Stays,
        sign: Sign::None,
        wait_s: 0,
        acted: false,
        alert: false,
    }
}

pub const fn accepted() -> End {
    end(OutcomeKind::Accept, Cause::Accepted, State::Accepted)
}

/// What was sent can never be taken, and somebody has to look.
pub const fn our_fault(cause: Cause) -> End {
    End {
        alert: true,
        ..end(OutcomeKind::Reject, cause, State::Rejected)
    }
}

/// The device is no more, or not one of ours: never again to this address.
pub const fn dead(cause: Cause) -> End {
    End {
        registry: Registry::Ends,
        ..end(OutcomeKind::Gone, cause, State::Rejected)
    }
}

/// Our credentials or our clock are wrong; the device is not touched, no attempt is spent.
pub const fn credential() -> End {
    blocked(Cause::AuthFailure)
}

/// Nothing of the route can go; the device is not touched, no attempt is spent.
pub const fn blocked(cause: Cause) -> End {
    End {
        sign: Sign::Route,
        alert: true,
        ..end(OutcomeKind::Blocked, cause, State::Scheduled)
    }
}

/// It goes again with another token or on another connection; the device is not to blame.
pub const fn renewed(wait_s: i64) -> End {
    End {
        sign: Sign::None,
        ..again(Cause::AuthFailure, wait_s)
    }
}

/// The provider had trouble.
pub const fn again(cause: Cause, wait_s: i64) -> End {
    End {
        sign: Sign::Endpoint,
        wait_s,
        ..end(OutcomeKind::Retry, cause, State::Scheduled)
    }
}

/// The provider had trouble, and nobody knows how far it came.
pub const fn later(wait_s: i64) -> End {
    End {
        acted: true,
        ..again(Cause::ServiceDegraded, wait_s)
    }
}

/// Too fast.
pub const fn slower(cause: Cause, wait_s: i64) -> End {
    End {
        wait_s,
        ..end(OutcomeKind::Throttle, cause, State::Scheduled)
    }
}

/// It was taken, and the provider lets it fall.
pub const fn dropped() -> End {
    End {
        alert: true,
        ..end(OutcomeKind::Accept, Cause::AcceptedDropped, State::Accepted)
    }
}

/// What `/metrics` must have counted, and nothing else.
pub fn counted(channel: Channel, end: &End) -> BTreeMap<String, i64> {
    let (channel, outcome) = (channel.name(), end.outcome.name());
    let (cause, state) = (end.cause.code(), end.state.name());
    let mut all = BTreeMap::new();
    let mut count = |series: String| all.insert(series, 1);
    count(format!(
        r#"postrider_attempts_total{{channel="{channel}",outcome="{outcome}",cause="{cause}"}}"#
    ));
    if end.state.is_settled() {
        count(format!(
            r#"postrider_settled_total{{state="{state}",cause="{cause}"}}"#
        ));
    }
    if end.registry == Registry::Ends {
        count(format!(
            r#"postrider_endpoints_ended_total{{channel="{channel}",cause="{cause}"}}"#
        ));
    }
    match end.sign {
        Sign::None => None,
        Sign::Endpoint => count(r#"postrider_breakers{state="open"}"#.to_owned()),
        Sign::Route => count(format!(r#"postrider_routes_held{{cause="{cause}"}}"#)),
    };
    all
}

/// Every row of the table is met by the list, every line of the list comes to a row that knows it,
/// and both say alike whether somebody should look.
pub fn table_and_list_know_the_same(name: &str, text: &str, list: &[Case]) {
    let table = Reactions::parse(name, text).expect("the built-in table");
    let rows = table.conditions().count();
    let mut met = BTreeSet::new();
    for case in list {
        let said = reaction::Said {
            service: table.service(case.from),
            http_status: case.said.http_status,
            reason: &case.reason,
            body: case.said.body.as_bytes(),
        };
        let row = table.conditions().position(|when| when.holds(&said));
        met.insert(row.expect("the last row holds for everything"));
        assert_eq!(table.react(&said).alert, case.end.alert, "{case:?}");
        let other = matches!(case.end.cause, Cause::ClientError | Cause::Unresolved);
        assert_ne!(
            other, case.heard_of,
            "what is documented has a cause of its own: {case:?}"
        );
    }
    let unmet: Vec<_> = (0..rows).filter(|row| !met.contains(row)).collect();
    let conditions: Vec<_> = table.conditions().collect();
    let unmet: Vec<_> = unmet.iter().map(|row| conditions[*row]).collect();
    assert!(unmet.is_empty(), "{name}: nothing comes to {unmet:#?}");
}
