//! The parts of the suite, as data, in the order in which they run.
//!
//! Absent here: how a part is run and counted; see [`crate::test`].

use crate::needs::{CURL, FIREFOX, NODE, NPM, Need, PYTHON, STRACE};

/// One part of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What holds when it passes.
    pub about: &'static str,
    /// What it runs.
    pub work: Work,
    /// What it cannot do without.
    pub needs: &'static [Need],
}

/// What a part runs.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Cargo with these arguments: one check that holds or does not.
    Cargo(&'static [&'static str]),
    /// A Cargo subcommand that is not part of Rust: left out where it is not installed.
    Tool(&'static [&'static str]),
    /// Tests: the targets that these arguments choose, counted one by one.
    Tests(&'static [&'static str]),
    /// The simulator with these arguments: what it checks is counted as it says.
    Sim(&'static [&'static str]),
    /// Examples in the documentation, counted one by one.
    Examples,
}

/// The suite.
pub const PARTS: &[Part] = &[
    Part {
        name: "fmt",
        about: "every file is formatted",
        work: Work::Cargo(&["fmt", "--all", "--check"]),
        needs: &[],
    },
    Part {
        name: "clippy",
        about: "no lint complains, the bans of clippy.toml included",
        work: Work::Cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
        needs: &[],
    },
    Part {
        name: "deny",
        about: "bans, licences and sources of the dependencies",
        work: Work::Tool(&["deny", "check", "bans", "licenses", "sources"]),
        needs: &[],
    },
    Part {
        name: "build",
        about: "everything compiles, tests and benches too",
        work: Work::Cargo(&["build", "--workspace", "--all-targets"]),
        needs: &[],
    },
    Part {
        name: "unit",
        about: "the tests inside the modules",
        work: Work::Tests(&["--workspace", "--lib", "--bins"]),
        needs: &[],
    },
    Part {
        name: "tidy",
        about: "the rules of the repository, and pages made from code",
        work: Work::Tests(&["--package", "postrider", "--test", "tidy*"]),
        needs: &[],
    },
    Part {
        name: "engine",
        about: "the core as a whole, over a world in memory",
        work: Work::Tests(&["--package", "postrider-core", "--test", "engine"]),
        needs: &[],
    },
    Part {
        name: "exhaustive",
        about: "the state table, and leases and fences of a small world, looked at completely",
        work: Work::Tests(&["--package", "postrider-core", "--test", "exhaustive"]),
        needs: &[],
    },
    Part {
        name: "wire",
        about: "requests, answers, TLS and hostile receivers over real sockets",
        work: Work::Tests(&["--package", "postrider", "--test", "wire*"]),
        needs: &[],
    },
    Part {
        name: "signatures",
        about: "real hand-overs, verified by the public packages",
        work: Work::Tests(&["--package", "postrider", "--test", "signatures"]),
        needs: &[PYTHON],
    },
    Part {
        name: "apns",
        about: "public senders against the fake of APNs, and our channel over the wire",
        work: Work::Tests(&["--package", "postrider", "--test", "apns"]),
        needs: &[NODE, NPM],
    },
    Part {
        name: "fcm",
        about: "FCM: requests against the published schema, answers through a whole node",
        work: Work::Tests(&["--package", "postrider", "--test", "fcm"]),
        needs: &[PYTHON],
    },
    Part {
        name: "http",
        about: "the API: who may what, what is refused, limits, reading",
        work: Work::Tests(&["--package", "postrider", "--test", "http*"]),
        needs: &[],
    },
    Part {
        name: "ssrf",
        about: "no spelling of a forbidden address is reached",
        work: Work::Tests(&["--package", "postrider", "--test", "ssrf"]),
        needs: &[],
    },
    Part {
        name: "canonical",
        about: "every canonical answer through a whole node",
        work: Work::Tests(&["--package", "postrider", "--test", "canonical"]),
        needs: &[],
    },
    Part {
        name: "shell",
        about: "intake and delivery on a simulated network that breaks, 50 seeds",
        work: Work::Tests(&["--package", "postrider", "--test", "shell"]),
        needs: &[],
    },
    Part {
        name: "broadcast",
        about: "100,000 browsers, a fifth of them gone: each retired once, with a restart between",
        work: Work::Tests(&["--package", "postrider", "--test", "dead_devices"]),
        needs: &[],
    },
    Part {
        name: "reactions",
        about: "what providers' answers mean, against a second list",
        work: Work::Tests(&["--package", "postrider", "--test", "reactions"]),
        needs: &[],
    },
    Part {
        name: "cli",
        about: "the command line, and the first five minutes",
        work: Work::Tests(&["--package", "postrider", "--test", "cli*"]),
        needs: &[CURL],
    },
    Part {
        name: "power",
        about: "power losses, broken syncs, a full disk and damage under the store",
        work: Work::Tests(&["--package", "postrider", "--test", "power_loss"]),
        needs: &[STRACE],
    },
    Part {
        name: "crash",
        about: "the whole process killed under load; planted faults found",
        work: Work::Tests(&["--package", "postrider", "--test", "crash"]),
        needs: &[],
    },
    Part {
        name: "kill",
        about: "the real binary killed at every write, sync and rename; broken and full disks",
        work: Work::Tests(&["--package", "postrider", "--test", "kill_points"]),
        needs: &[STRACE],
    },
    Part {
        name: "demo",
        about: "demo, bench and fake as whole commands",
        work: Work::Tests(&["--package", "postrider", "--test", "demo"]),
        needs: &[],
    },
    Part {
        name: "clients",
        about: "the client packages, by their own tests",
        work: Work::Tests(&["--package", "postrider", "--test", "packages"]),
        needs: &[NODE],
    },
    Part {
        name: "firefox",
        about: "a real browser subscribes, shows each notification once, and confirms it",
        work: Work::Tests(&["--package", "postrider", "--test", "firefox"]),
        needs: &[FIREFOX],
    },
    Part {
        name: "web_push",
        about: "Web Push against the public senders and decryptors",
        work: Work::Tests(&["--package", "postrider", "--test", "web_push"]),
        needs: &[PYTHON, NODE, NPM],
    },
    Part {
        name: "seeds",
        about: "the simulator itself: the same seed gives the same log, plants are made small",
        work: Work::Tests(&["--package", "postrider-sim", "--test", "seeds"]),
        needs: &[],
    },
    Part {
        name: "sim",
        about: "whole clusters under every fault: 20,000 seeds break no invariant",
        work: Work::Sim(&["--seeds", "20000"]),
        needs: &[],
    },
    Part {
        name: "plants",
        about: "every fault planted in engine and world is caught by the simulator",
        work: Work::Sim(&["--planted", "all"]),
        needs: &[],
    },
    Part {
        name: "doc",
        about: "the examples in the documentation",
        work: Work::Examples,
        needs: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a pattern of Cargo (`tidy*`) names a target.
    fn names(pattern: &str, target: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(start) => target.starts_with(start),
            None => target == pattern,
        }
    }

    /// The integration tests of a package.
    fn targets(package: &str) -> Vec<String> {
        let directory = crate::root().join("crates").join(package).join("tests");
        std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("a directory lists its files").path())
            .filter(|path| {
                path.extension().is_some_and(|extension| extension == "rs")
                    || path.join("main.rs").is_file()
            })
            .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned))
            .collect()
    }

    #[test]
    fn every_integration_test_is_in_one_part() {
        for target in ["core", "server", "sim"].into_iter().flat_map(targets) {
            let parts: Vec<&str> = PARTS
                .iter()
                .filter(|part| match part.work {
                    Work::Tests(arguments) => arguments
                        .windows(2)
                        .any(|pair| pair[0] == "--test" && names(pair[1], &target)),
                    _ => false,
                })
                .map(|part| part.name)
                .collect();
            assert_eq!(parts.len(), 1, "tests/{target} is in {parts:?}: see PARTS");
        }
    }

    #[test]
    fn no_part_is_empty() {
        let targets: Vec<String> = ["core", "server", "sim"]
            .into_iter()
            .flat_map(targets)
            .collect();
        for part in PARTS {
            let Work::Tests(arguments) = part.work else {
                continue;
            };
            for pair in arguments.windows(2).filter(|pair| pair[0] == "--test") {
                assert!(
                    targets.iter().any(|target| names(pair[1], target)),
                    "{}",
                    part.name
                );
            }
        }
    }

    #[test]
    fn names_of_parts_are_unique() {
        for (at, part) in PARTS.iter().enumerate() {
            assert!(PARTS[..at].iter().all(|other| other.name != part.name));
        }
    }
}
