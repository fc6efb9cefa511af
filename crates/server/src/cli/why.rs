//! `why`: one delivery as a verdict, the evidence for it, and who has to act.
//!
//! Absent here: the words for causes, which come with the delivery, and guessing. What cannot be
//! known is said to be unknown.

use postrider_core::ledger::State;
use serde_json::{Value, json};

use super::client::{Client, Reach, escape};
use super::failure::{Failure, Outcome};
use super::show::{self, Paint, moment, number, span, text};

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    /// The id of a delivery, or of an event for all of its deliveries
    id: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Finds it and explains it.
pub fn run(args: &Args) -> Outcome {
    let client = args.reach.client()?;
    let found = find(&client, &args.id)?;
    let verdicts: Vec<Verdict> = found.iter().map(Verdict::of).collect();
    if args.json {
        let list: Vec<Value> = verdicts.iter().map(Verdict::document).collect();
        show::json(&json!({ "id": args.id, "deliveries": list }));
        return Ok(());
    }
    let paint = show::paint();
    let pages: Vec<String> = verdicts.iter().map(|verdict| verdict.page(paint)).collect();
    show::out(&pages.join("\n"));
    Ok(())
}

/// The delivery with this id, or those of the event with this id.
fn find(client: &Client, id: &str) -> Result<Vec<Value>, Failure> {
    let path = format!("/v1/deliveries/{}", escape(id));
    let answer = client.send(&http::Method::GET, &path, None)?;
    if answer.http_status.is_success() {
        return Ok(vec![answer.body]);
    }
    if answer.http_status != http::StatusCode::NOT_FOUND {
        return Err(super::client::refused(&answer));
    }
    let event = client
        .get(&format!("/v1/events/{}", escape(id)))
        .map_err(|_| {
            Failure::no(format!("no delivery and no event has the id {id}")).hint(
                "nothing was admitted under it, or its retention has ended; `postrider deliveries \
             list` shows what there is",
            )
        })?;
    let ids = event["deliveries"].as_array().cloned().unwrap_or_default();
    ids.iter()
        .map(|delivery| client.get(&format!("/v1/deliveries/{}", escape(&text(delivery, "id")))))
        .collect()
}

/// What is said about one delivery.
struct Verdict<'a> {
    delivery: &'a Value,
    sentence: String,
    evidence: Vec<String>,
    /// Who has to do what.
    act: String,
    /// What cannot be known.
    unknown: Option<String>,
}

impl<'a> Verdict<'a> {
    fn of(delivery: &'a Value) -> Verdict<'a> {
        let state = State::from_name(&text(delivery, "state"));
        Verdict {
            delivery,
            sentence: sentence(delivery, state),
            evidence: evidence(delivery),
            act: text(delivery, "advice"),
            unknown: unknown(delivery, state),
        }
    }

    fn document(&self) -> Value {
        json!({
            "id": self.delivery["id"],
            "state": self.delivery["state"],
            "cause": self.delivery["cause"],
            "verdict": self.sentence,
            "evidence": self.evidence,
            "act": self.act,
            "unknown": self.unknown,
        })
    }

    fn page(&self, paint: Paint) -> String {
        use std::fmt::Write as _;
        let good = matches!(
            text(self.delivery, "state").as_str(),
            "accepted" | "confirmed"
        );
        let verdict = if good {
            paint.good(&self.sentence)
        } else {
            paint.strong(&self.sentence)
        };
        let mut page = format!("{verdict}\n\n");
        for line in &self.evidence {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "  {line}");
        }
        if let Some(unknown) = &self.unknown {
            let _ = writeln!(page, "\nNot known: {unknown}");
        }
        let _ = writeln!(page, "\nWho acts: {}", self.act);
        page
    }
}

fn sentence(delivery: &Value, state: Option<State>) -> String {
    let why = text(delivery, "cause_text");
    let attempts = match number(delivery, "attempt") {
        0 => "without an attempt".to_owned(),
        1 => "after one attempt".to_owned(),
        n => format!("after {n} attempts"),
    };
    match state {
        Some(State::Accepted) => format!("Handed over {attempts}."),
        Some(State::Confirmed) => format!("Handed over {attempts}, and confirmed. {why}"),
        Some(State::InFlight) => format!("Under way. {why}"),
        Some(State::Scheduled) => {
            let due = moment(&text(delivery, "due_at"));
            format!("Not handed over yet, {attempts}; due at {due}. {why}")
        }
        Some(State::Uncertain) => format!("Nobody knows whether it arrived. {why}"),
        Some(State::Cancelled | State::Suppressed) => format!("Never sent. {why}"),
        Some(State::Rejected | State::Exhausted | State::Expired) | None => {
            format!("Not handed over, {attempts}. {why}")
        }
    }
}

fn unknown(delivery: &Value, state: Option<State>) -> Option<String> {
    let may_have_acted = delivery["may_have_acted"].as_bool().unwrap_or(false);
    match state {
        Some(State::Accepted) if may_have_acted => Some(
            "an earlier attempt was not accepted and may have been processed all the same, so the \
             receiver may have seen it twice, under the same id."
                .to_owned(),
        ),
        Some(State::Accepted) => {
            Some("what the receiver did with it after taking it over.".to_owned())
        }
        Some(State::Uncertain) => Some("whether the request was processed.".to_owned()),
        _ if may_have_acted => Some(
            "whether the receiver processed an attempt that it did not accept; ask before sending \
             it again."
                .to_owned(),
        ),
        _ => None,
    }
}

/// One line for each thing that happened.
fn evidence(delivery: &Value) -> Vec<String> {
    let history = delivery["history"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut lines = vec![format!(
        "event {} ({}) to endpoint {}, {}",
        text(delivery, "event_id"),
        text(delivery, "event_type"),
        text(delivery, "endpoint_id"),
        text(delivery, "guarantee"),
    )];
    lines.extend(history.iter().map(step));
    lines
}

fn step(entry: &Value) -> String {
    let mut words = vec![
        moment(&text(entry, "at")),
        format!("{:<9}", text(entry, "fact")),
    ];
    if number(entry, "attempt") > 0 {
        words.push(format!("attempt {}", number(entry, "attempt")));
    }
    if number(entry, "http_status") > 0 {
        words.push(format!("HTTP {}", number(entry, "http_status")));
    }
    for key in ["state", "cause"] {
        words.extend(Some(text(entry, key)).filter(|word| !word.is_empty()));
    }
    if let Some(latency_ms) = entry["latency_ms"].as_i64() {
        words.push(format!("in {}", span(latency_ms)));
    }
    if let Some(wait_ms) = entry["retry_after_ms"].as_i64() {
        words.push(format!("asked to wait {}", span(wait_ms)));
    }
    let due = text(entry, "due_at");
    if !due.is_empty() && due != text(entry, "at") {
        words.push(format!("due at {}", moment(&due)));
    }
    words.join("  ")
}
