//! Sets the scene over the real API: tenants, their keys, their endpoints, and the fakes behind.
//!
//! Absent here: events.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::api::{Answer, Api, Lost};
use super::evidence::Nature;
use super::plan::{Plan, Receiver};
use crate::cli::failure::Failure;
use crate::fake::{Fake, Filter, Record, Settings};

/// Requests that the fakes remember: far more than any run makes.
const RECORDS_MAX: usize = 2_000_000;

/// The scene.
pub(crate) struct World {
    /// Where the API is.
    pub(crate) address: SocketAddr,
    /// What was made for each tenant, in the order of the plan.
    pub(crate) tenants: Vec<Inhabitant>,
    good: Fake,
    bad: Fake,
    /// A port that is taken, so that nobody else gets it, and that nobody listens on.
    _absent: Socket,
    absent: SocketAddr,
}

/// What was made for one tenant.
pub(crate) struct Inhabitant {
    /// Its key.
    pub(crate) key: String,
    /// Its endpoints' ids, by the places of their receivers.
    pub(crate) endpoints: Vec<String>,
    /// The paths of its endpoints, by their ids.
    pub(crate) paths: HashMap<String, String>,
}

impl World {
    /// Makes everything that `plan` needs on the engine at `address`.
    pub(crate) async fn make(
        plan: &Plan,
        address: SocketAddr,
        key: &str,
    ) -> Result<World, Failure> {
        let settings = Settings {
            records_max: RECORDS_MAX,
            ..Settings::default()
        };
        let start = async || {
            let fake = Fake::start(settings.clone()).await;
            fake.map_err(|error| Failure::no("a fake could not start").because(error))
        };
        let (held, absent) =
            nowhere().map_err(|error| Failure::no("no port is free").because(error))?;
        let mut world = World {
            _absent: held,
            absent,
            address,
            tenants: Vec::new(),
            good: start().await?,
            bad: start().await?,
        };
        for tenant in &plan.tenants {
            let key = found(address, key, tenant.name).await?;
            let inhabitant = world
                .settle(Api::new(address, &key), key, &tenant.receivers)
                .await?;
            world.tenants.push(inhabitant);
        }
        Ok(world)
    }

    async fn settle(
        &self,
        mut api: Api,
        key: String,
        receivers: &[Receiver],
    ) -> Result<Inhabitant, Failure> {
        let mut inhabitant = Inhabitant {
            key,
            endpoints: Vec::new(),
            paths: HashMap::new(),
        };
        for receiver in receivers {
            let path = &receiver.behaviour.path;
            let fake = match receiver.nature {
                Nature::Accepts => &self.good,
                _ => &self.bad,
            };
            let url = match receiver.nature {
                Nature::Absent => format!("http://{}{path}", self.absent),
                _ => fake.url(path),
            };
            let mut body = json!({ "url": url, "name": path, "policy": receiver.policy });
            if !receiver.recipient.is_empty() {
                body["recipient"] = json!(receiver.recipient);
            }
            if !receiver.event_type.is_empty() {
                body["event_types"] = json!([receiver.event_type]);
            }
            let made = make(&mut api, "/v1/endpoints", &body).await?;
            let behaviour = receiver.behaviour.clone().secret(&word(&made, "secret")?);
            fake.set(behaviour).map_err(|error| {
                Failure::no(format!("the fake does not take the secret of {path}")).because(error)
            })?;
            let id = word(&made, "id")?;
            inhabitant.paths.insert(id.clone(), path.clone());
            inhabitant.endpoints.push(id);
        }
        Ok(inhabitant)
    }

    /// Everything that the fakes received, in the order of each.
    pub(crate) fn received(&self) -> Vec<Record> {
        let mut records = self.good.requests(&Filter::default());
        records.extend(self.bad.requests(&Filter::default()));
        records
    }

    /// How many requests the fakes received.
    pub(crate) fn arrived(&self) -> u64 {
        self.good.arrived() + self.bad.arrived()
    }
}

/// Makes a tenant with an operator's key, and returns a key of its own.
pub(crate) async fn found(
    address: SocketAddr,
    operator: &str,
    tenant: &str,
) -> Result<String, Failure> {
    let mut api = Api::new(address, operator).within(tenant);
    let body = json!({ "name": tenant });
    make(&mut Api::new(address, operator), "/v1/tenants", &body).await?;
    let body = json!({ "name": "demo", "role": "admin" });
    word(&make(&mut api, "/v1/keys", &body).await?, "key")
}

/// A port that is bound and not listened on: connecting to it is refused.
fn nowhere() -> std::io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or_else(|| std::io::Error::other("no address"))?;
    Ok((socket, address))
}

/// Makes something over the API, or says what it answered instead.
pub(crate) async fn make(api: &mut Api, path: &str, body: &Value) -> Result<Value, Failure> {
    let refused = |answer: &Answer| {
        Failure::no(format!("the engine refused POST {path}")).because(answer.line())
    };
    let lost = |lost: Lost| Failure::no(format!("no answer to POST {path}")).because(lost);
    let answer = api.post(path, body.to_string()).await.map_err(lost)?;
    if answer.is_yes() {
        Ok(answer.json())
    } else {
        Err(refused(&answer))
    }
}

/// A word of an answer that has to have one.
pub(crate) fn word(value: &Value, key: &str) -> Result<String, Failure> {
    let word = value[key].as_str().map(str::to_owned);
    word.ok_or_else(|| Failure::no(format!("the API's answer has no {key:?}: {value}")))
}
