//! What an answer means, as a table.
//!
//! An answer whose head was read counts as what the head says, whatever becomes of its body.
//! `may_have_acted` is set for Unknown, for 408 and for every 5xx, and for nothing else.
//!
//! Absent here: what follows. At-most-once turns most of these into a settlement, the other
//! guarantees into a retry; the core knows which.

use http::header::{HeaderName, LOCATION};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::{Accept, Gone, Reject, Retry, Throttle};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::Time;

use crate::channel::reading::{attempted, evidence, provider_id, troubled};
use crate::channel::{Answer, Attempted, Response, retry_after_ms};

/// Headers in which receivers name what they accepted, the preferred one first.
const ID_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-push-message-id"),
    HeaderName::from_static("x-message-id"),
    LOCATION,
];

/// One line of the answers' table: the first whose range holds the HTTP status code counts.
struct Line {
    first: u16,
    last: u16,
    kind: OutcomeKind,
    cause: Cause,
    may_have_acted: bool,
    /// Whether a `Retry-After` beside it is heard.
    wait: bool,
}

const fn line(codes: (u16, u16), kind: OutcomeKind, cause: Cause) -> Line {
    let (first, last) = codes;
    Line {
        first,
        last,
        kind,
        cause,
        may_have_acted: false,
        wait: false,
    }
}

impl Line {
    const fn acted(self) -> Line {
        Line {
            may_have_acted: true,
            ..self
        }
    }

    const fn wait(self) -> Line {
        Line { wait: true, ..self }
    }
}

#[rustfmt::skip]
const ANSWERS: [Line; 14] = [
    line((200, 299), Accept, Cause::Accepted),
    line((300, 399), Reject, Cause::Redirected),
    line((400, 400), Reject, Cause::BadRequest),
    line((401, 401), Reject, Cause::AuthFailure),
    line((403, 403), Reject, Cause::AuthFailure),
    line((404, 404), Reject, Cause::NotFound),
    line((408, 408), Retry, Cause::RequestTimeout).acted().wait(),
    line((410, 410), Gone, Cause::Gone),
    line((413, 413), Reject, Cause::PayloadTooLarge),
    line((425, 425), Retry, Cause::TooEarly).wait(),
    line((429, 429), Throttle, Cause::RateLimited).wait(),
    line((400, 499), Reject, Cause::ClientError),
    line((500, 599), Retry, Cause::ServiceDegraded).acted().wait(),
    line((0, u16::MAX), Reject, Cause::Unresolved),
];

/// What an answer that came at `now` means.
pub(super) fn classify(answer: Answer, now: Time) -> Attempted {
    let latency_ms = answer.total_ms;
    let outcome = match answer.said {
        Ok(response) => Ok(answered(response, now)),
        Err(trouble) => troubled(trouble),
    };
    attempted(outcome, latency_ms)
}

fn answered(response: Response, now: Time) -> Outcome {
    let status = response.http_status;
    let line = ANSWERS
        .iter()
        .find(|line| (line.first..=line.last).contains(&status));
    let line = line.expect("the last line holds every code");
    let accepted = line.kind == Accept;
    Outcome {
        may_have_acted: line.may_have_acted,
        http_status: status,
        retry_after_ms: if line.wait {
            retry_after_ms(&response.headers, now)
        } else {
            None
        },
        provider_id: if accepted {
            provider_id(&response.headers, &ID_HEADERS)
        } else {
            "".into()
        },
        evidence: if accepted {
            [].into()
        } else {
            evidence(&response)
        },
        ..Outcome::bare(line.kind, line.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::classify;
    use crate::channel::{Answer, Attempted, Fault, Progress, Response, Trouble};
    use http::{HeaderMap, HeaderValue};
    use postrider_core::cause::Cause;
    use postrider_core::endpoint::Channel;
    use postrider_core::outcome::OutcomeKind::{self, *};
    use postrider_core::outcome::{EVIDENCE_BYTES_MAX, Outcome};
    use postrider_core::time::Time;
    use postrider_sim::remote;

    fn said(http_status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Outcome {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        let body = body.to_owned().into();
        let response = Response {
            http_status,
            headers: map,
            body,
        };
        let answer = Answer {
            said: Ok(response),
            total_ms: 7,
            connect_ms: 0,
        };
        match classify(answer, Time(0)) {
            Attempted::Answered(outcome) => outcome,
            Attempted::NotSent(cause) => panic!("{http_status} was {cause}"),
        }
    }

    /// Code, kind, cause, may have acted, a wait is heard.
    type Row = (u16, OutcomeKind, Cause, bool, bool);

    #[rustfmt::skip]
    const TABLE: &[Row] = &[
        (0, Reject, Cause::Unresolved, false, false),
        (100, Reject, Cause::Unresolved, false, false),
        (101, Reject, Cause::Unresolved, false, false),
        (199, Reject, Cause::Unresolved, false, false),
        (200, Accept, Cause::Accepted, false, false),
        (201, Accept, Cause::Accepted, false, false),
        (202, Accept, Cause::Accepted, false, false),
        (204, Accept, Cause::Accepted, false, false),
        (299, Accept, Cause::Accepted, false, false),
        (300, Reject, Cause::Redirected, false, false),
        (301, Reject, Cause::Redirected, false, false),
        (307, Reject, Cause::Redirected, false, false),
        (399, Reject, Cause::Redirected, false, false),
        (400, Reject, Cause::BadRequest, false, false),
        (401, Reject, Cause::AuthFailure, false, false),
        (402, Reject, Cause::ClientError, false, false),
        (403, Reject, Cause::AuthFailure, false, false),
        (404, Reject, Cause::NotFound, false, false),
        (405, Reject, Cause::ClientError, false, false),
        (408, Retry, Cause::RequestTimeout, true, true),
        (409, Reject, Cause::ClientError, false, false),
        (410, Gone, Cause::Gone, false, false),
        (411, Reject, Cause::ClientError, false, false),
        (413, Reject, Cause::PayloadTooLarge, false, false),
        (414, Reject, Cause::ClientError, false, false),
        (421, Reject, Cause::ClientError, false, false),
        (425, Retry, Cause::TooEarly, false, true),
        (429, Throttle, Cause::RateLimited, false, true),
        (451, Reject, Cause::ClientError, false, false),
        (499, Reject, Cause::ClientError, false, false),
        (500, Retry, Cause::ServiceDegraded, true, true),
        (501, Retry, Cause::ServiceDegraded, true, true),
        (502, Retry, Cause::ServiceDegraded, true, true),
        (503, Retry, Cause::ServiceDegraded, true, true),
        (504, Retry, Cause::ServiceDegraded, true, true),
        (520, Retry, Cause::ServiceDegraded, true, true),
        (599, Retry, Cause::ServiceDegraded, true, true),
        (600, Reject, Cause::Unresolved, false, false),
        (999, Reject, Cause::Unresolved, false, false),
    ];

    #[test]
    fn every_answer_has_its_line() {
        for &(status, kind, cause, may_have_acted, wait) in TABLE {
            let outcome = said(status, &[("retry-after", "5")], "words");
            let expected = Outcome {
                may_have_acted,
                http_status: status,
                latency_ms: 7,
                retry_after_ms: wait.then_some(5_000),
                evidence: outcome.evidence.clone(),
                ..Outcome::bare(kind, cause)
            };
            assert_eq!(outcome, expected);
            assert_eq!(outcome.evidence.is_empty(), kind == Accept, "{status}");
        }
    }

    /// The simulator's receivers speak no HTTP: what their answers mean is written there again.
    #[test]
    fn the_simulator_takes_answers_for_the_same() {
        for status in 0..=999 {
            for (headers, seconds) in [(&[][..], None), (&[("retry-after", "5")][..], Some(5))] {
                let taken = remote::says(Channel::Webhook, status, seconds);
                let outcome = Outcome {
                    latency_ms: 0,
                    evidence: [].into(),
                    ..said(status, headers, "words")
                };
                assert_eq!(taken, outcome);
            }
        }
        let troubles = [
            (Fault::ConnectRefused, remote::unsent(Cause::ConnectRefused)),
            (Fault::ConnectFailed, remote::unsent(Cause::ConnectFailed)),
            (Fault::ConnectTimeout, remote::unsent(Cause::ConnectTimeout)),
            (Fault::Lost, remote::lost()),
            (Fault::ResponseTimeout, remote::timed_out()),
        ];
        for (fault, taken) in troubles {
            let progress = match taken.unsent {
                true => Progress::Unsent,
                false => Progress::Begun,
            };
            let Attempted::Answered(outcome) = trouble(fault, progress) else {
                panic!("{fault:?} is no attempt")
            };
            let outcome = Outcome {
                latency_ms: 0,
                evidence: [].into(),
                ..outcome
            };
            assert_eq!(taken, outcome, "{fault:?}");
        }
    }

    #[test]
    fn evidence_is_head_and_body_without_cookies_and_bounded() {
        let headers = [("x-why", "because"), ("set-cookie", "session=1")];
        let outcome = said(400, &headers, "no");
        assert_eq!(&*outcome.evidence, b"HTTP 400\r\nx-why: because\r\n\r\nno");
        let long = said(500, &[], &"x".repeat(2 * EVIDENCE_BYTES_MAX));
        assert_eq!(long.evidence.len(), EVIDENCE_BYTES_MAX);
    }

    #[test]
    fn an_acceptance_keeps_the_providers_id_and_nothing_else() {
        let headers = [("location", "/m/1"), ("x-message-id", "m-1")];
        let outcome = said(201, &headers, "thanks");
        assert_eq!(&*outcome.provider_id, "m-1");
        assert!(outcome.evidence.is_empty());
        assert_eq!(&*said(500, &headers, "").provider_id, "");
    }

    #[rustfmt::skip]
    const MISHAPS: &[(Fault, OutcomeKind, Cause, Cause)] = &[
        (Fault::Forbidden, Reject, Cause::ForbiddenAddress, Cause::ConnectionLost),
        (Fault::NameUnresolved, Retry, Cause::DnsFailure, Cause::ConnectionLost),
        (Fault::ConnectRefused, Retry, Cause::ConnectRefused, Cause::ConnectionLost),
        (Fault::ConnectTimeout, Retry, Cause::ConnectTimeout, Cause::ResponseTimeout),
        (Fault::ConnectFailed, Retry, Cause::ConnectFailed, Cause::ConnectionLost),
        (Fault::Tls, Retry, Cause::TlsFailure, Cause::ConnectionLost),
        (Fault::Lost, Retry, Cause::ConnectFailed, Cause::ConnectionLost),
        (Fault::ResponseTimeout, Retry, Cause::ConnectTimeout, Cause::ResponseTimeout),
        (Fault::ResponseInvalid, Retry, Cause::ConnectFailed, Cause::ResponseInvalid),
    ];

    fn trouble(fault: Fault, progress: Progress) -> Attempted {
        let detail = "in the system's words".into();
        let said = Err(Trouble {
            fault,
            progress,
            detail,
        });
        classify(
            Answer {
                said,
                total_ms: 3,
                connect_ms: 3,
            },
            Time(0),
        )
    }

    #[test]
    fn trouble_before_the_first_byte_may_be_repeated_and_after_it_is_unknown() {
        for &(fault, kind, unsent, begun) in MISHAPS {
            let words: Box<[u8]> = (*b"in the system's words").into();
            let before = Outcome {
                unsent: true,
                latency_ms: 3,
                evidence: words.clone(),
                ..Outcome::bare(kind, unsent)
            };
            assert_eq!(
                trouble(fault, Progress::Unsent),
                Attempted::Answered(before)
            );
            let after = Outcome {
                may_have_acted: true,
                latency_ms: 3,
                evidence: words,
                ..Outcome::bare(Unknown, begun)
            };
            assert_eq!(trouble(fault, Progress::Begun), Attempted::Answered(after));
        }
        assert_eq!(MISHAPS.len() + 1, Fault::ALL.len());
    }

    #[test]
    fn what_was_provably_not_processed_is_no_attempt() {
        for progress in [Progress::Unsent, Progress::Begun] {
            let expected = Attempted::NotSent(Cause::Unprocessed);
            assert_eq!(trouble(Fault::Unprocessed, progress), expected);
        }
    }
}
