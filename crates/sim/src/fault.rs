//! Faults: what may go wrong, by name.
//!
//! Absent here: doing it. The world carries a fault out, and takes it back when it is over.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FaultKind {
    /// A node dies: its memory is gone, and it starts again after a while.
    NodeCrash,
    /// A node is stopped and goes on later (SIGSTOP, SIGCONT); its clocks run on.
    NodeStall,
    /// A node pauses between any two effects, for up to seconds.
    NodePauses,
    /// What a node sends to the stores does not arrive until this is over.
    StoreCutTo,
    /// What the stores send to a node does not arrive until this is over.
    StoreCutFrom,
    /// What a node sends to receivers does not arrive.
    RemoteCutTo,
    /// What receivers send to a node does not arrive.
    RemoteCutFrom,
    /// A store dies: what was not synced is kept or dropped, whoever waited hears nothing.
    StoreCrash,
    /// The next sync of a store fails: its commit is kept or dropped, the node must end.
    SyncBroken,
    /// A disk is full for admissions; settlements find room in the reserve.
    DiskFull,
    /// A disk is full, its reserve included.
    DiskFullUp,
    /// A disk takes up to seconds for a sync.
    DiskSlow,
    /// The broker is away.
    BrokerDown,
    /// The broker confirms late and out of order.
    BrokerSlow,
    /// The broker takes what it is given and forgets to say so.
    BrokerForgets,
    /// The wall clock of a node jumps.
    WallJump,
    /// News of endpoints and policies reaches a node late.
    NewsSlow,
    /// The owner of a shard is asked to hand it over.
    Handover,
    /// The providers behind a route refuse our credentials.
    Credentials,
    /// A receiver misbehaves; see [`Behaviour`].
    Receiver,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 20] = [
        FaultKind::NodeCrash,
        FaultKind::NodeStall,
        FaultKind::NodePauses,
        FaultKind::StoreCutTo,
        FaultKind::StoreCutFrom,
        FaultKind::RemoteCutTo,
        FaultKind::RemoteCutFrom,
        FaultKind::StoreCrash,
        FaultKind::SyncBroken,
        FaultKind::DiskFull,
        FaultKind::DiskFullUp,
        FaultKind::DiskSlow,
        FaultKind::BrokerDown,
        FaultKind::BrokerSlow,
        FaultKind::BrokerForgets,
        FaultKind::WallJump,
        FaultKind::NewsSlow,
        FaultKind::Handover,
        FaultKind::Credentials,
        FaultKind::Receiver,
    ];
}

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Processes it and says so, after so many milliseconds.
    Takes(i64),
    /// Answers with this HTTP status code and, in seconds, `Retry-After`. Whether it processed a
    /// request that it answers with 408 or 5xx is left to chance; with any other it did not.
    Says(u16, Option<i64>),
    /// Refuses the connection.
    Refuses,
    /// Ends the connection before a byte of the request was written.
    ResetsBefore,
    /// Ends the connection after the request; whether it was processed is left to chance.
    ResetsAfter,
    /// Never answers; whether it processed the request is left to chance.
    Hangs,
    /// Says 200 and processes nothing.
    PretendsToTake,
    /// Processes it and says 500.
    TakesAndFails,
    /// Processes it and answers after the client has given up.
    TakesTooLate,
    /// Takes one request and fails the next, by turns.
    Flaps,
    /// Refuses our credentials.
    Blocks,
    /// Says by its protocol that it did not process the request.
    Unprocessed,
    /// Any of the canonical answers.
    Anything,
}

/// A fault at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// To which node, shard, route or endpoint, by its place.
    pub target: usize,
    /// For how long, in milliseconds.
    pub for_ms: i64,
    /// How a receiver behaves meanwhile.
    pub behaviour: Behaviour,
    /// By how much a wall clock jumps, in milliseconds.
    pub jump_ms: i64,
}
