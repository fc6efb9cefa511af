//! An entry of the journal as one JSON object: every field, in stable words.
//!
//! Absent here: payloads and addresses, which are not in the journal.

use postrider_core::ledger::{Admitted, Entry, Fact, Next};
use postrider_core::outcome::Outcome;
use postrider_core::time::Time;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The entry as it is exported.
#[must_use]
pub fn entry(entry: &Entry) -> Value {
    let mut object = json!({
        "seq": entry.seq.0,
        "delivery": entry.delivery.0,
        "version": entry.version,
        "at": moment(entry.at),
        "previous": entry.previous.0,
    });
    if let (Some(object), Value::Object(fact)) = (object.as_object_mut(), fact(&entry.fact)) {
        object.extend(fact);
    }
    object
}

fn fact(fact: &Fact) -> Value {
    match fact {
        Fact::Admitted(admitted) => born(admitted),
        Fact::Opened { attempt, policy } => {
            json!({ "fact": "opened", "attempt": attempt, "policy": policy.0 })
        }
        Fact::Answered {
            attempt,
            outcome,
            next,
        } => {
            let mut object = answer(outcome);
            object.insert("attempt".to_owned(), json!(attempt));
            object.insert("next".to_owned(), following(*next));
            Value::Object(object)
        }
        Fact::NotSent {
            attempt,
            cause,
            due_at,
        } => json!({
            "fact": "not_sent",
            "attempt": attempt,
            "cause": cause.code(),
            "due_at": moment(*due_at),
        }),
        Fact::Closed { state, cause } => {
            json!({ "fact": "closed", "state": state.name(), "cause": cause.code() })
        }
        Fact::Confirmed { receipt } => json!({ "fact": "confirmed", "receipt": receipt }),
    }
}

fn born(admitted: &Admitted) -> Value {
    json!({
        "fact": "admitted",
        "correlation_id": Uuid::from_u128(admitted.correlation.0).to_string(),
        "event": admitted.event.0,
        "tenant": admitted.tenant.0,
        "endpoint": admitted.endpoint.0,
        "policy": admitted.policy.0,
        "guarantee": admitted.guarantee.name(),
        "due_at": moment(admitted.due_at),
        "expires_at": moment(admitted.expires_at),
        "lane": admitted.lane.map(|lane| json!({
            "key": format!("{:016x}", lane.key.0),
            "sequence": lane.sequence,
        })),
    })
}

fn answer(outcome: &Outcome) -> Map<String, Value> {
    let object = json!({
        "fact": "answered",
        "outcome": outcome.kind.name(),
        "cause": outcome.cause.code(),
        "may_have_acted": outcome.may_have_acted,
        "unsent": outcome.unsent,
        "http_status": outcome.http_status,
        "latency_ms": outcome.latency_ms,
        "retry_after_ms": outcome.retry_after_ms,
        "provider_id": outcome.provider_id,
        "evidence": String::from_utf8_lossy(&outcome.evidence),
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn following(next: Next) -> Value {
    match next {
        Next::Again { due_at } => json!({ "due_at": moment(due_at) }),
        Next::Settle { state, cause } => json!({ "state": state.name(), "cause": cause.code() }),
    }
}

fn moment(at: Time) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| "9999-12-31T23:59:59.999Z".to_owned(),
        |at| format!("{at:.3}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::cause::Cause;
    use postrider_core::id::{DeliveryId, Seq};
    use postrider_core::ledger::State;
    use postrider_core::outcome::OutcomeKind;

    #[test]
    fn an_answer_says_what_follows_from_it() {
        let outcome = Outcome {
            http_status: 410,
            ..Outcome::bare(OutcomeKind::Gone, Cause::Gone)
        };
        let made = entry(&Entry {
            seq: Seq(9),
            delivery: DeliveryId(4),
            version: 2,
            at: Time(1_000),
            previous: Seq(8),
            fact: Fact::Answered {
                attempt: 1,
                outcome: Box::new(outcome),
                next: Next::Settle {
                    state: State::Rejected,
                    cause: Cause::Gone,
                },
            },
        });
        assert_eq!(made["seq"], 9);
        assert_eq!(made["at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(made["fact"], "answered");
        assert_eq!(made["http_status"], 410);
        assert_eq!(
            made["next"],
            json!({ "state": "rejected", "cause": "GONE" })
        );
    }
}
