//! The relay: the owner tells the broker what its shard's journal says, behind a durable cursor.
//!
//! Absent here: the arithmetic of the cursor, which is [`postrider_core::relay`]'s.

use postrider_core::id::Seq;
use postrider_core::ledger::{Entry, Fact, Next};

use super::{Due, Inside, ToStore, World};
use crate::history::{Happened, Who};
use crate::plant::WorldPlant;
use crate::store::Reader as _;

/// Entries that are read at a time.
const READ_ENTRIES: usize = 48;
/// Entries that wait for the broker at the most.
const OUTSTANDING_MAX: usize = 128;
/// After this long without a confirmation the connection is taken for lost.
const PATIENCE_MS: i64 = 3_000;

/// Whether an entry settles its delivery: what a broker is told.
#[must_use]
pub fn settles(entry: &Entry) -> bool {
    match &entry.fact {
        Fact::Answered { next, .. } => matches!(next, Next::Settle { .. }),
        Fact::Closed { .. } => true,
        _ => false,
    }
}

impl World {
    /// Sees to it that the relay looks again.
    pub(super) fn relay_soon(&mut self, node: usize, who: Who, ms: i64) {
        if let Some(owned) = self.nodes[node].engine(who)
            && !owned.relaying
        {
            owned.relaying = true;
            self.inside(node, ms, Inside::Relay(who));
        }
    }

    /// Reads on, and tells the broker.
    pub(super) fn relay(&mut self, node: usize, who: Who) {
        let cut = self.now < self.nodes[node].store_to_cut;
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        owned.relaying = false;
        if cut || owned.relay.outstanding() >= OUTSTANDING_MAX {
            return self.relay_soon(node, who, PATIENCE_MS);
        }
        let after = owned.relay.read_after();
        let reader = &self.shards[who.shard].reader;
        let entries = reader.journal(after, READ_ENTRIES).unwrap_or_default();
        let Some(last) = entries.last().map(|entry| entry.seq) else {
            return;
        };
        let all = entries.len() < READ_ENTRIES;
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        let mut told = Vec::new();
        let mut moved = None;
        for entry in entries {
            owned.relay.publish(entry.seq);
            match settles(&entry) {
                true => told.push(entry),
                false => moved = owned.relay.confirm(entry.seq).or(moved),
            }
        }
        if self.planted(WorldPlant::CursorBeforePublish) {
            moved = Some(last);
        }
        self.keep_cursor(node, who, moved);
        if !told.is_empty() {
            let life = self.nodes[node].life;
            let ms = self.rng.between(1, 10) + self.pause(node);
            self.after(ms, Due::Publish(node, life, who, told));
            self.inside(node, PATIENCE_MS, Inside::Rewind(who, last));
        }
        if !all {
            self.relay_soon(node, who, 5);
        }
    }

    fn keep_cursor(&mut self, node: usize, who: Who, moved: Option<Seq>) {
        if let Some(seq) = moved {
            let (life, ms) = (self.nodes[node].life, 1 + self.pause(node));
            self.after(ms, Due::ToStore(node, life, ToStore::Cursor(who, seq)));
        }
    }

    /// Events reach the broker, if it is there.
    pub(super) fn publish(&mut self, node: usize, life: u64, who: Who, entries: Vec<Entry>) {
        if self.now < self.broker_down {
            return;
        }
        for entry in &entries {
            let published = Happened::Published {
                shard: who.shard,
                seq: entry.seq,
                entry,
            };
            self.eyes.see(self.now, &published);
        }
        if self.now < self.broker_forgets {
            return;
        }
        let mut seqs: Vec<Seq> = entries.iter().map(|entry| entry.seq).collect();
        let slow = self.now < self.broker_slow;
        if slow {
            let later = seqs.split_off(seqs.len() / 2);
            let ms = self.rng.between(1, 4_000);
            self.after(ms, Due::Confirm(node, life, who, later));
        }
        let ms = self.rng.between(1, if slow { 4_000 } else { 20 });
        self.after(ms, Due::Confirm(node, life, who, seqs));
    }

    /// The broker has confirmed.
    pub(super) fn confirmed(&mut self, node: usize, who: Who, seqs: &[Seq]) {
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        let moved = seqs.iter().filter_map(|seq| owned.relay.confirm(*seq));
        let moved = moved.last();
        self.keep_cursor(node, who, moved);
        self.relay_soon(node, who, 20);
    }

    /// The broker has been silent for too long: what it did not confirm is told again.
    pub(super) fn rewind(&mut self, node: usize, who: Who, upto: Seq) {
        let Some(owned) = self.nodes[node].engine(who) else {
            return;
        };
        if owned.relay.outstanding() > 0 && owned.relay.confirmed() < upto {
            owned.relay.rewind();
            self.relay_soon(node, who, 50);
        }
    }
}
