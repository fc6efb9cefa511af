//! Leases: who asks, who gets, and how an engine comes to life.
//!
//! Absent here: the rules. They are [`postrider_core::lease`]'s.

use std::rc::Rc;
use std::sync::Arc;

use postrider_core::engine::{Config, Input};
use postrider_core::id::PolicyId;
use postrider_core::lease::{Holder, Stand, Tenure};
use postrider_core::parked;
use postrider_core::policy::HeadOfLine;
use postrider_core::time::{SECOND_MS, Time};

use super::{Due, Inside, ToStore, World};
use crate::history::Happened;
use crate::node::{EngineClock, Hands, Owned};
use crate::plan::SHARDS;
use crate::plant::{Planted, WorldPlant};
use crate::store::Estate;

/// Rows that recovery hands to the engine at a time.
const RECOVERY_ROWS: usize = 64;
/// A node that hands over waits so long for what is under way.
const LEAVE_MS: i64 = 12 * SECOND_MS;

impl World {
    /// A process starts: it reads the registry and asks for shards.
    pub(super) fn start(&mut self, node: usize) {
        let policies = self.policies;
        let known = self.registry.keys().copied().collect();
        let it = &mut self.nodes[node];
        it.up = true;
        it.known = known;
        it.policies = policies;
        self.eyes.note(self.now, || format!("node {node} starts"));
        for shard in 0..SHARDS {
            // Each prefers its own, so that both have something to do.
            let after_ms = if shard == node { 5 } else { 2 * SECOND_MS };
            self.inside(node, after_ms, Inside::LeaseTick(shard));
        }
    }

    /// Asks for a shard, or for its lease to last.
    pub(super) fn lease_tick(&mut self, node: usize, shard: usize) {
        let (now, life) = (self.now, self.nodes[node].life);
        let owned = self.nodes[node].owned[shard].as_ref();
        let owned = owned.map(|owned| (owned.who, owned.leaves_by));
        let mut again_ms = self.terms.renew_ms();
        match owned {
            Some((who, leaves_by)) => {
                if self.stand(node, who) == Some(Stand::Over) {
                    self.drop_engine(node, who);
                } else if leaves_by.is_none_or(|by| now < by) {
                    self.after(1, Due::ToStore(node, life, ToStore::Renew(who, now)));
                }
            }
            None => {
                self.after(1, Due::ToStore(node, life, ToStore::Take(shard, now)));
                let preferred = shard == node;
                again_ms = if preferred { 500 } else { 1_000 } + self.rng.between(0, 500);
            }
        }
        self.inside(node, again_ms, Inside::LeaseTick(shard));
    }

    /// A store is asked for a shard.
    pub(super) fn take(&mut self, node: usize, life: u64, shard: usize, asked_at: Time) {
        let (now, terms) = (self.now, self.terms);
        let Ok(estate) = self.shards[shard].take(Holder(self.holder(node, life)), now, &terms)
        else {
            return;
        };
        let who = World::who(shard, estate.origin.epoch);
        self.eyes.see(now, &Happened::Granted { who });
        let granted = Inside::Granted(shard, asked_at, Box::new(estate));
        let ms = self.rng.between(1, 6);
        self.after(ms, Due::FromStore(node, life, granted));
    }

    /// Lives of all nodes, numbered apart.
    pub(super) fn holder(&self, node: usize, life: u64) -> u64 {
        life * self.nodes.len() as u64 + node as u64
    }

    /// A shard was granted: its engine takes up where the store stands.
    pub(super) fn granted(&mut self, node: usize, shard: usize, asked_at: Time, estate: Estate) {
        let who = World::who(shard, estate.origin.epoch);
        let tenure = Tenure::granted(who.epoch, asked_at);
        let newer = |owned: &Owned| owned.who.epoch >= who.epoch;
        if tenure.stand(self.now, &self.terms) != Stand::Begins
            || self.nodes[node].owned[shard].as_deref().is_some_and(newer)
        {
            return;
        }
        if let Some(old) = self.nodes[node].owned[shard].as_ref().map(|old| old.who) {
            self.drop_engine(node, old);
        }
        for (endpoint, since) in &estate.retired {
            self.retire(*endpoint, *since);
        }
        let options = &self.plan.options;
        let config = Config {
            slots_max: options.slots_max,
            window_max: options.window_max,
            records_max: options.records_max,
            park_after_ms: 5 * SECOND_MS,
            plant: self.plant.and_then(Planted::engine),
            ..Config::default()
        };
        let wall = self.nodes[node].wall(self.now);
        let clock = EngineClock::starting(self.now, wall, estate.last_at);
        let reachable = Rc::clone(&self.nodes[node].reachable);
        let mut hands = Hands::new(Arc::clone(&self.shards[shard].reader), reachable);
        hands.unnamed = self.planted(WorldPlant::RetryUnnamed);
        let owned = Owned::new(who, tenure, config, &estate, hands, clock);
        self.nodes[node].owned[shard] = Some(Box::new(owned));
        self.introduce(node, who, &estate);
        self.turn_by(node, who, self.now);
        self.relay_soon(node, who, 500);
    }

    /// Everything the engine has to know before anything can be asked of it: policies, endpoints,
    /// and what is unsettled.
    fn introduce(&mut self, node: usize, who: crate::history::Who, estate: &Estate) {
        let (policies, known) = (self.nodes[node].policies, self.nodes[node].known.clone());
        let plan = Arc::clone(&self.plan);
        let mut inputs: Vec<Input> = plan.options.policies[..policies]
            .iter()
            .map(|policy| Input::Policy(Arc::clone(policy)))
            .collect();
        for id in known {
            if let Some(listed) = self.registry.get(&id) {
                inputs.push(Input::Endpoint(self.gate(listed)));
            }
        }
        for route in &self.paused {
            inputs.push(Input::Route {
                route: *route,
                open: false,
            });
        }
        inputs.extend(self.stopped(who.shard, estate));
        for rows in estate.unsettled.chunks(RECOVERY_ROWS) {
            inputs.push(Input::Loaded {
                deliveries: rows.to_vec(),
                absent: Vec::new(),
            });
        }
        if let Some(owned) = self.nodes[node].engine(who) {
            owned.inbox = inputs;
        }
    }

    /// The lanes that a dead letter had stopped, as far as the node knows policies and endpoints.
    fn stopped(&self, shard: usize, estate: &Estate) -> Vec<Input> {
        if self.planted(WorldPlant::ParkForgotten) {
            return Vec::new();
        }
        let policies = &self.plan.options.policies;
        let parks = |id: PolicyId| {
            let mut policies = policies.iter();
            policies.any(|it| it.id == id && it.head_of_line == HeadOfLine::Park)
        };
        let changed_at = |id| {
            self.registry
                .get(&id)
                .map_or(Time::NEVER, |it| it.changed_at)
        };
        let unsettled = estate.unsettled.iter().map(|(row, _)| row);
        let shard = &self.shards[shard];
        let page = |id, before| shard.rows_of(id, before);
        let stopped = parked::stopped(unsettled, parks, changed_at, page);
        let told = |(endpoint, key)| Input::Parked { endpoint, key };
        stopped.unwrap_or_default().into_iter().map(told).collect()
    }

    /// The store has answered a renewal.
    pub(super) fn renewed(
        &mut self,
        node: usize,
        who: crate::history::Who,
        asked_at: Time,
        renewed: bool,
    ) {
        if !renewed {
            // Another has it, or may have: nothing is begun any more.
            return self.drop_engine(node, who);
        }
        if let Some(owned) = self.nodes[node].engine(who) {
            owned.tenure.renewed(asked_at);
            self.turn_by(node, who, self.now);
        }
    }

    /// The owner is asked to hand a shard over: it begins nothing more, and gives the lease back
    /// when nothing is under way.
    pub(super) fn hand_over(&mut self, node: usize, shard: usize) {
        let by = self.now.plus(LEAVE_MS);
        let Some(owned) = self.nodes[node].owned[shard].as_deref_mut() else {
            return;
        };
        owned.leaves_by = Some(by);
        let who = owned.who;
        self.feed(node, who, Input::Drain);
    }
}
