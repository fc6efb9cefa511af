//! The rules of the repository that no compiler knows, run over every file that git knows.
//!
//! Each rule is one function from a file (or from the tree) to complaints; a complaint says where,
//! what, and what to do instead. Absent here: rules that rustfmt, rustc or Clippy can hold; those
//! are in `rustfmt.toml`, `Cargo.toml` and the two `clippy.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use postrider::http::error::Code;
use postrider_core::cause::Cause;

/// Lines of a source file before its tests, at most.
const LINES_MAX: usize = 600;
/// Columns of a line of Rust, at most.
const COLUMNS_MAX: usize = 100;
/// Bytes of a file that is committed, at most: fixtures are small or made by a program.
const FILE_BYTES_MAX: usize = 1_048_576;

/// Words that mean too much to name anything of ours; see the vocabulary in ARCHITECTURE.md.
const WORDS_BANNED: [&str; 8] = [
    "topic",
    "message",
    "status",
    "job",
    "task",
    "success",
    "failed",
    "delivered",
];
/// Where another specification chose the word for us: `http_status`, `exit_status`.
const WORDS_BEFORE_STATUS: [&str; 2] = ["http", "exit"];

/// A file that git knows.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Wholly tests: an integration test, a bench or their fixtures.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The rules themselves, which have to name what they forbid.
    fn is_rulebook(&self) -> bool {
        self.path.ends_with("tests/tidy.rs")
    }

    /// Numbered lines before the tests, or all of them.
    fn before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.tests_start();
        self.lines().take_while(move |(number, _)| *number < end)
    }

    /// Numbered lines of the tests.
    fn tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let start = if self.is_test() {
            0
        } else {
            self.tests_start()
        };
        self.lines().skip_while(move |(number, _)| *number < start)
    }

    fn tests_start(&self) -> usize {
        let mut lines = self.lines().peekable();
        while let Some((number, line)) = lines.next() {
            let next_is_module = lines
                .peek()
                .is_some_and(|(_, next)| next.trim_start().starts_with("mod "));
            if line.trim() == "#[cfg(test)]" && next_is_module {
                return number;
            }
        }
        usize::MAX
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }

    fn complain(&self, number: usize, what: &str) -> String {
        format!("{}:{number}: {what}", self.path)
    }
}

#[test]
fn files_are_short_and_lines_fit() {
    check(|source| {
        if !source.is_rust() {
            return Vec::new();
        }
        let mut complaints = Vec::new();
        let length = source.before_tests().count();
        if length > LINES_MAX && !source.is_test() {
            complaints.push(source.complain(
                LINES_MAX,
                &format!("{length} lines before its tests, {LINES_MAX} at most: split it"),
            ));
        }
        for (number, line) in source.lines() {
            let columns = line.chars().count();
            // A row of a table in the documentation cannot be broken.
            let words = line.trim_start();
            let is_row = words.starts_with("//! |") || words.starts_with("/// |");
            if columns > COLUMNS_MAX && !is_row {
                complaints.push(
                    source.complain(number, &format!("{columns} columns, {COLUMNS_MAX} at most")),
                );
            }
        }
        complaints
    });
}

#[test]
fn nothing_is_left_unfinished() {
    let forbidden = [
        ("todo!(", "write it, or leave it out"),
        ("unimplemented!(", "write it, or leave it out"),
        (
            "#[ignore",
            "a test that does not run proves nothing: mend or delete it",
        ),
        ("FIXME", "mend it now"),
        ("XXX", "mend it now"),
        ("TODO", "do it now, or say in prose what is absent"),
    ];
    check(|source| {
        if source.is_rulebook() || !source.is_rust() {
            return Vec::new();
        }
        source.find(source.lines(), &forbidden)
    });
}

#[test]
fn tests_do_not_sleep() {
    let forbidden = [
        ("thread::sleep", "wait for a condition with a deadline"),
        ("time::sleep(", "wait for a condition with a deadline"),
    ];
    check(|source| {
        if source.is_rulebook() || !source.is_rust() {
            return Vec::new();
        }
        // A poll with a deadline is a wait for a condition; it says so on the line.
        let tests = source
            .tests()
            .filter(|(_, line)| !line.contains("// poll:"));
        source.find(tests, &forbidden)
    });
}

#[test]
fn public_modules_say_what_is_absent() {
    let tree = tracked();
    let by_path: BTreeMap<&str, &Source> = tree
        .iter()
        .map(|source| (source.path.as_str(), source))
        .collect();
    let mut complaints = Vec::new();
    for parent in tree
        .iter()
        .filter(|source| source.is_rust() && !source.is_test())
    {
        for name in parent
            .before_tests()
            .filter_map(|(_, line)| public_module(line))
        {
            let module = module_paths(&parent.path, name)
                .into_iter()
                .find_map(|path| by_path.get(path.as_str()).copied());
            let Some(module) = module else {
                complaints.push(format!("{}: no file for module {name}", parent.path));
                continue;
            };
            let head: Vec<&str> = module
                .text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .collect();
            if head.is_empty() {
                complaints.push(module.complain(1, "begin with `//!`: what this module is for"));
            } else if !head.iter().any(|line| line.contains("Absent here:")) {
                complaints.push(module.complain(
                    head.len(),
                    "end the module's documentation with \"Absent here:\" and what it leaves out",
                ));
            }
        }
    }
    report(&complaints);
}

#[test]
fn public_names_use_the_vocabulary() {
    check(|source| {
        if !source.is_rust() || source.is_test() {
            return Vec::new();
        }
        let mut complaints = Vec::new();
        for (number, line) in source.before_tests() {
            let Some(name) = public_name(line) else {
                continue;
            };
            if let Some(word) = banned_word(name) {
                complaints.push(source.complain(
                    number,
                    &format!("`{name}` says `{word}`: use a word of the vocabulary"),
                ));
            }
        }
        complaints
    });
}

#[test]
fn nothing_depends_on_one_machine() {
    let places = ["home", "root", "Users", "work", "tmp/wt"];
    let forbidden: Vec<(String, &str)> = places
        .iter()
        .map(|place| {
            (
                format!("/{place}/"),
                "a path of one machine: make it relative",
            )
        })
        .collect();
    let forbidden: Vec<(&str, &str)> = forbidden
        .iter()
        .map(|(word, advice)| (word.as_str(), *advice))
        .collect();
    check(|source| {
        if source.is_rulebook() || source.path == "Cargo.lock" {
            return Vec::new();
        }
        let lines = source.lines().filter(|(_, line)| !line.contains("://"));
        source.find(lines, &forbidden)
    });
}

#[test]
fn committed_files_are_small_text() {
    let complaints: Vec<String> = tracked_paths()
        .into_iter()
        .filter_map(|path| {
            let bytes = std::fs::read(root().join(&path)).ok()?;
            if bytes.len() > FILE_BYTES_MAX {
                Some(format!(
                    "{path}: {} bytes, {FILE_BYTES_MAX} at most",
                    bytes.len()
                ))
            } else if bytes.ends_with(b"\n") || bytes.is_empty() {
                None
            } else {
                Some(format!("{path}: end the last line with a line feed"))
            }
        })
        .collect();
    report(&complaints);
}

#[test]
fn the_core_depends_on_shared_bytes_alone() {
    let manifest = read("crates/core/Cargo.toml");
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let names: Vec<&String> = manifest["dependencies"]
        .as_table()
        .expect("a table")
        .keys()
        .collect();
    assert_eq!(
        names,
        ["bytes"],
        "the core's dependencies are the proof that it only decides"
    );
    assert!(!manifest.contains_key("build-dependencies"));
    assert!(!manifest.contains_key("target"));
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let complaints: Vec<String> = tracked()
        .iter()
        .filter(|source| source.path.ends_with("/Cargo.toml"))
        .filter(|source| {
            let manifest: toml::Table = source.text.parse().expect("a manifest is TOML");
            manifest
                .get("lints")
                .and_then(|lints| lints.get("workspace"))
                != Some(&toml::Value::Boolean(true))
        })
        .map(|source| format!("{}: add `[lints] workspace = true`", source.path))
        .collect();
    report(&complaints);
}

#[test]
fn every_ban_names_its_replacement() {
    let mut complaints = Vec::new();
    for path in ["clippy.toml", "crates/core/clippy.toml"] {
        let bans: toml::Table = read(path).parse().expect("clippy.toml is TOML");
        for (list, entries) in bans
            .iter()
            .filter(|(list, _)| list.starts_with("disallowed-"))
        {
            for entry in entries.as_array().expect("a list of bans") {
                if entry
                    .get("reason")
                    .and_then(toml::Value::as_str)
                    .is_none_or(str::is_empty)
                {
                    complaints.push(format!("{path}: a ban in {list} without a reason: {entry}"));
                }
            }
        }
    }
    report(&complaints);
}

#[test]
fn every_cause_has_a_page_entry() {
    let page = read("docs/causes.md");
    let complaints: Vec<String> = Cause::ALL
        .iter()
        .filter(|cause| !page.contains(&format!("\n### {cause}\n")))
        .map(|cause| format!("docs/causes.md: no entry for {cause}"))
        .collect();
    report(&complaints);
}

#[test]
fn every_error_has_a_page_entry() {
    let page = read("docs/errors.md");
    let complaints: Vec<String> = Code::ALL
        .iter()
        .map(|code| code.word())
        .filter(|word| !page.contains(&format!("\n## {word}\n")))
        .map(|word| format!("docs/errors.md: no entry for {word}"))
        .collect();
    report(&complaints);
}

#[test]
fn relative_links_lead_somewhere() {
    let tree = tracked();
    let paths: BTreeSet<PathBuf> = tree
        .iter()
        .map(|source| root().join(&source.path))
        .collect();
    let mut complaints = Vec::new();
    for source in tree.iter().filter(|source| source.path.ends_with(".md")) {
        for (number, target) in links(&source.text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let here = root().join(&source.path);
            let there = match file {
                "" => here.clone(),
                file => clean(&here.parent().expect("a file is in a directory").join(file)),
            };
            if !paths.contains(&there) && !there.is_dir() {
                complaints.push(source.complain(number, &format!("`{target}` leads nowhere")));
            } else if !anchor.is_empty() && !headings(&there).contains(anchor) {
                complaints.push(source.complain(number, &format!("`{target}`: no such heading")));
            }
        }
    }
    report(&complaints);
}

impl Source {
    /// Complaints for each of `lines` that contains one of `forbidden` outside of a comment.
    fn find<'a>(
        &self,
        lines: impl Iterator<Item = (usize, &'a str)>,
        forbidden: &[(&str, &str)],
    ) -> Vec<String> {
        let mut complaints = Vec::new();
        for (number, line) in lines {
            for (word, advice) in forbidden {
                if line.contains(word) {
                    complaints.push(self.complain(number, &format!("`{word}`: {advice}")));
                }
            }
        }
        complaints
    }
}

/// Runs a rule over each text file and reports all complaints at once.
fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let tree = tracked();
    assert!(tree.len() > 10, "no files: is this a checkout?");
    report(&tree.iter().flat_map(rule).collect::<Vec<_>>());
}

fn report(complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

fn root() -> PathBuf {
    clean(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text files that git knows or would add.
fn tracked() -> Vec<Source> {
    tracked_paths()
        .into_iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).ok()?;
            Some(Source { path, text })
        })
        .collect()
}

fn tracked_paths() -> Vec<String> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    String::from_utf8(listed.stdout)
        .expect("paths are UTF-8")
        .split_terminator('\0')
        .filter(|path| root().join(path).is_file())
        .map(str::to_owned)
        .collect()
}

/// `path` without `.` and `..`, links left alone.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

/// The name that a line `pub mod name;` declares.
fn public_module(line: &str) -> Option<&str> {
    line.strip_prefix("pub mod ")?.strip_suffix(';')
}

/// Where the file of module `name` of `parent` may be.
fn module_paths(parent: &str, name: &str) -> [String; 2] {
    let (directory, file) = parent.rsplit_once('/').unwrap_or(("", parent));
    let base = match file {
        "lib.rs" | "main.rs" | "mod.rs" => directory.to_owned(),
        file => format!("{directory}/{}", file.trim_end_matches(".rs")),
    };
    [format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")]
}

/// The name of the public item or field that a line declares.
fn public_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start().strip_prefix("pub ")?;
    if rest.starts_with("use ") {
        return None;
    }
    for keyword in [
        "const ", "async ", "fn ", "struct ", "enum ", "trait ", "type ", "mod ", "static ",
        "union ",
    ] {
        rest = rest.strip_prefix(keyword).unwrap_or(rest);
    }
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| !name.is_empty())
}

/// The banned word in a name, if there is one.
fn banned_word(name: &str) -> Option<&'static str> {
    let words = words(name);
    words.iter().enumerate().find_map(|(at, word)| {
        let singular = word.strip_suffix('s').unwrap_or(word);
        let banned = WORDS_BANNED
            .into_iter()
            .find(|banned| banned == word || *banned == singular)?;
        let before = at.checked_sub(1).map(|at| words[at].as_str());
        let borrowed =
            banned == "status" && before.is_some_and(|b| WORDS_BEFORE_STATUS.contains(&b));
        (!borrowed).then_some(banned)
    })
}

/// The words of a name in snake or camel case, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_'
            || c.is_uppercase()
                && words
                    .last()
                    .is_some_and(|w| !w.ends_with(char::is_uppercase))
        {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("never empty").push(c);
        }
    }
    words
        .iter()
        .map(|word| word.to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// Relative link targets of a Markdown text with their lines, code blocks left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for piece in line.split("](").skip(1) {
            let target = piece.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((at + 1, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors that the headings of a Markdown file make.
fn headings(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn the_rules_can_complain() {
    assert_eq!(banned_word("JobQueue"), Some("job"));
    assert_eq!(banned_word("last_statuses"), None);
    assert_eq!(banned_word("last_status"), Some("status"));
    assert_eq!(banned_word("last_http_status"), None);
    assert_eq!(banned_word("HTTPStatus"), None);
    assert_eq!(banned_word("topics"), Some("topic"));
    assert_eq!(
        public_name("    pub const fn deliver(&self)"),
        Some("deliver")
    );
    assert_eq!(
        public_name("    pub last_status: u16,"),
        Some("last_status")
    );
    assert_eq!(public_name("pub(crate) fn job()"), None);
    assert_eq!(public_module("pub mod store;"), Some("store"));
    assert_eq!(
        links("a [b](c.md#d) e [f](https://g)"),
        [(1, "c.md#d".to_owned())]
    );
    let source = Source {
        path: "crates/core/src/a.rs".into(),
        text: "fn a() {}\n#[cfg(test)]\nmod tests {\n    thread::sleep(x);\n}\n".into(),
    };
    assert_eq!(source.before_tests().count(), 1);
    let found = source.find(source.tests(), &[("thread::sleep", "wait")]);
    assert_eq!(found, ["crates/core/src/a.rs:4: `thread::sleep`: wait"]);
}
