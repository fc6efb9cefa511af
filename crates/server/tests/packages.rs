//! The client packages, by their own tests: `npm test` of `clients/web`, on Node alone.

use std::path::Path;
use std::process::Command;

#[test]
fn the_web_package_passes_its_own_tests() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/web");
    let output = Command::new("node")
        .args(["--test", "--test-reporter=tap"])
        .current_dir(package)
        .output()
        .expect("node runs");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    let passed = report
        .lines()
        .find_map(|line| line.strip_prefix("# pass ")?.parse().ok());
    assert!(passed.is_some_and(|passed: u32| passed > 10), "{report}");
}
