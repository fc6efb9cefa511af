//! `send`: submits one event, and waits for what becomes of it where that is asked for.
//!
//! Absent here: batches and retries of the submission. A program uses the API.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Client, Reach};
use super::failure::{Failure, Outcome};
use super::show::{self, number, text};

/// Time between two looks at a delivery that is waited for.
const LOOK_MS: u64 = 100;

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    /// The person or system it is for
    #[arg(value_name = "RECIPIENT", required_unless_present = "subscribers")]
    recipient: Option<String>,
    /// The payload: JSON, plain words, @FILE, or - for standard input
    #[arg(value_name = "PAYLOAD", default_value = "{}")]
    payload: String,
    /// Send to every endpoint that subscribes to the event type, whomever it belongs to
    #[arg(long, conflicts_with = "recipient")]
    subscribers: bool,
    /// Event type
    #[arg(long = "type", value_name = "TYPE", default_value = "note.sent")]
    event_type: String,
    /// Business id: the same id, type and version again is answered as a repeat
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Deliveries with the same key to the same endpoint go one at a time
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// at_most_once, at_least_once or effectively_once; the endpoint's policy decides otherwise
    #[arg(long, value_name = "LEVEL")]
    guarantee: Option<String>,
    /// Wait until every delivery is settled, this many seconds at the most
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60")]
    wait: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Submits, prints the ids, and waits.
pub fn run(args: &Args) -> Outcome {
    let client = args.reach.client()?;
    let mut admitted = client.post("/v1/events", &submission(args)?)?;
    let ids = delivery_ids(&admitted);
    let settled = match args.wait {
        Some(seconds) => wait(&client, &ids, Duration::from_secs(seconds))?,
        None => Vec::new(),
    };
    if args.json {
        if args.wait.is_some() {
            admitted["settled"] = Value::from(settled.clone());
        }
        show::json(&admitted);
    } else {
        tell(&admitted, &ids, &settled);
    }
    let refused = settled
        .iter()
        .filter(|delivery| text(delivery, "state") != "accepted")
        .count();
    match refused {
        0 => Ok(()),
        count => Err(
            Failure::no(format!("{count} of {} were not handed over", settled.len()))
                .hint("`postrider why ID` says why, and who has to act"),
        ),
    }
}

fn submission(args: &Args) -> Result<Value, Failure> {
    let id = args
        .id
        .clone()
        .unwrap_or_else(|| Uuid::new_v4().to_string());
    let mut body = json!({ "id": id, "type": args.event_type, "payload": payload(&args.payload)? });
    let optional = [
        ("recipient", &args.recipient),
        ("ordering_key", &args.ordering_key),
        ("guarantee", &args.guarantee),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    Ok(body)
}

/// JSON as it is; anything else as a JSON string.
fn payload(argument: &str) -> Result<Value, Failure> {
    let read = match argument.strip_prefix('@') {
        _ if argument == "-" => {
            let mut words = String::new();
            std::io::stdin().read_to_string(&mut words).map(|_| words)
        }
        Some(path) => std::fs::read_to_string(Path::new(path)),
        None => Ok(argument.to_owned()),
    };
    let words = read.map_err(|error| {
        Failure::usage(format!("the payload {argument} cannot be read")).because(error)
    })?;
    Ok(serde_json::from_str(&words).unwrap_or(Value::String(words)))
}

/// The ids of the deliveries that an event became.
pub(super) fn delivery_ids(admitted: &Value) -> Vec<String> {
    let deliveries = admitted["deliveries"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    deliveries
        .iter()
        .map(|delivery| text(delivery, "id"))
        .collect()
}

/// Looks again and again until all are settled or the time is up.
fn wait(client: &Client, ids: &[String], limit: Duration) -> Result<Vec<Value>, Failure> {
    let begun = Instant::now();
    let mut settled = Vec::new();
    for id in ids {
        loop {
            let delivery = client.get(&format!("/v1/deliveries/{id}"))?;
            if !delivery["settled_at"].is_null() {
                settled.push(delivery);
                break;
            }
            if begun.elapsed() >= limit {
                return Err(Failure::no(format!(
                    "delivery {id} is still {}",
                    text(&delivery, "state")
                ))
                .hint(format!("it goes on without you: `postrider why {id}`")));
            }
            client.pause(Duration::from_millis(LOOK_MS));
        }
    }
    Ok(settled)
}

fn tell(admitted: &Value, ids: &[String], settled: &[Value]) {
    let repeat = admitted["duplicate"].as_bool().unwrap_or(false);
    let event = text(admitted, "event_id");
    let what = if repeat { "a repeat of event" } else { "event" };
    eprintln!("{what} {event}, {} deliveries", ids.len());
    if settled.is_empty() {
        show::out(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
        return;
    }
    let rows: Vec<Vec<String>> = settled
        .iter()
        .map(|d| {
            let attempts = number(d, "attempt").to_string();
            vec![text(d, "id"), text(d, "state"), text(d, "cause"), attempts]
        })
        .collect();
    show::out(&show::table(
        &["DELIVERY", "STATE", "CAUSE", "ATTEMPTS"],
        &rows,
        show::paint(),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_or_words() {
        assert_eq!(payload(r#"{"a":1}"#).expect("JSON"), json!({"a": 1}));
        assert_eq!(payload("hello there").expect("words"), json!("hello there"));
        let failure = payload("@no-such-file").expect_err("not there");
        assert!(failure.to_string().contains("@no-such-file"));
    }
}
