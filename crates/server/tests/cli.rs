//! The command line as a person meets it: whole commands, their output and their exit codes.
//!
//! Absent here: a running engine; verbs that talk to one are in `cli_live.rs`.

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::CommandCargoExt as _;

/// The binary, with nothing of this machine's environment that it would listen to.
fn postrider(directory: &Path, arguments: &[&str]) -> Output {
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
        .env("COLUMNS", "100")
        .output()
        .expect("it runs")
}

/// Arguments, exit code, stdout and stderr, as one text.
fn session(directory: &Path, arguments: &[&str]) -> String {
    let output = postrider(directory, arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let code = output.status.code().expect("it ends by itself");
    let mut session = format!("$ postrider {}\nexit {code}\n", arguments.join(" "));
    if !out.is_empty() {
        session += &format!("--- stdout\n{out}");
    }
    if !err.is_empty() {
        session += &format!("--- stderr\n{err}");
    }
    session
}

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn help_names_every_verb() {
    let here = empty();
    insta::assert_snapshot!(session(here.path(), &["--help"]));
}

#[test]
fn without_a_verb_help_is_printed_and_the_exit_code_is_2() {
    let here = empty();
    let output = postrider(here.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: postrider <COMMAND>"));
}

#[test]
fn a_mistyped_verb_names_the_nearest() {
    let here = empty();
    insta::assert_snapshot!(session(here.path(), &["docter"]), @r"
    $ postrider docter
    exit 2
    --- stderr
    error: unrecognized subcommand 'docter'

      tip: a similar subcommand exists: 'doctor'

    Usage: postrider <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn a_mistyped_setting_is_named_with_its_place() {
    let here = empty();
    std::fs::write(here.path().join("p.toml"), "[server]\n  lisen = \"x\"\n").expect("a file");
    let arguments = ["config", "check", "--config", "p.toml"];
    insta::assert_snapshot!(session(here.path(), &arguments), @r"
    $ postrider config check --config p.toml
    exit 2
    --- stderr
    error: the configuration is wrong
      caused by: p.toml:2:3: `server.lisen` is not a setting; did you mean `listen`?

    hint: `postrider config reference` lists every setting with its default and bounds
    ");
    let output = postrider(here.path(), &[&arguments[..], &["--json"]].concat());
    let fault: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(fault["valid"], false);
    assert_eq!((&fault["line"], &fault["column"]), (&2.into(), &3.into()));
}

#[test]
fn the_defaults_are_a_right_configuration() {
    let here = empty();
    let output = postrider(here.path(), &["config", "check", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"{\"valid\":true}\n");
}

#[test]
fn doctor_finds_a_damaged_key() {
    let here = empty();
    let data = here.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    std::fs::write(data.join("master.key"), "not a key").expect("a file");
    let output = postrider(here.path(), &["doctor", "--data", "data", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["healthy"], false);
    let checks = found["checks"].as_array().expect("a list");
    let key = checks
        .iter()
        .find(|check| check["name"] == "master key")
        .expect("looked at");
    assert_eq!(key["finding"], "bad");
}

#[test]
fn every_shell_gets_a_completion_script() {
    let here = empty();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = postrider(here.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("doctor"),
            "{shell}"
        );
        assert!(output.stderr.is_empty(), "{shell}");
    }
}
