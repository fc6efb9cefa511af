//! `keys`: who may use the API, and as what.
//!
//! The first key of an installation is made on its data directory, because there is nobody yet whom
//! the API could believe; all others are made through the API.
//!
//! Absent here: keys that are shown again. A key's text is printed once, when it is made.

use clap::Subcommand;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::client::{Reach, escape};
use super::failure::{Failure, Outcome};
use super::local::{Home, Place};
use super::show::{self, moment, text};
use crate::registry::{KeyDraft, Role};

const DAY_S: u32 = 86_400;

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List keys; their texts are not kept
    List(Common),
    /// Make a key and print it; it is shown only now
    Create {
        /// Your own words for it
        name: String,
        /// operator, admin, writer, reader or support
        #[arg(long, default_value = "writer")]
        role: String,
        /// For the whole installation rather than one tenant
        #[arg(long)]
        whole_installation: bool,
        /// From when on it is no longer taken, in days from now
        #[arg(long, value_name = "DAYS")]
        expires_in: Option<u16>,
        #[command(flatten)]
        common: Common,
    },
    /// Take a key no longer
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Make an operator's key on the data directory of an engine that is not running: the first
    /// one, or one for an operator who has lost theirs
    First(Place),
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
        Verb::List(common) => list(common),
        Verb::Create {
            name,
            role,
            whole_installation,
            expires_in,
            common,
        } => {
            let mut body = json!({
                "name": name, "role": role, "whole_installation": whole_installation,
            });
            if let Some(days) = expires_in {
                body["expires_in_s"] = json!(u32::from(*days) * DAY_S);
            }
            let made = common.reach.client()?.post("/v1/keys", &body)?;
            if common.json {
                show::json(&made);
            } else {
                eprintln!(
                    "key {} for {name}; it is shown only now:",
                    text(&made, "id")
                );
                show::out(&(text(&made, "key") + "\n"));
            }
            Ok(())
        }
        Verb::Revoke { id, common } => {
            let path = format!("/v1/keys/{}", escape(id));
            let answer = common
                .reach
                .client()?
                .ask(&http::Method::DELETE, &path, None)?;
            if common.json {
                show::json(&answer);
            } else {
                eprintln!("key {id} is taken no longer");
            }
            Ok(())
        }
        Verb::First(place) => first(place),
    }
}

fn list(common: &Common) -> Outcome {
    let items = common.reach.client()?.pages("/v1/keys", &[], usize::MAX)?;
    if common.json {
        show::json(&Value::from(items));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let since = |key| moment(&text(item, key));
            vec![
                text(item, "id"),
                text(item, "role"),
                text(item, "tenant_id"),
                since("created_at"),
                since("last_used_at"),
                if item["revoked_at"].is_null() {
                    String::new()
                } else {
                    since("revoked_at")
                },
                text(item, "name"),
            ]
        })
        .collect();
    let head = [
        "KEY",
        "ROLE",
        "TENANT",
        "CREATED",
        "LAST USED",
        "REVOKED",
        "NAME",
    ];
    show::out(&show::table(&head, &rows, show::paint()));
    Ok(())
}

fn first(place: &Place) -> Outcome {
    let home = Home::take(&place.config()?)?;
    let draft = KeyDraft {
        name: "first key".to_owned(),
        role: Role::Operator,
        tenant: None,
        expires_at: None,
        environment: "live".to_owned(),
    };
    let (_, key) = home
        .registry
        .create_key(draft, home.now)
        .map_err(|error| Failure::no("the key could not be made").because(error))?;
    eprintln!("an operator's key; it is shown only now:");
    show::out(&format!("{}\n", key.expose_secret()));
    Ok(())
}
