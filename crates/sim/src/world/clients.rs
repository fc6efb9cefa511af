//! Clients: they submit, wait, ask again with the same key, withdraw, and give up.
//!
//! An event that goes to both shards is submitted to each: no transaction crosses them, and the key
//! makes asking again harmless. Absent here: what they conclude; checkers see what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_core::engine::{Input, Reply};
use postrider_core::event::{Event, Submission, Target, Urgency};
use postrider_core::id::{
    Ask, BodyDigest, CollapseKey, DeliveryId, EventId, KeyDigest, NO_ENDPOINT, OrderingKey,
    TenantId,
};
use postrider_core::lease::Stand;
use postrider_core::partition::partition_of;
use postrider_core::time::Time;
use postrider_core::{Bytes, id::EndpointId};

use super::{Due, Inside, World};
use crate::history::Happened;
use crate::plan::{NODES, SHARDS, What, Wish};

/// Times that a client asks at the most.
const TRIES_MAX: u32 = 120;
/// How long it waits for an answer.
const PATIENCE_MS: i64 = 6_000;
/// Submissions that one engine lets wait at the most.
const INBOX_MAX: usize = 400;

/// What one shard is asked for of a wish.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The wish, by its place in the plan.
    item: usize,
    key: u64,
    shard: usize,
    endpoints: Vec<usize>,
    tries: u32,
    over: bool,
    /// What it was told to have become.
    first: Option<(DeliveryId, u32)>,
}

impl Part {
    /// The client has its answer, or has given up.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

/// The shard of a delivery.
#[must_use]
pub fn shard_of(endpoint: EndpointId, ordering_key: Option<OrderingKey>) -> usize {
    usize::from(partition_of(endpoint, ordering_key).0) % SHARDS
}

impl World {
    /// Somebody submits an event.
    pub(super) fn wished(&mut self, item: usize, wish: &Wish) {
        let mut by_shard: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for place in &wish.endpoints {
            let id = self.plan.options.endpoints[*place].id;
            let shard = shard_of(id, wish.ordering_key.map(OrderingKey));
            by_shard.entry(shard).or_default().push(*place);
        }
        if by_shard.is_empty() {
            let shard = usize::try_from(wish.key).unwrap_or(0) % SHARDS;
            by_shard.insert(shard, Vec::new());
        }
        for (shard, endpoints) in by_shard {
            let part = self.parts.len();
            self.parts.push(Part {
                item,
                key: wish.key,
                shard,
                endpoints,
                tries: 0,
                over: false,
                first: None,
            });
            self.at(self.now, Due::Try(part));
        }
    }

    /// A client asks, mostly the owner.
    pub(super) fn try_part(&mut self, place: usize) {
        let part = &mut self.parts[place];
        if part.over {
            return;
        }
        part.tries += 1;
        if part.tries > TRIES_MAX {
            part.over = true;
            return;
        }
        let (shard, tries) = (part.shard, part.tries);
        let anybody = usize::try_from(self.rng.below(NODES as u64)).unwrap_or(0);
        let node = match self.owner(shard) {
            Some((owner, _)) if self.rng.percent(85) => owner,
            _ => anybody,
        };
        let ms = self.rng.between(1, 6);
        self.inside(node, ms, Inside::Submit(place));
        let ms = PATIENCE_MS + self.rng.between(0, 500);
        self.after(ms, Due::Impatient(place, tries));
    }

    /// No answer has come to this try.
    pub(super) fn impatient(&mut self, place: usize, tries: u32) {
        let part = &self.parts[place];
        if !part.over && part.tries == tries {
            self.try_part(place);
        }
    }

    /// A client hears an answer.
    pub(super) fn heard(&mut self, place: usize, done: bool) {
        match done {
            true => self.parts[place].over = true,
            false => {
                self.try_later(place);
            }
        }
    }

    /// Who was refused waits longer each time.
    fn try_later(&mut self, place: usize) {
        let tries = i64::from(self.parts[place].tries);
        let ms = self.rng.between(200, 2_500) + 300 * tries.min(10);
        self.after(ms, Due::Try(place));
    }

    /// A submission reaches a node: its edge refuses what it cannot hand to an engine.
    pub(super) fn submit(&mut self, node: usize, place: usize) {
        let shard = self.parts[place].shard;
        let plan = Arc::clone(&self.plan);
        let What::Submit(wish) = &plan.items[self.parts[place].item].what else {
            return;
        };
        let who = self.nodes[node].owned[shard]
            .as_ref()
            .map(|owned| owned.who);
        let heard_of = |world: &World| {
            let known = |place: &usize| {
                let id = plan.options.endpoints[*place].id;
                world.nodes[node].known.contains(&id)
            };
            world.nodes[node].policies > wish.policy
                && world.parts[place].endpoints.iter().all(known)
        };
        let ready = who.is_some_and(|who| {
            self.stand(node, who) == Some(Stand::Begins)
                && self.now >= self.nodes[node].store_to_cut
                && heard_of(self)
                && self.nodes[node]
                    .engine(who)
                    .is_some_and(|owned| owned.inbox.len() < INBOX_MAX)
        });
        let Some((who, at)) = who.filter(|_| ready).and_then(|who| {
            let at = self.engine_now(node, who)?;
            Some((who, at))
        }) else {
            return self.try_later(place);
        };
        self.last_ask += 1;
        let ask = Ask(self.last_ask);
        self.asks.insert(ask, place);
        let submission = Box::new(self.submission(place, wish, at));
        let asked = Happened::Asked {
            who,
            ask,
            at,
            submission: &submission,
        };
        self.eyes.see(self.now, &asked);
        self.feed(node, who, Input::Submit { submission, ask });
    }

    /// The complete command, as the edge builds it.
    fn submission(&mut self, place: usize, wish: &Wish, at: Time) -> Submission {
        let options = &self.plan.options;
        let part = &self.parts[place];
        let specs: Vec<_> = part
            .endpoints
            .iter()
            .map(|it| options.endpoints[*it])
            .collect();
        let policy = options.policies[wish.policy].id;
        let collapses = wish
            .collapse_key
            .map_or(String::new(), |key| key.to_string());
        let tenant = specs.first().map_or(TenantId(1), |spec| spec.tenant);
        let mut targets = Vec::with_capacity(specs.len());
        for spec in specs {
            targets.push(Target {
                endpoint: spec.id,
                policy,
                guarantee: wish.guarantee,
                ordering_key: wish.ordering_key.map(OrderingKey),
                lane: None,
                collapse_key: wish.collapse_key.and_then(|key| CollapseKey::new(key + 1)),
                due_at: at.plus(wish.due_ms),
                expires_at: at.plus(wish.ttl_ms),
                entropy: self.rng.wide(),
            });
        }
        debug_assert!(targets.iter().all(|target| target.endpoint != NO_ENDPOINT));
        Submission {
            event: Event {
                id: EventId(0),
                uuid: self.rng.wide(),
                tenant,
                key_digest: KeyDigest(u128::from(wish.key).to_le_bytes()),
                body_digest: BodyDigest(u128::from(wish.body).to_le_bytes()),
                business_id: "".into(),
                event_type: "sim".into(),
                version: 1,
                recipient: "".into(),
                ordering_key: "".into(),
                collapse_key: collapses.into(),
                urgency: Urgency::Normal,
                traceparent: "".into(),
                content_type: "".into(),
                admitted_at: at,
                key_expires_at: at.plus(wish.window_ms),
                first_delivery: DeliveryId(0),
                deliveries: 0,
                retry_of: None,
                payload: Bytes::new(),
            },
            targets,
            known: None,
        }
    }

    /// An answer leaves a node. Clients remember what they may withdraw.
    pub(super) fn remember(&mut self, ask: Ask, reply: &Reply) {
        let first = match reply {
            Reply::Admitted {
                first_delivery,
                deliveries,
                ..
            } => (
                *first_delivery,
                u32::try_from(deliveries.len()).unwrap_or(1),
            ),
            Reply::Duplicate(seen) => (seen.first_delivery, seen.deliveries),
            _ => return,
        };
        if let Some(place) = self.asks.get(&ask) {
            self.parts[*place].first = Some(first);
        }
    }

    /// A device reports that it showed a notification, to the owner of its delivery.
    pub(super) fn reported(&mut self, shard: usize, delivery: DeliveryId, receipt: u8) {
        if let Some((owner, epoch)) = self.owner(shard) {
            let who = World::who(shard, epoch);
            self.last_ask += 1;
            let ask = Ask(self.last_ask);
            let asked = Happened::ReceiptAsked {
                who,
                ask,
                delivery,
                receipt,
            };
            self.eyes.see(self.now, &asked);
            let reported = Input::Receipt {
                delivery,
                receipt,
                ask,
            };
            self.feed(owner, who, reported);
        }
    }

    /// Somebody withdraws whatever an event has become.
    pub(super) fn withdraw(&mut self, key: u64) {
        for place in 0..self.parts.len() {
            let part = &self.parts[place];
            if part.key == key
                && part.first.is_some()
                && let Some((owner, _)) = self.owner(part.shard)
            {
                let ms = self.rng.between(1, 5);
                self.inside(owner, ms, Inside::Cancel(place as u64));
            }
        }
    }

    /// The wish to withdraw reaches a node.
    pub(super) fn cancel(&mut self, node: usize, place: u64) {
        let part = &self.parts[usize::try_from(place).unwrap_or(0)];
        let Some((first, deliveries)) = part.first else {
            return;
        };
        let who = self.nodes[node].owned[part.shard].as_ref();
        let Some(who) = who.map(|owned| owned.who) else {
            return;
        };
        for id in first.0..first.0 + u64::from(deliveries) {
            let delivery = DeliveryId(id);
            self.last_ask += 1;
            let ask = Ask(self.last_ask);
            let asked = Happened::CancelAsked { who, ask, delivery };
            self.eyes.see(self.now, &asked);
            self.feed(node, who, Input::Cancel { delivery, ask });
        }
    }
}
