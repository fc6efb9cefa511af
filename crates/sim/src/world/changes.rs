//! The registry: endpoints come, pause, change and go; nodes hear of it each in its own time.
//!
//! Absent here: addresses and secrets, which no engine learns.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Reach;
use postrider_core::engine::Input;
use postrider_core::id::EndpointId;
use postrider_core::time::SECOND_MS;

use super::{Inside, World};
use crate::plan::{Change, NODES, SHARDS};

impl World {
    /// The owner of an endpoint changes it.
    pub(super) fn change(&mut self, place: usize, change: Change) {
        let spec = self.plan.options.endpoints[place];
        let id = spec.id;
        if change == Change::Register {
            self.registry.entry(id).or_insert((spec, Reach::Open));
            return self.tell_all(Some(id));
        }
        let Some((spec, reach)) = self.registry.get_mut(&id) else {
            return;
        };
        match (change, *reach) {
            (_, Reach::Closed(_)) => return,
            (Change::Pause, _) => *reach = Reach::Paused,
            (Change::Resume, _) => *reach = Reach::Open,
            (Change::Delete, _) => *reach = Reach::Closed(Cause::EndpointDeleted),
            (Change::Pace(policy), _) => spec.policy = policy,
            (Change::Register, _) => {}
        }
        let reach = *reach;
        self.eyes.note(self.now, || {
            format!("endpoint {id}: {change:?}, now {reach:?}")
        });
        self.tell_all(Some(id));
    }

    /// The registry is told that an address is gone. Told again, it changes nothing.
    pub(super) fn retire(&mut self, id: EndpointId) {
        if let Some((_, reach)) = self.registry.get_mut(&id)
            && !matches!(reach, Reach::Closed(_))
        {
            *reach = Reach::Closed(Cause::EndpointRetired);
            self.tell_all(Some(id));
        }
    }

    /// Every node hears of a change, some later than others.
    pub(super) fn tell_all(&mut self, changed: Option<EndpointId>) {
        for node in 0..NODES {
            let slow = self.now < self.nodes[node].news_slow_until;
            let ms = match slow {
                true => self.rng.between(SECOND_MS, 20 * SECOND_MS),
                false => self.rng.between(1, 200),
            };
            self.inside(node, ms, Inside::News(changed));
        }
    }

    /// A node hears that something has changed, and reads what is so now.
    pub(super) fn news(&mut self, node: usize, changed: Option<EndpointId>) {
        let plan = std::sync::Arc::clone(&self.plan);
        let mut inputs = Vec::new();
        match changed {
            None => {
                let had = self.nodes[node].policies;
                let has = self.policies.max(had);
                let new = &plan.options.policies[had..has];
                inputs.extend(new.iter().cloned().map(Input::Policy));
                self.nodes[node].policies = has;
            }
            Some(id) => {
                if let Some((spec, reach)) = self.registry.get(&id).copied() {
                    self.nodes[node].known.insert(id);
                    inputs.push(Input::Endpoint(self.gate(&spec, reach)));
                }
            }
        }
        for shard in 0..SHARDS {
            let owned = self.nodes[node].owned[shard].as_ref();
            if let Some(who) = owned.map(|owned| owned.who) {
                for input in &inputs {
                    self.feed(node, who, input.clone());
                }
            }
        }
    }
}
