//! One point: a life of the engine with a fault in it, the next life without one, and everything
//! held against what was acknowledged.
//!
//! The checkers are those of the simulator, of `postrider demo` and of `journal verify`.
//! Absent here: which points.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postrider::cli::demo::check::{Findings, check};
use postrider::cli::demo::evidence::{Evidence, Outage, Row};
use postrider::cli::demo::gather;
use postrider::fake::{Fake, Filter, Record, Settings};
use postrider::store::embedded::verify::verify;
use postrider::vault::{MASTER_KEY_FILE, Vault};
use postrider_core::time::Time;

use crate::engine::{Engine, Home, PATIENCE};
use crate::history_kit::afterwards::Remains;
use crate::history_kit::{fed::Layer, judge};
use crate::hook::{Fault, Hit, hits};
use crate::load::{Gone, Load};
use crate::shared;

/// Pause between two looks whether everything is settled.
const LOOK: Duration = Duration::from_millis(3);
/// Lives without a fault in which a directory must open.
const STARTS_MAX: usize = 2;

/// What is done at one point.
#[derive(Clone, Debug)]
pub struct Point {
    pub fault: Fault,
    /// Rounds of the load in the life with the fault.
    pub rounds: usize,
    /// Bytes by which their payloads are longer than they need be.
    pub pad_bytes: usize,
    /// Further words on the command line of that life.
    pub more: &'static [&'static str],
}

impl Point {
    /// One round of small events under this fault.
    pub fn of(fault: Fault) -> Point {
        Point {
            fault,
            rounds: 1,
            pad_bytes: 0,
            more: &[],
        }
    }
}

/// What one point came to.
pub struct Seen {
    /// The calls that the fault hit.
    pub hits: Vec<Hit>,
    /// How the life with the fault ended: `None` if the load ended first.
    pub ended: Option<i32>,
    /// Deliveries that were acknowledged in that life.
    pub acknowledged: usize,
    /// What the next life made of them.
    pub findings: Findings,
    /// Everything that is wrong.
    pub wrong: Vec<String>,
}

/// A data directory and all that was seen of it.
pub struct Case {
    pub home: Home,
    pub fake: Fake,
    /// Every round of the load so far.
    pub loads: Vec<Load>,
    pub outages: Vec<Outage>,
    _place: tempfile::TempDir,
}

/// Where points begin: a directory as a killed engine left it, or none at all.
pub struct Origin {
    case: Case,
    received: Vec<Record>,
}

impl Case {
    pub async fn empty(settings: &str) -> Case {
        let place = tempfile::tempdir().expect("a directory");
        Case {
            home: Home::prepare(place.path(), "", settings),
            fake: Fake::start(Settings::default()).await.expect("a fake"),
            loads: Vec::new(),
            outages: Vec::new(),
            _place: place,
        }
    }

    /// Lives once with a fault, and again until everything has been asked for and is settled.
    pub async fn point(&mut self, point: &Point, before: &[Record]) -> Seen {
        let old = self.loads.len();
        for round in old..old + point.rounds {
            let next = Load::new(round, point.pad_bytes);
            self.loads.push(next);
        }
        let mut life = self.live(Some(&point.fault), point.more).await;
        let ended = life.as_ref().err().copied();
        let acknowledged = self.loads[old..].iter().map(Load::acknowledged).sum();
        for _ in 0..STARTS_MAX {
            if life.is_err() {
                life = self.live(None, &[]).await;
            }
        }
        let (findings, wrong) = match life {
            Ok(rows) => self.judge(rows, before),
            Err(code) => {
                let words = self.home.last_words();
                let wrong = format!("it does not live again ({code}): {words}");
                (Findings::default(), vec![wrong])
            }
        };
        Seen {
            hits: hits(&self.home.hook_log()),
            ended,
            acknowledged,
            findings,
            wrong,
        }
    }

    /// One life: everything is asked for, it is waited until all is settled, and the ledger is
    /// read. Then it is killed. The exit code if it ended before.
    async fn live(&mut self, fault: Option<&Fault>, more: &[&str]) -> Result<Vec<Row>, i32> {
        let started_us = now_us();
        let engine = match Engine::start(&self.home, fault, more).await {
            Ok(engine) => engine,
            Err(how) => {
                self.outage(started_us);
                return Err(code(how));
            }
        };
        match self.ask(&engine).await {
            Ok(rows) => {
                engine.kill().await;
                Ok(rows)
            }
            Err(Gone) => {
                let kill_us = now_us();
                let how = engine.ended().await;
                self.outage(kill_us);
                Err(code(how))
            }
        }
    }

    /// A life without a fault behind another command, with every call written down, that ends in
    /// order.
    pub async fn watched(&mut self, before: &[&str]) {
        self.loads.push(Load::new(0, 0));
        let fault = Fault::none();
        let engine = Engine::start_by(before, &self.home, Some(&fault), &[]).await;
        let engine = engine.unwrap_or_else(|how| panic!("{how}: {}", self.home.last_words()));
        self.ask(&engine).await.expect("it answers");
        // The child is the other command; the engine itself has signed the directory.
        let id = std::fs::read_to_string(self.home.data().join("LOCK")).expect("a lock");
        let id = nix::unistd::Pid::from_raw(id.trim().parse().expect("a process id"));
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        let how = engine.ended().await;
        assert!(how.success(), "{how}: {}", self.home.last_words());
    }

    /// Asks for every round, waits until all is settled, and reads the ledger.
    pub async fn ask(&mut self, engine: &Engine) -> Result<Vec<Row>, Gone> {
        let mut api = engine.api();
        let mut made = BTreeMap::new();
        for load in &mut self.loads {
            load.endpoints.append(&mut made);
            load.ask(&mut api, &self.fake).await?;
            made = load.endpoints.clone();
        }
        let began = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        while gather::unsettled(&mut api).await.map_err(|_| Gone)? > 0 {
            assert!(began.elapsed() < PATIENCE, "not everything settles");
            look.tick().await;
        }
        let paths = self.loads.last().map(Load::paths).unwrap_or_default();
        gather::tenant_rows(&mut api, &paths)
            .await
            .map_err(|_| Gone)
    }

    fn outage(&mut self, kill_us: u64) {
        let dead_us = now_us();
        self.outages.push(Outage {
            kill_us,
            dead_us,
            ready_us: dead_us,
            recovery_ms: 0,
        });
    }

    /// Everything that is left of it, for the checkers of all layers.
    pub fn remains(&self, received: &[Record]) -> Remains {
        let asked = self.loads.iter().flat_map(|load| &load.asked);
        let said = asked.flat_map(|asked| &asked.answers);
        shared::remains(&self.home.data(), said, received)
    }

    /// Everything that was answered and received, held against the ledger.
    pub fn judge(&self, rows: Vec<Row>, before: &[Record]) -> (Findings, Vec<String>) {
        let mut received = before.to_vec();
        received.extend(self.fake.requests(&Filter::default()));
        let evidence = Evidence {
            fakes: Load::fakes(),
            asked: self
                .loads
                .iter()
                .flat_map(|load| load.asked.clone())
                .collect(),
            rows,
            received,
            outages: self.outages.clone(),
            ..Evidence::default()
        };
        let findings = check(&evidence);
        let broken = findings.broken.iter();
        let mut wrong: Vec<String> = broken
            .map(|one| format!("{:?}: {}: {}", one.promise, one.whose, one.what))
            .collect();
        wrong.extend(verified(&self.home.data()));
        let history = self.remains(&evidence.received).history();
        let complaints = judge(Layer::Kill, &history);
        wrong.extend(complaints.iter().map(ToString::to_string));
        (findings, wrong)
    }
}

impl Origin {
    /// A directory with one round of the load on it, killed as it settled.
    pub async fn lived_in() -> Origin {
        let mut case = Case::empty("").await;
        case.loads.push(Load::new(0, 0));
        let lived = case.live(Some(&Fault::none()), &[]).await;
        assert!(lived.is_ok(), "{lived:?}: {}", case.home.last_words());
        case.outage(now_us());
        let received = case.fake.requests(&Filter::default());
        Origin { case, received }
    }

    /// A point that begins here.
    pub async fn point(&mut self, point: &Point) -> Seen {
        let home = tempfile::tempdir().expect("a directory");
        let place = Home::prepare(home.path(), "", "");
        copy(&self.case.home.data(), &place.data());
        self.case.fake.clear();
        let fake = std::mem::replace(
            &mut self.case.fake,
            Fake::start(Settings::default()).await.expect("a fake"),
        );
        let mut case = Case {
            home: place,
            fake,
            loads: self.case.loads.clone(),
            outages: self.case.outages.clone(),
            _place: home,
        };
        let seen = case.point(point, &self.received).await;
        self.case.fake = case.fake;
        seen
    }
}

/// What a verification of the directory finds.
fn verified(data: &Path) -> Vec<String> {
    let vault = Vault::open(&data.join(MASTER_KEY_FILE)).expect("the master key");
    let now = Time(i64::try_from(now_us() / 1_000).expect("a moment"));
    match verify(data, &vault, now, &mut |_| ()) {
        Ok(report) => report.findings.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Copies a directory without directories in it, as a process that was killed leaves it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a new directory");
    for file in from.read_dir().expect("a directory") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

/// The exit code; that of a shell where a signal ended it.
fn code(how: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    how.code()
        .unwrap_or_else(|| 128 + how.signal().unwrap_or(0))
}

pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_micros()).expect("before 2500")
}
