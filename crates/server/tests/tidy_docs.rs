//! Pages that are made from the code are current. `UPDATE_DOCS=1 cargo test -p postrider --test
//! tidy_docs` writes them again.
//!
//! Absent here: prose. What a program cannot know is written by hand in the other pages.

#[path = "history_kit/fed.rs"]
#[allow(dead_code, reason = "the page needs the table alone")]
mod fed;

use std::fmt::Write as _;
use std::path::Path;

use postrider::http::access::{ROUTES, may};
use postrider::http::error::Code;
use postrider::registry::Role;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;

/// Headings of the page of causes: the first number of each group of the table.
const CAUSE_GROUPS: [(u8, &str); 7] = [
    (1, "Waiting and under way"),
    (10, "Accepted"),
    (20, "Answered with a refusal"),
    (30, "Answered with a plea to wait"),
    (40, "Failed on the far side, or on the way"),
    (60, "Settled without another answer"),
    (80, "Never begun"),
];

#[test]
fn the_page_of_causes_is_current() {
    let mut page = String::from(
        "# Causes\n\n\
         Every delivery has exactly one cause at any moment: why it is where it is. This is the\n\
         closed list; there is no cause \"other\". The code is what the API, the log and\n\
         `postrider why` speak. Codes and numbers are never changed or reused.\n\n\
         This page is made from the table in `crates/core/src/cause.rs`.\n",
    );
    for &cause in Cause::ALL {
        let group = CAUSE_GROUPS
            .iter()
            .find(|(first, _)| *first == cause.number());
        if let Some((_, heading)) = group {
            write!(page, "\n## {heading}\n").expect("a string takes all");
        }
        let (text, advice) = (cause.text(), cause.advice());
        let number = cause.number();
        write!(
            page,
            "\n### {cause}\n\n{text}  \n*Who acts:* {advice}  \n*Number:* {number}\n"
        )
        .expect("a string takes all");
    }
    current("docs/causes.md", &page);
}

#[test]
fn the_reference_of_settings_is_current() {
    current("docs/configuration.md", &postrider::config::reference());
}

#[test]
fn the_page_of_the_figures_of_bench_is_current() {
    current("docs/bench-figures.md", &postrider::cli::bench_page());
}

#[test]
fn the_page_of_metrics_is_current() {
    let metrics = postrider::observe::Metrics::default();
    // What has labels is said only once it has counted something.
    metrics.attempt(Channel::Webhook, OutcomeKind::Accept, Cause::Accepted);
    metrics.settled(State::Accepted, Cause::Accepted);
    metrics.ended(Channel::Apns, Cause::Gone);
    metrics.route_held(Cause::AuthFailure, true);
    metrics.request("/v1/events", 202);
    let text = metrics.render().expect("metrics are text");
    let mut page = String::from(
        "# Metrics\n\n\
         `/metrics` answers in the OpenMetrics text format. Labels are few and bounded: no metric\n\
         names a tenant, an endpoint, a recipient or an event. A counter's name ends in `_total`\n\
         where it is read.\n\n\
         This page is made from what the program says of itself.\n\n\
         | metric | kind | labels | what it counts |\n| --- | --- | --- | --- |\n",
    );
    let mut rows: Vec<(&str, &str, &str)> = Vec::new();
    for line in text.lines() {
        let Some((word, rest)) = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if rows.last().is_none_or(|row| row.0 != name) {
            rows.push((name, "", ""));
        }
        let row = rows.last_mut().expect("just pushed");
        match word {
            "TYPE" => row.1 = rest,
            "HELP" => row.2 = rest,
            _ => {}
        }
    }
    assert!(rows.len() > 10, "metrics describe themselves");
    for (name, kind, help) in rows {
        let labels = labels(&text, name);
        writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").expect("a string takes all");
    }
    current("docs/metrics.md", &page);
}

/// The labels of a metric, by its first sample.
fn labels(text: &str, name: &str) -> String {
    let samples = text.lines().filter_map(|line| line.strip_prefix(name));
    let named = samples.filter_map(|rest| {
        let (suffix, rest) = rest.split_once('{')?;
        let own = ["", "_total", "_bucket"].contains(&suffix);
        own.then_some(rest.split_once('}')?.0)
    });
    let labels = named.flat_map(|labels| labels.split(','));
    let keys = labels.filter_map(|label| label.split_once('=').map(|(key, _)| key));
    let mut said: Vec<String> = Vec::new();
    for key in keys
        .filter(|key| *key != "le")
        .map(|key| format!("`{key}`"))
    {
        if !said.contains(&key) {
            said.push(key);
        }
    }
    said.join(", ")
}

#[test]
fn the_page_of_errors_is_current() {
    let mut page = String::from(
        "# Errors of the API\n\n\
         Every answer that is not what was asked for is a problem document (RFC 9457): `code` is\n\
         one of these and never changes, `detail`, `field`, `value` and `rule` say what happened\n\
         this time, `way_out` says what to do, and `type` is the address of the same page in the\n\
         running engine.\n\n\
         This page is made from the table in `crates/server/src/http/error.rs`.\n",
    );
    for &code in Code::ALL {
        let (word, number) = (code.word(), code.http_status().as_u16());
        let (title, meaning, way_out) = (code.title(), code.meaning(), code.way_out());
        write!(
            page,
            "\n## {word}\n\n**{number}**, {title}. {meaning}  \n*What to do:* {way_out}\n"
        )
        .expect("a string takes all");
    }
    current("docs/errors.md", &page);
}

#[test]
fn the_table_of_roles_is_current() {
    let mut page = String::from(
        "# Who may do what\n\n\
         A key has one role, and either one tenant or the whole installation. A key of the whole\n\
         installation says whose resources it means with the header `Postrider-Tenant`.\n\n\
         This page is made from the tables in `crates/server/src/http/access.rs`.\n\n\
         | route |",
    );
    for role in Role::ALL {
        write!(page, " {} |", role.name()).expect("a string takes all");
    }
    page += "\n| --- |";
    page += &" --- |".repeat(Role::ALL.len());
    for (method, route, action) in ROUTES {
        write!(page, "\n| `{method} {route}` |").expect("a string takes all");
        for role in Role::ALL {
            page += if may(role, *action) { " yes |" } else { " |" };
        }
    }
    page += "\n\n`/healthz`, `/readyz`, `/openapi.json` and `/docs` need no key.\n";
    current("docs/roles.md", &page);
}

#[test]
fn the_page_of_invariants_by_layer_is_current() {
    let mut page = String::from(
        "# Which invariant is held where\n\n\
         There is one set of checkers, those of the [simulator](simulation.md), which holds\n\
         all of them. The [shell under simulation](shell-simulation.md) and the [kill\n\
         points](kill-points.md) run the same ones over what they have seen. What each is\n\
         shown there stands here; where a layer has nothing to show a checker, it is not\n\
         asked. Each layer has a test that takes a history of its own, breaks one promise\n\
         after the other, and demands a complaint.\n\n\
         In the shell everything is written down while it happens, in its true order. At the\n\
         kill points it is read when the process is dead. The order of the journal is known\n\
         then, and that a request comes after the entry that opened it and after every entry\n\
         that is not later than its arrival. Since when an entry was durable is not known,\n\
         nor when a caller was told, nor who wrote an entry under which epoch, nor what the\n\
         registry said before its last word. Both take an attempt to be let go in the moment\n\
         in which its entry is durable.\n\n\
         This page is made from the table in `crates/server/tests/history_kit/fed.rs`.\n\n\
         | invariant | the shell, by | kill points, by |\n| --- | --- | --- |\n",
    );
    let sight = |sight: fed::Sight| match sight {
        fed::Sight::Judged(by) => by.to_owned(),
        fed::Sight::Blind(why) => format!("not held: {why}"),
    };
    for checker in postrider_sim::checkers::all() {
        let fed = fed::FED.iter().find(|fed| fed.name == checker.name());
        let fed = fed.unwrap_or_else(|| panic!("{} is not in the table", checker.name()));
        let (shell, kill) = (sight(fed.shell), sight(fed.kill));
        writeln!(page, "| `{}` | {shell} | {kill} |", fed.name).expect("a string takes all");
    }
    assert_eq!(fed::FED.len(), postrider_sim::checkers::all().len());
    current("docs/invariants.md", &page);
}

/// The page at `path` reads `text`; or is made to, when the environment asks for it.
fn current(path: &str, text: &str) {
    let full = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(full.parent().expect("a page is in a directory"))
            .and_then(|()| std::fs::write(&full, text))
            .expect("the page is written");
    }
    let found = std::fs::read_to_string(&full).unwrap_or_default();
    assert!(
        found == text,
        "{path} is not what the code says: run `UPDATE_DOCS=1 cargo test --test tidy_docs`"
    );
}
