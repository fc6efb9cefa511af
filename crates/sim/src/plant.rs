//! Planted faults: known ways to be wrong, in the engine and around it, by which the checkers are
//! shown to bite.
//!
//! Absent here: how many seeds it takes; see [`crate::run::PLANTS_SEEDS_MAX`].

use postrider_core::plant::Plant;

/// A fault planted in what surrounds the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorldPlant {
    /// The store answers a commit before its sync has returned.
    AckBeforeSync,
    /// The store takes records of epochs that have passed, and gives their entries places itself:
    /// the order of places is a second guard.
    FenceForgotten,
    /// The store looks neither at epochs nor at places nor at versions.
    GuardsSkipped,
    /// Dedupe keys go when the ledger's rows do, whatever their window.
    KeyLostAtRotation,
    /// Purging goes by the time of admission and does not ask whether a delivery is settled.
    PurgeEarly,
    /// The relay's cursor is kept before the broker has confirmed.
    CursorBeforePublish,
    /// A recovered lane starts counting from nothing.
    LaneCounterForgotten,
    /// Recovery does not name the endpoints that the journal says are gone, and the registry is
    /// never told.
    RetirementForgotten,
    /// Recovery leaves out an unsettled delivery.
    RecoveryMissesRow,
    /// An owner does not look at its lease.
    LeaseIgnored,
    /// The store lets another take over before the lease has lapsed.
    LeaseTakenEarly,
    /// The answers to racing submissions are given to the first one only.
    AnswerLost,
    /// Recovery dates what is gone by the newest entry, not by what the provider said.
    RetirementRedated,
    /// Recovery does not look for lanes that a dead letter had stopped.
    ParkForgotten,
    /// Devices show whatever arrives.
    GuardForgotten,
    /// Look-ups leave out who freed a key.
    RetryUnnamed,
    /// What a store keeps of its rows for a restart lacks whether an attempt may have acted.
    SnapshotMissesField,
}

impl WorldPlant {
    /// All of them.
    pub const ALL: [WorldPlant; 17] = [
        WorldPlant::AckBeforeSync,
        WorldPlant::FenceForgotten,
        WorldPlant::GuardsSkipped,
        WorldPlant::KeyLostAtRotation,
        WorldPlant::PurgeEarly,
        WorldPlant::CursorBeforePublish,
        WorldPlant::LaneCounterForgotten,
        WorldPlant::RetirementForgotten,
        WorldPlant::RecoveryMissesRow,
        WorldPlant::LeaseIgnored,
        WorldPlant::LeaseTakenEarly,
        WorldPlant::AnswerLost,
        WorldPlant::RetirementRedated,
        WorldPlant::ParkForgotten,
        WorldPlant::GuardForgotten,
        WorldPlant::RetryUnnamed,
        WorldPlant::SnapshotMissesField,
    ];

    fn name(self) -> &'static str {
        match self {
            WorldPlant::AckBeforeSync => "ack-before-sync",
            WorldPlant::FenceForgotten => "fence-forgotten",
            WorldPlant::GuardsSkipped => "guards-skipped",
            WorldPlant::KeyLostAtRotation => "key-lost-at-rotation",
            WorldPlant::PurgeEarly => "purge-early",
            WorldPlant::CursorBeforePublish => "cursor-before-publish",
            WorldPlant::LaneCounterForgotten => "lane-counter-forgotten",
            WorldPlant::RetirementForgotten => "retirement-forgotten",
            WorldPlant::RecoveryMissesRow => "recovery-misses-row",
            WorldPlant::LeaseIgnored => "lease-ignored",
            WorldPlant::LeaseTakenEarly => "lease-taken-early",
            WorldPlant::AnswerLost => "answer-lost",
            WorldPlant::RetirementRedated => "retirement-redated",
            WorldPlant::ParkForgotten => "park-forgotten",
            WorldPlant::GuardForgotten => "guard-forgotten",
            WorldPlant::RetryUnnamed => "retry-unnamed",
            WorldPlant::SnapshotMissesField => "snapshot-misses-field",
        }
    }
}

/// A fault planted anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// In the engine.
    Engine(Plant),
    /// Around it.
    World(WorldPlant),
}

impl Planted {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Planted> {
        let engine = Plant::ALL.iter().copied().map(Planted::Engine);
        engine.chain(WorldPlant::ALL.into_iter().map(Planted::World))
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Planted::Engine(plant) => plant.name(),
            Planted::World(plant) => plant.name(),
        }
    }

    /// The fault with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Planted> {
        Planted::all().find(|plant| plant.name() == name)
    }

    /// The invariants that it breaks: each of them catches it, with no other looked at.
    #[must_use]
    pub fn breaks(self) -> &'static [&'static str] {
        match self {
            Planted::Engine(plant) => broken_by_engine(plant),
            Planted::World(plant) => broken_by_world(plant),
        }
    }

    /// The engine's part of it.
    #[must_use]
    pub fn engine(self) -> Option<Plant> {
        match self {
            Planted::Engine(plant) => Some(plant),
            Planted::World(_) => None,
        }
    }

    /// The world's part of it.
    #[must_use]
    pub fn world(self) -> Option<WorldPlant> {
        match self {
            Planted::Engine(_) => None,
            Planted::World(plant) => Some(plant),
        }
    }
}

fn broken_by_engine(plant: Plant) -> &'static [&'static str] {
    match plant {
        Plant::SendBeforeRecord => &["sent-durable"],
        Plant::ForgetDedupeKey => &["dedupe-exact"],
        Plant::RetryAtAtMostOnce => &["at-most-once"],
        Plant::ReplyBeforeRecord | Plant::CancelAfterSend => &["told-durable"],
        Plant::WaitersForgotten => &["one-answer"],
        Plant::LaneHeadSkipped => &["lane-order"],
        Plant::LapseUnchecked => &["time-to-live"],
        Plant::PauseIgnored | Plant::GoneIgnored => &["reachable"],
        Plant::BreakerNeverCloses | Plant::SlotLeaks => &["books-agree"],
        Plant::LimiterLeaks => &["rate-kept"],
        Plant::RetryAfterIgnored => &["not-early"],
        Plant::AttemptsUncounted => &["attempts-bounded"],
        Plant::RetryTimerLost => &["comes-to-rest"],
        Plant::CrashForgiven => &["at-most-once", "repeats-explained"],
        Plant::StuckForgotten => &["books-agree", "comes-to-rest"],
        Plant::StaleGoneBelieved => &["gone-honoured"],
        Plant::RouteNotHeld => &["route-held"],
        Plant::RefusalSpends => &["refusals-free"],
        Plant::ReleaseIndefinite => &["shown-once"],
        Plant::SlotUncounted => &["slots-kept"],
        Plant::WaitsNeverGrow => &["schedule-kept"],
        Plant::TargetForgotten => &["as-asked"],
    }
}

fn broken_by_world(plant: WorldPlant) -> &'static [&'static str] {
    match plant {
        WorldPlant::AckBeforeSync => &["sent-durable", "nothing-lost"],
        WorldPlant::FenceForgotten => &["fenced"],
        WorldPlant::GuardsSkipped => &["fenced", "ledger-chain"],
        WorldPlant::KeyLostAtRotation | WorldPlant::RetryUnnamed => &["dedupe-exact"],
        WorldPlant::PurgeEarly => &["purge-settled"],
        WorldPlant::CursorBeforePublish => &["cursor-true", "broker-knows"],
        WorldPlant::LaneCounterForgotten => &["lane-gapless"],
        WorldPlant::RetirementForgotten => &["reachable"],
        WorldPlant::RecoveryMissesRow => &["comes-to-rest", "nothing-lost"],
        WorldPlant::LeaseIgnored | WorldPlant::LeaseTakenEarly => &["owner-only"],
        WorldPlant::AnswerLost => &["one-answer"],
        WorldPlant::RetirementRedated => &["gone-honoured"],
        WorldPlant::ParkForgotten => &["lane-parked"],
        WorldPlant::GuardForgotten => &["shown-once"],
        WorldPlant::SnapshotMissesField => &["ledger-fold"],
    }
}
