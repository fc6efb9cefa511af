//! What the embedded store costs: `cargo bench -p postrider --bench store -- --help`.
//!
//! Prints one JSON object to stdout; progress goes to stderr. Absent here: HTTP and the engine; the
//! whole way is measured by `postrider bench`.

mod keys;
mod life;
mod probe;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records, or keys, in one commit.
pub const BATCH: usize = 512;

/// Measure the embedded store alone
#[derive(Parser)]
struct Arguments {
    /// Where to put the files, on the device to be measured; a temporary directory if not given
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// What cargo adds to every benchmark
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// The dedupe key index: memory, look-ups, longest slice
    Keys {
        #[arg(long, default_value_t = 20_000_000)]
        keys: u64,
    },
    /// Lives of deliveries: instructions, bytes, CPU, latencies, the longest stall
    Life {
        #[arg(long, default_value_t = 400_000)]
        rows: u64,
    },
    /// What `life` starts under valgrind
    #[command(hide = true)]
    Watched { part: String },
}

fn main() {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = arguments
        .dir
        .unwrap_or_else(|| temporary.path().join("data"));
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let report = match arguments.part {
        Part::Keys { keys } => keys::run(&dir, keys),
        Part::Life { rows } => life::run(&dir, rows),
        Part::Watched { part } => life::watched(&dir, &part),
    };
    println!("{report:#}");
}
