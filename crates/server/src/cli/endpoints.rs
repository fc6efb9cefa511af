//! `endpoints`: the addresses that deliveries go to.
//!
//! Absent here: what is sent to them; see `deliveries`.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, Reach};
use super::failure::Outcome;
use super::show::{self, text};

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List endpoints
    List {
        /// Only those of this recipient
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one endpoint
    Show(One),
    /// Register an address and print its signing secret, which is shown only now
    Add {
        /// Where it is
        #[arg(value_name = "URL")]
        address: String,
        /// The person or system it belongs to
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Option<String>,
        /// Event types it subscribes to: exact, `order.*`, or `*`; may be given more than once
        #[arg(long = "type", value_name = "TYPE")]
        event_types: Vec<String>,
        /// Your own words for it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The policy its deliveries are admitted under
        #[arg(long, value_name = "POLICY")]
        policy: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Hold deliveries back until it is resumed
    Pause {
        /// Why, for those who find it paused
        #[arg(long, value_name = "WORDS", default_value = "")]
        reason: String,
        #[command(flatten)]
        one: One,
    },
    /// Send to it again
    Resume(One),
    /// Make a new signing secret; for a while both the old and the new one sign
    Rotate(One),
    /// Send a test event to it
    Test(One),
    /// Delete it: what is unsettled is not sent any more
    Remove(One),
}

#[derive(clap::Args)]
struct Common {
    /// Print JSON as the API gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
struct One {
    /// Its id
    id: String,
    #[command(flatten)]
    common: Common,
}

/// Does it.
pub fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::List { recipient, common } => list(recipient.as_deref(), common),
        Verb::Show(one) => act(one, &Method::GET, "", None, card),
        Verb::Add {
            address,
            recipient,
            event_types,
            name,
            policy,
            common,
        } => {
            let mut body = json!({ "url": address, "event_types": event_types });
            for (key, value) in [("recipient", recipient), ("name", name), ("policy", policy)] {
                if let Some(value) = value {
                    body[key] = json!(value);
                }
            }
            let made = common.client()?.post("/v1/endpoints", &body)?;
            common.print(&made, card);
            Ok(())
        }
        Verb::Pause { reason, one } => act(
            one,
            &Method::POST,
            "/pause",
            Some(&json!({ "reason": reason })),
            card,
        ),
        Verb::Resume(one) => act(one, &Method::POST, "/resume", Some(&json!({})), card),
        Verb::Rotate(one) => act(one, &Method::POST, "/rotate-secret", Some(&json!({})), card),
        Verb::Test(one) => act(one, &Method::POST, "/test", Some(&json!({})), sent),
        Verb::Remove(one) => act(one, &Method::DELETE, "", None, |_| String::new()),
    }
}

impl Common {
    fn client(&self) -> Result<Client, super::failure::Failure> {
        self.reach.client()
    }

    fn print(&self, answer: &Value, card: fn(&Value) -> String) {
        if self.json {
            show::json(answer);
        } else {
            show::out(&card(answer));
        }
    }
}

fn act(
    one: &One,
    method: &Method,
    verb: &str,
    body: Option<&Value>,
    card: fn(&Value) -> String,
) -> Outcome {
    let path = format!("/v1/endpoints/{}{verb}", super::client::escape(&one.id));
    let answer = one.common.client()?.ask(method, &path, body)?;
    one.common.print(&answer, card);
    Ok(())
}

fn list(recipient: Option<&str>, common: &Common) -> Outcome {
    let mut filter = Vec::new();
    filter.extend(recipient.map(|recipient| ("recipient", recipient.to_owned())));
    let items = common
        .client()?
        .pages("/v1/endpoints", &filter, usize::MAX)?;
    if common.json {
        show::json(&Value::from(items));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                text(item, "id"),
                text(item, "state"),
                text(item, "recipient"),
                words(&item["event_types"]),
                text(item, "name"),
                text(item, "fingerprint"),
            ]
        })
        .collect();
    let head = [
        "ENDPOINT",
        "STATE",
        "RECIPIENT",
        "TYPES",
        "NAME",
        "FINGERPRINT",
    ];
    show::out(&show::table(&head, &rows, show::paint()));
    Ok(())
}

/// Everything about one, a line each.
fn card(item: &Value) -> String {
    use std::fmt::Write as _;
    let Some(fields) = item.as_object() else {
        return String::new();
    };
    let shown = |value: &Value| match value {
        Value::Array(_) => words(value),
        Value::String(words) => show::clean(words),
        other => other.to_string(),
    };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut card = String::new();
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        // Writing to a string cannot fail.
        let _ = writeln!(card, "{key:<width$}  {}", shown(value));
    }
    card
}

/// The ids of what was submitted, a line each: what `why` takes.
fn sent(admitted: &Value) -> String {
    let ids = super::send::delivery_ids(admitted);
    ids.iter().map(|id| format!("{id}\n")).collect()
}

fn words(list: &Value) -> String {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), show::clean)
    };
    list.iter().map(word).collect::<Vec<_>>().join(" ")
}
