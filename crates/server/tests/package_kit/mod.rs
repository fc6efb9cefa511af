//! Other people's packages, which judge ours: installed under `target/` at their first use, at the
//! versions that a test names, and kept.
//!
//! Absent here: Python and Node, which `cargo xtask test` installs, and what a test asks of a
//! package.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages from PyPI, in an environment of their own. Returns its directory, where `bin/python`
/// knows them. `asked` is what `pip install` is told.
pub fn pypi(name: &str, asked: &[&str]) -> PathBuf {
    once(name, asked, |home| {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(home));
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        run(Command::new(home.join("bin/python")).args(pip).args(asked));
    })
}

/// Packages from npm. Returns the directory that has them in its `node_modules`. Their own install
/// scripts are not run.
pub fn npm(name: &str, asked: &[&str]) -> PathBuf {
    once(name, asked, |home| {
        std::fs::write(home.join("package.json"), "{\"private\":true}\n").unwrap();
        let npm = [
            "install",
            "--silent",
            "--no-fund",
            "--no-audit",
            "--ignore-scripts",
        ];
        run(Command::new("npm").args(npm).args(asked).current_dir(home));
    })
}

fn once(name: &str, asked: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Each test may be a process of its own, so a lock in memory would not do.
    let turn = std::fs::File::create(target.join(format!("{name}.lock"))).unwrap();
    turn.lock().unwrap();
    let home = target.join(name);
    let (note, wanted) = (home.join("installed"), asked.join("\n"));
    if std::fs::read_to_string(&note).ok().as_deref() != Some(&wanted) {
        // What is there is half installed, or of other versions.
        if home.exists() {
            std::fs::remove_dir_all(&home).unwrap();
        }
        std::fs::create_dir_all(&home).unwrap();
        install(&home);
        std::fs::write(&note, wanted).unwrap();
    }
    home
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
}
