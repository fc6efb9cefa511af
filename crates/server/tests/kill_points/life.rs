//! One point: a life of the engine with a fault in it, the next life without one, and everything
//! held against what was acknowledged.
//!
//! The checkers are those of the simulator, of `postrider demo` and of `journal verify`.
//! Absent here: which points.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postrider::cli::demo::api::{Answer, Api};
use postrider::cli::demo::check::{Findings, check};
use postrider::cli::demo::evidence::{Device, Evidence, Nature, Outage, Row};
use postrider::cli::demo::gather;
use postrider::fake::Record;
use postrider::store::embedded::verify::verify;
use postrider::vault::{MASTER_KEY_FILE, Vault};
use postrider_core::time::Time;

use crate::engine::{Engine, Home, PATIENCE};
use crate::history_kit::afterwards::Remains;
use crate::history_kit::{fed::Layer, judge};
use crate::hook::{Fault, Hit, hits};
use crate::load::{Gone, Load, Made};
use crate::receivers::{Arrived, Receiver, Receivers, of_round};
use crate::shared;

/// Pause between two looks whether everything is settled.
const LOOK: Duration = Duration::from_millis(3);
/// Longest wait until the registry says what the journal says.
const RETIRED_MAX: Duration = Duration::from_secs(10);
/// What is read where something does not settle.
const STUCK: [&str; 3] = [
    "/v1/deliveries?state=scheduled",
    "/v1/deliveries?state=in_flight",
    "/v1/routes",
];
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
    /// Whether the load waits for what takes seconds.
    pub patient: bool,
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
            patient: false,
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
    /// How often something was handed to a device.
    pub pushes: usize,
    /// Devices of these rounds that were retired.
    pub retired: usize,
    /// Everything that is wrong.
    pub wrong: Vec<String>,
}

/// What the API shows in the end.
#[derive(Debug, Default)]
pub struct Shown {
    rows: Vec<Row>,
    /// By the path that stands for each.
    devices: BTreeMap<String, Device>,
}

/// A data directory and all that was seen of it.
pub struct Case {
    pub home: Home,
    pub receivers: Arc<Receivers>,
    /// Every round of the load so far.
    pub loads: Vec<Load>,
    pub outages: Vec<Outage>,
    _place: tempfile::TempDir,
}

/// Where points begin: a directory as a killed engine left it, or none at all.
pub struct Origin {
    case: Case,
    arrived: Arrived,
}

impl Case {
    /// One with receivers of its own. `settings` come into the engine's configuration.
    pub async fn alone(settings: &str) -> Case {
        Case::empty(&Arc::new(Receivers::start().await), settings)
    }

    /// One whose receivers have served before.
    pub fn empty(receivers: &Arc<Receivers>, settings: &str) -> Case {
        let place = tempfile::tempdir().expect("a directory");
        receivers.clear();
        let settings = settings.to_owned() + &receivers.settings();
        Case {
            home: Home::prepare(place.path(), "", &settings),
            receivers: Arc::clone(receivers),
            loads: Vec::new(),
            outages: Vec::new(),
            _place: place,
        }
    }

    /// Lives once with a fault, and again until everything has been asked for and is settled.
    pub async fn point(&mut self, point: &Point, before: &Arrived) -> Seen {
        let old = self.loads.len();
        for round in old..old + point.rounds {
            self.loads.push(match point.patient {
                true => Load::patient(round),
                false => Load::new(round, point.pad_bytes),
            });
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
            Ok(shown) => self.judge(shown, before),
            Err(code) => {
                let words = self.home.last_words();
                let wrong = format!("it does not live again ({code}): {words}");
                (Findings::default(), vec![wrong])
            }
        };
        let retired_before = (0..old)
            .flat_map(of_round)
            .filter(Receiver::is_gone)
            .count();
        Seen {
            hits: hits(&self.home.hook_log()),
            ended,
            acknowledged,
            pushes: self.receivers.arrived().pushes.len(),
            retired: findings.retired.saturating_sub(retired_before),
            findings,
            wrong,
        }
    }

    /// One life: everything is asked for, it is waited until all is settled, and the ledger is
    /// read. Then it is killed. The exit code if it ended before.
    async fn live(&mut self, fault: Option<&Fault>, more: &[&str]) -> Result<Shown, i32> {
        let started_us = now_us();
        let engine = match Engine::start(&self.home, fault, more).await {
            Ok(engine) => engine,
            Err(how) => {
                self.outage(started_us);
                return Err(code(how));
            }
        };
        match self.ask(&engine).await {
            Ok(shown) => {
                engine.kill().await;
                Ok(shown)
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

    /// Asks for every round, waits until all is settled, and reads the ledger and the registry.
    pub async fn ask(&mut self, engine: &Engine) -> Result<Shown, Gone> {
        let mut api = engine.api();
        let mut made = Made::default();
        for load in &mut self.loads {
            load.made.and(made);
            load.ask(&mut api, &self.receivers).await?;
            made = load.made.clone();
        }
        let began = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        while gather::unsettled(&mut api).await.map_err(|_| Gone)? > 0 {
            if began.elapsed() > PATIENCE {
                panic!("not everything settles: {}", self.stuck(&mut api).await);
            }
            look.tick().await;
        }
        let paths = self.loads.last().map(Load::paths).unwrap_or_default();
        let rows = gather::tenant_rows(&mut api, &paths).await;
        let rows = rows.map_err(|_| Gone)?;
        // The registry follows the journal. What it does not get to is for the checks to find.
        let began = Instant::now();
        let mut devices = self.devices(&mut api).await?;
        while began.elapsed() < RETIRED_MAX && !self.not_retired(&devices).is_empty() {
            look.tick().await;
            devices = self.devices(&mut api).await?;
        }
        Ok(Shown { rows, devices })
    }

    /// What does not settle, as the API and the engine's log say.
    async fn stuck(&self, api: &mut Api) -> String {
        let mut said = String::new();
        for path in STUCK {
            let answer = api.get(path).await;
            let text = |answer: Answer| String::from_utf8_lossy(&answer.body).into_owned();
            said += &answer.map_or_else(|lost| lost.to_string(), text);
            said += "\n";
        }
        said + &self.home.last_words()
    }

    async fn devices(&self, api: &mut Api) -> Result<BTreeMap<String, Device>, Gone> {
        let mut devices = BTreeMap::new();
        for (path, channel, id) in self.loads.iter().flat_map(Load::devices) {
            if let Entry::Vacant(place) = devices.entry(path) {
                let device = gather::device(api, channel, &id).await;
                place.insert(device.map_err(|_| Gone)?);
            }
        }
        Ok(devices)
    }

    /// What every receiver does in the end.
    fn natures(&self) -> BTreeMap<String, Nature> {
        let all = (0..self.loads.len()).flat_map(of_round);
        all.map(|one| (one.path, one.nature)).collect()
    }

    /// Devices that are gone, and not retired.
    fn not_retired(&self, devices: &BTreeMap<String, Device>) -> Vec<String> {
        let natures = self.natures();
        let left = devices
            .iter()
            .filter(|(path, device)| natures[*path] == Nature::Gone && device.retired_us.is_none());
        left.map(|(path, _)| path.clone()).collect()
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
        let devices = self.loads.iter().flat_map(Load::devices);
        let devices: BTreeSet<String> = devices.map(|(path, ..)| path).collect();
        // Providers are not told which attempt a request is.
        let numbered = |hit: &Record| Record {
            attempt: if devices.contains(&*hit.path) {
                0
            } else {
                hit.attempt
            },
            ..hit.clone()
        };
        let received: Vec<Record> = received.iter().map(numbered).collect();
        shared::remains(&self.home.data(), said, &received)
    }

    /// Everything that was answered and received, held against the ledger.
    pub fn judge(&self, shown: Shown, before: &Arrived) -> (Findings, Vec<String>) {
        let Arrived {
            records: mut received,
            mut pushes,
        } = before.clone();
        let arrived = self.receivers.arrived();
        received.extend(arrived.records);
        pushes.extend(arrived.pushes);
        let left = self.not_retired(&shown.devices);
        let evidence = Evidence {
            fakes: self.natures(),
            asked: self
                .loads
                .iter()
                .flat_map(|load| load.asked.clone())
                .collect(),
            rows: shown.rows,
            received,
            outages: self.outages.clone(),
            devices: shown.devices,
            pushes,
        };
        let findings = check(&evidence);
        let broken = findings.broken.iter();
        let mut wrong: Vec<String> = broken
            .map(|one| format!("{:?}: {}: {}", one.promise, one.whose, one.what))
            .collect();
        let left = left.iter().map(|path| format!("{path} is not retired"));
        wrong.extend(left);
        let due: usize = self.loads.iter().map(Load::to_be_shown).sum();
        if findings.shown != due {
            wrong.push(format!("devices show {} of {due}", findings.shown));
        }
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
        let mut case = Case::alone("").await;
        case.loads.push(Load::new(0, 0));
        let lived = case.live(Some(&Fault::none()), &[]).await;
        assert!(lived.is_ok(), "{lived:?}: {}", case.home.last_words());
        case.outage(now_us());
        let arrived = case.receivers.arrived();
        Origin { case, arrived }
    }

    /// A point that begins here.
    pub async fn point(&self, point: &Point) -> Seen {
        let mut case = Case::empty(&self.case.receivers, "");
        copy(&self.case.home.data(), &case.home.data());
        case.loads.clone_from(&self.case.loads);
        case.outages.clone_from(&self.case.outages);
        case.point(point, &self.arrived).await
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
