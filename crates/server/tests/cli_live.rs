//! The first five minutes: a development engine, its three lines, and the verbs that talk to it.
//!
//! Absent here: promises under load; see the demo and the crash test.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longest wait for an engine to be up, and for it to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A development engine on free ports. Killed if the test ends before it does.
struct Engine {
    child: Child,
    place: tempfile::TempDir,
    /// What it printed when it was up.
    page: Vec<String>,
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("postrider").expect("the binary is built");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTRIDER") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

impl Engine {
    fn start(place: tempfile::TempDir) -> Engine {
        let arguments = [
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--sink",
            "127.0.0.1:0",
        ];
        let mut child = command(place.path(), &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (lines, page) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut engine = Engine {
            child,
            place,
            page: Vec::new(),
        };
        let begun = Instant::now();
        while engine.curls().len() < 3 {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            engine
                .page
                .push(page.recv_timeout(left).expect("it says where it is"));
        }
        engine
    }

    /// The lines to try.
    fn curls(&self) -> Vec<&str> {
        let lines = self.page.iter().map(String::as_str);
        lines.filter(|line| line.starts_with("curl ")).collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(self.place.path(), arguments)
            .output()
            .expect("it runs")
    }

    /// What a verb prints with `--json`.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {error}"))
    }

    /// What a verb prints, which must end well.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// Asks it to end, waits until it has, and gives its place back.
    fn stop(mut self) -> tempfile::TempDir {
        let id = Pid::from_raw(i32::try_from(self.child.id()).expect("an id"));
        kill(id, Signal::SIGTERM).expect("it runs");
        let (ended, end) = mpsc::channel();
        let place = std::mem::replace(&mut self.place, tempfile::tempdir().expect("a directory"));
        std::thread::spawn(move || ended.send(self.child.wait()));
        let status = end
            .recv_timeout(PATIENCE)
            .expect("it ends in time")
            .expect("it ran");
        assert!(status.success(), "{status}");
        place
    }
}

#[test]
fn the_three_lines_run_unchanged() {
    let engine = Engine::start(tempfile::tempdir().expect("a directory"));
    let curls = engine.curls();
    let run = |line: &str| {
        let output = Command::new("sh")
            .args(["-c", line])
            .output()
            .expect("a shell");
        assert!(
            output.status.success(),
            "curl is there and `{line}` ends well"
        );
        String::from_utf8(output.stdout).expect("output is UTF-8")
    };
    let admitted: Value = serde_json::from_str(&run(curls[0])).expect("JSON");
    let id = admitted["deliveries"][0]["id"]
        .as_str()
        .expect("a delivery")
        .to_owned();
    engine.text(&["send", "bo", "hi", "--wait"]);
    let listed: Value = serde_json::from_str(&run(curls[1])).expect("JSON");
    assert_eq!(
        listed["items"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    // The sink has it once `why` says so, however long that takes.
    let begun = Instant::now();
    while engine.json(&["why", &id])["deliveries"][0]["state"] != "accepted" {
        assert!(begun.elapsed() < PATIENCE, "the first event is handed over");
    }
    let received: Value = serde_json::from_str(run(curls[2]).trim()).expect("one JSON line");
    assert_eq!(received["correlation_id"], Value::from(id));
    assert_eq!(received["signature"], "valid");
    assert_eq!(received["body"], r#"{"text":"hi"}"#);
    engine.stop();
}

#[test]
fn a_person_can_follow_a_delivery() {
    let engine = Engine::start(tempfile::tempdir().expect("a directory"));
    let sent = engine.json(&["send", "anna", r#"{"text":"hi"}"#, "--wait"]);
    assert_eq!(sent["settled"][0]["state"], "accepted");
    let id = sent["deliveries"][0]["id"].as_str().expect("an id");
    let page = engine.text(&["why", id]);
    assert!(
        page.starts_with("Handed over after one attempt.\n"),
        "{page}"
    );
    assert!(page.contains("HTTP 200"), "{page}");
    assert!(page.contains("Who acts: Nothing"), "{page}");
    let event = sent["event_id"].as_str().expect("an id");
    assert_eq!(engine.json(&["why", event])["deliveries"][0]["id"], id);

    let again = engine.json(&["send", "anna", "{}", "--id", "order-1", "--wait"]);
    let repeat = engine.json(&["send", "anna", "{}", "--id", "order-1"]);
    assert_eq!(repeat["duplicate"], true);
    assert_eq!(repeat["event_id"], again["event_id"]);
    let other = engine.run(&["send", "anna", "[]", "--id", "order-1"]);
    assert_eq!(
        other.status.code(),
        Some(1),
        "the same key with other content is refused"
    );

    let nobody = engine.run(&["send", "nobody", "hi", "--wait"]);
    assert_eq!(
        nobody.status.code(),
        Some(1),
        "what was not handed over is no success"
    );
    let dead = engine.json(&["deliveries", "list", "--state", "suppressed"]);
    assert_eq!(dead[0]["cause"], "SUPPRESSED_NO_ENDPOINT");
    let wrong = engine.run(&["deliveries", "list", "--state", "lost"]);
    assert_eq!(wrong.status.code(), Some(2));
    engine.stop();
}

#[test]
fn endpoints_keys_and_tenants_are_kept() {
    let engine = Engine::start(tempfile::tempdir().expect("a directory"));
    let made = engine.json(&[
        "endpoints",
        "add",
        "http://127.0.0.1:9/x",
        "--recipient",
        "cy",
    ]);
    assert!(
        made["secret"]
            .as_str()
            .is_some_and(|secret| secret.starts_with("whsec_"))
    );
    let id = made["id"].as_str().expect("an id");
    assert_eq!(
        engine.json(&["endpoints", "pause", id, "--reason", "why not"])["state"],
        "paused"
    );
    assert_eq!(engine.json(&["endpoints", "show", id])["reason"], "why not");
    assert_eq!(engine.json(&["endpoints", "resume", id])["state"], "active");
    let rotated = engine.json(&["endpoints", "rotate", id]);
    assert_ne!(rotated["secret"], made["secret"]);
    assert_eq!(engine.text(&["endpoints", "test", id]).lines().count(), 1);
    engine.text(&["endpoints", "remove", id]);
    assert_eq!(
        engine.run(&["endpoints", "show", id]).status.code(),
        Some(1)
    );

    engine.text(&["tenants", "create", "shop"]);
    let key = engine.text(&[
        "keys", "create", "till", "--tenant", "shop", "--role", "reader",
    ]);
    let key = key.trim();
    let reading = engine.run(&["deliveries", "list", "--key", key]);
    assert!(reading.status.success());
    let writing = engine.run(&["send", "anna", "--key", key]);
    assert_eq!(writing.status.code(), Some(2), "a reader sends nothing");
    let listed = engine.json(&["keys", "list", "--tenant", "shop"]);
    let till = listed[0]["id"].as_str().expect("an id");
    engine.text(&["keys", "revoke", till, "--tenant", "shop"]);
    let revoked = engine.run(&["deliveries", "list", "--key", key]);
    assert_eq!(revoked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&revoked.stderr).contains("key"));

    let health = engine.json(&["doctor"]);
    assert_eq!(health["healthy"], true, "{health}");
    engine.stop();
}

#[test]
fn a_backup_made_under_way_is_an_engine_again() {
    let engine = Engine::start(tempfile::tempdir().expect("a directory"));
    let sent = engine.json(&["send", "anna", "before", "--wait"]);
    let id = sent["deliveries"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    engine.text(&["backup", "copy"]);
    let place = engine.stop();
    let data = place.path().join("postrider-data");
    let key = data.join("master.key");
    let key = key.to_str().expect("UTF-8");
    std::fs::rename(&data, place.path().join("old")).expect("moved");
    let key = key.replace("postrider-data", "old");
    let restore = ["restore", "copy", "--data", "postrider-data", "--key", &key];
    let restored = command(place.path(), &restore).output().expect("it runs");
    assert!(
        restored.status.success(),
        "{}",
        String::from_utf8_lossy(&restored.stderr)
    );
    let engine = Engine::start(place);
    assert_eq!(
        engine.json(&["why", &id])["deliveries"][0]["state"],
        "accepted"
    );
    // The sink of the start before is gone, and its endpoint with it; the new one is there.
    engine.text(&["send", "anna", "after"]);
    let begun = Instant::now();
    let accepted = ["deliveries", "list", "--state", "accepted"];
    while engine.json(&accepted).as_array().map(Vec::len) < Some(2) {
        assert!(begun.elapsed() < PATIENCE, "the restored engine hands over");
    }
    engine.stop();
}

#[test]
fn a_journal_is_verified_printed_and_salvaged() {
    let engine = Engine::start(tempfile::tempdir().expect("a directory"));
    let sent = engine.json(&["send", "anna", "hi", "--wait"]);
    let id = sent["deliveries"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(
        engine.json(&["journal", "verify"])["clean"],
        true,
        "while it runs"
    );
    // The next start works the write-ahead log off, so that everything is in the file itself.
    let place = Engine::start(engine.stop()).stop();
    let run = |arguments: &[&str]| command(place.path(), arguments).output().expect("it runs");
    let exported = run(&["journal", "export"]);
    let lines = String::from_utf8(exported.stdout).expect("output is UTF-8");
    let entries: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let facts: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["fact"].as_str())
        .collect();
    assert_eq!(facts, ["admitted", "opened", "answered"]);
    assert_eq!(entries[0]["correlation_id"], Value::from(id.clone()));

    let file = place.path().join("postrider-data/ledger-000001.db");
    let bytes = std::fs::read(&file).expect("a file");
    let at = bytes
        .windows(9)
        .position(|window| window == b"note.sent")
        .expect("an event");
    let mut damaged = bytes;
    damaged[at] = b'N';
    std::fs::write(&file, damaged).expect("written");
    let verified = run(&["journal", "verify", "--json"]);
    assert_eq!(verified.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert_eq!(
        report["findings"][0]["file"], "ledger-000001.db",
        "{report}"
    );
    let looked = run(&["doctor", "--json"]);
    assert_eq!(looked.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&looked.stdout).expect("JSON");
    let ledger = found["checks"].as_array().expect("a list").iter();
    let ledger = ledger
        .filter(|check| check["name"] == "ledger")
        .collect::<Vec<_>>();
    assert_eq!(ledger[0]["finding"], "bad", "{found}");

    let salvaged = run(&["journal", "salvage", "saved", "--json"]);
    let counts: Value = serde_json::from_slice(&salvaged.stdout).expect("JSON");
    assert_eq!(counts["deliveries"], 1, "{counts}");
    assert_eq!(counts["lost"], 1, "the event's row: {counts}");
    let again = run(&["journal", "verify", "--data", "saved", "--json"]);
    let report: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!(report["entries"], 3, "{report}");
}

#[test]
fn a_second_engine_on_the_directory_is_refused() {
    let engine = Engine::start(tempfile::tempdir().expect("a directory"));
    let second = engine.run(&["serve", "--dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains("in use by process"), "{error}");
    engine.stop();
}

/// A client of the engine that a directory's `dev.json` names.
fn client(place: &Path) -> postrider::cli::client::Client {
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        reach: postrider::cli::client::Reach,
    }
    let data = place.join("postrider-data");
    let data = data.to_str().expect("a path in words");
    let arguments = <Arguments as clap::Parser>::parse_from(["x", "--data", data]);
    arguments.reach.client().expect("an engine")
}

/// A route with the account of a fake of this process: nothing is sent here.
fn make_fcm_route(place: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let settings = postrider::fake::Settings::default();
    let fake = runtime.block_on(postrider::fake::Fake::start(settings));
    let account = fake.expect("a fake").fcm_account("demo");
    let account: Value = serde_json::from_str(&account).expect("JSON");
    let route = serde_json::json!({ "name": "android", "fcm": { "service_account": account } });
    let made = client(place).post("/v1/routes", &route);
    assert!(made.is_ok(), "{:?}", made.err());
}

/// Two devices, a telephone number, a device without a route, and one without an address.
fn export() -> String {
    let endpoint = |id: &str, token: &str, channel: &str| {
        let endpoint = serde_json::json!({
            "Id": id, "Address": token, "ChannelType": channel, "OptOut": "NONE",
            "EffectiveDate": "2026-10-01T00:00:00Z", "User": { "UserId": format!("u-{id}") },
        });
        format!("{endpoint}\n")
    };
    endpoint("1", "t-1", "GCM")
        + &endpoint("2", "t-2", "GCM")
        + &endpoint("3", "+49", "SMS")
        + &endpoint("4", "00ff", "APNS")
        + &endpoint("5", "", "GCM")
}

#[test]
fn devices_are_imported_twice_and_nothing_changes() {
    let engine = Engine::start(tempfile::tempdir().expect("a directory"));
    make_fcm_route(engine.place.path());
    std::fs::write(engine.place.path().join("export.json"), export()).expect("a file");
    let import = |more: &[&str]| {
        let all = [
            "devices",
            "import",
            "export.json",
            "--format",
            "pinpoint",
            "--json",
        ];
        engine.run(&[&all[..], more].concat())
    };
    let dry: Value = serde_json::from_slice(&import(&["--dry-run"]).stdout).expect("JSON");
    assert_eq!(dry["registered"], serde_json::json!({ "readable": 3 }));
    for registered in ["created", "unchanged"] {
        let output = import(&[]);
        assert_eq!(output.status.code(), Some(1), "two lines have faults");
        let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(summary["registered"], serde_json::json!({ registered: 2 }));
        assert_eq!(summary["skipped"], serde_json::json!({ "not_push": 1 }));
        assert_eq!(summary["faults"], 2);
        let said = String::from_utf8(output.stderr).expect("words");
        assert!(
            said.contains("line 5: `Address` must be the device's token"),
            "{said}"
        );
        assert!(
            said.contains("line 4: "),
            "the engine has no route for it: {said}"
        );
        assert!(said.contains("must be the name of a route"), "{said}");
    }
    let listed = engine.json(&["endpoints", "list", "--recipient", "u-1"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let late = engine.run(&[
        "devices",
        "import",
        "export.json",
        "--format",
        "pinpoint",
        "--json",
        "--from",
        "3",
    ]);
    let late: Value = serde_json::from_slice(&late.stdout).expect("JSON");
    assert_eq!(late["registered"], serde_json::json!({}));
    let absent = engine.run(&["devices", "import", "nothing.csv", "--format", "csv"]);
    assert_eq!(absent.status.code(), Some(2));
    engine.stop();
}
