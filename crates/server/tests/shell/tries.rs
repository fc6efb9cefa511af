//! Which attempt a push was. Requests of a push's attempts are the same, byte for byte but for
//! what is encrypted, so nobody can read it off them: it is inferred from what else is known.
//!
//! Absent here: webhooks, whose requests say it.

use postrider_core::ledger::{Entry, Fact};
use postrider_core::time::Time;

/// One time that an attempt was opened.
#[derive(Clone, Copy, Debug)]
struct Try {
    attempt: u32,
    opened: Time,
    ended: Option<(Time, End)>,
}

/// What the journal says about how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With this HTTP status.
    Answered(u16),
    /// Nothing was sent.
    Unsent,
    /// Without an answer.
    Unknown,
}

fn tries(history: &[Entry]) -> Vec<Try> {
    let mut tries: Vec<Try> = Vec::new();
    for entry in history {
        let end = match &entry.fact {
            Fact::Opened { attempt, .. } => {
                tries.push(Try {
                    attempt: *attempt,
                    opened: entry.at,
                    ended: None,
                });
                continue;
            }
            Fact::NotSent { .. } => End::Unsent,
            Fact::Answered { outcome, .. } if outcome.http_status != 0 => {
                End::Answered(outcome.http_status)
            }
            Fact::Answered { outcome, .. } if outcome.unsent => End::Unsent,
            Fact::Answered { .. } => End::Unknown,
            _ => continue,
        };
        if let Some(last) = tries.last_mut() {
            last.ended.get_or_insert((entry.at, end));
        }
    }
    tries
}

/// The attempt that a request which arrives just now most likely is, where those in `taken` have
/// arrived before: the one under way, or else the last one that came to no answer.
pub fn guess(history: &[Entry], taken: &[u32]) -> u32 {
    let tries = tries(history);
    let waits = |it: &&Try| {
        let open = matches!(it.ended, None | Some((_, End::Unknown)));
        open && !taken.contains(&it.attempt)
    };
    let found = tries.iter().rev().find(waits).or(tries.last());
    found.map_or(0, |it| it.attempt)
}

/// A request that arrived: when, what it was answered with (0: nothing), and the attempt that it
/// was taken for.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    pub at: Time,
    pub http_status: u16,
    pub guessed: u32,
}

/// The attempts that the requests of one delivery were, in their order, once all is known. An
/// answer that the journal knows came while its attempt was under way; what is left came in the
/// order in which it was sent. What fits nowhere stays what it was taken for.
pub fn infer(history: &[Entry], came: &[Came]) -> Vec<u32> {
    let tries = tries(history);
    let mut found: Vec<Option<u32>> = vec![None; came.len()];
    let mut used = vec![false; tries.len()];
    for (place, it) in tries.iter().enumerate() {
        let Some((ended, End::Answered(http_status))) = it.ended else {
            continue;
        };
        let fits =
            |came: &Came| came.http_status == http_status && (it.opened..=ended).contains(&came.at);
        let one = (0..came.len()).find(|one| found[*one].is_none() && fits(&came[*one]));
        if let Some(one) = one {
            found[one] = Some(it.attempt);
            used[place] = true;
        }
    }
    for (one, came) in came.iter().enumerate() {
        let fits = |place: &usize| {
            let it = &tries[*place];
            let open = matches!(it.ended, None | Some((_, End::Unknown)));
            !used[*place] && open && it.opened <= came.at
        };
        if found[one].is_none()
            && let Some(place) = (0..tries.len()).find(fits)
        {
            found[one] = Some(tries[place].attempt);
            used[place] = true;
        }
    }
    let guessed = came.iter().map(|it| it.guessed);
    let found = found.into_iter().zip(guessed);
    found.map(|(it, guessed)| it.unwrap_or(guessed)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Came, guess, infer};
    use postrider_core::cause::Cause;
    use postrider_core::id::{DeliveryId, PolicyId, Seq};
    use postrider_core::ledger::{Entry, Fact, Next};
    use postrider_core::outcome::{Outcome, OutcomeKind};
    use postrider_core::time::Time;

    fn entry(at: i64, fact: Fact) -> Entry {
        Entry {
            seq: Seq(0),
            delivery: DeliveryId(1),
            version: 0,
            at: Time(at),
            previous: Seq(0),
            fact,
        }
    }

    fn opened(at: i64, attempt: u32) -> Entry {
        let policy = PolicyId(1);
        entry(at, Fact::Opened { attempt, policy })
    }

    fn ended(at: i64, attempt: u32, http_status: u16) -> Entry {
        let outcome = Outcome {
            http_status,
            ..Outcome::bare(OutcomeKind::Unknown, Cause::ResponseTimeout)
        };
        let next = Next::Again { due_at: Time(at) };
        entry(
            at,
            Fact::Answered {
                attempt,
                outcome: Box::new(outcome),
                next,
            },
        )
    }

    fn came(at: i64, http_status: u16, guessed: u32) -> Came {
        Came {
            at: Time(at),
            http_status,
            guessed,
        }
    }

    #[test]
    fn a_request_that_was_held_is_told_from_the_one_behind_it() {
        let lost = vec![opened(1, 1), ended(10, 1, 0), opened(12, 2)];
        assert_eq!(guess(&lost, &[]), 2, "the one under way");
        assert_eq!(guess(&lost, &[2]), 1, "what is left");
        let whole = [lost, vec![ended(20, 2, 500)]].concat();
        let arrived = [came(13, 200, 2), came(14, 500, 1)];
        assert_eq!(infer(&whole, &arrived), [1, 2]);
        assert_eq!(infer(&whole, &arrived[1..]), [2]);
    }

    #[test]
    fn one_request_too_many_fits_nowhere() {
        let history = [opened(1, 1), ended(10, 1, 200)];
        let arrived = [came(2, 200, 1), came(3, 200, 1)];
        assert_eq!(infer(&history, &arrived), [1, 1]);
        let early = [came(0, 0, 1)];
        assert_eq!(infer(&[opened(1, 1), ended(9, 1, 0)], &early), [1]);
    }
}
