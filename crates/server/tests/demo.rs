//! `demo`, `bench` and `fake` as a person meets them: exit codes, one object on stdout, prose on
//! stderr.

use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn postrider(args: &[&str]) -> Output {
    let command = Command::cargo_bin("postrider")
        .expect("it is built")
        .args(args)
        .output();
    command.expect("it runs")
}

fn object(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn prose(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn demo_prints_one_object_and_exits_0() {
    let ran = postrider(&[
        "demo", "--events", "400", "--kills", "2", "--json", "--seed", "7",
    ]);
    assert_eq!(ran.status.code(), Some(0), "{}", prose(&ran));
    let report = object(&ran);
    for name in [
        "accepted",
        "handed_over",
        "duplicates_suppressed",
        "ambiguous",
    ] {
        assert!(
            report[name].as_u64().is_some_and(|count| count > 0),
            "{name}: {report}"
        );
    }
    for (name, count) in [
        ("kills", 2),
        ("lost", 0),
        ("broken_promises", 0),
        ("seed", 7),
    ] {
        assert_eq!(report[name], count, "{name}");
    }
    assert_eq!(report["recovery_ms"].as_array().map(Vec::len), Some(2));
    assert!(
        report["dead_letters"]
            .as_object()
            .is_some_and(|causes| !causes.is_empty())
    );
    assert!(prose(&ran).contains("kill 2"), "{}", prose(&ran));
}

#[test]
fn a_planted_fault_makes_demo_exit_1() {
    let plant = [
        "--plant",
        "forget-dedupe-key",
        "--events",
        "300",
        "--kills",
        "1",
        "--json",
    ];
    let ran = postrider(&[&["demo"][..], &plant].concat());
    assert_eq!(ran.status.code(), Some(1), "{}", prose(&ran));
    assert!(
        object(&ran)["broken_promises"]
            .as_u64()
            .is_some_and(|count| count > 0)
    );
    assert!(
        prose(&ran).contains("hint: `postrider demo --seed"),
        "{}",
        prose(&ran)
    );
    let unknown = postrider(&["demo", "--plant", "be-nice"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn demo_does_not_touch_a_directory_that_is_in_use() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("mine"), "").expect("a file");
    let path = directory.path().to_str().expect("a path");
    for verb in ["demo", "bench"] {
        let ran = postrider(&[verb, "--data", path]);
        assert_eq!(ran.status.code(), Some(2), "{}", prose(&ran));
        assert!(prose(&ran).contains("is not empty"), "{}", prose(&ran));
    }
}

#[test]
fn bench_prints_one_object_and_loses_nothing() {
    let ran = postrider(&["bench", "--events", "2000", "--json"]);
    assert_eq!(ran.status.code(), Some(0), "{}", prose(&ran));
    let figures = object(&ran);
    for name in [
        "end_to_end_per_s",
        "raw_per_s",
        "ratio",
        "cpu_us_per_delivery",
        "raw_cpu_us_per_request",
        "p99_ms",
        "fdatasync_p99_ms",
        "written_bytes_per_delivery",
        "fan_out_10_per_s",
    ] {
        assert!(
            figures[name].as_f64().is_some_and(|figure| figure > 0.0),
            "{name}: {figures}"
        );
    }
    for name in ["encrypt_us", "floor_us", "end_to_end_per_s", "limit_per_s"] {
        let figure = figures["web_push"][name].as_f64();
        assert!(figure.is_some_and(|it| it > 0.0), "{name}: {figures}");
    }
    assert_eq!(figures["web_push"]["lost"], 0, "{figures}");
    assert!(figures["void"].is_boolean());
    for name in ["lost", "duplicates"] {
        assert_eq!(figures[name], 0, "{name}: {figures}");
    }
}

#[test]
fn fake_listens_on_loopback_only_unless_told() {
    let ran = postrider(&["fake", "--listen", "0.0.0.0:0"]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(
        prose(&ran).contains("not a loopback address"),
        "{}",
        prose(&ran)
    );
    let ran = postrider(&["fake", "--listen", "127.0.0.1:0", "--behaviour", "{}"]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(
        prose(&ran).contains("does not read as a behaviour"),
        "{}",
        prose(&ran)
    );
}
