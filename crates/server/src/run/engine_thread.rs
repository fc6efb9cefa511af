//! The engine thread: gathers what has come, lets the engine take it, and performs what follows.
//!
//! Absent here: a tick. The thread sleeps until something comes or the engine wants to be woken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use postrider_core::engine::{Config, Engine, Input, Origin};
use postrider_core::event::LaneCounter;
use postrider_core::executor::{Executor, World};
use postrider_core::id::{Ask, Stamp};
use postrider_core::ledger::Delivery;
use postrider_core::plant::Plant;
use postrider_core::time::Time;
use tokio::runtime::Handle;

use super::command::Command;
use super::intake::{EngineIntake, Gauges};
use super::world::RealWorld;
use super::writer::Writer;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::observe::{AttemptLog, Metrics, Observer};
use crate::registry::Registry;
use crate::store::{Fatal, Ledger, Reader};
use crate::transport::Transport;

/// Commands that one turn takes at the most.
const TURN_COMMANDS_MAX: usize = 1_024;
/// What commits are held back by where requests leave before them, so that a kill falls between.
const PLANTED_DELAY: Duration = Duration::from_millis(40);
/// Longest sleep.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// Rows that recovery hands to the engine at a time.
const RECOVERY_ROWS: usize = 4_096;

/// What the engine thread works with.
pub struct Parts {
    /// The reading half of the store.
    pub reader: Arc<dyn Reader>,
    /// Endpoints by id.
    pub registry: Arc<Registry>,
    /// The way out.
    pub transport: Arc<Transport>,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Who counts what the engine observed.
    pub observer: Observer,
    /// Where each attempt's line goes, if attempts are logged.
    pub attempt_log: Option<AttemptLog>,
    /// The engine's clock.
    pub clock: Arc<Clock>,
    /// Where the bits of ids and of jitter come from.
    pub entropy: Entropy,
    /// Where attempts run.
    pub runtime: Handle,
    /// What others may know.
    pub gauges: Arc<Gauges>,
    /// Bytes of events kept at hand.
    pub events_bytes_max: usize,
}

/// Where the engine starts.
pub struct Start {
    /// Its bounds.
    pub config: Config,
    /// Makes the outer ids.
    pub stamp: Box<dyn Stamp>,
    /// Where ids go on.
    pub origin: Origin,
    /// Everything unsettled, in ascending order of ids.
    pub unsettled: Unsettled,
    /// The writing half of the store, recovered.
    pub ledger: Box<dyn Ledger>,
    /// Records of one commit at the most: bounds how long one takes.
    pub commit_records_max: usize,
    /// Submissions on their way at the most.
    pub waiting_max: u64,
    /// A commit that takes longer than this closes the intake until it is over.
    pub commit_slow_ms: i64,
}

/// What recovery found, in pieces, so that memory is given back while the engine takes it over.
#[derive(Default)]
pub struct Unsettled(VecDeque<Vec<Delivery>>);

impl Unsettled {
    /// Adds a row. Rows come in ascending order of ids.
    pub fn push(&mut self, delivery: Delivery) {
        match self.0.back_mut() {
            Some(piece) if piece.len() < RECOVERY_ROWS => piece.push(delivery),
            _ => {
                let mut piece = Vec::with_capacity(RECOVERY_ROWS);
                piece.push(delivery);
                self.0.push_back(piece);
            }
        }
    }
}

/// The two threads.
pub struct EngineThread {
    line: Sender<Command>,
    engine: JoinHandle<()>,
    writer: JoinHandle<Result<(), Fatal>>,
    intake: EngineIntake,
}

impl EngineThread {
    /// Starts both threads. Endpoints and policies are read from the registry first, and whoever
    /// changes them from now on announces it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        parts: Parts,
        start: Start,
        fatal: impl FnOnce(&Fatal) + Send + 'static,
    ) -> std::io::Result<EngineThread> {
        let Halves {
            line,
            intake,
            mut turning,
            writer,
            unsettled,
        } = Halves::join(parts, start);
        let writer = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                let end = writer.run();
                if let Err(error) = &end {
                    fatal(error);
                }
                end
            })?;
        let engine = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                turning.recover(unsettled);
                turning.run();
            })?;
        Ok(EngineThread {
            line,
            engine,
            writer,
            intake,
        })
    }

    /// The way in.
    #[must_use]
    pub fn intake(&self) -> EngineIntake {
        self.intake.clone()
    }

    /// The line to the engine, for whoever announces changes.
    #[must_use]
    pub fn line(&self) -> Sender<Command> {
        self.line.clone()
    }

    /// Begins nothing more, waits until nothing is under way or `patience` is over, and ends both
    /// threads. Whatever is still outstanding then is as after a crash.
    #[expect(
        clippy::disallowed_methods,
        reason = "idleness is a flag of the engine; the look at it is bounded by `patience`"
    )]
    pub fn stop(self, patience: Duration) -> Result<(), Fatal> {
        let _ = self.line.send(Command::Input(Input::Drain));
        let began = std::time::Instant::now();
        while began.elapsed() < patience && !self.engine.is_finished() && !self.is_idle() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.line.send(Command::Stop);
        drop(self.line);
        let _ = self.engine.join();
        self.writer.join().unwrap_or(Ok(()))
    }

    fn is_idle(&self) -> bool {
        self.intake.gauges.idle.load(Ordering::Acquire)
    }
}

/// The two halves of the driver, joined and not yet under way.
pub(super) struct Halves {
    pub line: Sender<Command>,
    pub intake: EngineIntake,
    pub turning: Turning,
    pub writer: Writer,
    pub unsettled: Unsettled,
}

impl Halves {
    pub fn join(parts: Parts, start: Start) -> Halves {
        let (line, commands) = unbounded();
        let (to_writer, records) = unbounded();
        let intake = EngineIntake {
            line: line.clone(),
            gauges: Arc::clone(&parts.gauges),
            clock: Arc::clone(&parts.clock),
            entropy: parts.entropy.clone(),
            waiting_max: start.waiting_max,
            window_max: start.config.window_max as u64,
            commit_slow_ms: start.commit_slow_ms,
        };
        let writer = Writer {
            ledger: start.ledger,
            records,
            line: line.clone(),
            clock: Arc::clone(&parts.clock),
            gauges: Arc::clone(&parts.gauges),
            metrics: Arc::clone(&parts.metrics),
            commit_records_max: start.commit_records_max,
            commit_delay: match start.config.plant {
                Some(Plant::SendBeforeRecord) => PLANTED_DELAY,
                _ => Duration::ZERO,
            },
        };
        let engine = Engine::new(start.config, start.stamp, start.origin);
        let turning = Turning {
            clock: Arc::clone(&parts.clock),
            gauges: Arc::clone(&parts.gauges),
            commands,
            inputs: Vec::with_capacity(TURN_COMMANDS_MAX),
            executor: Executor::new(engine, RealWorld::new(parts, to_writer, line.clone())),
        };
        Halves {
            line,
            intake,
            turning,
            writer,
            unsettled: start.unsettled,
        }
    }
}

/// The engine, with everything that a turn takes.
pub(super) struct Turning {
    clock: Arc<Clock>,
    gauges: Arc<Gauges>,
    commands: Receiver<Command>,
    inputs: Vec<Input>,
    executor: Executor<RealWorld>,
}

impl Turning {
    pub fn engine(&self) -> &Engine {
        self.executor.engine()
    }

    /// Tells the engine what it has to know before anything can be asked of it.
    pub fn recover(&mut self, unsettled: Unsettled) {
        let now = self.clock.now();
        let (policies, gates, paused) = self.executor.world().surroundings();
        self.executor
            .turn(now, policies.into_iter().map(Input::Policy));
        self.executor
            .turn(now, gates.into_iter().map(Input::Endpoint));
        let pause = |route| Input::Route { route, open: false };
        self.executor.turn(now, paused.into_iter().map(pause));
        let stopped = self.executor.world().stopped(unsettled.0.iter().flatten());
        // As for the lanes below: what cannot be read now is damaged.
        let stopped = stopped.expect("the rows of a lane can be read");
        let parked = |(endpoint, key)| Input::Parked { endpoint, key };
        self.executor.turn(now, stopped.into_iter().map(parked));
        for rows in unsettled.0 {
            let mut deliveries = Vec::with_capacity(rows.len());
            for delivery in rows {
                let counter = match delivery.lane {
                    Some(lane) => self.executor.world().lane(delivery.endpoint, lane.key),
                    None => Some(LaneCounter::default()),
                };
                // The store has just been recovered: what it cannot read now is damaged, and to go
                // on would give a number of the lane out twice.
                let counter = counter.expect("the lane of an unsettled delivery can be read");
                deliveries.push((delivery, counter));
            }
            let absent = Vec::new();
            self.executor
                .turn(self.clock.now(), [Input::Loaded { deliveries, absent }]);
        }
        self.gauges.recovered.store(true, Ordering::Release);
    }

    fn run(&mut self) {
        loop {
            let first = match self.commands.recv_timeout(self.sleep()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.turn(first) {
                return;
            }
        }
    }

    /// Feeds the engine what has come, beginning with `first`, or tells it the time. Returns
    /// whether this was the last turn.
    pub fn turn(&mut self, first: Option<Command>) -> bool {
        let mut stop = match first {
            Some(command) => self.take(command),
            None => {
                self.inputs.push(Input::Wake);
                false
            }
        };
        while self.inputs.len() < TURN_COMMANDS_MAX
            && !stop
            && let Ok(command) = self.commands.try_recv()
        {
            stop = self.take(command);
        }
        self.executor.turn(self.clock.now(), self.inputs.drain(..));
        self.show();
        stop
    }

    /// Turns a command into inputs. Returns whether it is the last one.
    fn take(&mut self, command: Command) -> bool {
        match command {
            Command::Input(input) => self.inputs.push(input),
            Command::Submit {
                submissions,
                answer,
            } => {
                let first = self.executor.world().expect(submissions.len(), answer);
                self.inputs
                    .extend(
                        submissions
                            .into_iter()
                            .zip(first.0..)
                            .map(|(submission, ask)| Input::Submit {
                                submission,
                                ask: Ask(ask),
                            }),
                    );
            }
            Command::Cancel { delivery, answer } => {
                let ask = self.executor.world().expect_one(answer);
                self.inputs.push(Input::Cancel { delivery, ask });
            }
            Command::Receipt {
                delivery,
                receipt,
                answer,
            } => {
                let ask = self.executor.world().expect_one(answer);
                self.inputs.push(Input::Receipt {
                    delivery,
                    receipt,
                    ask,
                });
            }
            Command::Event(event) => self.executor.world().keep(&event),
            Command::Stop => return true,
        }
        false
    }

    fn sleep(&self) -> Duration {
        let wake = self.executor.engine().next_wake().unwrap_or(Time::NEVER);
        let ms = wake.since(self.clock.now()).clamp(0, i64::from(u32::MAX));
        Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(SLEEP_MAX)
    }

    fn show(&mut self) {
        let figures = self.executor.engine().figures();
        self.gauges
            .window
            .store(figures.window as u64, Ordering::Relaxed);
        self.gauges
            .parked
            .store(figures.parked as u64, Ordering::Relaxed);
        self.gauges.due.store(figures.due as u64, Ordering::Relaxed);
        self.gauges
            .records
            .store(figures.records_pending as u64, Ordering::Relaxed);
        let oldest = figures.oldest_due_at.map_or(0, |at| at.0);
        self.gauges.oldest_due_ms.store(oldest, Ordering::Relaxed);
        self.gauges
            .slots_used
            .store(u64::from(figures.slots_used), Ordering::Relaxed);
        self.gauges
            .idle
            .store(self.executor.engine().is_idle(), Ordering::Release);
    }
}
