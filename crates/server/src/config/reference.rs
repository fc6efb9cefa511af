//! The reference of all settings, written from their declarations.
//!
//! Absent here: prose of its own. What a reader should know stands beside the key it is about.

use std::fmt::Write as _;

use super::policy::PolicySection;
use super::section::Section;
use super::sections::{Engine, Log, NetworkRules, Push, Server, Store, Transport};

/// All settings as Markdown: for each section its keys with default, bounds and reason.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Settings\n\nRead from `postrider.toml`; `POSTRIDER__SECTION__KEY` in the environment \
         goes on top. Every key may be left out. Units are the last word of a key.\n",
    );
    section::<Server>("server", &mut out);
    section::<Store>("store", &mut out);
    section::<Engine>("engine", &mut out);
    section::<Transport>("transport", &mut out);
    section::<NetworkRules>("network", &mut out);
    section::<Push>("push", &mut out);
    section::<Log>("log", &mut out);
    section::<PolicySection>("policies.<name>", &mut out);
    out
}

fn section<S: Section>(name: &str, out: &mut String) {
    // Writing to a `String` cannot fail.
    let _ = write!(out, "\n## `[{name}]`\n\n{}\n\n", S::doc());
    out.push_str("| key | value | default | bounds | |\n| --- | --- | --- | --- | --- |\n");
    for key in S::keys() {
        let bounds = key
            .bounds
            .map_or_else(String::new, |(min, max)| format!("{min} – {max}"));
        let (kind, default, doc) = (key.kind, key.default, key.doc);
        let _ = writeln!(
            out,
            "| `{}` | {kind} | `{default}` | {bounds} | {doc} |",
            key.name
        );
    }
    if name.contains('<') {
        return;
    }
    let _ = write!(out, "\n    [{name}]\n");
    for key in S::keys() {
        let off = if key.default == "(none)" { "# " } else { "" };
        let _ = writeln!(out, "    {off}{} = {}", key.name, key.default);
    }
}
