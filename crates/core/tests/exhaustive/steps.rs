//! What may happen next in a world, and what must not.
//!
//! Absent here: the order in which worlds are visited.

use postrider_core::lease::{Holder, Lease, Stand, Terms};
use postrider_core::ledger::State;
use postrider_core::outcome::Outcome;
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;

use crate::code::Code;
use crate::world::*;

/// The lease as the store keeps it.
fn lease(world: &World) -> Lease {
    Lease {
        holder: match world.holder {
            Owner::Nobody => None,
            Owner::Node(node) => Some(Holder(u64::from(node))),
            Owner::Dead => Some(Holder(99)),
        },
        epoch: CURRENT,
        until: NOW.plus(i64::from(world.left)),
    }
}

impl World {
    pub fn first(code: &mut Code) -> World {
        World {
            holder: Owner::Nobody,
            left: 0,
            rows: [code.admitted(0), code.admitted(1)],
            nodes: [DOWN; NODES],
            sent: [0; DELIVERIES],
            acted: [0; DELIVERIES],
            troubles: 0,
        }
    }

    /// The same world with one more trouble, if there may be one more.
    fn troubled(mut self, code: &Code) -> Option<World> {
        if let Some(max) = code.size.troubles_max {
            if self.troubles == max {
                return None;
            }
            self.troubles += 1;
        }
        Some(self)
    }

    /// All worlds that the next step may make of this one.
    pub fn next(
        &self,
        code: &mut Code,
    ) -> Result<Vec<(&'static str, World)>, (&'static str, Broken)> {
        let mut all = vec![("time passes", self.tick(code))];
        for node in 0..NODES {
            self.life(code, node, &mut all);
            self.leases(code, node, &mut all);
            self.store(code, node, &mut all)?;
            for delivery in 0..DELIVERIES {
                self.attempt(code, (node, delivery), &mut all)?;
            }
        }
        Ok(all)
    }

    fn tick(&self, code: &Code) -> World {
        let mut next = *self;
        next.left = (next.left - 1).max(0);
        let older = |age: i8| (age + 1).min(code.terms.lease_ms() as i8);
        for node in &mut next.nodes {
            node.ask = match node.ask {
                Ask::Nothing => Ask::Nothing,
                Ask::Take(age) => Ask::Take(older(age)),
                Ask::Renew(age) => Ask::Renew(older(age)),
            };
            if let Some(hold) = &mut node.hold {
                hold.age = older(hold.age);
            }
            // Nothing depends on when it notices: all that it could do, it must look first.
            if node
                .hold
                .is_some_and(|hold| code.stand(hold) == Stand::Over)
            {
                node.over(code);
            }
        }
        next
    }

    /// Starting and dying.
    fn life(&self, code: &Code, at: usize, all: &mut Vec<(&'static str, World)>) {
        let node = &self.nodes[at];
        let mut next = *self;
        if !node.up {
            next.nodes[at].up = true;
            all.push(("a node starts", next));
            return;
        }
        let Some(mut next) = next.troubled(code) else {
            return;
        };
        // What it sent may still arrive, and nobody waits for the answer.
        let mut queue = node.queue;
        queue[1..].fill(None);
        for write in queue.iter_mut().flatten() {
            write.awaited = false;
        }
        next.nodes[at] = Node { queue, ..DOWN };
        if next.holder == Owner::Node(at as u8) {
            next.holder = Owner::Dead;
        }
        all.push(("a node dies", next));
        if node.queue[0].is_some() {
            next.nodes[at].queue = [None; QUEUE];
            all.push(("a node dies, and what it sent is lost", next));
        }
    }

    /// Asking for the lease, being granted it, losing it.
    fn leases(&self, code: &mut Code, at: usize, all: &mut Vec<(&'static str, World)>) {
        let node = &self.nodes[at];
        if !node.up {
            return;
        }
        let mut next = *self;
        match (node.ask, node.hold) {
            (Ask::Nothing, None) => {
                next.nodes[at].ask = Ask::Take(0);
                all.push(("a node asks for the lease", next));
            }
            (Ask::Nothing, Some(hold)) if i64::from(hold.age) >= code.terms.renew_ms() => {
                next.nodes[at].ask = Ask::Renew(0);
                all.push(("a node asks to renew the lease", next));
            }
            (Ask::Nothing, _) => {}
            (Ask::Take(age), _) => {
                next.nodes[at].ask = Ask::Nothing;
                let lost = next
                    .troubled(code)
                    .map(|next| ("a question for the lease is lost", next));
                all.extend(lost);
                let mut lease = lease(self);
                let who = Holder(at as u64);
                let terms = Terms::new(LEASE);
                if let Ok(epoch) = lease.take(who, NOW, &terms) {
                    assert!(epoch > CURRENT);
                    next.grant(at, &lease);
                    if i64::from(age) >= code.terms.lease_ms() {
                        all.push(("the lease is granted, and heard of too late", next));
                        return;
                    }
                    let unheard = "the lease is granted, and nobody hears of it";
                    all.extend(next.troubled(code).map(|next| (unheard, next)));
                    next.own(code, at, age);
                    all.push(("the lease is granted", next));
                }
            }
            (Ask::Renew(age), hold) => {
                next.nodes[at].ask = Ask::Nothing;
                let lost = next
                    .troubled(code)
                    .map(|next| ("a question to renew is lost", next));
                all.extend(lost);
                let Some(hold) = hold else { return };
                let epoch = if hold.current { CURRENT } else { PASSED };
                let mut lease = lease(self);
                match lease.renew(Holder(at as u64), epoch, NOW, &Terms::new(LEASE)) {
                    Ok(()) => {
                        next.left = ticks(lease.until);
                        next.nodes[at].hold = Some(Hold {
                            age: hold.age.min(age),
                            ..hold
                        });
                        all.push(("the lease is renewed", next));
                    }
                    Err(_) => {
                        next.nodes[at].over(code);
                        all.push(("a node hears that its lease is lost", next));
                    }
                }
            }
        }
    }

    /// The store has another owner: everything before is of a passed epoch.
    fn grant(&mut self, at: usize, lease: &Lease) {
        self.holder = Owner::Node(at as u8);
        self.left = ticks(lease.until);
        for node in &mut self.nodes {
            if let Some(hold) = &mut node.hold {
                hold.current = false;
            }
            // All that matters of them is that they come: the first stands for those after it, and
            // it does not matter what it says.
            node.queue[1..].fill(None);
            if let Some(write) = &mut node.queue[0] {
                *write = Write {
                    awaited: write.awaited,
                    ..PASSED_WRITE
                };
            }
        }
    }

    /// A new owner reads the rows, and judges what was under way.
    fn own(&mut self, code: &mut Code, at: usize, age: i8) {
        let rows = self.rows;
        let node = &mut self.nodes[at];
        node.hold = Some(Hold { age, current: true });
        node.rows = rows;
        for (delivery, &row) in rows.iter().enumerate() {
            if code.row(row).state == State::InFlight {
                let entry = code.answered(row, Outcome::crashed());
                node.write(code, delivery, entry);
                node.flights[delivery] = Flight::Answering;
            }
        }
    }

    /// A record arrives at the store.
    fn store(
        &self,
        code: &mut Code,
        at: usize,
        all: &mut Vec<(&'static str, World)>,
    ) -> Result<(), (&'static str, Broken)> {
        let Some(write) = self.nodes[at].queue[0] else {
            return Ok(());
        };
        let mut next = *self;
        let node = &mut next.nodes[at];
        node.queue.rotate_left(1);
        node.queue[QUEUE - 1] = None;
        let epoch = if write.current { CURRENT } else { PASSED };
        if !lease(self).admits(epoch) && code.plant != Plant::NoFence {
            if write.awaited {
                node.over(code);
            }
            all.push(("a record is fenced off", next));
            return Ok(());
        }
        if !write.current {
            return Err(("a record arrives", "a deposed node has written"));
        }
        let delivery = usize::from(write.delivery);
        let Some(row) = code.applied(self.rows[delivery], write.entry) else {
            return Err(("a record arrives", "an owner's record does not fit"));
        };
        next.rows[delivery] = row;
        if write.awaited {
            let flight = &mut node.flights[delivery];
            *flight = match *flight {
                Flight::Opening => Flight::Held,
                Flight::Answering => Flight::Idle,
                other => other,
            };
        }
        all.push(("a record is recorded", next));
        Ok(())
    }

    /// The steps of one attempt.
    fn attempt(
        &self,
        code: &mut Code,
        (at, delivery): (usize, usize),
        all: &mut Vec<(&'static str, World)>,
    ) -> Result<(), (&'static str, Broken)> {
        let node = &self.nodes[at];
        if !node.up {
            return Ok(());
        }
        let stand = node.hold.map(|hold| code.stand(hold));
        let mut next = *self;
        let strays = node.strays[delivery];
        if strays != 0 {
            // Nobody is left who would hear the answer.
            next.nodes[at].strays[delivery] = 0;
            let gone = next.leave(code, delivery, strays, true)?;
            all.push(("a request leaves late", gone));
            next = *self;
        }
        let mine = &mut next.nodes[at];
        match node.flights[delivery] {
            Flight::Idle if stand == Some(Stand::Begins) => {
                let row = node.rows[delivery];
                if code.row(row).state == State::Scheduled && node.has_room() {
                    let entry = code.opened(row);
                    mine.write(code, delivery, entry);
                    mine.flights[delivery] = match code.plant {
                        Plant::ClaimNotDurable => Flight::Held,
                        _ => Flight::Opening,
                    };
                    all.push(("an attempt is opened", next));
                }
            }
            Flight::Held if stand == Some(Stand::Begins) => {
                if !node.hold.is_some_and(|hold| hold.current) || self.left == 0 {
                    return Err(("a request is about to leave", "two may begin at once"));
                }
                mine.flights[delivery] = Flight::Leaving;
                all.push(("a node looks at the clock", next));
            }
            Flight::Leaving => {
                let bit = 1 << code.row(node.rows[delivery]).attempt;
                for acted in [true, false] {
                    next.nodes[at].flights[delivery] = Flight::Out { acted };
                    let gone = next.leave(code, delivery, bit, acted)?;
                    all.push(("a request leaves", gone));
                }
            }
            Flight::Out { acted }
                if node.has_room() && stand.is_some_and(|stand| stand != Stand::Over) =>
            {
                for outcome in answers(acted) {
                    let mut next = *self;
                    let mine = &mut next.nodes[at];
                    let entry = code.answered(node.rows[delivery], outcome);
                    mine.write(code, delivery, entry);
                    mine.flights[delivery] = Flight::Answering;
                    all.push(("an attempt is answered", next));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The first byte of a request, after which nothing can be taken back.
    fn leave(
        mut self,
        code: &Code,
        delivery: usize,
        bit: u8,
        acted: bool,
    ) -> Result<World, (&'static str, Broken)> {
        let broken = |what| Err(("a request leaves", what));
        if self.sent[delivery] & bit != 0 {
            return broken("an attempt left twice");
        }
        self.sent[delivery] |= bit;
        if GUARANTEES[delivery] == Guarantee::AtMostOnce && self.sent[delivery].count_ones() > 1 {
            return broken("at-most-once was sent twice");
        }
        if acted {
            self.acted[delivery] |= bit;
        }
        let row = code.row(self.rows[delivery]);
        if self.acted[delivery].count_ones() > 1 && !row.may_have_acted {
            return broken(REPEAT);
        }
        Ok(self)
    }

    pub fn is_settled(&self, code: &Code) -> bool {
        let settled = |row: &u16| code.row(*row).state.is_settled();
        self.rows.iter().all(settled)
    }

    /// The same world, with its nodes in one order.
    pub fn sorted(mut self) -> World {
        if self.nodes[1] < self.nodes[0] {
            self.nodes.swap(0, 1);
            if let Owner::Node(node) = &mut self.holder {
                *node = 1 - *node;
            }
        }
        self
    }
}

impl Node {
    fn has_room(&self) -> bool {
        self.queue[QUEUE - 1].is_none()
    }

    fn write(&mut self, code: &mut Code, delivery: usize, entry: u16) {
        let row = code.applied(self.rows[delivery], entry);
        self.rows[delivery] = row.expect("a node's own entry fits its own row");
        let write = Write {
            delivery: delivery as u8,
            entry,
            current: self.hold.is_some_and(|hold| hold.current),
            awaited: true,
        };
        let room = self.queue.iter_mut().find(|place| place.is_none());
        *room.expect("room in the queue") = Some(write);
    }

    /// The engine is dropped. Whatever was past its last look at the clock still leaves.
    fn over(&mut self, code: &Code) {
        self.hold = None;
        self.ask = Ask::Nothing;
        for delivery in 0..DELIVERIES {
            if self.flights[delivery] == Flight::Leaving {
                self.strays[delivery] |= 1 << code.row(self.rows[delivery]).attempt;
            }
        }
        self.rows = DOWN.rows;
        self.flights = DOWN.flights;
        for write in self.queue.iter_mut().flatten() {
            write.awaited = false;
        }
    }
}

fn ticks(until: Time) -> i8 {
    i8::try_from(until.since(NOW)).expect("a short lease")
}
