//! A few seeds without optimisation: that they hold, that they are the same each time, and that a
//! planted fault is caught and made small. Many seeds are the business of `cargo xtask sim`.

use std::sync::Arc;

use postrider_core::plant::Plant;
use postrider_sim::draw::{DELIVERIES_MIN, draw};
use postrider_sim::fault::FaultKind;
use postrider_sim::plan::What;
use postrider_sim::plant::Planted;
use postrider_sim::run::{run, run_seed};
use postrider_sim::shrink::shrink;

/// Seeds that once broke an invariant; the page on simulation says of each what was mended.
const MENDED: [u64; 8] = [
    68, 3_038_805, 10_008_582, 20_030_249, 30_006_949, 42_003_548, 50_034_562, 50_039_781,
];

#[test]
fn the_same_seed_gives_the_same_log_to_the_byte() {
    for seed in [3, 4] {
        let plan = Arc::new(draw(seed));
        let (one, two) = (run(&plan, None, true), run(&plan, None, true));
        assert!(one.log.len() > 100_000, "a log says what happened");
        assert!(one.log == two.log, "seed {seed} is not the same twice");
    }
    let other = run(&Arc::new(draw(5)), None, true);
    assert!(other.log != run(&Arc::new(draw(3)), None, true).log);
}

#[test]
fn seeds_hold() {
    for seed in (1_000_000..1_000_012).chain(MENDED) {
        let ran = run_seed(seed, None);
        assert_eq!(ran.violation, None, "seed {seed}");
        assert!(ran.settled >= 100, "seed {seed} settled {}", ran.settled);
    }
}

#[test]
fn plans_are_as_large_as_promised() {
    for seed in 0..200 {
        let plan = draw(seed);
        let mut deliveries = 0;
        let mut faults = 0;
        let mut keys = std::collections::BTreeSet::new();
        for item in &plan.items {
            match &item.what {
                What::Submit(wish) if keys.insert(wish.key) => deliveries += wish.endpoints.len(),
                What::Fault(fault) if fault.kind != FaultKind::Receiver => faults += 1,
                _ => {}
            }
        }
        assert!(
            deliveries >= DELIVERIES_MIN,
            "seed {seed}: {deliveries} deliveries"
        );
        assert!(faults >= 10, "seed {seed}: {faults} faults");
    }
}

#[test]
fn a_planted_fault_is_caught_and_its_plan_made_small() {
    let planted = Some(Planted::Engine(Plant::RetryAtAtMostOnce));
    let (seed, violation) = (0..50)
        .find_map(|seed| Some((seed, run_seed(seed, planted).violation?)))
        .expect("it is caught");
    let plan = draw(seed);
    let (small, _) = shrink(&plan, planted, violation.invariant);
    assert!(
        small.items.len() * 4 < plan.items.len(),
        "{} items",
        small.items.len()
    );
    let again = run(&Arc::new(small), planted, false).violation;
    assert_eq!(again.map(|it| it.invariant), Some(violation.invariant));
}
