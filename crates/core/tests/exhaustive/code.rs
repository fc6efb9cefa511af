//! The production code over rows and entries that are known by their numbers.
//!
//! Absent here: judgement; it is what is judged.

use postrider_core::acknowledge::settle;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::id::{CorrelationId, DeliveryId, EndpointId, EventId, PolicyId, Seq, TenantId};
use postrider_core::lease::{Stand, Tenure, Terms};
use postrider_core::ledger::{Admitted, Delivery, Entry, Fact, State, apply};
use postrider_core::outcome::Outcome;
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::DAY_MS;

use crate::world::*;

/// Rows and entries by number, so that a world is small; and the production code over them.
pub struct Code {
    pub plant: Plant,
    pub size: Size,
    pub policy: Policy,
    pub terms: Terms,
    pub rows: Vec<Delivery>,
    pub entries: Vec<Entry>,
}

impl Code {
    pub fn new(plant: Plant, size: Size) -> Code {
        let lease = if plant == Plant::LongLease {
            2 * LEASE
        } else {
            LEASE
        };
        Code {
            plant,
            size,
            policy: Policy {
                attempts_max: ATTEMPTS,
                ..Policy::brief(PolicyId(1))
            },
            terms: Terms::new(lease),
            rows: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub fn number<T: PartialEq>(all: &mut Vec<T>, one: T) -> u16 {
        let found = all.iter().position(|other| *other == one);
        let at = found.unwrap_or_else(|| {
            all.push(one);
            all.len() - 1
        });
        u16::try_from(at).expect("few rows and entries")
    }

    /// The row as it was admitted.
    pub fn admitted(&mut self, delivery: usize) -> u16 {
        let id = DeliveryId(delivery as u64 + 1);
        let admitted = Admitted {
            correlation: CorrelationId(u128::from(id.0)),
            event: EventId(1),
            tenant: TenantId(1),
            endpoint: EndpointId(1),
            channel: Channel::Webhook,
            policy: self.policy.id,
            guarantee: GUARANTEES[delivery],
            due_at: NOW,
            expires_at: NOW.plus(DAY_MS),
            lane: None,
        };
        let mut row = None;
        let entry = entry(id, 0, Fact::Admitted(Box::new(admitted)));
        apply(&mut row, &entry).expect("a first entry fits");
        if !self.size.open[delivery] {
            let fact = Fact::Closed {
                state: State::Cancelled,
                cause: Cause::Cancelled,
            };
            apply(&mut row, &self::entry(id, 1, fact)).expect("it is withdrawn");
        }
        Code::number(&mut self.rows, row.expect("a row"))
    }

    /// The row after an entry, if the entry fits.
    pub fn applied(&mut self, row: u16, entry: u16) -> Option<u16> {
        let mut row = Some(self.rows[usize::from(row)].clone());
        apply(&mut row, &self.entries[usize::from(entry)]).ok()?;
        Some(Code::number(&mut self.rows, row?))
    }

    pub fn opened(&mut self, row: u16) -> u16 {
        let row = &self.rows[usize::from(row)];
        let fact = Fact::Opened {
            attempt: row.attempt + 1,
            policy: self.policy.id,
        };
        let entry = entry(row.id, row.version, fact);
        Code::number(&mut self.entries, entry)
    }

    pub fn answered(&mut self, row: u16, outcome: Outcome) -> u16 {
        let mut row = self.rows[usize::from(row)].clone();
        if self.plant == Plant::RetryUnknown {
            row.guarantee = Guarantee::AtLeastOnce;
        }
        let settlement = settle(&row, &self.policy, &outcome, 0, NOW);
        let fact = Fact::Answered {
            attempt: row.attempt,
            outcome: Box::new(outcome),
            next: settlement.next,
        };
        let entry = entry(row.id, row.version, fact);
        Code::number(&mut self.entries, entry)
    }

    pub fn row(&self, row: u16) -> &Delivery {
        &self.rows[usize::from(row)]
    }

    pub fn stand(&self, hold: Hold) -> Stand {
        let epoch = if hold.current { CURRENT } else { PASSED };
        Tenure::granted(epoch, NOW.plus(-i64::from(hold.age))).stand(NOW, &self.terms)
    }
}

pub fn entry(delivery: DeliveryId, version: u32, fact: Fact) -> Entry {
    Entry {
        seq: Seq(1),
        delivery,
        version,
        at: NOW,
        previous: Seq(0),
        fact,
    }
}
