//! Programs that a part of the suite cannot do without, and the Debian packages that bring them.
//!
//! Absent here: anything that a build needs. Rust and gcc are enough for that.

use std::process::{Command, Stdio};

/// A program of another package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The Debian package.
    pub package: &'static str,
    /// A command that works exactly when the package is there.
    pub probe: &'static [&'static str],
    /// What it is for, as the end of the sentence "left out: …".
    pub purpose: &'static str,
    /// Names (or parts of names) of the tests that cannot run without it; empty: the whole part.
    pub tests: &'static [&'static str],
}

/// An independent load generator, against which `bench` checks its own.
pub const WRK: Need = Need {
    package: "wrk",
    probe: &["sh", "-c", "command -v wrk"],
    purpose: "checking the bench's own client against an independent one",
    tests: &[],
};

/// What writes down every file system call of a process, and makes some of them go wrong.
pub const STRACE: Need = Need {
    package: "strace",
    probe: &["strace", "-V"],
    purpose: "taking the power and the disk away from the store",
    tests: &[
        "nothing_acknowledged_is_lost_with_the_power",
        "the_harness_notices_a_store_that_does_not_sync",
        "after_a_sync_that_went_wrong_nothing_is_acknowledged",
        "a_full_disk_refuses_and_recovers_in_process",
        "the_hook_counts_what_strace_sees",
    ],
};

/// What the public verifiers run on; they are installed from PyPI under `target/`.
pub const PYTHON: Need = Need {
    package: "python3-venv",
    probe: &["python3", "-c", "import venv, ensurepip"],
    purpose: "holding signatures against the packages that receivers use",
    tests: &[],
};

/// What the client package for browsers is tested on, and comes as.
pub const NODE: Need = Need {
    package: "nodejs",
    probe: &["node", "--version"],
    purpose: "testing the client package for browsers",
    tests: &[],
};

/// A real browser, which knows whether a push can be read and shown.
pub const FIREFOX: Need = Need {
    package: "firefox-esr",
    probe: &["firefox-esr", "--version"],
    purpose: "proving in a real browser that a notification is seen, and once",
    tests: &[],
};

/// What installs public senders and receivers from npm, under `target/`.
pub const NPM: Need = Need {
    package: "npm",
    probe: &["npm", "--version"],
    purpose: "holding our own side against the packages that others use",
    tests: &[],
};

/// A client that people copy lines for.
pub const CURL: Need = Need {
    package: "curl",
    probe: &["curl", "--version"],
    purpose: "running the lines that `serve --dev` prints, as they are",
    tests: &["the_three_lines_run_unchanged"],
};

/// Says which needs are missing, and installs nothing.
pub fn look(needs: &[Need]) -> Vec<Need> {
    leave_out(needs, "not asked to install it")
}

/// Installs what is missing, as root or with sudo that asks for no password. Says what is left out
/// where that cannot be, and returns it.
pub fn settle(needs: &[Need]) -> Vec<Need> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|need| !is_there(need))
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let trouble = match installer() {
        Some(installer) => {
            eprintln!("installing Debian packages: {}", missing.join(" "));
            install(&installer, &missing)
        }
        None => "not root, and sudo asks for a password",
    };
    leave_out(needs, trouble)
}

fn leave_out(needs: &[Need], reason: &str) -> Vec<Need> {
    let missing: Vec<Need> = needs
        .iter()
        .copied()
        .filter(|need| !is_there(need))
        .collect();
    for need in &missing {
        eprintln!(
            "left out: {} (needs {}: {reason})",
            need.purpose, need.package
        );
    }
    missing
}

fn is_there(need: &Need) -> bool {
    let Some((program, arguments)) = need.probe.split_first() else {
        return false;
    };
    works(program, arguments)
}

/// The command that `apt-get` goes behind, if we may install at all.
fn installer() -> Option<Vec<&'static str>> {
    if !works("apt-get", &["--version"]) {
        return None;
    }
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        Some(vec!["apt-get"])
    } else if works("sudo", &["-n", "true"]) {
        Some(vec!["sudo", "-n", "apt-get"])
    } else {
        None
    }
}

/// Why the packages could not be installed; of no account if they are there afterwards.
fn install(installer: &[&str], packages: &[&str]) -> &'static str {
    let apt = |arguments: &[&str]| {
        Command::new(installer[0])
            .args(&installer[1..])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let quick = [&["install", "-y", "--no-install-recommends"], packages].concat();
    // A fresh machine has no package lists yet; a prepared one need not fetch them again.
    if apt(&quick) || (apt(&["update", "-q"]) && apt(&quick)) {
        ""
    } else {
        "apt-get could not install it"
    }
}

fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_tells_what_is_there() {
        let shell = Need {
            probe: &["sh", "-c", "true"],
            ..WRK
        };
        let absent = Need {
            probe: &["no-such-program-anywhere"],
            ..WRK
        };
        assert!(is_there(&shell));
        assert!(!is_there(&absent));
    }
}
