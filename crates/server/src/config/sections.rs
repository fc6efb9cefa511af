//! Every setting there is: its default, its bounds, and why.
//!
//! Absent here: policies, which have a name each; see `policy`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::section::section;
use super::value::{LogFormat, LogLevel, Network};

section! {
    /// The API: where it listens, and how much one caller may take.
    Server {
        /// Where the API listens. Loopback by default: an installation is opened to a network
        /// on purpose, and then behind TLS.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8400));
        /// Where `/metrics` is served without a key. Not at all by default; on the API it needs
        /// the key of an operator.
        admin_listen: Option<SocketAddr> = None;
        /// Largest body of a request. A payload that hardly fits here is not a notification.
        body_bytes_max: usize = 262_144, 1_024..=4_194_304;
        /// Largest body of a batch.
        batch_bytes_max: usize = 4_194_304, 1_024..=67_108_864;
        /// Bytes of all bodies together that are being read or are on their way to the disk;
        /// beyond it, intake answers 429. Bounds what callers can make the process hold.
        bodies_bytes_max: usize = 268_435_456, 4_194_304..=68_719_476_736;
        /// Most items in a batch. Each gets an answer of its own.
        batch_items_max: usize = 1_000, 1..=10_000;
        /// Most endpoints that one event may go to. More is a broadcast, and is refused.
        fanout_max: usize = 1_000, 1..=10_000;
        /// How long the head of a request may take to arrive, and a connection may be idle between
        /// two requests. A half-sent head is the cheapest attack there is.
        header_read_ms: u64 = 10_000, 100..=120_000;
        /// How long a request may take from its head to its answer.
        request_ms: u64 = 30_000, 100..=600_000;
        /// Bytes of a request's head at most.
        header_bytes_max: usize = 32_768, 8_192..=1_048_576;
        /// Open connections at most; beyond it new ones wait in the system's backlog.
        connections_max: usize = 10_000, 1..=1_000_000;
        /// Open connections from one address at most; beyond it new ones are closed at once.
        connections_per_ip_max: usize = 200, 1..=1_000_000;
        /// Requests under way on one HTTP/2 connection at most.
        streams_max: u32 = 100, 1..=10_000;
        /// Requests a second that one API key may make.
        key_requests_per_s_max: u32 = 20_000, 1..=1_000_000;
        /// Requests that one API key may make at once after a pause.
        key_burst_max: u32 = 40_000, 1..=1_000_000;
        /// How long requests under way may take to end once the process was asked to.
        drain_ms: u64 = 10_000, 0..=600_000;
    }

    /// The ledger and everything else that outlives the process.
    Store {
        /// The data directory. One process at a time.
        dir: PathBuf = PathBuf::from("postrider-data");
        /// File with the master key. Inside of the data directory by default, which protects
        /// copies of single files; keep it elsewhere to protect copies of the directory.
        master_key_file: Option<PathBuf> = None;
        /// How long settled deliveries and their history are kept.
        retention_days: u32 = 90, 1..=3_650;
        /// How long a payload is kept after its deliveries have settled.
        payload_keep_s: u32 = 259_200, 0..=31_536_000;
        /// The same for dead letters, which are replayed from it.
        dead_payload_keep_s: u32 = 1_209_600, 0..=31_536_000;
        /// Bytes on the device that are never used, so that a full disk still has room to
        /// recover in.
        reserve_bytes: u64 = 67_108_864, 1_048_576..=1_099_511_627_776;
        /// Records in one commit at most.
        commit_records_max: usize = 4_096, 1..=65_536;
    }

    /// The engine: how much it holds at once.
    Engine {
        /// Unsettled deliveries in memory at most; beyond it, intake answers 429. About one
        /// kilobyte each.
        window_max: usize = 2_000_000, 1_000..=100_000_000;
        /// Attempts under way at once.
        slots_max: usize = 2_048, 1..=100_000;
        /// Submissions on their way to the engine at most; beyond it, intake answers 429.
        intake_queue_max: usize = 20_000, 100..=1_000_000;
        /// Records on their way to the disk at most; beyond it, dispatch waits.
        record_queue_max: usize = 10_000, 100..=1_000_000;
        /// How long a commit may take before dispatch is held back and `/readyz` says so.
        commit_slow_ms: u64 = 500, 10..=60_000;
        /// What a caller that was refused for overload is told to wait.
        retry_after_ms: u64 = 1_000, 100..=600_000;
    }

    /// How requests to endpoints are made.
    Transport {
        /// How long connecting may take, name resolution included.
        connect_ms: u64 = 3_000, 100..=60_000;
        /// How long the answer may take once the request is written.
        response_ms: u64 = 5_000, 100..=120_000;
        /// How long an idle HTTP/1.1 connection is kept: below what servers keep theirs for, so
        /// that a request does not meet a connection that is just being closed.
        idle_ms: u64 = 4_000, 0..=600_000;
        /// The same for an HTTP/2 connection, whose end is announced.
        idle_shared_ms: u64 = 60_000, 0..=600_000;
        /// HTTP/2 connections to one address at most. Another one is made when all are full.
        shared_per_host_max: usize = 4, 1..=64;
        /// Idle connections kept to one address.
        idle_per_host_max: usize = 256, 0..=10_000;
        /// Idle connections kept at most, about 12 KiB each.
        idle_total_max: usize = 4_096, 0..=1_000_000;
    }

    /// Which networks deliveries may reach.
    NetworkRules {
        /// Networks that may be reached although they are private, loopback or link-local. Each
        /// is a door into your own house.
        allow: Vec<Network> = Vec::new();
        /// Plain `http://` endpoints may be registered. Signatures do not hide a payload.
        allow_http: bool = false;
        /// Networks that may not be reached, whatever else is said.
        deny: Vec<Network> = Vec::new();
        /// Local names that are looked up all the same: whole names, or `*.suffix`.
        allow_hosts: Vec<String> = Vec::new();
        /// Ports below 1024 that may be reached beside 80 and 443.
        allow_ports: Vec<u16> = Vec::new();
    }

    /// Push: browsers and phones.
    Push {
        /// Where devices reach `/v1/receipts` from outside, such as
        /// `https://push.example.com/v1/receipts`. Without it notifications ask for no receipts.
        receipt_url: String = String::new();
        /// Hosts of push services beside those of the browsers' makers: whole names, or
        /// `*.suffix`. A subscription names its own host, so each is a door out.
        extra_hosts: Vec<String> = Vec::new();
        /// A directory of reaction tables (`web_push.toml`, `apns.toml`, `fcm.toml`) whose rows go
        /// in front of the built-in ones. Empty: none.
        reactions: String = String::new();
        /// Web Push: payloads are padded to one of six lengths, so that no push service learns how
        /// long they are.
        pad: bool = false;
    }

    /// What is written to standard error.
    Log {
        /// Which lines.
        level: LogLevel = LogLevel::Info;
        /// How they look.
        format: LogFormat = LogFormat::Json;
        /// One line for each attempt.
        attempts: bool = true;
        /// Attempt lines that may wait to be written. Beyond it they are counted instead, and
        /// the count is written: never silent.
        attempt_queue_max: usize = 8_192, 16..=1_000_000;
    }
}
