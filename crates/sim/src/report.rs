//! What is said of runs: figures, coverage, and of a failure everything that is needed to see it.
//!
//! Absent here: judging.

use std::time::{Duration, Instant};

use postrider_sim::coverage::Coverage;
use postrider_sim::draw::draw;
use postrider_sim::fault::FaultKind;
use postrider_sim::plant::Planted;
use postrider_sim::run::{Ran, run};
use postrider_sim::shrink::shrink;

/// Lines of a timeline at the most.
const TIMELINE_LINES_MAX: usize = 160;
/// Situations that were not reached and are named, at the most.
const MISSING_MAX: usize = 12;

/// What many runs came to.
#[derive(Clone, Debug)]
pub struct Sum {
    seeds: u64,
    coverage: Coverage,
    settled: u64,
    settled_least: u64,
    faults_least: u64,
    events: u64,
    late_writes: u64,
    simulated_ms: i64,
    violations: u64,
}

impl Default for Sum {
    fn default() -> Sum {
        Sum {
            seeds: 0,
            coverage: Coverage::default(),
            settled: 0,
            settled_least: u64::MAX,
            faults_least: u64::MAX,
            events: 0,
            late_writes: 0,
            simulated_ms: 0,
            violations: 0,
        }
    }
}

impl Sum {
    /// Adds a run.
    pub fn add(&mut self, ran: &Ran) {
        self.seeds += 1;
        self.coverage.add(&ran.coverage);
        self.settled += ran.settled;
        self.events += ran.events;
        self.late_writes += ran.late_writes;
        self.simulated_ms += ran.simulated_ms;
        self.violations += u64::from(ran.violation.is_some());
        if ran.violation.is_none() {
            self.settled_least = self.settled_least.min(ran.settled);
            self.faults_least = self.faults_least.min(ran.coverage.faults());
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Sum) {
        self.seeds += other.seeds;
        self.coverage.add(&other.coverage);
        self.settled += other.settled;
        self.settled_least = self.settled_least.min(other.settled_least);
        self.faults_least = self.faults_least.min(other.faults_least);
        self.events += other.events;
        self.late_writes += other.late_writes;
        self.simulated_ms += other.simulated_ms;
        self.violations += other.violations;
    }
}

/// How long it takes.
pub struct Watch(Instant);

impl Watch {
    /// Now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the command measures how long it took"
    )]
    pub fn start() -> Watch {
        Watch(Instant::now())
    }

    /// Since the start.
    pub fn wall(&self) -> Duration {
        self.0.elapsed()
    }

    /// One line on how far it is.
    pub fn progress(&self, done: u64, of: u64, limit: Option<Duration>) -> String {
        let wall = self.wall().as_secs_f64();
        let rate = per(done, wall);
        match limit {
            Some(limit) => format!("{done} seeds, {rate:.0}/s, {wall:.0} of {limit:.0?}"),
            None => format!("{done} of {of} seeds, {rate:.0}/s"),
        }
    }

    /// CPU seconds of this process, all threads; the wall's where the system does not say.
    fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The fields after the name, which stands in brackets: the 12th and 13th are ticks.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|it| it.parse::<f64>().ok()).sum();
        if ticks > 0.0 {
            ticks / 100.0
        } else {
            self.wall().as_secs_f64()
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
fn per(many: u64, seconds: f64) -> f64 {
    many as f64 / seconds.max(0.001)
}

/// The figures.
pub fn say(sum: &Sum, watch: &Watch) -> String {
    let (cpu, wall) = (watch.cpu_s(), watch.wall().as_secs_f64());
    let simulated_s = u64::try_from(sum.simulated_ms).unwrap_or(0) / 1_000;
    let (reached, of, missing) = sum.coverage.summary();
    let mut lines = vec![
        format!("seeds                    {}", sum.seeds),
        format!("violations               {}", sum.violations),
        format!("seconds, wall and CPU    {wall:.1} and {cpu:.1}"),
        format!("seeds a second           {:.0}", per(sum.seeds, wall)),
        format!("simulated hours          {}", simulated_s / 3_600),
        format!(
            "times real time          {:.0} by CPU",
            per(simulated_s, cpu)
        ),
        format!(
            "deliveries settled       {}, {:.0} a CPU second, at least {} a seed",
            sum.settled,
            per(sum.settled, cpu),
            sum.settled_least
        ),
        format!(
            "faults                   {}, {:.0} a CPU second, at least {} a seed",
            sum.coverage.faults(),
            per(sum.coverage.faults(), cpu),
            sum.faults_least
        ),
        format!("events of the worlds     {}", sum.events),
        format!("late writes              {}", sum.late_writes),
        format!("situations reached       {reached} of {of} (state, fact, fault)"),
    ];
    for (kind, many) in FaultKind::ALL.into_iter().zip(sum.coverage.faults) {
        lines.push(format!("  {kind:<22?} {many}"));
    }
    for name in missing.iter().take(MISSING_MAX) {
        lines.push(format!("  never reached: {name}"));
    }
    if missing.len() > MISSING_MAX {
        lines.push(format!("  and {} more", missing.len() - MISSING_MAX));
    }
    lines.join("\n")
}

/// A failure: the seed, the invariant, the smallest plan that breaks it, and its timeline.
pub fn failure(seed: u64, plant: Option<Planted>, ran: &Ran) {
    let Some(violation) = &ran.violation else {
        return;
    };
    println!("\nseed {seed} breaks {}", violation.invariant);
    println!("at +{} ms: {}", violation.at_ms, violation.words);
    let (plan, runs) = shrink(&draw(seed), plant, violation.invariant);
    println!("\nthe smallest plan that does so, after {runs} runs:\n{plan}");
    let again = run(&std::sync::Arc::new(plan), plant, true);
    let (concerned, lines) = timeline(&again);
    let skipped = lines.len().saturating_sub(TIMELINE_LINES_MAX);
    println!("its timeline, {concerned}, without the first {skipped} lines:");
    for line in &lines[skipped..] {
        println!("{line}");
    }
    let planted = plant.map_or(String::new(), |it| format!("--planted {} ", it.name()));
    println!(
        "\nagain: cargo xtask sim {planted}--seed {seed} --seeds 1, or with --log for all of it"
    );
}

/// What happened: all of it where that is not too long, and what concerns the deliveries that the
/// violation names where it is.
fn timeline(ran: &Ran) -> (String, Vec<&str>) {
    let told = |line: &&str| !line.contains(" observed ") && !line.contains(" policy ");
    let mut lines: Vec<&str> = ran.log.lines().filter(told).collect();
    let violation = ran.violation.as_ref();
    let concerned = violation.map_or(Vec::new(), |it| named(&it.words));
    if lines.len() <= TIMELINE_LINES_MAX || concerned.is_empty() {
        return ("of everything".to_owned(), lines);
    }
    lines.retain(|line| tells_of(line, &concerned));
    (format!("of deliveries {concerned:?}"), lines)
}

/// The deliveries that these words name.
fn named(words: &str) -> Vec<u64> {
    let ways = [
        "delivery: DeliveryId(",
        "delivery ",
        "deliveries ",
        "lets ",
        "sends ",
        "#",
    ];
    let mut ids: Vec<u64> = Vec::new();
    for way in ways {
        for rest in words.split(way).skip(1) {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            ids.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether a line of the log tells of one of these deliveries, or of none in particular: a fault, a
/// node, a lease.
fn tells_of(line: &str, ids: &[u64]) -> bool {
    let mut named = line.split('#').skip(1).filter_map(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse::<u64>().ok())
    });
    let noise = [
        " cursor ",
        " observed ",
        " asked ",
        " replied ",
        " arrived ",
        " told ",
    ];
    ids.is_empty()
        || match named.next() {
            None => !noise.iter().any(|noise| line.contains(noise)),
            Some(first) => ids.contains(&first) || named.any(|id| ids.contains(&id)),
        }
}

#[cfg(test)]
mod tests {
    use super::{named, tells_of};

    #[test]
    fn a_timeline_keeps_to_the_deliveries_concerned() {
        let ids =
            named("Who { shard: 1 } lets delivery 42 go, after Entry { delivery: DeliveryId(7) }");
        assert_eq!(ids, [7, 42]);
        assert!(tells_of(
            "+1 committed  shard 0 epoch 1: [3: #41 v0 x] [4: #42 v0 y]",
            &ids
        ));
        assert!(!tells_of(
            "+1 committed  shard 0 epoch 1: [3: #421 v0 admitted]",
            &ids
        ));
        assert!(!tells_of("+1 cursor     shard 0 epoch 1: 9", &ids));
        assert!(tells_of("+1 node 0 dies", &ids));
        assert!(tells_of("+1 cursor     shard 0 epoch 1: 9", &[]));
    }
}
