//! Ordering counters and chain heads: the small facts that outlive a day.
//!
//! A *lane* counts the deliveries of one ordering key at one endpoint; a *head* is an endpoint's
//! newest delivery, from which the chain of its older ones is walked. Both only grow, so a value is
//! the maximum of what is in memory and what is in `index.db`, and writing one twice does no harm.
//! What changed is held in memory, in two generations: the fresh one takes changes, the sealed one
//! is being written to `index.db` in slices. When all of it is written the checkpoint moves, and
//! what came after the checkpoint is read from the journal again at a restart.
//!
//! Absent here: deciding when to seal, and reading the journal; see [`super::tend`].

use std::collections::HashMap;

use parking_lot::Mutex;
use postrider_core::event::LaneCounter;
use postrider_core::id::{DeliveryId, EndpointId, OrderingKey};
use rusqlite::{Connection, OptionalExtension, params};

use super::row::{RowError, Sum, unsigned};

/// Rows that one slice writes.
const SLICE_ROWS: usize = 512;

/// A lane's name.
pub type LaneKey = (EndpointId, OrderingKey);

/// What `index.db` does not know yet. Shared by the writer and the readers.
#[derive(Debug, Default)]
pub struct Lanes {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    fresh: Changes,
    sealed: Option<Sealed>,
}

#[derive(Debug, Default)]
struct Changes {
    lanes: HashMap<LaneKey, LaneCounter>,
    heads: HashMap<EndpointId, DeliveryId>,
}

/// A generation on its way to `index.db`, in the order of its tables.
#[derive(Debug, Default)]
struct Sealed {
    changes: Changes,
    lanes_left: Vec<LaneKey>,
    heads_left: Vec<EndpointId>,
}

impl Lanes {
    /// Takes a delivery's place into account.
    pub fn admitted(&self, endpoint: EndpointId, lane: Option<(OrderingKey, u64)>, id: DeliveryId) {
        let mut generations = self.generations.lock();
        let head = generations.fresh.heads.entry(endpoint).or_default();
        *head = id.max(*head);
        if let Some((key, sequence)) = lane {
            let counter = generations.fresh.lanes.entry((endpoint, key)).or_default();
            counter.last_sequence = counter.last_sequence.max(sequence);
        }
    }

    /// Takes into account that a delivery was handed over.
    pub fn accepted(&self, lane: LaneKey, sequence: u64) {
        let mut generations = self.generations.lock();
        let counter = generations.fresh.lanes.entry(lane).or_default();
        counter.last_accepted = counter.last_accepted.max(sequence);
    }

    /// How far a lane has come. `index` is in no transaction.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn lane(&self, index: &Connection, lane: LaneKey) -> Result<LaneCounter, RowError> {
        // Memory first: what leaves it has been committed, so it is then found in the file.
        let mut counter = LaneCounter::default();
        {
            let generations = self.generations.lock();
            for changes in generations.all() {
                if let Some(known) = changes.lanes.get(&lane) {
                    counter = larger(counter, *known);
                }
            }
        }
        Ok(larger(counter, stored_lane(index, lane)?))
    }

    /// An endpoint's newest delivery, 0 for none. `index` is in no transaction.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn head(&self, index: &Connection, endpoint: EndpointId) -> Result<DeliveryId, RowError> {
        let mut head = DeliveryId(0);
        {
            let generations = self.generations.lock();
            for changes in generations.all() {
                head = head.max(changes.heads.get(&endpoint).copied().unwrap_or_default());
            }
        }
        // What is in memory is newer than what is in the file.
        match head {
            DeliveryId(0) => stored_head(index, endpoint),
            head => Ok(head),
        }
    }

    /// Changes that are not being written yet.
    #[must_use]
    pub fn fresh(&self) -> usize {
        let generations = self.generations.lock();
        generations.fresh.lanes.len() + generations.fresh.heads.len()
    }

    /// Begins a new generation. The one before must have been written.
    pub fn seal(&self) {
        let mut generations = self.generations.lock();
        let changes = std::mem::take(&mut generations.fresh);
        let mut lanes_left: Vec<_> = changes.lanes.keys().copied().collect();
        let mut heads_left: Vec<_> = changes.heads.keys().copied().collect();
        lanes_left.sort_unstable_by_key(|&(endpoint, key)| {
            std::cmp::Reverse((endpoint.0.cast_signed(), key.0.cast_signed()))
        });
        heads_left.sort_unstable_by_key(|endpoint| std::cmp::Reverse(endpoint.0.cast_signed()));
        generations.sealed = Some(Sealed {
            changes,
            lanes_left,
            heads_left,
        });
    }

    /// Writes a slice of the sealed generation. Returns whether all of it is written.
    ///
    /// # Errors
    /// [`RowError`]; then nothing was written.
    pub fn write_slice(&self, index: &Connection) -> Result<bool, RowError> {
        let (lanes, heads) = {
            let mut generations = self.generations.lock();
            let Some(sealed) = generations.sealed.as_mut() else {
                return Ok(true);
            };
            let lanes_from = sealed.lanes_left.len().saturating_sub(SLICE_ROWS);
            let lanes: Vec<_> = sealed.lanes_left.split_off(lanes_from);
            let room = SLICE_ROWS - lanes.len();
            let heads_from = sealed.heads_left.len().saturating_sub(room);
            let heads: Vec<_> = sealed.heads_left.split_off(heads_from);
            let changes = &sealed.changes;
            let lanes: Vec<_> = lanes
                .into_iter()
                .map(|key| (key, changes.lanes[&key]))
                .collect();
            let heads: Vec<_> = heads
                .into_iter()
                .map(|key| (key, changes.heads[&key]))
                .collect();
            (lanes, heads)
        };
        let written = (|| {
            let transaction = index.unchecked_transaction()?;
            for &(key, counter) in lanes.iter().rev() {
                let counter = larger(counter, stored_lane(&transaction, key)?);
                store_lane(&transaction, key, counter)?;
            }
            for &(endpoint, delivery) in heads.iter().rev() {
                store_head(&transaction, endpoint, delivery)?;
            }
            transaction.commit()?;
            Ok(())
        })();
        let mut generations = self.generations.lock();
        let Some(sealed) = generations.sealed.as_mut() else {
            return Ok(true);
        };
        if let Err(error) = written {
            sealed
                .lanes_left
                .extend(lanes.into_iter().map(|(key, _)| key));
            sealed
                .heads_left
                .extend(heads.into_iter().map(|(key, _)| key));
            return Err(error);
        }
        Ok(sealed.lanes_left.is_empty() && sealed.heads_left.is_empty())
    }

    /// Forgets the sealed generation: all of it is in `index.db`.
    pub fn drop_sealed(&self) {
        self.generations.lock().sealed = None;
    }
}

impl Generations {
    fn all(&self) -> impl Iterator<Item = &Changes> {
        let sealed = self.sealed.as_ref().map(|sealed| &sealed.changes);
        std::iter::once(&self.fresh).chain(sealed)
    }
}

fn larger(a: LaneCounter, b: LaneCounter) -> LaneCounter {
    LaneCounter {
        last_sequence: a.last_sequence.max(b.last_sequence),
        last_accepted: a.last_accepted.max(b.last_accepted),
    }
}

fn lane_sum((endpoint, key): LaneKey, counter: LaneCounter) -> i32 {
    let numbers = [
        endpoint.0,
        key.0,
        counter.last_sequence,
        counter.last_accepted,
    ];
    Sum::new().numbers(numbers).get()
}

fn stored_lane(index: &Connection, lane: LaneKey) -> Result<LaneCounter, RowError> {
    let mut statement = index.prepare_cached(
        "SELECT last_sequence, last_accepted, sum FROM lane WHERE endpoint = ?1 AND key = ?2",
    )?;
    let key = params![lane.0.0.cast_signed(), lane.1.0.cast_signed()];
    let found = statement
        .query_row(key, |row| {
            let counter = LaneCounter {
                last_sequence: unsigned(row, 0)?,
                last_accepted: unsigned(row, 1)?,
            };
            Ok((counter, row.get::<_, i32>(2)?))
        })
        .optional()?;
    match found {
        None => Ok(LaneCounter::default()),
        Some((counter, sum)) if sum == lane_sum(lane, counter) => Ok(counter),
        Some(_) => Err(RowError::Damaged {
            table: "lane of endpoint",
            id: lane.0.0,
        }),
    }
}

fn store_lane(index: &Connection, lane: LaneKey, counter: LaneCounter) -> Result<(), RowError> {
    let mut statement =
        index.prepare_cached("INSERT OR REPLACE INTO lane VALUES (?1,?2,?3,?4,?5)")?;
    statement.execute(params![
        lane.0.0.cast_signed(),
        lane.1.0.cast_signed(),
        counter.last_sequence.cast_signed(),
        counter.last_accepted.cast_signed(),
        lane_sum(lane, counter),
    ])?;
    Ok(())
}

fn head_sum(endpoint: EndpointId, delivery: DeliveryId) -> i32 {
    Sum::new().numbers([endpoint.0, delivery.0]).get()
}

fn stored_head(index: &Connection, endpoint: EndpointId) -> Result<DeliveryId, RowError> {
    let mut statement =
        index.prepare_cached("SELECT delivery, sum FROM head WHERE endpoint = ?1")?;
    let found = statement
        .query_row([endpoint.0.cast_signed()], |row| {
            Ok((DeliveryId(unsigned(row, 0)?), row.get::<_, i32>(1)?))
        })
        .optional()?;
    match found {
        None => Ok(DeliveryId(0)),
        Some((delivery, sum)) if sum == head_sum(endpoint, delivery) => Ok(delivery),
        Some(_) => Err(RowError::Damaged {
            table: "head of endpoint",
            id: endpoint.0,
        }),
    }
}

fn store_head(
    index: &Connection,
    endpoint: EndpointId,
    delivery: DeliveryId,
) -> Result<(), RowError> {
    let mut statement = index.prepare_cached("INSERT OR REPLACE INTO head VALUES (?1,?2,?3)")?;
    statement.execute(params![
        endpoint.0.cast_signed(),
        delivery.0.cast_signed(),
        head_sum(endpoint, delivery),
    ])?;
    Ok(())
}

/// Holds all rows of lanes and heads against their checksums.
pub(super) fn verify(index: &Connection, findings_max: usize) -> Vec<String> {
    let mut findings = Vec::new();
    let walked = each_row(index, |endpoint, _, row| {
        if row.is_none() && findings.len() < findings_max {
            findings.push(format!(
                "a row of endpoint {endpoint} does not match its checksum"
            ));
        }
        Ok(())
    });
    if let Err(error) = walked {
        findings.push(error.to_string());
    }
    findings
}

/// Copies all rows that match their checksums.
pub(super) fn copy(from: &Connection, to: &Connection) -> Result<(), RowError> {
    let transaction = to.unchecked_transaction()?;
    each_row(from, |endpoint, key, row| match (key, row) {
        (_, None) => Ok(()),
        (Some(key), Some(Stored::Lane(counter))) => {
            store_lane(&transaction, (endpoint, key), counter)
        }
        (_, Some(Stored::Head(delivery))) => store_head(&transaction, endpoint, delivery),
        (None, Some(Stored::Lane(_))) => Ok(()),
    })?;
    transaction.commit()?;
    Ok(())
}

/// A row that matches its checksum.
enum Stored {
    Lane(LaneCounter),
    Head(DeliveryId),
}

/// Hands all rows to `visit`; without what they hold where they do not match their checksums.
fn each_row(
    index: &Connection,
    mut visit: impl FnMut(EndpointId, Option<OrderingKey>, Option<Stored>) -> Result<(), RowError>,
) -> Result<(), RowError> {
    let mut statement = index.prepare("SELECT * FROM lane")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let lane = (
            EndpointId(unsigned(row, 0)?),
            OrderingKey(unsigned(row, 1)?),
        );
        let counter = LaneCounter {
            last_sequence: unsigned(row, 2)?,
            last_accepted: unsigned(row, 3)?,
        };
        let good = row.get::<_, i32>(4)? == lane_sum(lane, counter);
        visit(lane.0, Some(lane.1), good.then_some(Stored::Lane(counter)))?;
    }
    let mut statement = index.prepare("SELECT * FROM head")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let endpoint = EndpointId(unsigned(row, 0)?);
        let delivery = DeliveryId(unsigned(row, 1)?);
        let good = row.get::<_, i32>(2)? == head_sum(endpoint, delivery);
        visit(endpoint, None, good.then_some(Stored::Head(delivery)))?;
    }
    Ok(())
}
