//! `deliveries`: what was to be brought where, and what became of it.
//!
//! Absent here: why; see `why`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Reach, escape};
use super::failure::Outcome;
use super::show::{self, moment, number, text};

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List deliveries, newest first
    List(Filter),
    /// Withdraw a delivery that is not under way
    Cancel {
        /// Its id
        id: String,
        /// Print JSON as the API gives it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(clap::Args)]
struct Filter {
    /// scheduled, in_flight, accepted, rejected, exhausted, expired, cancelled, suppressed,
    /// uncertain
    #[arg(long)]
    state: Option<String>,
    /// A cause's code, such as ATTEMPTS_SPENT
    #[arg(long)]
    cause: Option<String>,
    /// An endpoint's id
    #[arg(long)]
    endpoint: Option<String>,
    /// An event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// An event's id
    #[arg(long)]
    event: Option<String>,
    /// A recipient
    #[arg(long)]
    recipient: Option<String>,
    /// Only those that need a person
    #[arg(long)]
    dead_letters: bool,
    /// Admitted at or after this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Admitted before this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many at the most
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Does it.
pub fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::List(filter) => list(filter),
        Verb::Cancel { id, json, reach } => {
            let path = format!("/v1/deliveries/{}/cancel", escape(id));
            let answer = reach.client()?.post(&path, &json!({}))?;
            if *json {
                show::json(&answer);
            } else {
                eprintln!("delivery {id} is withdrawn");
            }
            Ok(())
        }
    }
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<(&'static str, String)> = [
            ("state", &self.state),
            ("cause", &self.cause),
            ("endpoint", &self.endpoint),
            ("type", &self.event_type),
            ("event", &self.event),
            ("recipient", &self.recipient),
            ("since", &self.since),
            ("until", &self.until),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)))
        .collect();
        if self.dead_letters {
            query.push(("dead_letters", "true".to_owned()));
        }
        query
    }
}

fn list(filter: &Filter) -> Outcome {
    let items = filter
        .reach
        .client()?
        .pages("/v1/deliveries", &filter.query(), filter.limit)?;
    if filter.json {
        show::json(&Value::from(items));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                text(item, "id"),
                moment(&text(item, "admitted_at")),
                text(item, "state"),
                text(item, "cause"),
                number(item, "attempt").to_string(),
                text(item, "event_type"),
                text(item, "endpoint_id"),
            ]
        })
        .collect();
    let head = [
        "DELIVERY", "ADMITTED", "STATE", "CAUSE", "ATTEMPTS", "TYPE", "ENDPOINT",
    ];
    show::out(&show::table(&head, &rows, show::paint()));
    if items.is_empty() {
        eprintln!("none; `postrider send RECIPIENT` makes one");
    }
    Ok(())
}
