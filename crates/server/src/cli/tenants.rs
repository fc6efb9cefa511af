//! `tenants`: isolated owners of endpoints, keys, limits and data.
//!
//! Absent here: removing one. Its ledger outlives its wish to leave until retention ends it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Reach;
use super::failure::Outcome;
use super::show::{self, moment, text};

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List tenants
    List(Common),
    /// Make a tenant
    Create {
        /// Its name: small letters, digits and dashes
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// Print JSON as the API gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Does it.
pub fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::List(common) => {
            let items = common
                .reach
                .client()?
                .pages("/v1/tenants", &[], usize::MAX)?;
            print(common, &Value::from(items.clone()), &items);
        }
        Verb::Create { name, common } => {
            let made = common
                .reach
                .client()?
                .post("/v1/tenants", &json!({ "name": name }))?;
            print(common, &made, std::slice::from_ref(&made));
        }
    }
    Ok(())
}

fn print(common: &Common, whole: &Value, items: &[Value]) {
    if common.json {
        show::json(whole);
        return;
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                text(item, "id"),
                text(item, "name"),
                moment(&text(item, "created_at")),
            ]
        })
        .collect();
    show::out(&show::table(
        &["TENANT", "NAME", "CREATED"],
        &rows,
        show::paint(),
    ));
}
