//! Sets the scene over the real API: tenants, their keys, their endpoints, and the fakes behind.
//!
//! Absent here: events.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use postrider_core::endpoint::Channel;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::api::{Answer, Api, Lost};
use super::evidence::{Nature, Push};
use super::phones::Phones;
use super::plan::{Plan, Presence, Receiver, Tenant, Trouble, Way};
use crate::cli::failure::Failure;
use crate::fake::{Behaviour, Fake, Filter, Record, Settings};

/// Requests that the fakes remember: far more than any run makes.
pub(super) const RECORDS_MAX: usize = 2_000_000;

/// The scene.
pub(crate) struct World {
    /// Where the API is.
    pub(crate) address: SocketAddr,
    /// What was made for each tenant, in the order of the plan.
    pub(crate) tenants: Vec<Inhabitant>,
    good: Fake,
    bad: Fake,
    phones: Phones,
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
        phones: Phones,
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
            phones,
        };
        for tenant in &plan.tenants {
            let key = found(address, key, tenant.name).await?;
            let inhabitant = world.settle(Api::new(address, &key), key, tenant).await?;
            world.tenants.push(inhabitant);
        }
        Ok(world)
    }

    async fn settle(
        &self,
        mut api: Api,
        key: String,
        tenant: &Tenant,
    ) -> Result<Inhabitant, Failure> {
        let mut inhabitant = Inhabitant {
            key,
            endpoints: Vec::new(),
            paths: HashMap::new(),
        };
        let mut browsers = String::new();
        for channel in [Channel::WebPush, Channel::Apns, Channel::Fcm] {
            let route = self.phones.route(channel, tenant.name)?;
            let made = make(&mut api, "/v1/routes", &route).await?;
            if channel == Channel::WebPush {
                browsers = word(&made["public_keys"], 0)?;
            }
        }
        for receiver in &tenant.receivers {
            let made = match &receiver.way {
                Way::Webhook(behaviour) => self.webhook(&mut api, receiver, behaviour).await?,
                Way::Device(channel, trouble) => {
                    let device = self.phones.install(&receiver.path, *channel, &browsers)?;
                    let made = make(&mut api, "/v1/devices", &addressed(receiver, device)).await?;
                    self.phones.trouble(&receiver.path, *trouble)?;
                    made
                }
            };
            let id = word(&made, "id")?;
            inhabitant.paths.insert(id.clone(), receiver.path.clone());
            inhabitant.endpoints.push(id);
        }
        Ok(inhabitant)
    }

    async fn webhook(
        &self,
        api: &mut Api,
        receiver: &Receiver,
        behaviour: &Behaviour,
    ) -> Result<Value, Failure> {
        let path = &receiver.path;
        let fake = match receiver.nature {
            Nature::Accepts => &self.good,
            _ => &self.bad,
        };
        let url = match receiver.nature {
            Nature::Absent => format!("http://{}{path}", self.absent),
            _ => fake.url(path),
        };
        let body = addressed(receiver, json!({ "url": url, "name": path }));
        let made = make(api, "/v1/endpoints", &body).await?;
        let behaviour = behaviour.clone().secret(&word(&made, "secret")?);
        fake.set(behaviour).map_err(|error| {
            Failure::no(format!("the fake does not take the secret of {path}")).because(error)
        })?;
        Ok(made)
    }

    /// The engine was killed for the `count`th time: after the first time the app is removed from
    /// the devices of which the plan says so.
    pub(crate) fn leave(&self, plan: &Plan, count: usize) -> Result<(), Failure> {
        let leaves = |receiver: &&Receiver| {
            matches!(&receiver.way, Way::Device(_, Trouble { presence, .. })
                if *presence == Presence::Leaves)
        };
        let receivers = plan.tenants.iter().flat_map(|tenant| &tenant.receivers);
        for receiver in receivers.filter(|one| count == 1 && leaves(one)) {
            self.phones.leave(&receiver.path)?;
        }
        Ok(())
    }

    /// Everything that the fakes received, in the order of each, and what the devices show.
    pub(crate) fn received(&self) -> (Vec<Record>, Vec<Push>) {
        let (mut records, pushes) = self.phones.received();
        records.extend(self.good.requests(&Filter::default()));
        records.extend(self.bad.requests(&Filter::default()));
        (records, pushes)
    }

    /// How many requests the fakes received.
    pub(crate) fn arrived(&self) -> u64 {
        self.good.arrived() + self.bad.arrived() + self.phones.arrived()
    }
}

/// A registration, with what every receiver has.
fn addressed(receiver: &Receiver, mut body: Value) -> Value {
    body["policy"] = json!(receiver.policy);
    if !receiver.recipient.is_empty() {
        body["recipient"] = json!(receiver.recipient);
    }
    if !receiver.event_type.is_empty() {
        body["event_types"] = json!([receiver.event_type]);
    }
    body
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
pub(crate) fn word(
    value: &Value,
    key: impl serde_json::value::Index + std::fmt::Display,
) -> Result<String, Failure> {
    let word = value.get(&key).and_then(Value::as_str).map(str::to_owned);
    word.ok_or_else(|| Failure::no(format!("the API's answer has no {key}: {value}")))
}
