//! Building one run, a slice at a time: from a full table of recent keys, or by merging runs.
//!
//! Absent here: deciding what to build, and making a finished run count.

use std::collections::HashSet;
use std::sync::Arc;

use postrider_core::time::Time;
use rusqlite::Connection;

use super::KeysError;
use super::recent::Recent;
use super::run::{Block, Entry, FILTER_ROW_LINES, Filter, Meta, Run, block, damaged, scale};

/// A run on its way to disk.
pub(super) struct Build {
    pub(super) meta: Meta,
    source: Source,
    filter: Filter,
    filter_rows: u64,
    block: Block,
    blocks: u64,
    /// Released keys that were left out: nobody needs to remember them once this run counts.
    pub(super) left_out: Vec<(u64, u64)>,
}

/// Where its keys come from, in order.
pub(super) enum Source {
    /// A table that takes no more keys.
    Recent { table: Arc<Recent>, slot: usize },
    /// Sealed runs.
    Runs(Vec<Cursor>),
}

/// A place in a run that is read from front to back.
pub(super) struct Cursor {
    run: Arc<Run>,
    next_block: u64,
    ahead: std::vec::IntoIter<Entry>,
    head: Option<Entry>,
}

impl Build {
    pub(super) fn new(meta: Meta, source: Source) -> Build {
        Build {
            filter: Filter::new(meta.lines),
            meta,
            source,
            filter_rows: 0,
            block: Block::default(),
            blocks: 0,
            left_out: Vec::new(),
        }
    }

    /// The runs it replaces.
    pub(super) fn replaces(&self) -> Vec<u32> {
        match &self.source {
            Source::Recent { .. } => Vec::new(),
            Source::Runs(cursors) => cursors.iter().map(|cursor| cursor.run.meta.id).collect(),
        }
    }

    /// Writes about `blocks_max` blocks, inside the caller's transaction. Returns whether all is
    /// written.
    pub(super) fn step(
        &mut self,
        db: &Connection,
        now: Time,
        released: &HashSet<(u64, u64)>,
        blocks_max: u64,
    ) -> Result<bool, KeysError> {
        let pause_at = self.blocks + blocks_max;
        while self.blocks < pause_at {
            let Some(entry) = self.source.next(db)? else {
                return self.finish(db, pause_at);
            };
            // Before anything is left out, so that a slice ends however few keys stay.
            self.turn_to(db, scale(entry.fingerprint, u64::from(self.meta.blocks)))?;
            if entry.has_expired(now) {
                continue;
            }
            let key = (entry.fingerprint, entry.event);
            if !released.is_empty() && released.contains(&key) {
                self.left_out.push(key);
                continue;
            }
            self.take(entry);
        }
        self.save_filter_rows(db, self.lines_done() / FILTER_ROW_LINES)?;
        Ok(false)
    }

    fn take(&mut self, entry: Entry) {
        self.block.push(entry);
        self.filter.insert(entry.fingerprint);
        self.meta.keys += 1;
        self.meta.expires_max_s = self.meta.expires_max_s.max(entry.expires_s);
    }

    /// Writes what comes before block `number`.
    fn turn_to(&mut self, db: &Connection, number: u64) -> Result<(), KeysError> {
        while self.blocks < number {
            self.block.save(db, &self.meta, self.blocks)?;
            self.blocks += 1;
        }
        Ok(())
    }

    fn finish(&mut self, db: &Connection, pause_at: u64) -> Result<bool, KeysError> {
        let blocks = u64::from(self.meta.blocks);
        self.turn_to(db, blocks.min(pause_at))?;
        if self.blocks < blocks {
            return Ok(false);
        }
        self.save_filter_rows(db, self.meta.filter_rows())?;
        Ok(true)
    }

    /// Filter lines that no key to come can touch: the ones before the block being filled.
    fn lines_done(&self) -> u64 {
        let share = u128::from(self.blocks) * u128::from(self.meta.lines);
        u64::try_from(share / u128::from(self.meta.blocks)).unwrap_or(0)
    }

    fn save_filter_rows(&mut self, db: &Connection, until: u64) -> Result<(), KeysError> {
        while self.filter_rows < until {
            self.filter.save(db, &self.meta, self.filter_rows)?;
            self.filter_rows += 1;
        }
        Ok(())
    }

    /// The finished run.
    pub(super) fn into_run(self) -> Run {
        Run {
            meta: self.meta,
            filter: self.filter,
        }
    }

    /// Bytes of its filter.
    pub(super) fn memory_bytes(&self) -> usize {
        self.filter.memory_bytes()
    }
}

impl Source {
    fn next(&mut self, db: &Connection) -> Result<Option<Entry>, KeysError> {
        match self {
            Source::Recent { table, slot } => Ok(table.scan(*slot).map(|(entry, next)| {
                *slot = next;
                entry
            })),
            Source::Runs(cursors) => {
                for cursor in cursors.iter_mut() {
                    cursor.fill(db)?;
                }
                let first = cursors
                    .iter_mut()
                    .filter(|cursor| cursor.head.is_some())
                    .min_by_key(|cursor| cursor.head.map(|head| (head.fingerprint, head.event)));
                Ok(first.and_then(|cursor| cursor.head.take()))
            }
        }
    }
}

impl Cursor {
    pub(super) fn new(run: Arc<Run>) -> Cursor {
        Cursor {
            run,
            next_block: 0,
            ahead: Vec::new().into_iter(),
            head: None,
        }
    }

    /// Makes `head` the next entry, or `None` at the end.
    fn fill(&mut self, db: &Connection) -> Result<(), KeysError> {
        while self.head.is_none() {
            self.head = self.ahead.next();
            if self.head.is_some() || self.next_block >= u64::from(self.run.meta.blocks) {
                break;
            }
            let entries = block(db, &self.run.meta, self.next_block)?
                .ok_or_else(|| damaged("a block is missing", self.run.meta.row(self.next_block)))?;
            self.next_block += 1;
            self.ahead = entries.into_iter();
        }
        Ok(())
    }
}
