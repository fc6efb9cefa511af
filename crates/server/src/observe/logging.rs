//! Log lines of everything but attempts, on standard error.
//!
//! Absent here: attempts, which are too many to be formatted where they happen; see `attempts`.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::{Log, LogFormat, LogLevel};

/// Sets the process's log up. The first call stays; a second one changes nothing.
pub fn init(config: &Log) {
    let level = match config.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries below `warn` say more about the network than anybody may want to keep.
    let filter = EnvFilter::new(format!("warn,postrider={level}"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let _ = match config.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_timer(SystemTime)
            .try_init(),
        LogFormat::Text => {
            let colour = std::env::var_os("NO_COLOR").is_none()
                && std::io::IsTerminal::is_terminal(&io::stderr());
            lines.compact().with_ansi(colour).try_init()
        }
    };
}
