//! Recording: a group of records becomes one commit for each file it touches.
//!
//! First the whole group is folded in memory with the core's `apply`; what does not fit is refused
//! there, so that a commit only ever writes what is known to fit. A record that turns out not to
//! fit when some of its entries are folded already makes the group start over without it: that is a
//! slip of the engine's, so it may cost.
//!
//! What a record must not do to be taken: repeat or go back in event ids, delivery ids or places in
//! the journal. A record that was refused for want of room is handed in again under new ones.
//!
//! Absent here: writing rows; see [`super::day`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use postrider_core::event::{Event, Seen};
use postrider_core::id::{DeliveryId, EndpointId, EventId, KeyDigest, Seq};
use postrider_core::ledger::apply;
use postrider_core::ledger::{Admitted, Conflict, Delivery, Entry, Fact, Next, Record, State};
use postrider_core::map::Map;
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;

use super::cache::IdMap;
use super::day::{Batch, CommitError, Day, Planned};
use super::files::{self, LedgerFile};
use super::row::EventRow;
use super::{EmbeddedLedger, fatal};
use crate::store::{Fatal, Verdict};

/// A group while it is folded.
#[derive(Default)]
struct Plan {
    /// Records of the group.
    records: usize,
    batches: Vec<(u32, Batch)>,
    heads: IdMap<DeliveryId>,
    keys: Map<KeyDigest, Seen>,
    released: Vec<EventId>,
    last_event: EventId,
    last_delivery: DeliveryId,
    last_seq: Seq,
}

impl Plan {
    fn batch(&mut self, number: u32) -> &mut Batch {
        let at = match self.batches.iter().position(|(of, _)| *of == number) {
            Some(at) => at,
            None => {
                self.batches
                    .push((number, Batch::for_records(self.records)));
                self.batches.len() - 1
            }
        };
        &mut self.batches[at].1
    }
}

/// Why a record does not go into the plan.
enum Refusal {
    /// Nothing of it was folded.
    Clean(Verdict),
    /// Some of it was: the plan is spoilt.
    Spoilt(Verdict),
}

impl EmbeddedLedger {
    /// [`crate::store::Ledger::record`].
    pub(super) fn record_group(&mut self, records: &[Record]) -> Result<Vec<Verdict>, Fatal> {
        let mut verdicts = Vec::with_capacity(records.len());
        let mut rest = records;
        while let Some(first) = rest.first() {
            if self.day_is_over(first) {
                self.begin_day(first)?;
            }
            // Where a new day begins within the group, what comes before is committed first.
            let next = rest
                .iter()
                .skip(1)
                .position(|record| self.day_is_over(record));
            let (part, later) = rest.split_at(next.map_or(rest.len(), |at| at + 1));
            verdicts.append(&mut self.record_part(part)?);
            rest = later;
        }
        Ok(verdicts)
    }

    fn record_part(&mut self, records: &[Record]) -> Result<Vec<Verdict>, Fatal> {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; records.len()];
        self.make_room(records)?;
        while verdicts.contains(&None) {
            let Some(plan) = self.plan(records, &mut verdicts)? else {
                continue;
            };
            for (number, mut batch) in plan.batches {
                if !batch.records.is_empty() {
                    self.commit(number, &mut batch, records, &mut verdicts)?;
                }
            }
        }
        self.shared
            .durable
            .store(self.last_seq.0, Ordering::Release);
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// Sees to it that the group's keys find room, and that logs do not grow without end.
    fn make_room(&mut self, records: &[Record]) -> Result<(), Fatal> {
        let keys = records
            .iter()
            .filter(|record| record.event.is_some())
            .count();
        while !self.keys.has_room(keys) {
            if !self.keys.tend(&self.index, self.last_at).map_err(fatal)? {
                break;
            }
        }
        self.bound_lag()?;
        self.bound_logs()
    }

    /// Folds all records that have no verdict yet. `None` if it has to start over.
    fn plan(
        &mut self,
        records: &[Record],
        verdicts: &mut [Option<Verdict>],
    ) -> Result<Option<Plan>, Fatal> {
        let mut plan = Plan {
            records: records.len(),
            last_event: self.last_event,
            last_delivery: self.last_delivery,
            last_seq: self.last_seq,
            ..Plan::default()
        };
        let open = verdicts.iter_mut().enumerate();
        for (at, verdict) in open.filter(|(_, verdict)| verdict.is_none()) {
            match self.plan_record(at, records, &mut plan)? {
                Ok(()) => {}
                Err(Refusal::Clean(refused)) => *verdict = Some(refused),
                Err(Refusal::Spoilt(refused)) => {
                    *verdict = Some(refused);
                    return Ok(None);
                }
            }
        }
        Ok(Some(plan))
    }

    fn plan_record(
        &mut self,
        at: usize,
        records: &[Record],
        plan: &mut Plan,
    ) -> Result<Result<(), Refusal>, Fatal> {
        let record = &records[at];
        let epoch = self.checkpoint.epoch;
        if record.fences.iter().any(|&(_, fence)| fence != epoch) {
            return Ok(Err(Refusal::Clean(Verdict::Fenced)));
        }
        if let Some(event) = record.event.as_deref() {
            if let Some(seen) = self.key_taken(event, plan)? {
                return Ok(Err(Refusal::Clean(Verdict::KeyTaken(seen))));
            }
            if self.full {
                return Ok(Err(Refusal::Clean(self.refuse_full())));
            }
        }
        let Some(number) = self.file_of(record, plan) else {
            return Ok(match record.entries.first() {
                Some(entry) => Err(Refusal::Clean(unfit(entry))),
                None => Err(Refusal::Clean(Verdict::Recorded)),
            });
        };
        if let Some(event) = record.event.as_deref().filter(|e| e.id <= plan.last_event) {
            let id = event.first_delivery;
            return Ok(Err(Refusal::Clean(Verdict::Conflict(absent(id, 0)))));
        }
        self.open_day(number)?;
        for (nth, entry) in record.entries.iter().enumerate() {
            if let Err(conflict) = self.fold(number, entry, plan)? {
                let verdict = match self.full && conflict.state.is_none() {
                    // Its admission, in the same group, found no room.
                    true => self.refuse_full(),
                    false => Verdict::Conflict(conflict),
                };
                return Ok(Err(match nth {
                    0 => Refusal::Clean(verdict),
                    _ => Refusal::Spoilt(verdict),
                }));
            }
        }
        if let Some(event) = record.event.as_deref() {
            plan.last_event = event.id;
            plan.keys.insert(event.key_digest, event.seen());
        }
        let release = match record.release {
            Some(id) => self.released((number, at), id, records, plan)?,
            None => None,
        };
        let batch = plan.batch(number);
        for entry in &record.entries {
            batch.journal(entry);
        }
        batch.end_record(release);
        batch.records.push(at);
        Ok(Ok(()))
    }

    fn refuse_full(&self) -> Verdict {
        let refused = &self.shared.stats.refused_full;
        refused.fetch_add(1, Ordering::Relaxed);
        Verdict::Full
    }

    /// Who holds the key of an event that asks to be admitted.
    fn key_taken(&self, event: &Event, plan: &Plan) -> Result<Option<Seen>, Fatal> {
        let now = event.admitted_at;
        if let Some(seen) = plan.keys.get(&event.key_digest)
            && seen.key_expires_at > now
        {
            return Ok(Some(*seen));
        }
        let found = self.shared.finder.find(&self.index, &event.key_digest, now);
        for id in found.map_err(fatal)? {
            if !plan.released.contains(&id)
                && let Some(row) = self.event_row(id)?
                && holds(&row, &event.key_digest, now)
            {
                return Ok(Some(row.event.seen()));
            }
        }
        Ok(None)
    }

    /// An event's row; `None` if its file was purged.
    fn event_row(&self, id: EventId) -> Result<Option<EventRow>, Fatal> {
        let files = self.shared.files.load();
        let Some(file) = files::of_event(&files, id) else {
            return Ok(None);
        };
        let row = match self.days.get(&file.number) {
            Some(day) => day.event(id).map_err(fatal)?,
            None => file
                .read(|connection| super::reader::event_row(file, connection, id))
                .map_err(fatal)?,
        };
        match row {
            None => Err(fatal(format!("event {id}, which has a key, is not there"))),
            row => Ok(row),
        }
    }

    /// The file that a record belongs to.
    fn file_of(&self, record: &Record, plan: &Plan) -> Option<u32> {
        let files = self.shared.files.load();
        let file = match (&record.event, record.entries.first(), record.release) {
            (Some(_), _, _) => files.last(),
            (None, Some(entry), _) if entry.delivery <= plan.last_delivery => {
                files::of_delivery(&files, entry.delivery)
            }
            (None, Some(_), _) => None,
            (None, None, Some(event)) => files::of_event(&files, event),
            (None, None, None) => None,
        };
        file.map(|file| file.number)
    }

    /// Folds one entry into the plan.
    fn fold(
        &mut self,
        number: u32,
        entry: &Entry,
        plan: &mut Plan,
    ) -> Result<Result<(), Conflict>, Fatal> {
        if let Fact::Admitted(admitted) = &entry.fact {
            return self.fold_admitted(number, entry, admitted, plan);
        }
        let id = entry.delivery;
        if !plan.batch(number).rows.contains_key(&id.0) {
            let Some((row, back)) = self.row(number, id)? else {
                return Ok(Err(absent(id, entry.version)));
            };
            let stored = Some((row.version, row.state.is_settled()));
            let planned = Planned {
                row: Some(row),
                back,
                stored,
            };
            let batch = plan.batch(number);
            batch.rows.insert(id.0, planned);
            batch.order.push(id.0);
        }
        let last_seq = plan.last_seq;
        let batch = plan.batch(number);
        let Some(planned) = batch.rows.get_mut(&id.0) else {
            return Ok(Err(absent(id, entry.version)));
        };
        if entry.seq <= last_seq {
            return Ok(Err(misplaced(planned.row.as_ref(), entry)));
        }
        if let Err(conflict) = apply(&mut planned.row, entry) {
            return Ok(Err(conflict));
        }
        if let (Some(row), Fact::Answered { outcome, next, .. }) = (&planned.row, &entry.fact) {
            if let (Next::Settle { state, .. }, Some(lane)) = (next, row.lane)
                && *state == State::Accepted
            {
                batch
                    .accepted
                    .push(((row.endpoint, lane.key), lane.sequence));
            }
            if outcome.kind == OutcomeKind::Gone {
                batch.gone.push((row.endpoint, outcome.gone_at(entry.at)));
            }
        }
        plan.last_seq = entry.seq;
        Ok(Ok(()))
    }

    fn fold_admitted(
        &mut self,
        number: u32,
        entry: &Entry,
        admitted: &Admitted,
        plan: &mut Plan,
    ) -> Result<Result<(), Conflict>, Fatal> {
        let id = entry.delivery;
        if id <= plan.last_delivery || entry.seq <= plan.last_seq {
            let batch = plan.batch(number);
            let planned = batch
                .rows
                .get(&id.0)
                .and_then(|planned| planned.row.clone());
            let row = match planned {
                None if id <= self.last_delivery => self.row(number, id)?.map(|(row, _)| row),
                planned => planned,
            };
            return Ok(Err(misplaced(row.as_ref(), entry)));
        }
        let mut row = None;
        if let Err(conflict) = apply(&mut row, entry) {
            return Ok(Err(conflict));
        }
        let back = match plan.heads.get(&admitted.endpoint.0) {
            Some(&back) => back,
            None => self.head(admitted.endpoint)?,
        };
        plan.heads.insert(admitted.endpoint.0, id);
        plan.last_delivery = id;
        plan.last_seq = entry.seq;
        let stored = None;
        let batch = plan.batch(number);
        batch.rows.insert(id.0, Planned { row, back, stored });
        batch.order.push(id.0);
        Ok(Ok(()))
    }

    /// A row that is durable.
    fn row(
        &mut self,
        number: u32,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, DeliveryId)>, Fatal> {
        if let Some(kept) = self.rows.get(id.0) {
            return Ok(Some(kept.clone()));
        }
        let Some(day) = self.days.get(&number) else {
            return Ok(None);
        };
        let row = day.delivery(id).map_err(fatal)?;
        Ok(row.map(|row| (row.delivery, row.back)))
    }

    /// An endpoint's newest delivery that is durable.
    fn head(&mut self, endpoint: EndpointId) -> Result<DeliveryId, Fatal> {
        if let Some(&head) = self.heads.get(endpoint.0) {
            return Ok(head);
        }
        let head = self
            .shared
            .lanes
            .head(&self.index, endpoint)
            .map_err(fatal)?;
        self.heads.put(endpoint.0, head);
        Ok(head)
    }

    /// The event whose key is to be freed, unless it is already.
    fn released(
        &mut self,
        (number, at): (u32, usize),
        id: EventId,
        records: &[Record],
        plan: &mut Plan,
    ) -> Result<Option<Event>, Fatal> {
        if plan.released.contains(&id) {
            return Ok(None);
        }
        plan.released.push(id);
        plan.keys.retain(|_, seen| seen.event != id);
        // Its admission may be in the same group, or in this very record.
        let admitted = plan.batch(number).records.iter().chain([&at]);
        let mut admitted = admitted.filter_map(|&at| records[at].event.as_deref());
        if let Some(event) = admitted.find(|event| event.id == id) {
            return Ok(Some(event.clone()));
        }
        let row = match self.days.get(&number) {
            Some(day) => day.event(id).map_err(fatal)?,
            None => None,
        };
        Ok(row.filter(|row| !row.key_released).map(|row| row.event))
    }

    /// Commits a batch and lets everybody see it.
    fn commit(
        &mut self,
        number: u32,
        batch: &mut Batch,
        records: &[Record],
        verdicts: &mut [Option<Verdict>],
    ) -> Result<(), Fatal> {
        let started = Instant::now();
        let Some(day) = self.days.get_mut(&number) else {
            return Err(fatal("a ledger file was closed while it was written"));
        };
        match day.commit(batch, records) {
            Ok(sync) => {
                let stats = &self.shared.stats;
                stats.committed(batch.records.len(), started.elapsed(), sync);
            }
            Err(CommitError::Full) => {
                self.give_way(batch, records, verdicts);
                return Ok(());
            }
            Err(CommitError::Unknown(reason)) => return Err(fatal(reason)),
        }
        for &at in &batch.records {
            verdicts[at] = Some(Verdict::Recorded);
        }
        self.publish(number, batch, records);
        Ok(())
    }

    /// The disk is full: gives up the reserve, so that what settles still gets in; what admits is
    /// refused, and so is everything once the reserve is used up too.
    fn give_way(&mut self, batch: &Batch, records: &[Record], verdicts: &mut [Option<Verdict>]) {
        let again = !self.full;
        self.full = true;
        if again {
            self.release_reserve();
        }
        for &at in &batch.records {
            if !again || records[at].event.is_some() {
                verdicts[at] = Some(self.refuse_full());
            }
        }
    }

    /// After a commit: moves everything in memory that follows the disk.
    fn publish(&mut self, number: u32, batch: &mut Batch, records: &[Record]) {
        let shared = Arc::clone(&self.shared);
        let day = self.days.get(&number);
        let file: Option<Arc<LedgerFile>> = day.map(|day| Arc::clone(&day.file));
        for id in &batch.order {
            let Some((planned, row)) = batch
                .rows
                .remove(id)
                .and_then(|planned| Some((planned.stored, (planned.row?, planned.back))))
            else {
                continue;
            };
            self.publish_row(planned, row);
        }
        for &(lane, sequence) in &batch.accepted {
            shared.lanes.accepted(lane, sequence);
        }
        for &at in &batch.records {
            let record = &records[at];
            if let Some(event) = record.event.as_deref() {
                self.last_event = self.last_event.max(event.id);
                if let Some(before) = event.retry_of {
                    // Until now it was found for those who try again.
                    self.keys.remove(&event.key_digest, before);
                }
                self.keys
                    .insert(&event.key_digest, event.id, event.key_expires_at);
                if let Some(file) = &file {
                    let until = event.key_expires_at.0;
                    file.keys_until.fetch_max(until, Ordering::Relaxed);
                }
            }
            if let Some(entry) = record.entries.last() {
                self.last_seq = self.last_seq.max(entry.seq);
            }
            self.housekeeping.entries += record.entries.len() as u64;
        }
        self.housekeeping.gone.append(&mut batch.gone);
        self.last_at = self.last_at.max(batch.at);
        shared
            .last_event
            .store(self.last_event.0, Ordering::Release);
        shared
            .last_delivery
            .store(self.last_delivery.0, Ordering::Release);
    }

    fn publish_row(&mut self, stored: Option<(u32, bool)>, (row, back): (Delivery, DeliveryId)) {
        let id = row.id;
        if stored.is_none() {
            let lane = row.lane.map(|lane| (lane.key, lane.sequence));
            self.shared.lanes.admitted(row.endpoint, lane, id);
            self.heads.put(row.endpoint.0, id);
            self.last_delivery = self.last_delivery.max(id);
            self.file_deliveries += 1;
        }
        match (stored, row.state.is_settled()) {
            (None, false) => self.blocks.add(id),
            (Some((_, false)), true) => self.blocks.remove(id),
            _ => {}
        }
        match row.state.is_settled() {
            true => self.rows.forget(id.0),
            false => self.rows.put(id.0, (row, back)),
        }
    }

    /// Opens a file for writing, if it is not open.
    pub(super) fn open_day(&mut self, number: u32) -> Result<(), Fatal> {
        if self.days.contains_key(&number) {
            return Ok(());
        }
        let files = self.shared.files.load();
        let Some(file) = files.iter().find(|file| file.number == number) else {
            return Err(fatal("a ledger file is not there"));
        };
        let day = Day::reopen(Arc::clone(file), self.options.synchronous).map_err(fatal)?;
        self.limit_file(&day).map_err(fatal)?;
        self.days.insert(number, day);
        Ok(())
    }
}

/// Whether an event's row says that it holds the key.
pub(super) fn holds(row: &EventRow, key: &KeyDigest, now: Time) -> bool {
    held(row, key, now) && !row.key_released
}

/// Whether it says that it holds the key, or did until it freed it.
pub(super) fn held(row: &EventRow, key: &KeyDigest, now: Time) -> bool {
    row.event.key_digest == *key && row.event.key_expires_at > now
}

fn absent(delivery: DeliveryId, expected: u32) -> Conflict {
    Conflict {
        delivery,
        state: None,
        has: 0,
        expected,
    }
}

fn unfit(entry: &Entry) -> Verdict {
    Verdict::Conflict(absent(entry.delivery, entry.version))
}

/// An entry whose ids or place go back.
fn misplaced(row: Option<&Delivery>, entry: &Entry) -> Conflict {
    Conflict {
        delivery: entry.delivery,
        state: row.map(|row| row.state),
        has: row.map_or(0, |row| row.version),
        expected: entry.version,
    }
}
