//! Proof that the checkers of all layers see what a point leaves: what is left of a good life is
//! spoilt, and each complains.
//!
//! Absent here: faults. Nothing goes wrong in the life that is spoilt.

use postrider_core::ledger::Fact;
use postrider_core::policy::Guarantee;

use crate::engine::Engine;
use crate::history_kit::afterwards::Remains;
use crate::history_kit::fed::Layer;
use crate::history_kit::{judge, spoil};
use crate::life::Case;
use crate::load::Load;

/// What one life without a fault leaves.
async fn good_life() -> Remains {
    let mut case = Case::alone("").await;
    case.loads.push(Load::new(0, 0));
    let engine = Engine::start(&case.home, None, &[]).await;
    let engine = engine.unwrap_or_else(|how| panic!("{how}: {}", case.home.last_words()));
    case.ask(&engine).await.expect("it answers");
    engine.kill().await;
    case.remains(&case.receivers.arrived().records)
}

fn complaints(of: &Remains) -> Vec<&'static str> {
    let complaints = judge(Layer::Kill, &of.history());
    complaints
        .iter()
        .map(|complaint| complaint.invariant)
        .collect()
}

/// Holds that this checker is among those that complain once `spoil` was done.
fn complains(of: &Remains, name: &str, spoil: impl FnOnce(&mut Remains)) {
    let mut spoilt = of.clone();
    spoil(&mut spoilt);
    let found = complaints(&spoilt);
    assert!(found.contains(&name), "{name} is not among {found:?}");
}

#[test]
fn the_shared_checkers_see_what_they_are_said_to_see() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let good = runtime.expect("a runtime").block_on(good_life());
    spoil::every_checker_sees(Layer::Kill, &[good.history()]);

    let told = good.answers[0].clone();
    complains(&good, "nothing-lost", |it| {
        it.rows.retain(|row| row.id != told.deliveries[0].0);
    });
    complains(&good, "told-durable", |it| {
        let ids: Vec<_> = told.deliveries.iter().map(|(id, _)| *id).collect();
        it.journal.retain(|entry| !ids.contains(&entry.delivery));
        it.events.remove(&told.event);
    });
    complains(&good, "ledger-fold", |it| it.rows[0].attempt += 1);
    complains(&good, "ledger-chain", |it| {
        let place = it.journal.iter().position(|entry| opens(&entry.fact));
        it.journal.remove(place.expect("an attempt"));
    });
    complains(&good, "sent-durable", |it| it.arrivals[0].attempt.1 += 50);
    complains(&good, "at-most-once", |it| {
        let once = |outer| {
            let row = it.rows.iter().find(|row| row.correlation == outer);
            row.is_some_and(|row| row.guarantee == Guarantee::AtMostOnce)
        };
        let first = it.arrivals.iter().find(|it| once(it.attempt.0)).copied();
        it.arrivals.push(first.expect("one at most once"));
    });
    complains(&good, "repeats-explained", |it| {
        let clear = |outer| {
            let row = it.rows.iter().find(|row| row.correlation == outer);
            row.is_some_and(|row| !row.may_have_acted)
        };
        let acted = it
            .arrivals
            .iter()
            .find(|it| it.processed && clear(it.attempt.0));
        it.arrivals.push(*acted.expect("one that was acted on"));
    });
    complains(&good, "dedupe-exact", |it| {
        let key = it.events.values().next().expect("an event").key_digest;
        let event = it.events.values_mut().nth(1).expect("another event");
        event.key_digest = key;
    });
}

fn opens(fact: &Fact) -> bool {
    matches!(fact, Fact::Opened { .. })
}
