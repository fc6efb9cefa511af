//! Leases: who owns a shard of the partitions, until when, and what an owner may still do.
//!
//! The store keeps one [`Lease`] for each shard and judges it by its own clock alone. An owner
//! keeps a [`Tenure`] and judges that by its own monotonic clock, reckoned from the moment it
//! *asked*: the store granted later than that, so an owner always stops before the store lets
//! another begin.
//!
//! ```text
//! owner  asked ───── Begins ─────┬──── Finishes ────┬── Over ─►      2/3 and 3/3 after it asked
//! store     granted ─────────────────────────────── lapsed ─► another may take it, epoch + 1
//! ```
//!
//! Two guards, because neither is enough. The lease keeps a live owner from beginning what another
//! may already have taken over. The epoch keeps a stopped one from writing: a store refuses every
//! record of a passed epoch. What is left is a process stopped between its last look at the clock
//! and the first byte on the wire: one attempt, opened and recorded before, may leave late.
//! Nothing outside of the receiver can prevent that.
//!
//! Absent here: I/O, and who asks when. The store's clock must not leap forward by a third of a
//! lease; if it does, the epoch still protects the ledger, and requests may overlap.

use crate::id::Epoch;
use crate::time::{SECOND_MS, Time};

/// One life of one process, numbered anew at each start: a restart is another holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub u64);

/// Shortest lease: below, the thirds of it would be nothing.
pub const LEASE_MS_MIN: i64 = 3;

/// How long leases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    lease_ms: i64,
}

impl Default for Terms {
    /// Half a minute: an attempt, at the most 3 s to connect and 5 s to be answered, that begins
    /// at the last moment allowed is over before the lease is.
    fn default() -> Terms {
        Terms::new(30 * SECOND_MS)
    }
}

impl Terms {
    /// Leases of `lease_ms` milliseconds, at least [`LEASE_MS_MIN`].
    #[must_use]
    pub fn new(lease_ms: i64) -> Terms {
        Terms {
            lease_ms: lease_ms.max(LEASE_MS_MIN),
        }
    }

    /// From a grant until the store lets another take over, in milliseconds.
    #[must_use]
    pub fn lease_ms(&self) -> i64 {
        self.lease_ms
    }

    /// From asking until the owner begins nothing more: two thirds of the lease.
    #[must_use]
    pub fn begin_ms(&self) -> i64 {
        self.lease_ms / 3 * 2
    }

    /// From asking until the owner asks again: a third of the lease.
    #[must_use]
    pub fn renew_ms(&self) -> i64 {
        self.lease_ms / 3
    }
}

/// The store's row: who owns a shard. Every `now` here is the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Who holds it, if anybody does.
    pub holder: Option<Holder>,
    /// Counts the owners. Never runs backwards.
    pub epoch: Epoch,
    /// When it lapses.
    pub until: Time,
}

/// Another holds the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When it may be worth asking again, on the store's clock.
    pub until: Time,
}

/// The lease is not the asker's any more: it lapsed, or another took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Lease {
    /// Takes over a shard that nobody holds, under a new epoch. From here on the store refuses
    /// every record of the epochs before.
    ///
    /// # Errors [`Held`] while a lease runs, be it the asker's own: what its earlier life began
    /// may still be under way.
    pub fn take(&mut self, who: Holder, now: Time, terms: &Terms) -> Result<Epoch, Held> {
        if self.holder.is_some() && now < self.until {
            return Err(Held { until: self.until });
        }
        *self = Lease {
            holder: Some(who),
            epoch: Epoch(self.epoch.0 + 1),
            until: now.plus(terms.lease_ms),
        };
        Ok(self.epoch)
    }

    /// Makes a running lease last from now on.
    ///
    /// # Errors
    /// [`Lost`] if it lapsed, even where nobody has taken it: the owner has stopped by then, and
    /// begins anew under another epoch.
    pub fn renew(
        &mut self,
        who: Holder,
        epoch: Epoch,
        now: Time,
        terms: &Terms,
    ) -> Result<(), Lost> {
        if self.holder != Some(who) || self.epoch != epoch || now >= self.until {
            return Err(Lost);
        }
        self.until = self.until.max(now.plus(terms.lease_ms));
        Ok(())
    }

    /// Gives a lease back before it lapses; the holder has stopped and has nothing under way.
    /// Returns whether it was the asker's.
    pub fn release(&mut self, who: Holder, epoch: Epoch) -> bool {
        let own = self.holder == Some(who) && self.epoch == epoch;
        if own {
            self.holder = None;
        }
        own
    }

    /// The fence: whether the store takes a record of this epoch.
    #[must_use]
    pub fn admits(&self, epoch: Epoch) -> bool {
        self.epoch == epoch
    }
}

/// What an owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stand {
    /// Everything.
    Begins,
    /// Wait for what is under way. Its engine takes no turn: nothing is opened, nothing leaves.
    Finishes,
    /// Nothing. Its engine is dropped, and what was under way is the next owner's to judge.
    Over,
}

/// The owner's side of a lease. Every `now` here is the owner's monotonic clock, which must run on
/// while the process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure {
    epoch: Epoch,
    asked_at: Time,
}

impl Tenure {
    /// A lease was granted that had been asked for at `asked_at`.
    #[must_use]
    pub fn granted(epoch: Epoch, asked_at: Time) -> Tenure {
        Tenure { epoch, asked_at }
    }

    /// It was renewed, as asked for at `asked_at`. Answers may come in any order.
    pub fn renewed(&mut self, asked_at: Time) {
        self.asked_at = self.asked_at.max(asked_at);
    }

    /// Under which epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the owner may do. To be asked before each turn of the engine, and once more when a
    /// request is about to leave.
    #[must_use]
    pub fn stand(&self, now: Time, terms: &Terms) -> Stand {
        let since = now.since(self.asked_at);
        if since < terms.begin_ms() {
            Stand::Begins
        } else if since < terms.lease_ms {
            Stand::Finishes
        } else {
            Stand::Over
        }
    }

    /// When to ask for it anew.
    #[must_use]
    pub fn renew_at(&self, terms: &Terms) -> Time {
        self.asked_at.plus(terms.renew_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Holder, Lease, Lost, Stand, Tenure, Terms};
    use crate::id::Epoch;
    use crate::time::Time;

    const TERMS: Terms = Terms { lease_ms: 30 };
    const ONE: Holder = Holder(1);
    const TWO: Holder = Holder(2);

    fn held() -> Lease {
        Lease {
            holder: Some(ONE),
            epoch: Epoch(7),
            until: Time(30),
        }
    }

    #[test]
    fn taken_only_when_free_or_lapsed() {
        let free = Lease {
            holder: None,
            ..held()
        };
        for (lease, who, now, expected) in [
            (Lease::default(), ONE, 0, Ok(Epoch(1))),
            (free, TWO, 1, Ok(Epoch(8))),
            (held(), TWO, 29, Err(Held { until: Time(30) })),
            (held(), ONE, 29, Err(Held { until: Time(30) })),
            (held(), TWO, 30, Ok(Epoch(8))),
            (held(), ONE, 30, Ok(Epoch(8))),
        ] {
            let mut after = lease;
            assert_eq!(after.take(who, Time(now), &TERMS), expected);
            match expected {
                Ok(epoch) => {
                    assert_eq!((after.holder, after.epoch), (Some(who), epoch));
                    assert_eq!(after.until, Time(now + 30));
                    assert!(after.admits(epoch) && !after.admits(lease.epoch));
                }
                Err(_) => assert_eq!(after, lease),
            }
        }
    }

    #[test]
    fn renewed_only_by_its_holder_while_it_runs() {
        for (who, epoch, now, expected) in [
            (ONE, 7, 29, Ok(())),
            (ONE, 7, 30, Err(Lost)),
            (ONE, 6, 10, Err(Lost)),
            (TWO, 7, 10, Err(Lost)),
        ] {
            let mut lease = held();
            assert_eq!(lease.renew(who, Epoch(epoch), Time(now), &TERMS), expected);
            let until = if expected.is_ok() { now + 30 } else { 30 };
            assert_eq!(lease.until, Time(until));
        }
        let mut lease = held();
        lease.until = Time(99);
        assert_eq!(lease.renew(ONE, Epoch(7), Time(10), &TERMS), Ok(()));
        assert_eq!(lease.until, Time(99), "a lease is never made shorter");
    }

    #[test]
    fn given_back_only_by_its_holder() {
        for (who, epoch, own) in [(ONE, 7, true), (ONE, 6, false), (TWO, 7, false)] {
            let mut lease = held();
            assert_eq!(lease.release(who, Epoch(epoch)), own);
            assert_eq!(lease.take(TWO, Time(1), &TERMS).is_ok(), own);
        }
    }

    #[test]
    fn an_owner_begins_for_two_thirds_and_stops_at_the_end() {
        let mut tenure = Tenure::granted(Epoch(7), Time(100));
        for (now, stand) in [
            (100, Stand::Begins),
            (119, Stand::Begins),
            (120, Stand::Finishes),
            (129, Stand::Finishes),
            (130, Stand::Over),
            (1_000, Stand::Over),
        ] {
            assert_eq!(tenure.stand(Time(now), &TERMS), stand, "at {now}");
        }
        assert_eq!(tenure.renew_at(&TERMS), Time(110));
        tenure.renewed(Time(110));
        tenure.renewed(Time(105));
        assert_eq!(tenure.stand(Time(129), &TERMS), Stand::Begins);
        assert_eq!(tenure.epoch(), Epoch(7));
    }

    /// Whatever the delay between asking and granting: while the owner may do anything, the store
    /// lets nobody else begin.
    #[test]
    fn the_owner_stops_before_another_begins() {
        for delay in 0..40 {
            let mut lease = Lease::default();
            let epoch = lease.take(ONE, Time(delay), &TERMS).expect("it is free");
            let tenure = Tenure::granted(epoch, Time(0));
            let taken = (0..200)
                .map(Time)
                .find(|now| *now >= Time(delay) && lease.clone().take(TWO, *now, &TERMS).is_ok());
            let taken = taken.expect("it lapses");
            assert_eq!(tenure.stand(taken, &TERMS), Stand::Over);
        }
    }

    #[test]
    fn no_lease_is_too_short_for_its_thirds() {
        for lease_ms in [i64::MIN, 0, 1, 3, 4] {
            let terms = Terms::new(lease_ms);
            assert!(terms.renew_ms() > 0 && terms.begin_ms() > terms.renew_ms());
            assert!(terms.lease_ms() > terms.begin_ms());
        }
    }
}
