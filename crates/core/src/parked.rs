//! Which lanes a dead letter had stopped when the engine before ended: told from the ledger's rows,
//! because what stops a lane under [`HeadOfLine::Park`](crate::policy::HeadOfLine::Park) is an
//! entry like any other and no entry says that the lane stands.
//!
//! Nothing of a stopped lane is opened. So below its first unsettled delivery come deliveries that
//! were closed without ever being opened, and then the dead letter. It stops the lane no more if
//! somebody has changed the endpoint since then, or if nothing waited for a moment.
//!
//! Absent here: reading. Whoever recovers hands in the rows of an endpoint, newest first.

use std::collections::BTreeMap;

use crate::cause::Cause;
use crate::id::{DeliveryId, EndpointId, OrderingKey, PolicyId};
use crate::ledger::Delivery;
use crate::time::Time;

/// Rows of one endpoint that are looked through at the most. A lane whose dead letter lies deeper
/// goes on.
pub const ROWS_MAX: usize = 10_000;

/// A page of an endpoint's rows, newest first, and where the next one begins.
pub type Rows = (Vec<Delivery>, Option<DeliveryId>);

/// The stopped lanes among those with `unsettled` deliveries. `parks` says whether the version of a
/// policy has lanes stop, `changed_at` when somebody changed an endpoint last, and `page` reads its
/// rows before an id.
///
/// # Errors
/// Those of `page`.
pub fn stopped<'a, E>(
    unsettled: impl Iterator<Item = &'a Delivery>,
    parks: impl Fn(PolicyId) -> bool,
    changed_at: impl Fn(EndpointId) -> Time,
    mut page: impl FnMut(EndpointId, Option<DeliveryId>) -> Result<Rows, E>,
) -> Result<Vec<(EndpointId, OrderingKey)>, E> {
    let mut stopped = Vec::new();
    for (endpoint, mut lanes) in lanes_of(unsettled) {
        lanes.retain(|_, lane| lane.never_opened);
        let since = changed_at(endpoint);
        let (mut before, mut seen) = (None, 0);
        while !lanes.is_empty() && seen < ROWS_MAX {
            let (rows, next) = page(endpoint, before)?;
            seen += rows.len().max(1);
            for row in rows {
                let Some(key) = row.lane.map(|lane| lane.key) else {
                    continue;
                };
                let found = lanes.get_mut(&key).and_then(|it| it.see(&row, &parks));
                if let Some(stopped_at) = found {
                    lanes.remove(&key);
                    if stopped_at.is_some_and(|at| at > since) {
                        stopped.push((endpoint, key));
                    }
                }
            }
            before = next;
            if before.is_none() {
                break;
            }
        }
    }
    Ok(stopped)
}

/// A lane, as far as its rows have been looked through.
struct Lane {
    /// Its first unsettled delivery.
    front: u64,
    never_opened: bool,
    /// When the front was admitted, and then from when to when those below it waited.
    admitted_at: Time,
    waited: Vec<(Time, Time)>,
}

fn lanes_of<'a>(
    unsettled: impl Iterator<Item = &'a Delivery>,
) -> BTreeMap<EndpointId, BTreeMap<OrderingKey, Lane>> {
    let mut lanes: BTreeMap<EndpointId, BTreeMap<OrderingKey, Lane>> = BTreeMap::new();
    for row in unsettled {
        let Some(place) = row.lane else { continue };
        let of_endpoint = lanes.entry(row.endpoint).or_default();
        let known = of_endpoint.get(&place.key);
        if known.is_none_or(|lane| place.sequence < lane.front) {
            let lane = Lane {
                front: place.sequence,
                never_opened: never_opened(row),
                admitted_at: row.admitted_at,
                waited: Vec::new(),
            };
            of_endpoint.insert(place.key, lane);
        }
    }
    lanes
}

impl Lane {
    /// Takes the next lower row. Once that is certain it says when the lane was stopped, or that it
    /// was not.
    fn see(&mut self, row: &Delivery, parks: &impl Fn(PolicyId) -> bool) -> Option<Option<Time>> {
        let below = row.lane.is_some_and(|lane| lane.sequence < self.front);
        let settled_at = row.settled_at.filter(|_| below)?;
        // What lapsed behind another stops nothing.
        let stops = row.is_dead_letter() && row.cause != Cause::ExpiredOrder && parks(row.policy);
        if stops {
            return Some(self.waited_since(settled_at).then_some(settled_at));
        }
        if !never_opened(row) {
            return Some(None);
        }
        self.waited.push((row.admitted_at, settled_at));
        None
    }

    /// Somebody has waited at every moment since then.
    fn waited_since(&self, since: Time) -> bool {
        let mut until = since;
        for (from, to) in self.waited.iter().rev() {
            if *from > until {
                return false;
            }
            until = until.max(*to);
        }
        self.admitted_at <= until
    }
}

/// Its chain is its admission, and where it is settled its closing.
fn never_opened(row: &Delivery) -> bool {
    row.version == 1 + u32::from(row.state.is_settled())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::{ROWS_MAX, Rows, stopped};
    use crate::cause::Cause;
    use crate::id::{DeliveryId, EndpointId, OrderingKey, PolicyId};
    use crate::ledger::{Delivery, Lane, State};
    use crate::policy::Guarantee;
    use crate::testing::in_flight;
    use crate::time::Time;

    const KEY: OrderingKey = OrderingKey(7);
    const PARKS: PolicyId = PolicyId(3);

    fn row(sequence: u64, from: i64) -> Delivery {
        Delivery {
            id: DeliveryId(sequence),
            endpoint: EndpointId(1),
            policy: PARKS,
            state: State::Scheduled,
            cause: Cause::Waiting,
            version: 1,
            attempt: 0,
            admitted_at: Time(from),
            lane: Some(Lane { key: KEY, sequence }),
            ..in_flight(Guarantee::AtLeastOnce, 1)
        }
    }

    fn ended(row: Delivery, at: i64, state: State, cause: Cause) -> Delivery {
        Delivery {
            state,
            cause,
            settled_at: Some(Time(at)),
            version: row.version + 1,
            ..row
        }
    }

    fn dead(sequence: u64, at: i64) -> Delivery {
        let opened = Delivery {
            version: 2,
            attempt: 1,
            ..row(sequence, 0)
        };
        ended(opened, at, State::Rejected, Cause::BadRequest)
    }

    fn cancelled(sequence: u64, from: i64, at: i64) -> Delivery {
        let row = row(sequence, from);
        ended(row, at, State::Cancelled, Cause::Cancelled)
    }

    /// Whether the lane of these rows, oldest first, stands if the endpoint was changed then.
    fn stands(rows: &[Delivery], changed_at: i64) -> bool {
        let unsettled = rows.iter().filter(|row| !row.state.is_settled());
        let page = |_, before: Option<DeliveryId>| -> Result<Rows, Infallible> {
            let older = rows.iter().rev();
            let older = older.filter(|row| before.is_none_or(|id| row.id < id));
            let page: Vec<_> = older.take(64).cloned().collect();
            let next = page.last().map(|row| row.id);
            Ok((page, next))
        };
        let parks = |policy| policy == PARKS;
        let Ok(found) = stopped(unsettled, parks, |_| Time(changed_at), page);
        assert!(found.iter().all(|at| *at == (EndpointId(1), KEY)));
        !found.is_empty()
    }

    #[test]
    fn a_dead_letter_before_the_first_that_waits_stops_the_lane() {
        let rows = [dead(1, 50), row(2, 10), row(3, 60)];
        assert!(stands(&rows, 0));
        assert!(!stands(&rows, 50), "somebody changed the endpoint since");
        let other = Delivery {
            policy: PolicyId(1),
            ..dead(1, 50)
        };
        assert!(!stands(&[other, row(2, 10)], 0), "its policy has it go on");
        let taken = ended(row(1, 0), 50, State::Accepted, Cause::Accepted);
        let taken = Delivery {
            version: 3,
            ..taken
        };
        assert!(!stands(&[dead(1, 20), taken, row(2, 10)], 0));
    }

    #[test]
    fn what_was_closed_behind_it_changes_nothing() {
        let lapsed = ended(row(3, 10), 70, State::Expired, Cause::ExpiredOrder);
        assert!(stands(
            &[
                dead(1, 50),
                cancelled(2, 10, 60),
                lapsed.clone(),
                row(4, 65)
            ],
            0
        ));
        let under_way = Delivery {
            version: 3,
            ..row(1, 0)
        };
        assert!(!stands(&[under_way, lapsed, row(4, 65)], 0));
    }

    #[test]
    fn what_went_on_goes_on() {
        let put_back = Delivery {
            version: 3,
            cause: Cause::Deferred,
            ..row(2, 10)
        };
        assert!(!stands(&[dead(1, 50), put_back.clone(), row(3, 10)], 0));
        let withdrawn = ended(put_back, 60, State::Cancelled, Cause::Cancelled);
        assert!(!stands(&[dead(1, 50), withdrawn, row(3, 10)], 0));
    }

    #[test]
    fn a_lane_that_was_empty_for_a_moment_is_new() {
        let (first, second) = (dead(1, 50), cancelled(2, 40, 60));
        assert!(stands(&[first.clone(), second.clone(), row(3, 60)], 0));
        assert!(!stands(&[first.clone(), second, row(3, 61)], 0));
        assert!(!stands(&[first, cancelled(2, 51, 60), row(3, 55)], 0));
    }

    #[test]
    fn the_look_back_has_a_bound() {
        let mut rows = vec![dead(1, 50)];
        let last = ROWS_MAX as u64 + 200;
        rows.extend((2..last).map(|id| cancelled(id, 10, 60)));
        rows.push(row(last, 10));
        assert!(!stands(&rows, 0));
        rows.drain(2..400);
        assert!(stands(&rows, 0));
    }
}
