//! Packages of others that `bench` compares with, installed from npm under Cargo's target
//! directory, where `postrider bench` looks for them.
//!
//! Absent here: measuring, and Node itself; see `needs`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The packages, at the versions that were compared with.
const PACKAGES: [&str; 1] = ["web-push@3.6.7"];

/// Installs them, unless they are there. Says so where it cannot be: the bench does without.
pub fn install() {
    let home = target().join("bench-packages");
    let there = PACKAGES.iter().all(|package| {
        let name = package.rsplit_once('@').map_or(*package, |(name, _)| name);
        home.join("node_modules").join(name).exists()
    });
    if there {
        return;
    }
    let made = std::fs::create_dir_all(&home).is_ok();
    let npm = ["install", "--silent", "--no-fund", "--no-audit", "--prefix"];
    let installed = Command::new("npm")
        .args(npm)
        .arg(&home)
        .args(PACKAGES)
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !(made && installed) {
        let packages = PACKAGES.join(" ");
        eprintln!("left out: comparing with {packages} (npm could not install it)");
    }
}

/// Where Cargo builds.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(named) => super::root().join(named),
        None => super::root().join("target"),
    }
}
