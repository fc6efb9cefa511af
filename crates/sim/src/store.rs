//! A shard's store: the model of the conformance suite on a disk that has to sync, with the lease
//! row and the relay's cursor beside it.
//!
//! A commit is there when its sync returns, and not before. A crash in between keeps it or drops
//! it, whole: that is what the embedded store's journal does, and what its own tests hold it to.
//! Absent here: time. The world says how long a sync takes.

#[path = "../../server/src/store/contract.rs"]
mod contract;
#[path = "../../server/src/store/model.rs"]
mod model;

use std::collections::VecDeque;
use std::sync::Arc;

use postrider_core::engine::Origin;
use postrider_core::event::LaneCounter;
use postrider_core::id::{DeliveryId, EndpointId, Epoch, Seq};
use postrider_core::lease::{Held, Holder, Lease, Terms};
use postrider_core::ledger::{Delivery, Entry, Record};
use postrider_core::parked::Rows;
use postrider_core::time::Time;

pub use self::contract::*;
pub use self::model::{ModelLedger, ModelReader, ModelStore};
use crate::plant::WorldPlant;

/// Rows of an endpoint that are read at a time.
const PAGE_ROWS: usize = 16;

/// Records that became or become durable together, and who waits for them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The node.
    pub node: usize,
    /// Which of its lives.
    pub life: u64,
    /// The epoch under which it believes to own the shard.
    pub epoch: Epoch,
    /// What it wants recorded.
    pub records: Vec<Record>,
}

/// What a new owner is told.
#[derive(Clone, Debug)]
pub struct Estate {
    /// Where ids go on.
    pub origin: Origin,
    /// The engine's clock must not start before it.
    pub last_at: Time,
    /// Endpoints that the journal says are gone.
    pub retired: Vec<(EndpointId, Time)>,
    /// Everything unsettled, with how far its lane has come.
    pub unsettled: Vec<(Delivery, LaneCounter)>,
    /// How far the journal was told to the broker.
    pub cursor: Seq,
}

/// One shard's store.
pub struct Shard {
    /// What is durable.
    pub store: ModelStore,
    ledger: ModelLedger,
    /// Reads what is durable.
    pub reader: Arc<ModelReader>,
    /// Who owns it.
    pub lease: Lease,
    /// How far its journal was told to the broker, durably.
    pub cursor: Seq,
    /// Commits on their way to the disk, the first one in its sync.
    syncing: VecDeque<Batch>,
    /// What was durable before the commits that a planted fault answers too early.
    image: Option<ModelStore>,
    /// Its commits fail from here on: the next sync is not one.
    pub sync_broken: bool,
    /// Until when syncs are slow.
    pub slow_until: Time,
    /// Until when admissions find no room.
    pub full_until: Time,
    /// Until when nothing finds room.
    pub full_up_until: Time,
    plant: Option<WorldPlant>,
}

impl Shard {
    /// An empty one.
    #[must_use]
    pub fn new(plant: Option<WorldPlant>) -> Shard {
        let store = ModelStore::default();
        let (ledger, reader) = store.open();
        Shard {
            store,
            ledger,
            reader,
            lease: Lease::default(),
            cursor: Seq(0),
            syncing: VecDeque::new(),
            image: None,
            sync_broken: false,
            slow_until: Time(0),
            full_until: Time(0),
            full_up_until: Time(0),
            plant,
        }
    }

    /// Takes over the shard: from here on no other epoch writes.
    ///
    /// # Errors
    /// [`Held`] while another's lease runs.
    pub fn take(&mut self, who: Holder, now: Time, terms: &Terms) -> Result<Estate, Held> {
        let early = match self.plant {
            Some(WorldPlant::LeaseTakenEarly) => terms.lease_ms() * 9 / 10,
            _ => 0,
        };
        self.lease.take(who, now.plus(early), terms)?;
        let mut rows = Vec::new();
        let recovery = self.ledger.recover(&mut |row| rows.push(row));
        let recovery = recovery.expect("a model in memory recovers");
        assert_eq!(recovery.epoch, self.lease.epoch, "one count of owners");
        if self.plant == Some(WorldPlant::RecoveryMissesRow) && rows.len() > 2 {
            rows.remove(rows.len() / 2);
        }
        let unsettled = rows.into_iter().map(|row| {
            let counter = self.counter_of(&row);
            (row, counter)
        });
        Ok(Estate {
            origin: Origin {
                last_event: recovery.last_event,
                last_delivery: recovery.last_delivery,
                last_seq: recovery.last_seq,
                epoch: recovery.epoch,
            },
            last_at: recovery.last_at,
            unsettled: unsettled.collect(),
            retired: match self.plant {
                Some(WorldPlant::RetirementForgotten) => Vec::new(),
                Some(WorldPlant::RetirementRedated) => {
                    let gone = recovery.retired.into_iter();
                    gone.map(|(id, _)| (id, recovery.last_at)).collect()
                }
                _ => recovery.retired,
            },
            cursor: self.cursor,
        })
    }

    /// A page of the rows of an endpoint, newest first.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn rows_of(
        &self,
        endpoint: EndpointId,
        before: Option<DeliveryId>,
    ) -> Result<Rows, ReadError> {
        let some = Query {
            endpoint: Some(endpoint),
            before,
            limit: PAGE_ROWS,
            ..Query::default()
        };
        let page = self.reader.list(&some)?;
        Ok((page.deliveries, page.next))
    }

    /// How far the lane of this row has come.
    #[must_use]
    pub fn counter_of(&self, row: &Delivery) -> LaneCounter {
        let lane = row
            .lane
            .filter(|_| self.plant != Some(WorldPlant::LaneCounterForgotten));
        let counter = lane.map(|lane| self.reader.lane(row.endpoint, lane.key));
        counter.and_then(Result::ok).unwrap_or_default()
    }

    /// A commit arrives. Returns whether the disk was idle: then its sync begins.
    pub fn begin(&mut self, batch: Batch) -> bool {
        self.syncing.push_back(batch);
        self.syncing.len() == 1
    }

    /// A commit arrives and is answered before its sync: the planted fault. The commit is visible,
    /// and a crash takes it back.
    pub fn begin_early(&mut self, now: Time, batch: &Batch) -> Vec<Verdict> {
        self.image.get_or_insert_with(|| self.store.copy());
        self.judge(now, &batch.records)
    }

    /// The sync of the first commit has returned, or failed: then the commit was kept or dropped.
    /// Gives what became of its records, unless it was dropped, and whether the sync was one.
    pub fn synced(&mut self, now: Time, keep: bool) -> Option<(Batch, Option<Vec<Verdict>>, bool)> {
        let batch = self.syncing.pop_front()?;
        let broken = std::mem::take(&mut self.sync_broken);
        let verdicts = self.settle(now, &batch, !broken || keep);
        Some((batch, verdicts, !broken))
    }

    /// The store dies. Returns the commit that was kept although nobody is told, and everybody who
    /// waits.
    pub fn crash(&mut self, now: Time, keep: bool) -> (Option<(Batch, Vec<Verdict>)>, Vec<Batch>) {
        let waiting: Vec<Batch> = self.syncing.drain(..).collect();
        let mut kept = None;
        if let Some(first) = waiting.first() {
            let verdicts = self.settle(now, first, keep);
            kept = verdicts.map(|verdicts| (first.clone(), verdicts));
        }
        if self.plant == Some(WorldPlant::SnapshotMissesField) {
            self.store.alter(|row| row.may_have_acted = false);
        }
        (kept, waiting)
    }

    /// Another commit waits for the disk.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        !self.syncing.is_empty()
    }

    fn settle(&mut self, now: Time, batch: &Batch, keep: bool) -> Option<Vec<Verdict>> {
        if let Some(image) = self.image.take() {
            // Answered too early: what stays visible was durable all along, or is taken back.
            if !keep {
                self.store.become_like(&image);
                return None;
            }
            return Some(vec![Verdict::Recorded; batch.records.len()]);
        }
        keep.then(|| self.judge(now, &batch.records))
    }

    fn judge(&mut self, now: Time, records: &[Record]) -> Vec<Verdict> {
        if now < self.full_up_until {
            let fits = |record: &Record| record.fences.iter().all(|(_, e)| *e == self.lease.epoch);
            let verdict = |record| match fits(record) {
                true => Verdict::Full,
                false => Verdict::Fenced,
            };
            return records.iter().map(verdict).collect();
        }
        self.store.set_full(now < self.full_until);
        let unguarded = matches!(
            self.plant,
            Some(WorldPlant::FenceForgotten | WorldPlant::GuardsSkipped)
        );
        if unguarded {
            let verdicts = records.iter().map(|record| {
                let record = self.unguarded(record);
                self.ledger
                    .record(&[record])
                    .map(|mut verdicts| verdicts.remove(0))
            });
            let verdicts: Result<Vec<Verdict>, Fatal> = verdicts.collect();
            return verdicts.expect("a model in memory records");
        }
        let verdicts = self.ledger.record(records);
        verdicts.expect("a model in memory records")
    }

    /// The record as a store takes it that does not look at epochs and gives places itself, or does
    /// not look at versions either.
    fn unguarded(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if record
            .fences
            .iter()
            .all(|(_, epoch)| *epoch == self.lease.epoch)
        {
            return record;
        }
        for (_, epoch) in &mut record.fences {
            *epoch = self.lease.epoch;
        }
        let journal = self.reader.journal(Seq(0), usize::MAX).unwrap_or_default();
        let last = journal.last().map_or(0, |entry| entry.seq.0);
        for (entry, seq) in record.entries.iter_mut().zip(last + 1..) {
            entry.seq = Seq(seq);
        }
        if self.plant == Some(WorldPlant::GuardsSkipped) {
            for entry in &mut record.entries {
                let row = self.reader.deliveries(&[entry.delivery]);
                if let Some(row) = row.ok().and_then(|rows| rows.into_iter().next()) {
                    entry.version = row.version;
                }
            }
        }
        record
    }

    /// Removes what was settled long enough ago. Its time is that of the newest entry: no owner's
    /// clock starts before it, so no key goes that any of them could still hold.
    pub fn purge(&mut self, retention_ms: i64, newest: Time) -> Vec<DeliveryId> {
        let (cursor, plant) = (self.cursor, self.plant);
        self.store.purge(|event, rows| {
            let rests = |row: &Delivery| {
                row.settled_at
                    .is_some_and(|at| newest.since(at) >= retention_ms)
                    && row.last_seq <= cursor
            };
            match plant {
                Some(WorldPlant::PurgeEarly) => newest.since(event.admitted_at) >= retention_ms,
                Some(WorldPlant::KeyLostAtRotation) => rows.iter().all(rests),
                _ => event.key_expires_at <= newest && rows.iter().all(rests),
            }
        })
    }

    /// All rows and the whole journal.
    #[must_use]
    pub fn everything(&self) -> (Vec<Delivery>, Vec<Entry>) {
        let all = Query {
            limit: usize::MAX,
            ..Query::default()
        };
        let rows = self.reader.list(&all).map(|page| page.deliveries);
        let journal = self.reader.journal(Seq(0), usize::MAX);
        (rows.unwrap_or_default(), journal.unwrap_or_default())
    }

    /// Keeps how far the journal was told; only the owner may, and only forwards.
    pub fn keep_cursor(&mut self, epoch: Epoch, seq: Seq) -> bool {
        let kept = self.lease.admits(epoch) && seq > self.cursor;
        if kept {
            self.cursor = seq;
        }
        kept
    }
}
