//! Faults: how each begins, and how it ends. All are over when the calm begins.
//!
//! Absent here: which faults there are; see [`crate::fault`].

use postrider_core::time::Time;

use super::{Due, Inside, LOOK_MS, News, START, World};
use crate::fault::{Behaviour, Fault, FaultKind};
use crate::history::Happened;
use crate::plan::{Change, NODES, SHARDS, What};

impl World {
    /// An item of the plan.
    pub(super) fn item(&mut self, place: usize) {
        let plan = std::sync::Arc::clone(&self.plan);
        match &plan.items[place].what {
            What::Submit(wish) => self.wished(place, wish),
            What::Cancel { key } => self.withdraw(*key),
            What::Endpoint { place, change } => self.change(*place, *change),
            What::Policy { place } => {
                self.policies = self.policies.max(*place + 1);
                self.tell_all(News::Policies);
            }
            What::Route { route, open } => self.change_route(*route, *open),
            What::Fault(fault) => self.break_something(*fault),
        }
    }

    fn calm_at(&self) -> Time {
        START.plus(self.plan.options.calm_ms)
    }

    fn break_something(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        let until = self.now.plus(fault.for_ms).min(self.calm_at());
        let (node, shard) = (fault.target % NODES, fault.target % SHARDS);
        self.fault_begins(fault.kind);
        self.eyes
            .note(self.now, || format!("{fault:?} until {until}"));
        match fault.kind {
            FaultKind::NodeCrash => self.kill(node, until.since(self.now)),
            FaultKind::NodeStall => {
                // A shorter one inside of a longer one would let what comes later overtake.
                let stalled = &mut self.nodes[node].stalled_until;
                *stalled = until.max(*stalled);
            }
            FaultKind::NodePauses => self.nodes[node].pausing_until = until,
            FaultKind::StoreCutTo => self.nodes[node].store_to_cut = until,
            FaultKind::StoreCutFrom => self.nodes[node].store_from_cut = until,
            FaultKind::RemoteCutTo => self.nodes[node].remote_to_cut = until,
            FaultKind::RemoteCutFrom => self.nodes[node].remote_from_cut = until,
            FaultKind::StoreCrash => self.crash_store(shard),
            FaultKind::SyncBroken => self.shards[shard].sync_broken = true,
            FaultKind::DiskFull => self.shards[shard].full_until = until,
            FaultKind::DiskFullUp => self.shards[shard].full_up_until = until,
            FaultKind::DiskSlow => self.shards[shard].slow_until = until,
            FaultKind::BrokerDown => self.broker_down = until,
            FaultKind::BrokerSlow => self.broker_slow = until,
            FaultKind::BrokerForgets => self.broker_forgets = until,
            FaultKind::WallJump => {
                let off = &mut self.nodes[node].wall_off_ms;
                *off = off.saturating_add(fault.jump_ms);
            }
            FaultKind::NewsSlow => self.nodes[node].news_slow_until = until,
            FaultKind::Handover => {
                if let Some((owner, _)) = self.owner(shard) {
                    self.inside(owner, 1, Inside::HandOver(shard));
                }
            }
            FaultKind::Credentials => {
                let routes = &self.plan.options.routes;
                let route = routes[fault.target % routes.len()];
                self.refused.insert(route, until);
            }
            FaultKind::Receiver => {
                let spec = self.plan.options.endpoints[fault.target];
                let receiver = self.receivers.entry(spec.id).or_default();
                receiver.behaviour = fault.behaviour;
                receiver.until = until;
            }
        }
        self.at(until, Due::Over(fault));
    }

    /// A fault is over: most end by their own time; a clock is set right again.
    pub(super) fn over(&mut self, fault: Fault) {
        self.eyes.fault_over(fault.kind);
        if fault.kind == FaultKind::WallJump {
            let off = &mut self.nodes[fault.target % NODES].wall_off_ms;
            *off = off.saturating_sub(fault.jump_ms);
        }
    }

    /// A process dies, and starts again after a while.
    pub(super) fn kill(&mut self, node: usize, down_ms: i64) {
        if !self.nodes[node].up {
            return;
        }
        self.eyes.note(self.now, || format!("node {node} dies"));
        for who in self.nodes[node].lose_memory() {
            self.eyes.see(self.now, &Happened::Ended { who });
        }
        let it = &mut self.nodes[node];
        it.up = false;
        it.life += 1;
        self.inside(node, down_ms.max(1), Inside::Start);
    }

    /// Nothing breaks any more: what was paused goes on, and receivers take what they are sent.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.eyes.see(self.now, &Happened::Calm);
        for shard in &mut self.shards {
            shard.sync_broken = false;
        }
        for receiver in self.receivers.values_mut() {
            receiver.behaviour = Behaviour::Takes(0);
        }
        for route in self.plan.options.routes.clone() {
            self.change_route(route, true);
        }
        self.resume_all();
        self.after(LOOK_MS, Due::Look);
    }

    /// Operators resume every endpoint: lanes that a dead letter stopped go on, and those that stop
    /// later go on at the next look.
    pub(super) fn resume_all(&mut self) {
        for place in 0..self.plan.options.endpoints.len() {
            self.change(place, Change::Resume);
        }
    }
}
