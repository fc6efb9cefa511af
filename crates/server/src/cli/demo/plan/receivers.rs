//! Who receives in a run: webhooks and what their fakes do, and the devices.
//!
//! Absent here: what is sent to them.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;

use super::devices::{self, Trouble};
use crate::cli::demo::evidence::Nature;
use crate::fake::{Act, Answer, Behaviour, RetryAfter, When};

/// One endpoint and what is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    /// Its name in the evidence; of a webhook the path of its URL.
    pub(crate) path: String,
    pub(crate) nature: Nature,
    pub(crate) policy: &'static str,
    pub(crate) recipient: &'static str,
    pub(crate) event_type: &'static str,
    pub(crate) way: Way,
}

/// How a receiver is reached.
#[derive(Clone, Debug)]
pub enum Way {
    /// As a webhook, whose fake does this.
    Webhook(Behaviour),
    /// As a device on this channel, with this trouble.
    Device(Channel, Trouble),
}

/// The receivers of one tenant: the well-behaved first.
pub(super) fn all(tenant: &str) -> Vec<Receiver> {
    let mut all = webhooks(tenant);
    all.extend(devices::all(tenant));
    all
}

fn status(http_status: u16) -> Act {
    Act::http_status(http_status)
}

fn busy(retry_after: RetryAfter) -> Act {
    Act::Answer(Answer {
        http_status: 429,
        retry_after: Some(retry_after),
        ..Answer::default()
    })
}

/// The webhooks of one tenant: the well-behaved first.
#[rustfmt::skip]
fn webhooks(tenant: &str) -> Vec<Receiver> {
    use Nature::{Absent, Accepts, Fails, Gone, Refuses, Relents, Silent};
    let first = When::AttemptsTo(1);
    let share = |percent| When::Share { percent, seed: 7 };
    let slow = Act::Answer(Answer { delay_ms: 40, ..Answer::default() });
    let acted = Act::Answer(Answer {
        http_status: 500,
        processes: Some(true),
        ..Answer::default()
    });
    let idle = Act::Answer(Answer { processes: Some(false), ..Answer::default() });
    let degraded = Relents(Cause::ServiceDegraded);
    let (patient, brief, rested) = ("demo-patient", "demo-brief", "demo-rested");
    let (limited, lost) = (Relents(Cause::RateLimited), Relents(Cause::ConnectionLost));
    let (timed_out, invalid) = (Relents(Cause::RequestTimeout), Relents(Cause::ResponseInvalid));
    let fails = Fails(Cause::ServiceDegraded);
    let flap = When::Flap { fail: 3, accept: 9 };
    let table: Vec<(&str, &'static str, Nature, When, Act)> = vec![
        ("good-1", patient, Accepts, When::First(0), status(200)),
        ("good-2", patient, Accepts, When::First(0), status(200)),
        ("good-3", patient, Accepts, When::Always, status(204)),
        ("slow", patient, Accepts, When::Always, slow),
        ("idle", patient, Accepts, When::Always, idle),
        ("drip", patient, Accepts, When::Always, Act::SlowBody(1)),
        ("torrent", patient, Accepts, When::Always, Act::EndlessBody),
        ("cut", patient, Accepts, When::Always, Act::CutBody),
        ("acts-then-500", patient, degraded, first.clone(), acted),
        ("503-once", patient, degraded, first.clone(), status(503)),
        ("flaps", patient, degraded, flap, status(502)),
        ("stumbles", patient, degraded, share(25.0), status(500)),
        ("408-once", patient, timed_out, first.clone(), status(408)),
        ("425-once", patient, Relents(Cause::TooEarly), first.clone(), status(425)),
        ("busy-seconds", patient, limited, share(20.0), busy(RetryAfter::Seconds(1))),
        ("busy-date", patient, limited, share(20.0), busy(RetryAfter::Date(1))),
        ("busy-malformed", patient, limited, first.clone(), busy(RetryAfter::Malformed)),
        ("resets-before", patient, lost, first.clone(), Act::ResetBeforeBody),
        ("resets-after", patient, lost, first.clone(), Act::ResetAfterRequest),
        ("closes", patient, lost, first.clone(), Act::CloseAfterRequest),
        ("babbles", patient, invalid, first, Act::Garbage),
        ("301", patient, Refuses(Cause::Redirected), When::Always, status(301)),
        ("400", patient, Refuses(Cause::BadRequest), When::Always, status(400)),
        ("401", patient, Refuses(Cause::AuthFailure), When::Always, status(401)),
        ("404", patient, Refuses(Cause::NotFound), When::Always, status(404)),
        ("413", patient, Refuses(Cause::PayloadTooLarge), When::Always, status(413)),
        ("410", patient, Gone, When::Always, status(410)),
        ("500", brief, fails, When::Always, status(500)),
        ("503", rested, fails, When::Always, status(503)),
        ("busy-absurd", brief, Fails(Cause::RateLimited), When::Always, busy(RetryAfter::Absurd)),
        ("hangs", brief, Silent, When::Always, Act::Hang),
        ("resets", brief, Silent, When::Always, Act::ResetAfterRequest),
        ("headers", brief, Silent, When::Always, Act::EndlessHeaders),
        ("absent", brief, Absent, When::Always, status(200)),
    ];
    table
        .into_iter()
        .map(|(name, policy, nature, when, act)| {
            let path = format!("/{tenant}/{name}");
            let anna = matches!(name, "good-1" | "flaps" | "slow");
            let moved = matches!(name, "good-2" | "503-once");
            Receiver {
                way: Way::Webhook(Behaviour::of(&path).rule(when, act)),
                path,
                nature,
                policy,
                recipient: if anna { "anna" } else { "" },
                event_type: if moved { "stock.moved" } else { "" },
            }
        })
        .collect()
}

impl Receiver {
    /// How often it is chosen, and how many deliveries of one tenant it gets at the most.
    pub(super) fn weight(&self) -> (u32, usize) {
        if let Way::Device(..) = self.way {
            return match self.nature {
                Nature::Accepts => (8, usize::MAX),
                Nature::Relents(_) => (3, 60),
                _ => (5, 40),
            };
        }
        match self.nature {
            Nature::Accepts if self.path.contains("good") => (30, usize::MAX),
            Nature::Accepts => (6, usize::MAX),
            Nature::Relents(Cause::RateLimited) => (4, 60),
            Nature::Relents(_) => (5, usize::MAX),
            Nature::Refuses(_) => (2, usize::MAX),
            Nature::Gone | Nature::Leaves => (1, 10),
            Nature::Fails(_) => (2, 40),
            Nature::Silent => (2, 24),
            Nature::Absent => (1, 24),
        }
    }

    pub(super) fn is_hopeless(&self) -> bool {
        !matches!(
            self.nature,
            Nature::Accepts | Nature::Relents(_) | Nature::Leaves
        )
    }
}
