//! For every checker a history that breaks its promise if it is told to, and keeps it if not.
//!
//! Absent here: who shows it to the checker.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Reach;
use postrider_core::engine::{Figures, Reply};
use postrider_core::firing::TIMERS_SPARE;
use postrider_core::id::{Ask, DeliveryId, EndpointId, Epoch, EventId, Seq};
use postrider_core::ledger::{Admitted, Fact, Next, State};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{Guarantee, HeadOfLine, Jitter, RatePolicy, Schedule};
use postrider_core::route::ROUTE_PROBE_MS;
use postrider_core::time::Time;

use super::bench::{
    AGAIN, Bench, ENDPOINT, ENDS, ONE, POLICY, REJECTED, ROUTE, TWO, admitted_reply, in_lane,
    outer, plain,
};
use crate::history::{Happened, Who};

/// A history that breaks the promise if it is told to, and keeps it if not.
pub(super) type Tell = fn(&mut Bench, bool);

pub(super) const HISTORIES: &[(&str, Tell)] = &[
    ("nothing-lost", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.replied(&admitted_reply());
        bench.closes(1, ONE);
        let rows: Vec<_> = bench.picture.rows(0).map(|it| it.row.clone()).collect();
        bench.see(&Happened::Rest { rested: true });
        bench.see(&Happened::Held {
            shard: 0,
            rows: if bad { &[] } else { &rows },
            journal: &[],
        });
    }),
    ("nothing-lost", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.replied(&admitted_reply());
        if !bad {
            bench.closes(1, ONE);
        }
        bench.see(&Happened::Rest { rested: false });
    }),
    ("one-answer", |bench, bad| {
        let (who, ask, delivery) = (bench.who, Ask(1), ONE);
        bench.see(&Happened::CancelAsked { who, ask, delivery });
        bench.replied(&Reply::Absent);
        if bad {
            bench.replied(&Reply::Absent);
        }
        bench.see(&Happened::Rest { rested: true });
    }),
    ("told-durable", |bench, bad| {
        if !bad {
            bench.admits(0, ONE, plain);
        }
        bench.replied(&admitted_reply());
    }),
    ("as-asked", |bench, bad| {
        bench.asks(if bad {
            &[ENDPOINT, EndpointId(2)]
        } else {
            &[ENDPOINT]
        });
        bench.admits(0, ONE, plain);
        bench.replied(&admitted_reply());
    }),
    ("as-asked", |bench, bad| {
        bench.asks(&[ENDPOINT]);
        bench.admits(0, ONE, |admitted| {
            admitted.expires_at = Time(ENDS.0 - i64::from(bad));
        });
        bench.replied(&admitted_reply());
    }),
    ("dedupe-exact", |bench, bad| {
        bench.admits_event(0, ONE, plain, |event| event.key_expires_at = Time(100));
        bench.admits(if bad { 99 } else { 100 }, TWO, plain);
    }),
    ("dedupe-exact", |bench, bad| {
        bench.admits_event(0, ONE, plain, |event| event.key_expires_at = ENDS);
        let mut freeing = bench.holding(Vec::new());
        freeing.release = Some(EventId(1));
        bench.record(&freeing);
        let retry_of = (!bad).then_some(EventId(1));
        bench.admits_event(1, TWO, plain, |event| event.retry_of = retry_of);
    }),
    ("sent-durable", |bench, bad| {
        bench.admits(0, ONE, plain);
        if !bad {
            bench.opens(1, ONE, 1);
        }
        bench.sends(1, ONE);
    }),
    ("owner-only", |bench, bad| {
        bench.granted(2);
        bench.who.epoch = Epoch(if bad { 1 } else { 2 });
        bench.turned(Figures::default(), Ok(()));
    }),
    ("at-most-once", |bench, bad| {
        let once = |admitted: &mut Admitted| admitted.guarantee = Guarantee::AtMostOnce;
        bench.admits(0, ONE, once);
        let dispatch = &bench.dispatch(ONE);
        let who = bench.who;
        bench.see(&Happened::Written { who, dispatch });
        if !bad {
            let correlation = dispatch.correlation;
            bench.see(&Happened::Unprocessed { correlation });
        }
        bench.see(&Happened::Written { who, dispatch });
    }),
    ("repeats-explained", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.is_tried(!bad);
        bench.opens(3, ONE, 2);
        for attempt in [1, 2] {
            bench.see(&Happened::Arrived {
                correlation: outer(ONE),
                attempt,
                processed: true,
            });
        }
    }),
    ("time-to-live", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.sends(ENDS.0 - i64::from(!bad), ONE);
    }),
    ("reachable", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.told(1, |gate| {
            gate.reach = if bad { Reach::Paused } else { Reach::Open };
        });
        bench.sends(2, ONE);
    }),
    ("lane-order", |bench, bad| {
        bench.admits(0, ONE, in_lane(1));
        bench.admits(0, TWO, in_lane(2));
        bench.sends(1, if bad { TWO } else { ONE });
    }),
    ("lane-parked", |bench, bad| {
        bench.policy(|policy| policy.head_of_line = HeadOfLine::Park);
        bench.admits(0, ONE, in_lane(1));
        bench.admits(0, TWO, in_lane(2));
        bench.opens(1, ONE, 1);
        let refused = Outcome::bare(OutcomeKind::Reject, Cause::ClientError);
        bench.answers(2, (ONE, 1), refused, REJECTED);
        if !bad {
            bench.told(3, |gate| gate.changed_at = Time(3));
        }
        bench.sends(4, TWO);
    }),
    ("lane-gapless", |bench, bad| {
        bench.admits(0, ONE, in_lane(1));
        bench.admits(0, TWO, in_lane(if bad { 3 } else { 2 }));
    }),
    ("ledger-chain", |bench, bad| {
        bench.admits(0, ONE, plain);
        let policy = POLICY;
        let mut entry = bench.entry(1, ONE, Fact::Opened { attempt: 1, policy });
        entry.previous.0 -= u64::from(bad);
        let record = bench.holding(vec![entry]);
        bench.record(&record);
    }),
    ("fenced", |bench, bad| {
        bench.granted(2);
        bench.who.epoch = Epoch(if bad { 1 } else { 2 });
        bench.admits(0, ONE, plain);
    }),
    ("fenced", |bench, bad| {
        bench.granted(2);
        let (shard, epoch) = (0, Epoch(if bad { 1 } else { 2 }));
        let (who, seq) = (Who { shard, epoch }, Seq(0));
        bench.see(&Happened::CursorKept { who, seq });
    }),
    ("purge-settled", |bench, bad| {
        bench.admits(0, ONE, plain);
        if !bad {
            bench.closes(1, ONE);
        }
        let (shard, gone) = (0, &[ONE][..]);
        bench.see(&Happened::Purged { shard, gone });
    }),
    ("ledger-fold", |bench, bad| {
        bench.admits(0, ONE, plain);
        let mut rows: Vec<_> = bench.picture.rows(0).map(|it| it.row.clone()).collect();
        rows[0].version += u32::from(bad);
        let journal = &bench.journal.clone();
        let (shard, rows) = (0, &rows);
        bench.see(&Happened::Held {
            shard,
            rows,
            journal,
        });
    }),
    ("not-early", |bench, bad| {
        bench.admits(0, ONE, |admitted| admitted.due_at = Time(10));
        bench.opens(if bad { 9 } else { 10 }, ONE, 1);
    }),
    ("schedule-kept", |bench, bad| {
        bench.policy(|policy| {
            policy.schedule = Schedule::Linear {
                step_ms: 1_000,
                cap_ms: 60_000,
            };
            policy.jitter = Jitter::Equal;
        });
        bench.admits(0, ONE, plain);
        let waits = [1_000, if bad { 999 } else { 1_000 }];
        for (attempt, waits) in (1..).zip(waits) {
            bench.opens(1, ONE, attempt);
            let outcome = Outcome::bare(OutcomeKind::Retry, Cause::ServiceDegraded);
            let due_at = Time(2 + waits);
            bench.answers(2, (ONE, attempt), outcome, Next::Again { due_at });
        }
    }),
    ("schedule-kept", |bench, bad| {
        bench.policy(|policy| policy.jitter = Jitter::None);
        bench.admits(0, ONE, plain);
        bench.opens(1, ONE, 1);
        let mut outcome = Outcome::bare(OutcomeKind::Retry, Cause::ServiceDegraded);
        outcome.retry_after_ms = (!bad).then_some(9_000);
        let due_at = Time(2 + 9_000);
        bench.answers(2, (ONE, 1), outcome, Next::Again { due_at });
    }),
    ("attempts-bounded", |bench, bad| {
        bench.policy(|policy| policy.attempts_max = if bad { 1 } else { 2 });
        bench.admits(0, ONE, plain);
        bench.is_tried(false);
        bench.opens(3, ONE, 2);
    }),
    ("rate-kept", |bench, bad| {
        let rate = RatePolicy {
            per_second_milli: 1_000,
            burst: 1,
        };
        bench.told(0, |gate| gate.rate = Some(rate));
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.opens(0, ONE, 1);
        bench.opens(if bad { 999 } else { 1_000 }, TWO, 1);
    }),
    ("rate-kept", |bench, bad| {
        let rate = RatePolicy {
            per_second_milli: 1_000,
            burst: 1,
        };
        bench.told(0, |gate| gate.rate = Some(rate));
        for delivery in (1..=4).map(DeliveryId) {
            bench.admits(0, delivery, plain);
        }
        bench.finds_no_room(0, ONE);
        bench.opens(1_000, TWO, 1);
        bench.opens(0, ONE, 1);
        bench.opens(2_000, DeliveryId(3), 1);
        bench.opens(if bad { 2_999 } else { 3_000 }, DeliveryId(4), 1);
    }),
    ("slots-kept", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        match bad {
            true => bench.opens(1, ONE, 1),
            false => bench.is_tried(false),
        }
        bench.opens(3, TWO, 1);
    }),
    ("slots-kept", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.finds_no_room(1, ONE);
        bench.is_tried(false);
        if bad {
            bench.opens(3, ONE, 2);
        }
        bench.opens(3, TWO, 1);
    }),
    ("shown-once", |bench, bad| {
        let once = |admitted: &mut Admitted| admitted.guarantee = Guarantee::EffectivelyOnce;
        bench.admits(0, ONE, once);
        for _ in 0..=u8::from(bad) {
            let (correlation, replaced) = (outer(ONE), None);
            bench.see(&Happened::Shown {
                correlation,
                replaced,
            });
        }
    }),
    ("route-held", |bench, bad| {
        bench.told(0, |_| {});
        let (who, at, route, open) = (bench.who, Time(1), ROUTE, !bad);
        bench.see(&Happened::ToldRoute {
            who,
            at,
            route,
            open,
        });
        bench.admits(2, ONE, plain);
        bench.sends(3, ONE);
    }),
    ("route-held", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.opens(1, ONE, 1);
        bench.opens(1, TWO, 1);
        let kind = match bad {
            true => OutcomeKind::Blocked,
            false => OutcomeKind::Retry,
        };
        bench.answers(2, (ONE, 1), Outcome::bare(kind, Cause::AuthFailure), AGAIN);
        bench.sends(3, TWO);
    }),
    ("route-held", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.finds_no_room(1, ONE);
        bench.opens(1, ONE, 1);
        let refused = Outcome::bare(OutcomeKind::Blocked, Cause::AuthFailure);
        bench.answers(2, (ONE, 1), refused, AGAIN);
        bench.opens(if bad { 3 } else { 2 + ROUTE_PROBE_MS }, TWO, 1);
    }),
    ("refusals-free", |bench, bad| {
        bench.policy(|policy| policy.attempts_max = if bad { 2 } else { 1 });
        bench.admits(0, ONE, plain);
        bench.opens(1, ONE, 1);
        let outcome = Outcome::bare(OutcomeKind::Retry, Cause::ServiceDegraded);
        let spent = Next::Settle {
            state: State::Exhausted,
            cause: Cause::AttemptsSpent,
        };
        bench.answers(2, (ONE, 1), outcome, spent);
    }),
    ("gone-honoured", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.opens(1, ONE, 1);
        let gone = Outcome::bare(OutcomeKind::Gone, Cause::ClientError);
        bench.answers(2, (ONE, 1), gone, REJECTED);
        bench.see(&Happened::Retired {
            endpoint: ENDPOINT,
            since: Time(2),
            registered_at: Time(if bad { 3 } else { 2 }),
        });
    }),
    ("broker-knows", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.closes(1, ONE);
        let entry = bench.journal[1].clone();
        if !bad {
            let (shard, seq, entry) = (0, entry.seq, &entry);
            bench.see(&Happened::Published { shard, seq, entry });
        }
        bench.see(&Happened::Rest { rested: true });
    }),
    ("broker-knows", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.closes(1, ONE);
        let entry = &bench.journal[usize::from(!bad)].clone();
        let (shard, seq) = (0, entry.seq);
        bench.see(&Happened::Published { shard, seq, entry });
    }),
    ("cursor-true", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.closes(1, ONE);
        let entry = &bench.journal[1].clone();
        let (who, shard, seq) = (bench.who, 0, entry.seq);
        if !bad {
            bench.see(&Happened::Published { shard, seq, entry });
        }
        bench.see(&Happened::CursorKept { who, seq });
    }),
    ("memory-bounded", |bench, bad| {
        let window = if bad { 200 } else { 100 };
        bench.fills(Figures {
            window,
            ..Figures::default()
        });
    }),
    ("memory-bounded", |bench, bad| {
        let records_pending = if bad { 30 } else { 10 };
        bench.fills(Figures {
            records_pending,
            ..Figures::default()
        });
    }),
    ("memory-bounded", |bench, bad| {
        let timers = TIMERS_SPARE + if bad { 3 } else { 2 };
        bench.fills(Figures {
            timers,
            window: 1,
            ..Figures::default()
        });
    }),
    ("books-agree", |bench, bad| {
        let audit = match bad {
            true => Err("a slot is counted twice".to_owned()),
            false => Ok(()),
        };
        bench.turned(Figures::default(), audit);
    }),
    ("comes-to-rest", |bench, bad| {
        bench.see(&Happened::Rest { rested: !bad });
    }),
];
