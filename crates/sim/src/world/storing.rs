//! Stores: commits, syncs, look-ups, and what they answer.
//!
//! Absent here: what a store holds; see [`crate::store`].

use std::collections::BTreeSet;

use postrider_core::engine::Input;
use postrider_core::id::DeliveryId;
use postrider_core::lease::Holder;

use super::{Due, Inside, TEND_MS, ToStore, World};
use crate::history::{Happened, Who};
use crate::plant::WorldPlant;
use crate::store::{Batch, Reader as _, Verdict};

impl World {
    /// Something reaches a store, unless it is cut off: then later, unless its sender is gone.
    pub(super) fn reach_store(&mut self, node: usize, life: u64, ask: ToStore) {
        let cut = self.nodes[node].store_to_cut;
        if self.now < cut {
            if self.nodes[node].life == life {
                self.at(cut, Due::ToStore(node, life, ask));
            }
            return;
        }
        match ask {
            ToStore::Commit(shard, batch) => self.commit_arrives(shard, batch),
            ToStore::Take(shard, asked_at) => self.take(node, life, shard, asked_at),
            ToStore::Renew(who, asked_at) => {
                let holder = Holder(self.holder(node, life));
                let (now, terms) = (self.now, self.terms);
                let lease = &mut self.shards[who.shard].lease;
                let renewed = lease.renew(holder, who.epoch, now, &terms).is_ok();
                let answer = Inside::Renewed(who, asked_at, renewed);
                self.after(1, Due::FromStore(node, life, answer));
            }
            ToStore::Release(who) => {
                let holder = Holder(self.holder(node, life));
                self.shards[who.shard].lease.release(holder, who.epoch);
            }
            ToStore::Cursor(who, seq) => {
                if self.shards[who.shard].keep_cursor(who.epoch, seq) {
                    self.eyes.see(self.now, &Happened::CursorKept { who, seq });
                }
            }
            ToStore::Load(who, ids) => {
                let loaded = self.read(who, &ids);
                self.after(1, Due::FromStore(node, life, Inside::Input(who, loaded)));
            }
            ToStore::Retire(endpoint, since) => self.retire(endpoint, since),
        }
    }

    fn commit_arrives(&mut self, shard: usize, batch: Batch) {
        if self.planted(WorldPlant::AckBeforeSync) {
            let verdicts = self.shards[shard].begin_early(self.now, &batch);
            self.answer_commit(shard, &batch, Some(verdicts));
        }
        if self.shards[shard].begin(batch) {
            self.sync(shard);
        }
    }

    fn sync(&mut self, shard: usize) {
        self.syncs[shard] += 1;
        let ms = match self.now < self.shards[shard].slow_until {
            true => self.rng.between(200, 2_500),
            false => self.rng.between(1, 4),
        };
        self.after(ms, Due::Synced(shard, self.syncs[shard]));
    }

    /// A sync has returned.
    pub(super) fn synced(&mut self, shard: usize, sync: u64) {
        if sync != self.syncs[shard] {
            return;
        }
        let keep = self.rng.percent(50);
        let Some((batch, verdicts, whole)) = self.shards[shard].synced(self.now, keep) else {
            return;
        };
        if let Some(verdicts) = &verdicts {
            self.show_commit(shard, &batch, verdicts);
        }
        if !whole {
            self.eyes.note(self.now, || {
                format!("shard {shard}: a sync failed, its commit kept: {keep}")
            });
            self.answer_commit(shard, &batch, None);
        } else if !self.planted(WorldPlant::AckBeforeSync) {
            self.answer_commit(shard, &batch, verdicts);
        }
        if self.shards[shard].is_syncing() {
            self.sync(shard);
        }
    }

    fn show_commit(&mut self, shard: usize, batch: &Batch, verdicts: &[Verdict]) {
        for (record, verdict) in batch.records.iter().zip(verdicts) {
            if *verdict == Verdict::Recorded {
                self.eyes
                    .see(self.now, &Happened::Committed { shard, record });
            } else {
                let refused = Happened::Refused {
                    shard,
                    record,
                    verdict,
                };
                self.eyes.see(self.now, &refused);
            }
        }
    }

    /// Tells the writer, as the server's writer tells the engine.
    fn answer_commit(&mut self, shard: usize, batch: &Batch, verdicts: Option<Vec<Verdict>>) {
        let who = World::who(shard, batch.epoch);
        let answer = verdicts.and_then(|verdicts| {
            let through = batch.records.last()?.ticket;
            let answered = batch.records.iter().zip(verdicts);
            let refused = answered.filter_map(|(record, verdict)| {
                Some((Box::new(record.clone()), verdict.refusal()?))
            });
            let refused = refused.collect();
            Some(Input::Recorded { through, refused })
        });
        let committed = Inside::Committed(who, answer);
        self.after(1, Due::FromStore(batch.node, batch.life, committed));
    }

    /// A store dies and is there again at once; those who wait for it end, because they cannot know
    /// what became of their commits.
    pub(super) fn crash_store(&mut self, shard: usize) {
        self.syncs[shard] += 1;
        let keep = self.rng.percent(50);
        let (kept, waiting) = self.shards[shard].crash(self.now, keep);
        if let Some((batch, verdicts)) = &kept {
            self.show_commit(shard, batch, verdicts);
        }
        self.eyes.note(self.now, || {
            let many = waiting.len();
            format!("shard {shard}: its store dies under {many} commits, kept: {keep}")
        });
        for batch in waiting {
            self.answer_commit(shard, &batch, None);
        }
    }

    /// Reads rows for an engine, with how far their lanes have come.
    fn read(&self, who: Who, ids: &[DeliveryId]) -> Input {
        let shard = &self.shards[who.shard];
        let rows = shard.reader.deliveries(ids).unwrap_or_default();
        let deliveries: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let counter = shard.counter_of(&row);
                (row, counter)
            })
            .collect();
        let found: BTreeSet<DeliveryId> = deliveries.iter().map(|(row, _)| row.id).collect();
        let absent = ids.iter().copied().filter(|id| !found.contains(id));
        Input::Loaded {
            absent: absent.collect(),
            deliveries,
        }
    }

    /// Housekeeping: what was settled long enough ago goes.
    pub(super) fn tend(&mut self, shard: usize) {
        let newest = self.eyes.picture.newest(shard);
        let gone = self.shards[shard].purge(self.plan.options.retention_ms, newest);
        if !gone.is_empty() {
            let gone = &gone;
            self.eyes.see(self.now, &Happened::Purged { shard, gone });
        }
        self.after(TEND_MS, Due::Tend(shard));
    }
}
