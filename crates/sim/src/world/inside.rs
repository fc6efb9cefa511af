//! Inside of a node: what the driver does around the executor.
//!
//! Absent here: deciding, and order. Both are the production engine's and executor's.

use postrider_core::endpoint::Reach;
use postrider_core::engine::{Input, Reply};
use postrider_core::id::{Ask, EndpointId, Epoch, RouteId};
use postrider_core::lease::Stand;
use postrider_core::ledger::Record;
use postrider_core::time::Time;

use super::{Due, Inside, ToStore, World};
use crate::history::{Happened, Who};
use crate::node::{Act, Node, Owned};
use crate::plant::WorldPlant;
use crate::store::Batch;

/// Turns from one audit to the next.
const AUDIT_TURNS: u64 = 24;

impl World {
    pub(super) fn inside_now(&mut self, node: usize, inside: Inside) {
        match inside {
            Inside::Start => self.start(node),
            Inside::Input(who, input) => self.feed(node, who, input),
            Inside::Turn(who) => self.turn(node, who),
            Inside::Act(who, act) => self.act(node, who, act),
            Inside::Committed(who, answer) => self.committed(node, who, answer),
            Inside::Write(who, dispatch) => self.write(node, who, *dispatch),
            Inside::TimedOut(flight) => self.timed_out(node, flight),
            Inside::Arrived(flight, answer) => self.arrived(node, flight, answer),
            Inside::Submit(part) => self.submit(node, part),
            Inside::Cancel(key) => self.cancel(node, key),
            Inside::LeaseTick(shard) => self.lease_tick(node, shard),
            Inside::Granted(shard, asked_at, estate) => {
                self.granted(node, shard, asked_at, *estate);
            }
            Inside::Renewed(who, asked_at, renewed) => self.renewed(node, who, asked_at, renewed),
            Inside::News(news) => self.news(node, news),
            Inside::Relay(who) => self.relay(node, who),
            Inside::Confirmed(who, seqs) => self.confirmed(node, who, &seqs),
            Inside::Rewind(who, upto) => self.rewind(node, who, upto),
            Inside::HandOver(shard) => self.hand_over(node, shard),
        }
    }

    /// What the lease allows this engine; `None` if it is gone.
    pub(super) fn stand(&mut self, node: usize, who: Who) -> Option<Stand> {
        let (now, terms) = (self.now, self.terms);
        let ignored = self.planted(WorldPlant::LeaseIgnored);
        let owned = self.nodes[node].engine(who)?;
        match ignored {
            true => Some(Stand::Begins),
            false => Some(owned.tenure.stand(now, &terms)),
        }
    }

    /// The time on an engine's clock.
    pub(super) fn engine_now(&mut self, node: usize, who: Who) -> Option<Time> {
        let (now, wall) = (self.now, self.nodes[node].wall(self.now));
        let owned = self.nodes[node].engine(who)?;
        Some(owned.clock.now(now, wall))
    }

    /// Something for an engine: it is taken with the next turn.
    pub(super) fn feed(&mut self, node: usize, who: Who, input: Input) {
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        owned.inbox.push(input);
        let at = self.now.plus(i64::from(self.rng.percent(10)));
        self.turn_by(node, who, at);
    }

    /// Sees to it that a turn is taken by then.
    pub(super) fn turn_by(&mut self, node: usize, who: Who, at: Time) {
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        if owned.turn_at.is_none_or(|planned| at < planned) {
            owned.turn_at = Some(at);
            let life = self.nodes[node].life;
            self.at(at, Due::Inside(node, life, Inside::Turn(who)));
        }
    }

    /// An engine's turn, if its lease allows one.
    fn turn(&mut self, node: usize, who: Who) {
        let Some(now) = self.engine_now(node, who) else {
            return;
        };
        let due = self.nodes[node].engine(who).and_then(|owned| owned.turn_at);
        if due.is_none_or(|at| at > self.now) {
            return;
        }
        match self.stand(node, who) {
            Some(Stand::Begins) => {}
            // The answer to the renewal plans the next turn.
            Some(Stand::Finishes) => {
                if let Some(owned) = self.nodes[node].engine(who) {
                    owned.turn_at = None;
                }
                return;
            }
            Some(Stand::Over) | None => return self.drop_engine(node, who),
        }
        let Node {
            store_to_cut,
            store_from_cut,
            ..
        } = &self.nodes[node];
        let cut = self.now < *store_to_cut.max(store_from_cut);
        self.nodes[node].reachable.set(!cut);
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        owned.turn_at = None;
        owned.turns += 1;
        let mut inputs = std::mem::take(&mut owned.inbox);
        if inputs.is_empty() {
            inputs.push(Input::Wake);
        }
        let news: Vec<Input> = inputs.iter().filter(|it| is_news(it)).cloned().collect();
        owned.executor.turn(now, inputs);
        self.show(node, who, now);
        // What one turn takes in counts for what the same turn lets go, wherever in it that stood:
        // what was opened may be sent to, and what was shut may have been before.
        self.tell(who, now, news.iter().filter(|it| opens(it)));
        self.hand_out(node, who, now);
        let shut: Vec<_> = news.iter().filter(|it| !opens(it)).map(subject).collect();
        let changed = |it: &&Input| shut.contains(&subject(it));
        self.tell(who, now, news.iter().filter(changed));
        self.plan_turn(node, who, now);
    }

    /// Shows the eyes what an engine was told.
    fn tell<'a>(&mut self, who: Who, at: Time, news: impl Iterator<Item = &'a Input>) {
        for input in news {
            let told = match input {
                Input::Endpoint(gate) => Happened::Told { who, at, gate },
                Input::Route { route, open } => Happened::ToldRoute {
                    who,
                    at,
                    route: *route,
                    open: *open,
                },
                _ => continue,
            };
            self.eyes.see(self.now, &told);
        }
    }

    /// Shows the eyes what an engine is like after its turn.
    fn show(&mut self, node: usize, who: Who, now: Time) {
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        let engine = owned.executor.engine();
        let audit = match owned.turns % AUDIT_TURNS == 1 {
            true => engine.audit(now),
            false => Ok(()),
        };
        let figures = engine.figures();
        let turned = Happened::Turned {
            who,
            figures,
            audit,
        };
        self.eyes.see(self.now, &turned);
    }

    /// Lets each effect of a turn happen in its own time.
    fn hand_out(&mut self, node: usize, who: Who, now: Time) {
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        let hands = owned.executor.world();
        let acts = std::mem::take(&mut hands.acts);
        let observed = std::mem::take(&mut hands.observed);
        for key in std::mem::take(&mut hands.unread) {
            self.eyes.see(self.now, &Happened::Unread { who, key });
        }
        for observation in &observed {
            self.eyes.observed(self.now, who, observation);
        }
        let lost = self.planted(WorldPlant::AnswerLost);
        for act in acts {
            if lost && matches!(act, Act::Reply(_, Reply::Duplicate(_))) {
                continue;
            }
            let mut at = self.now.plus(self.pause(node));
            match &act {
                Act::Record(_) => {
                    if let Some(owned) = self.nodes[node].engine(who) {
                        // The line to the writer keeps its order.
                        at = at.max(owned.line_at);
                        owned.line_at = at;
                    }
                }
                Act::Send(dispatch) => {
                    let at = now;
                    let sent = Happened::Sent { who, at, dispatch };
                    self.eyes.see(self.now, &sent);
                }
                Act::Reply(ask, reply) => {
                    let ask = *ask;
                    let replied = Happened::Replied { who, ask, reply };
                    self.eyes.see(self.now, &replied);
                }
                Act::Load(_) | Act::Retire(..) => {}
            }
            let life = self.nodes[node].life;
            self.at(at, Due::Inside(node, life, Inside::Act(who, act)));
        }
    }

    /// The engine says when it wants to be woken.
    fn plan_turn(&mut self, node: usize, who: Who, now: Time) {
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        let engine = owned.executor.engine();
        let (wake, idle) = (engine.next_wake(), engine.is_idle());
        let leaves = owned.leaves_by.is_some();
        if let Some(wake) = wake {
            let at = self.now.plus(wake.since(now).max(1));
            self.turn_by(node, who, at);
        }
        if leaves && idle {
            self.drop_engine(node, who);
            let life = self.nodes[node].life;
            self.after(1, Due::ToStore(node, life, ToStore::Release(who)));
        }
    }

    fn act(&mut self, node: usize, who: Who, act: Act) {
        match act {
            Act::Record(records) => self.write_down(node, who, records),
            Act::Send(dispatch) => self.leave(node, who, dispatch),
            Act::Reply(ask, reply) => self.reply(ask, &reply),
            Act::Load(ids) => {
                let life = self.nodes[node].life;
                self.after(1, Due::ToStore(node, life, ToStore::Load(who, ids)));
            }
            Act::Retire(endpoint, _, since) => {
                let life = self.nodes[node].life;
                if !self.planted(WorldPlant::RetirementForgotten) {
                    let retire = ToStore::Retire(endpoint, since);
                    self.after(1, Due::ToStore(node, life, retire));
                }
            }
        }
    }

    fn reply(&mut self, ask: Ask, reply: &Reply) {
        let Some(part) = self.asks.get(&ask).copied() else {
            return;
        };
        self.remember(ask, reply);
        let done = !matches!(reply, Reply::Refused { .. });
        let lost = self.plan.options.answers_lost_percent;
        if !self.rng.percent(lost) {
            let ms = self.rng.between(1, 12);
            self.after(ms, Due::Heard(part, done));
        }
    }

    /// Records reach the writer.
    #[expect(
        clippy::vec_box,
        reason = "records are handed over as the executor has them"
    )]
    fn write_down(&mut self, node: usize, who: Who, records: Vec<Box<Record>>) {
        if let Some(owned) = self.nodes[node].engine(who) {
            let records = records.into_iter().map(|record| *record);
            owned.writer.queue.extend(records);
            self.commit(node, who);
        }
    }

    /// The writer takes all that waits as one commit, unless one is under way.
    fn commit(&mut self, node: usize, who: Who) {
        let (life, max) = (self.nodes[node].life, self.plan.options.commit_records_max);
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        let Owned { writer, .. } = owned;
        if writer.busy || writer.queue.is_empty() {
            return;
        }
        writer.busy = true;
        let records = writer.queue.drain(..max.min(writer.queue.len())).collect();
        let batch = Batch {
            node,
            life,
            epoch: who.epoch,
            records,
        };
        self.after(
            1,
            Due::ToStore(node, life, ToStore::Commit(who.shard, batch)),
        );
    }

    /// The store has answered a commit, or cannot.
    fn committed(&mut self, node: usize, who: Who, answer: Option<Input>) {
        let Some(answer) = answer else {
            // Nothing may be acknowledged any more: the process ends, whatever it owns.
            self.eyes
                .note(self.now, || format!("node {node} ends: its store failed"));
            let down_ms = self.rng.between(200, 3_000);
            self.kill(node, down_ms);
            return;
        };
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        owned.writer.busy = false;
        self.feed(node, who, answer);
        self.commit(node, who);
        self.relay_soon(node, who, 50);
    }

    /// The engine of a shard ends; what was under way is the next owner's to judge.
    pub(super) fn drop_engine(&mut self, node: usize, who: Who) {
        if self.nodes[node].engine(who).is_some() {
            self.nodes[node].owned[who.shard] = None;
            self.eyes.see(self.now, &Happened::Ended { who });
        }
    }

    /// The node that owns a shard, as far as the world knows.
    pub(super) fn owner(&self, shard: usize) -> Option<(usize, Epoch)> {
        let owners = self.nodes.iter().enumerate();
        let mut owners = owners.filter_map(|(node, it)| Some((node, it.owned[shard].as_ref()?)));
        owners
            .find(|(_, owned)| owned.who.epoch == self.shards[shard].lease.epoch)
            .map(|(node, owned)| (node, owned.who.epoch))
    }
}

fn is_news(input: &Input) -> bool {
    matches!(input, Input::Endpoint(_) | Input::Route { .. })
}

fn opens(input: &Input) -> bool {
    match input {
        Input::Endpoint(gate) => gate.reach == Reach::Open,
        Input::Route { open, .. } => *open,
        _ => false,
    }
}

/// Which endpoint or route news are about.
fn subject(input: &Input) -> (Option<EndpointId>, Option<RouteId>) {
    match input {
        Input::Endpoint(gate) => (Some(gate.endpoint), None),
        Input::Route { route, .. } => (None, Some(*route)),
        _ => (None, None),
    }
}
