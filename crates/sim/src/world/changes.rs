//! The registry: endpoints come, pause, change and go; nodes hear of it each in its own time.
//!
//! Absent here: addresses and secrets, which no engine learns.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Reach;
use postrider_core::engine::Input;
use postrider_core::id::{EndpointId, RouteId};
use postrider_core::time::{SECOND_MS, Time};

use super::{Inside, Listed, News, World};
use crate::history::Happened;
use crate::plan::{Change, NODES, SHARDS};

impl World {
    /// The owner of an endpoint, or the device that it is, changes it.
    pub(super) fn change(&mut self, place: usize, change: Change) {
        let (now, spec) = (self.now, self.plan.options.endpoints[place]);
        let id = spec.id;
        if change == Change::Register {
            let listed = Listed::new(spec, now);
            self.registry.entry(id).or_insert(listed);
            return self.tell_all(News::Endpoint(id));
        }
        let Some(listed) = self.registry.get_mut(&id) else {
            return;
        };
        match (change, listed.reach) {
            // An address that was retired comes back as another endpoint.
            (_, Reach::Closed(_)) | (Change::Register, _) => return,
            (Change::Pause, _) => listed.reach = Reach::Paused,
            (Change::Resume, _) => listed.reach = Reach::Open,
            (Change::Delete, _) => listed.reach = Reach::Closed(Cause::EndpointDeleted),
            (Change::Pace(policy), _) => listed.spec.policy = policy,
            (Change::Leave, _) => return self.devices.entry(id).or_default().leave(now),
            (Change::Refresh(unheard_ms), _) => {
                listed.registered_at = now;
                let device = self.devices.entry(id).or_default();
                device.register(now.plus(unheard_ms));
            }
        }
        listed.changed_at = now;
        let reach = listed.reach;
        self.eyes
            .note(now, || format!("endpoint {id}: {change:?}, now {reach:?}"));
        self.tell_all(News::Endpoint(id));
    }

    /// Somebody pauses a route, or opens it.
    pub(super) fn change_route(&mut self, route: RouteId, open: bool) {
        let changed = match open {
            true => self.paused.remove(&route),
            false => self.paused.insert(route),
        };
        // To open what is open says that its credentials were renewed.
        if changed || open {
            self.tell_all(News::Route(route));
        }
    }

    /// The registry is told that an address is gone since a moment. Told again, it changes nothing;
    /// what was registered later lives on.
    pub(super) fn retire(&mut self, endpoint: EndpointId, since: Time) {
        let Some(listed) = self.registry.get_mut(&endpoint) else {
            return;
        };
        let registered_at = listed.registered_at;
        if matches!(listed.reach, Reach::Closed(_)) || registered_at > since {
            return;
        }
        listed.reach = Reach::Closed(Cause::EndpointRetired);
        let retired = Happened::Retired {
            endpoint,
            since,
            registered_at,
        };
        self.eyes.see(self.now, &retired);
        self.tell_all(News::Endpoint(endpoint));
    }

    /// Every node hears of a change, some later than others.
    pub(super) fn tell_all(&mut self, news: News) {
        for node in 0..NODES {
            let slow = self.now < self.nodes[node].news_slow_until;
            let ms = match slow {
                true => self.rng.between(SECOND_MS, 20 * SECOND_MS),
                false => self.rng.between(1, 200),
            };
            self.inside(node, ms, Inside::News(news));
        }
    }

    /// A node hears that something has changed, and reads what is so now.
    pub(super) fn news(&mut self, node: usize, news: News) {
        let plan = std::sync::Arc::clone(&self.plan);
        let mut inputs = Vec::new();
        match news {
            News::Policies => {
                let had = self.nodes[node].policies;
                let has = self.policies.max(had);
                let new = &plan.options.policies[had..has];
                inputs.extend(new.iter().cloned().map(Input::Policy));
                self.nodes[node].policies = has;
            }
            News::Endpoint(id) => {
                if let Some(listed) = self.registry.get(&id) {
                    self.nodes[node].known.insert(id);
                    inputs.push(Input::Endpoint(self.gate(listed)));
                }
            }
            News::Route(route) => {
                let open = !self.paused.contains(&route);
                inputs.push(Input::Route { route, open });
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
