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
    for channel in ["webhook", "web_push", "apns", "fcm"] {
        let count = report["handed_over_by_channel"][channel].as_u64();
        assert!(count.is_some_and(|count| count > 0), "{channel}: {report}");
    }
    let (shown, times) = (
        &report["shown_once"]["notifications"],
        &report["shown_once"]["hand_overs"],
    );
    assert!(
        shown.as_u64() > Some(0) && times.as_u64() > shown.as_u64(),
        "{report}"
    );
    assert!(report["devices_retired"].as_u64() > Some(0), "{report}");
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
fn bench_measures_every_channel_and_loses_nothing() {
    let ran = postrider(&["bench", "--events", "2000", "--json"]);
    assert_eq!(ran.status.code(), Some(0), "{}", prose(&ran));
    let figures = object(&ran);
    let webhooks = [
        "end_to_end_per_s",
        "raw_per_s",
        "ratio",
        "cpu_us_per_delivery",
        "raw_cpu_us_per_request",
        "p99_ms",
        "fdatasync_p99_ms",
        "written_bytes_per_delivery",
        "fan_out_10_per_s",
    ];
    are_positive(&figures, "", &webhooks);
    let web_push = [
        "encrypt_us",
        "floor_us",
        "end_to_end_per_s",
        "limit_per_s",
        "ratio",
    ];
    are_positive(&figures["web_push"], "web_push", &web_push);
    let phones = [
        "end_to_end_per_s",
        "raw_per_s",
        "raw_h2_per_s",
        "raw_hyper_per_s",
        "ratio",
        "token_us",
    ];
    are_positive(&figures["apns"], "apns", &phones);
    are_positive(&figures["fcm"], "fcm", &phones);
    are_positive(&figures["fcm"], "fcm", &["token_exchange_ms"]);
    assert_eq!(figures["apns"]["connections"], 1, "{figures}");
    assert_eq!(figures["apns"]["refused_streams"], 0, "{figures}");
    for part in [
        &figures,
        &figures["web_push"],
        &figures["apns"],
        &figures["fcm"],
    ] {
        assert_eq!(part["lost"], 0, "{part}");
    }
    for part in [&figures, &figures["fcm"]] {
        assert_eq!(part["duplicates"], 0, "{part}");
    }
    assert!(figures["void"].is_boolean());
    assert!(figures.get("troubles").is_none(), "{figures}");
    every_figure_is_explained(&figures);
}

fn are_positive(part: &Value, name: &str, figures: &[&str]) {
    for figure in figures {
        let value = part[figure].as_f64();
        assert!(value.is_some_and(|it| it > 0.0), "{name} {figure}: {part}");
    }
}

/// The page of figures is made from the words that the text output has for each.
fn every_figure_is_explained(figures: &Value) {
    let page = postrider::cli::bench_page();
    for (name, figure) in figures.as_object().expect("an object") {
        let (place, members) = match figure.as_object() {
            Some(members) => (format!("## `{name}`"), members.keys().cloned().collect()),
            None => ("## webhooks".to_owned(), vec![name.clone()]),
        };
        let (_, section) = page.split_once(&place).expect("a section for each part");
        let section = section.split("\n## ").next().unwrap_or_default();
        for member in members {
            assert!(
                section.contains(&format!("| `{member}` |")),
                "{place}: {member}"
            );
        }
    }
}

#[test]
fn a_part_of_bench_that_cannot_be_measured_is_null_and_exits_1() {
    let home = tempfile::tempdir().expect("a directory");
    // The program looks for Node on the path, and what it finds there is no Node.
    let node = home.path().join("node");
    std::fs::write(&node, "#!/bin/sh\necho broken >&2\nexit 3\n").expect("a script");
    let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&node, runs).expect("it may run");
    let ran = Command::cargo_bin("postrider")
        .expect("it is built")
        .env("PATH", home.path())
        .args(["bench", "--only", "web_push", "--events", "1000", "--json"])
        .output()
        .expect("it runs");
    assert_eq!(ran.status.code(), Some(1), "{}", prose(&ran));
    let figures = object(&ran);
    assert!(
        figures["web_push"]["npm_web_push_per_s"].is_null(),
        "{figures}"
    );
    let why = figures["troubles"]["npm_web_push"]
        .as_str()
        .unwrap_or_default();
    assert!(why.contains("broken"), "{figures}");
    are_positive(&figures["web_push"], "web_push", &["end_to_end_per_s"]);
    assert!(figures.get("apns").is_none(), "{figures}");
    assert!(
        prose(&ran).contains("not measured: npm_web_push"),
        "{}",
        prose(&ran)
    );
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
