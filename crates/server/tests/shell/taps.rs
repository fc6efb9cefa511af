//! Taps: what one life of the node does is written down while it does it, in its true order: what
//! its engine was told and asked, what its store made durable, and how each turn left its books.
//!
//! Absent here: judgement, and any change to what passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use postrider::http::intake::{Intake, Load};
use postrider::registry::{Change, Endpoint, EndpointState, Gatekeeper, Registry, Route};
use postrider::run::{Announcer, EngineIntake, Inline, gate};
use postrider::store::{Fatal, Ledger, Recovery, Verdict};
use postrider_core::cause::Cause;
use postrider_core::engine::{Config, Reply};
use postrider_core::event::Submission;
use postrider_core::id::{Ask, DeliveryId, Epoch};
use postrider_core::ledger::{Delivery, Record};
use postrider_core::observation::Figures;
use postrider_core::policy::Policy;
use postrider_core::time::Time;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::evidence::Evidence;
use crate::history_kit::Witnessed;

/// Turns from one audit to the next.
const AUDIT_TURNS: u64 = 24;

/// The tap on one life. It is over when the last of its clones is dropped: with the node.
#[derive(Clone)]
pub struct Tap(Arc<Life>);

struct Life {
    evidence: Evidence,
    epoch: Epoch,
    asks: AtomicU64,
    turns: AtomicU64,
    figures: Mutex<Option<Figures>>,
    /// Questions that are not answered yet.
    open: Mutex<Vec<Question>>,
}

/// Looks whether the answer has come and hands it on; whether it is still open.
type Question = Box<dyn FnMut(&Life) -> bool + Send>;

impl Drop for Life {
    fn drop(&mut self) {
        self.evidence.witness(Witnessed::Ended(self.epoch));
    }
}

impl Tap {
    /// An engine begins under this epoch.
    pub fn begins(evidence: &Evidence, epoch: Epoch, config: &Config) -> Tap {
        let bounds = Witnessed::Bounds(config.window_max, config.records_max);
        evidence.witness(bounds);
        evidence.witness(Witnessed::Granted(epoch));
        Tap(Arc::new(Life {
            evidence: evidence.clone(),
            epoch,
            asks: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            figures: Mutex::default(),
            open: Mutex::default(),
        }))
    }

    fn saw(&self, what: Witnessed) {
        self.0.evidence.witness(what);
    }

    fn now(&self) -> Time {
        Time(self.0.evidence.now_ms())
    }

    fn tells(&self, endpoint: &Endpoint, registry: &Registry) {
        let gate = gate(endpoint, &registry.policies());
        self.saw(Witnessed::Told(self.0.epoch, self.now(), gate));
    }

    /// Everything that the engine is told before anything can be asked of it.
    pub fn surroundings(&self, registry: &Registry, retired: &[Arc<Endpoint>]) {
        for policy in registry.policies().versions() {
            self.saw(Witnessed::Policy(Arc::clone(policy)));
        }
        retired.iter().for_each(|endpoint| self.retired(endpoint));
        for endpoint in registry.directory().iter() {
            self.tells(endpoint, registry);
        }
        for route in registry.paused_routes() {
            self.saw(Witnessed::ToldRoute(self.0.epoch, self.now(), route, false));
        }
    }

    fn retired(&self, endpoint: &Endpoint) {
        if let EndpointState::Retired { cause, at } = endpoint.state
            && cause != Cause::EndpointDeleted
        {
            let registered_at = endpoint.registered_at();
            self.saw(Witnessed::Retired(endpoint.id, at, registered_at));
        }
    }

    /// The engine has taken a turn; what it answers is heard before anything is committed.
    pub fn turned(&self, driver: &Inline) {
        self.hand_on();
        let turns = self.0.turns.fetch_add(1, Relaxed);
        let engine = driver.engine();
        let figures = engine.figures();
        let before = self.0.figures.lock().replace(figures);
        let audited = turns.is_multiple_of(AUDIT_TURNS);
        if audited || before != Some(figures) {
            let audit = match audited {
                true => engine.audit(self.now()),
                false => Ok(()),
            };
            self.saw(Witnessed::Turned(self.0.epoch, figures, audit));
        }
    }

    fn ask(&self) -> Ask {
        Ask(self.0.epoch.0 << 32 | self.0.asks.fetch_add(1, Relaxed))
    }

    /// Hands an answer on once it is there, whether anybody waits for it or not.
    fn answers<T: Send + 'static>(
        &self,
        mut from: oneshot::Receiver<T>,
        asked: Vec<Ask>,
        replies: fn(&T) -> &[Reply],
    ) -> oneshot::Receiver<T> {
        let (to, answered) = oneshot::channel();
        let mut to = Some(to);
        self.0.open.lock().push(Box::new(move |life| {
            let answer = match from.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => return false,
                Ok(answer) => answer,
            };
            for (ask, reply) in asked.iter().zip(replies(&answer)) {
                let replied = Witnessed::Replied(life.epoch, *ask, reply.clone());
                life.evidence.witness(replied);
            }
            // The caller may have left.
            let _ = to.take().map(|to| to.send(answer));
            false
        }));
        self.hand_on();
        answered
    }

    fn hand_on(&self) {
        let life = &*self.0;
        life.open.lock().retain_mut(|is_open| is_open(life));
    }
}

/// A store whose commits are seen.
pub struct Seen<L>(pub Tap, pub L);

impl<L: Ledger> Ledger for Seen<L> {
    fn record(&mut self, records: &[Record]) -> Result<Vec<Verdict>, Fatal> {
        let verdicts = self.1.record(records)?;
        for (record, verdict) in records.iter().cloned().zip(&verdicts) {
            self.0.saw(match verdict {
                Verdict::Recorded => Witnessed::Committed(record),
                refused => Witnessed::Refused(record, refused.clone()),
            });
        }
        Ok(verdicts)
    }

    fn tend(&mut self, now: Time) -> Result<bool, Fatal> {
        self.1.tend(now)
    }

    fn recover(&mut self, visit: &mut dyn FnMut(Delivery)) -> Result<Recovery, Fatal> {
        self.1.recover(visit)
    }
}

/// A way in whose questions and answers are heard.
pub struct Heard(pub Tap, pub EngineIntake);

impl Intake for Heard {
    fn submit(&self, submissions: Vec<Box<Submission>>) -> oneshot::Receiver<Vec<Reply>> {
        let Heard(tap, intake) = self;
        let mut asked = Vec::with_capacity(submissions.len());
        for submission in &submissions {
            let ask = tap.ask();
            let submission = submission.clone();
            tap.saw(Witnessed::Asked(tap.0.epoch, ask, intake.now(), submission));
            asked.push(ask);
        }
        tap.answers(intake.submit(submissions), asked, Vec::as_slice)
    }

    fn cancel(&self, delivery: DeliveryId) -> oneshot::Receiver<Reply> {
        let Heard(tap, intake) = self;
        let ask = tap.ask();
        tap.saw(Witnessed::CancelAsked(tap.0.epoch, ask, delivery));
        tap.answers(intake.cancel(delivery), vec![ask], std::slice::from_ref)
    }

    fn receipt(&self, delivery: DeliveryId, receipt: u8) -> oneshot::Receiver<Reply> {
        let Heard(tap, intake) = self;
        let ask = tap.ask();
        tap.saw(Witnessed::ReceiptAsked(tap.0.epoch, ask, delivery, receipt));
        let answered = intake.receipt(delivery, receipt);
        tap.answers(answered, vec![ask], std::slice::from_ref)
    }

    fn load(&self) -> Load {
        self.1.load()
    }

    fn now(&self) -> Time {
        self.1.now()
    }

    fn random(&self) -> u128 {
        self.1.random()
    }
}

/// Announcements that are overheard.
pub struct Overheard {
    pub tap: Tap,
    pub announcer: Announcer,
    pub registry: std::sync::Weak<Registry>,
}

impl Gatekeeper for Overheard {
    fn endpoint_changed(&self, endpoint: &Arc<Endpoint>, change: Change) {
        if let Some(registry) = self.registry.upgrade() {
            if change == Change::Retired {
                self.tap.retired(endpoint);
            }
            self.tap.tells(endpoint, &registry);
        }
        self.announcer.endpoint_changed(endpoint, change);
    }

    fn route_changed(&self, route: &Arc<Route>) {
        let (epoch, at, open) = (self.tap.0.epoch, self.tap.now(), route.paused.is_none());
        self.tap
            .saw(Witnessed::ToldRoute(epoch, at, route.id, open));
        self.announcer.route_changed(route);
    }

    fn policy_changed(&self, policy: &Arc<Policy>) {
        self.tap.saw(Witnessed::Policy(Arc::clone(policy)));
        self.announcer.policy_changed(policy);
    }
}
