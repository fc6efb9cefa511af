//! Receivers: what they do with a request, and what the caller's channel makes of their answers.
//!
//! The outcomes are those that the webhook channel's table gives. Absent here: bytes. What HTTP
//! does to a request is the business of the layers that run the real client.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::{SECOND_MS, Time};

use crate::fault::Behaviour;
use crate::rng::Rng;

/// The caller gives up after this time without an answer.
pub const RESPONSE_MS: i64 = 5 * SECOND_MS;
/// The caller gives up connecting after this time.
pub const CONNECT_MS: i64 = 3 * SECOND_MS;

/// The shortest wait that Firebase asks for after an overload.
const FCM_WAIT_MS: i64 = 10 * SECOND_MS;
/// The same of Apple, shortened: worlds end before a quarter of an hour is over.
const APNS_WAIT_MS: i64 = 60 * SECOND_MS;

/// The HTTP status codes that receivers answer with.
pub const CODES: [u16; 18] = [
    200, 204, 299, 302, 400, 401, 404, 408, 410, 413, 418, 425, 429, 451, 500, 502, 503, 504,
];

/// What comes back to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An answer, or trouble with a name.
    Outcome(Box<Outcome>),
    /// The receiver's protocol says that it did not process the request: no attempt at all.
    Unprocessed,
    /// Nothing, ever.
    Silence,
}

/// One receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// What it does with requests.
    pub behaviour: Behaviour,
    /// Until when; then it takes everything again.
    pub until: Time,
    requests: u64,
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver {
            behaviour: Behaviour::Takes(0),
            until: Time(0),
            requests: 0,
        }
    }
}

impl Receiver {
    /// What it does now.
    #[must_use]
    pub fn behaves(&self, now: Time) -> Behaviour {
        match now < self.until {
            true => self.behaviour,
            false => Behaviour::Takes(0),
        }
    }

    /// A request arrives: whether it is processed, what the answer is, and after how long.
    pub fn takes(&mut self, channel: Channel, now: Time, rng: &mut Rng) -> (bool, Answer, i64) {
        self.requests += 1;
        let even = self.requests.is_multiple_of(2);
        let chance = rng.percent(50);
        let says = |code, wait| Answer::Outcome(Box::new(says(channel, code, wait)));
        match self.behaves(now) {
            Behaviour::Takes(after_ms) => (true, says(200, None), after_ms),
            Behaviour::Says(code, wait) => (chance && may_act(code), says(code, wait), 2),
            // Connections are refused and reset before a request gets here.
            Behaviour::Refuses | Behaviour::ResetsBefore => (false, cut_off(), 1),
            Behaviour::ResetsAfter => (chance, cut_off(), 3),
            Behaviour::Hangs => (chance, Answer::Silence, 0),
            Behaviour::PretendsToTake => (false, says(200, None), 2),
            Behaviour::TakesAndFails => (true, says(500, None), 2),
            Behaviour::TakesTooLate => (true, says(200, None), RESPONSE_MS + 500),
            Behaviour::Flaps => (even, says(if even { 200 } else { 503 }, None), 2),
            Behaviour::Blocks => (false, blocked(), 2),
            Behaviour::Unprocessed => (false, Answer::Unprocessed, 2),
            Behaviour::Anything => {
                let code = rng.pick(&[200, 204, 404, 408, 413, 425, 429, 500, 503, 504, 299, 451]);
                let took = code < 300 || (chance && may_act(code));
                (
                    took,
                    says(code, rng.pick(&[None, Some(1)])),
                    rng.between(1, 900),
                )
            }
        }
    }
}

/// A receiver may have processed a request that it answers so.
fn may_act(code: u16) -> bool {
    code == 408 || code >= 500 || (200..300).contains(&code)
}

/// What a channel makes of an answer that says nothing but its code. Those to devices differ from
/// webhooks in that refused credentials are a matter of the route, and that providers ask for a
/// shortest wait.
#[must_use]
pub fn says(channel: Channel, code: u16, retry_after_s: Option<i64>) -> Outcome {
    let outcome = to_webhook(code, retry_after_s);
    let (kind, cause) = match (channel, code) {
        (Channel::Webhook, _) => return outcome,
        (_, 401 | 403) => (OutcomeKind::Blocked, Cause::AuthFailure),
        (Channel::WebPush, 404) => (OutcomeKind::Gone, Cause::Gone),
        // Without a word on the token it is the project that is not there.
        (Channel::Fcm, 404) => (OutcomeKind::Blocked, Cause::NotFound),
        (Channel::Apns, 425) | (Channel::Fcm, 410) => (OutcomeKind::Reject, Cause::Unresolved),
        _ => (outcome.kind, outcome.cause),
    };
    let wait_min_ms = match (channel, code) {
        (Channel::Fcm, 429 | 500..=599) => FCM_WAIT_MS,
        (Channel::Apns, 429 | 503) => APNS_WAIT_MS,
        _ => 0,
    };
    Outcome {
        kind,
        cause,
        wait_min_ms,
        ..outcome
    }
}

/// What the webhook channel makes of an answer.
fn to_webhook(code: u16, retry_after_s: Option<i64>) -> Outcome {
    use OutcomeKind::{Accept, Gone, Reject, Retry, Throttle};
    let (kind, cause) = match code {
        200..=299 => (Accept, Cause::Accepted),
        300..=399 => (Reject, Cause::Redirected),
        401 | 403 => (Reject, Cause::AuthFailure),
        404 => (Reject, Cause::NotFound),
        408 => (Retry, Cause::RequestTimeout),
        410 => (Gone, Cause::Gone),
        413 => (Reject, Cause::PayloadTooLarge),
        425 => (Retry, Cause::TooEarly),
        429 => (Throttle, Cause::RateLimited),
        400 => (Reject, Cause::BadRequest),
        402..=499 => (Reject, Cause::ClientError),
        500..=599 => (Retry, Cause::ServiceDegraded),
        _ => (Reject, Cause::Unresolved),
    };
    let waits = matches!(kind, Retry | Throttle);
    Outcome {
        may_have_acted: code == 408 || (500..600).contains(&code),
        http_status: code,
        retry_after_ms: retry_after_s.filter(|_| waits).map(|s| s * SECOND_MS),
        ..Outcome::bare(kind, cause)
    }
}

/// The connection ended after request bytes had been written.
#[must_use]
pub fn lost() -> Outcome {
    Outcome::bare(OutcomeKind::Unknown, Cause::ConnectionLost)
}

fn cut_off() -> Answer {
    Answer::Outcome(Box::new(lost()))
}

/// The provider refused our credentials.
#[must_use]
pub fn blocked() -> Answer {
    let outcome = Outcome::bare(OutcomeKind::Blocked, Cause::AuthFailure);
    Answer::Outcome(Box::new(outcome))
}

/// The provider cannot reach the device any more. Only Apple says since when.
#[must_use]
pub fn gone(channel: Channel, since: Time) -> Answer {
    Answer::Outcome(Box::new(Outcome {
        http_status: 410,
        gone_since: (channel == Channel::Apns).then_some(since),
        ..Outcome::bare(OutcomeKind::Gone, Cause::Gone)
    }))
}

/// No answer came in time.
#[must_use]
pub fn timed_out() -> Outcome {
    Outcome::bare(OutcomeKind::Unknown, Cause::ResponseTimeout)
}

/// No connection was made: nothing was written.
#[must_use]
pub fn unsent(cause: Cause) -> Outcome {
    Outcome {
        unsent: true,
        ..Outcome::bare(OutcomeKind::Retry, cause)
    }
}
