//! What each figure means, in the words of the text output and of the page of figures.
//!
//! Absent here: figures.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// What a part measures, and its figures.
struct Part {
    /// Its object in the machine-readable output; empty: the object as a whole.
    name: &'static str,
    about: &'static str,
    figures: &'static [(&'static str, &'static str)],
}

const WEBHOOKS: Part = Part {
    name: "",
    about: "webhooks: signed POSTs over kept HTTP/1.1 connections, each durable before it leaves",
    figures: &[
        (
            "end_to_end_per_s",
            "arrivals a second through the whole engine, one endpoint",
        ),
        (
            "raw_per_s",
            "the limit: our own client repeating one such hand-over, without an engine",
        ),
        ("ratio", "end_to_end_per_s as a share of raw_per_s"),
        (
            "wrk_per_s",
            "the same hand-over repeated by wrk; null where it is not installed",
        ),
        ("raw_off_wrk_percent", "how far the raw client is off wrk"),
        (
            "void",
            "they differ by more than 15 %: no ratio of this run means anything",
        ),
        (
            "admissions_per_s",
            "events a second that are accepted in a burst",
        ),
        ("burst_per_s", "arrivals a second of that burst"),
        (
            "burst_cpu_us_per_delivery",
            "CPU of the engine for each of them, in µs",
        ),
        (
            "cpu_us_per_delivery",
            "CPU of the engine for each delivery at full speed, in µs",
        ),
        (
            "raw_cpu_us_per_request",
            "CPU of the raw client for each request, in µs",
        ),
        (
            "sink_cpu_us_per_delivery",
            "CPU of the sink for each delivery, in µs",
        ),
        (
            "client_cpu_us_per_delivery",
            "CPU of the load generator for each delivery, in µs",
        ),
        (
            "written_bytes_per_delivery",
            "bytes that the engine gave to the device for each delivery",
        ),
        ("rss_bytes", "memory of the engine after full speed"),
        (
            "half_per_s",
            "rate of the open loop: half of end_to_end_per_s",
        ),
        (
            "p50_ms",
            "at that rate, from the instant an event was due to its arrival: half of them",
        ),
        ("p95_ms", "the same, 95 %"),
        ("p99_ms", "the same, 99 %"),
        ("max_ms", "the same, the latest"),
        (
            "half_cpu_us_per_delivery",
            "CPU of the engine for each delivery at that rate, in µs",
        ),
        (
            "fdatasync_p99_ms",
            "what one durable write costs on this disk, 99 %",
        ),
        (
            "fan_out_10_per_s",
            "arrivals a second where each event goes to ten endpoints",
        ),
        (
            "fan_out_10_admissions_per_s",
            "events a second that are accepted in a burst of those",
        ),
        (
            "fan_out_10_cpu_us_per_delivery",
            "CPU of the engine for each of their deliveries, in µs",
        ),
        (
            "fan_out_10_written_bytes_per_delivery",
            "bytes given to the device for each of them",
        ),
        ("lost", "deliveries that did not arrive"),
        ("duplicates", "deliveries that arrived again"),
        ("deliveries", "deliveries that were expected"),
        ("payload_bytes", "bytes of each payload, in every part"),
        ("connections", "connections of the raw client and of wrk"),
        ("cores", "cores that engine, sink and load generator share"),
    ],
};

const WEB_PUSH: Part = Part {
    name: "web_push",
    about: "Web Push: each push encrypted for a subscription of its own",
    figures: &[
        (
            "end_to_end_per_s",
            "pushes a second through the whole engine, each durable before it leaves",
        ),
        (
            "limit_per_s",
            "the limit: our own client with the same encryption, without an engine",
        ),
        ("ratio", "end_to_end_per_s as a share of limit_per_s"),
        ("encrypt_us", "encrypting one payload (RFC 8291), in µs"),
        (
            "floor_us",
            "what of it nobody can avoid: one P-256 key pair and one key agreement, in µs",
        ),
        ("encrypt_to_floor", "encrypt_us as a multiple of floor_us"),
        ("engine_cpu_us", "CPU of the engine for each push, in µs"),
        ("sink_cpu_us", "CPU of the sink for each push, in µs"),
        (
            "npm_web_push_per_s",
            "npm's web-push sending the same payloads to the same sink, over TLS",
        ),
        (
            "times_npm_web_push",
            "end_to_end_per_s as a multiple of npm_web_push_per_s",
        ),
        (
            "subscriptions",
            "subscriptions that the pushes go to in turns",
        ),
        ("pushes", "pushes at full speed"),
        ("lost", "pushes that did not arrive"),
    ],
};

const APNS: Part = Part {
    name: "apns",
    about: "APNs: one HTTP/2 connection with TLS, to a sink as strict as Apple",
    figures: &[
        (
            "end_to_end_per_s",
            "notifications a second through the whole engine, each durable before it leaves",
        ),
        (
            "raw_per_s",
            "the limit: the faster of two raw clients with the same request, without an engine",
        ),
        ("ratio", "end_to_end_per_s as a share of raw_per_s"),
        ("raw_h2_per_s", "the crate h2 over one connection"),
        ("raw_hyper_per_s", "hyper over one connection"),
        (
            "engine_cpu_us",
            "CPU of the engine for each notification, in µs",
        ),
        (
            "sink_cpu_us",
            "CPU of the sink for each notification, in µs",
        ),
        (
            "token_us",
            "signing one provider token, in µs; it serves for half an hour",
        ),
        ("connections", "connections that the engine made"),
        (
            "refused_streams",
            "requests beyond what the sink had allowed at once",
        ),
        ("devices", "devices that the notifications go to in turns"),
        ("pushes", "notifications at full speed"),
        ("lost", "notifications that did not arrive"),
    ],
};

const FCM: Part = Part {
    name: "fcm",
    about: "FCM: one HTTP/2 connection with TLS, to a sink as strict as Google",
    figures: &[
        (
            "end_to_end_per_s",
            "notifications a second through the whole engine, each durable before it leaves",
        ),
        (
            "raw_per_s",
            "the limit: the faster of two raw clients with the same request, without an engine",
        ),
        ("ratio", "end_to_end_per_s as a share of raw_per_s"),
        ("raw_h2_per_s", "the crate h2 over one connection"),
        ("raw_hyper_per_s", "hyper over one connection"),
        (
            "engine_cpu_us",
            "CPU of the engine for each notification, in µs",
        ),
        (
            "sink_cpu_us",
            "CPU of the sink for each notification, in µs",
        ),
        (
            "token_us",
            "signing one assertion of a service account (RS256), in µs; once in an hour",
        ),
        (
            "token_exchange_ms",
            "exchanging it for an access token, connecting included, in ms",
        ),
        (
            "projects",
            "projects that share the load: one may send 600,000 a minute, after a ramp",
        ),
        ("devices", "devices that the notifications go to in turns"),
        ("pushes", "notifications at full speed"),
        ("lost", "notifications that did not arrive"),
        ("duplicates", "notifications that arrived again"),
    ],
};

/// All parts, in the order of a run.
const PARTS: [&Part; 4] = [&WEBHOOKS, &WEB_PUSH, &APNS, &FCM];

/// Words for what is missing.
const NO_FIGURE: &str = "could not be measured";
/// How the comparison with npm's package comes about.
const NPM_ABSENT: &str = "npm's web-push was not found. `cargo xtask bench` installs it \
    and compares; so does `npm install web-push` with NODE_PATH set to its node_modules.";

/// The figures for a person, a part after the other.
pub(super) fn text(figures: &Value) -> String {
    let Some(whole) = figures.as_object() else {
        return format!("{figures}\n");
    };
    let mut text = String::new();
    for part in PARTS {
        let about = part.about;
        let own = match part.name {
            "" => whole.get("raw_per_s").and(Some(figures)),
            name => whole.get(name),
        };
        // Writing to a string cannot go wrong.
        let _ = match own {
            None => continue,
            Some(Value::Null) => writeln!(text, "{about}: {NO_FIGURE}\n"),
            Some(own) => writeln!(text, "{about}\n{}", part.lines(own)),
        };
    }
    if whole
        .get("web_push")
        .is_some_and(|it| it["npm_web_push_per_s"].is_null())
    {
        let _ = writeln!(text, "{NPM_ABSENT}\n");
    }
    text
}

impl Part {
    fn lines(&self, own: &Value) -> String {
        let there = |(name, _): &&(&str, &str)| own.get(name).is_some();
        let known = self.figures.iter().filter(there);
        known
            .map(|(name, words)| {
                let figure = own[name].to_string();
                format!("  {name:<37}  {figure:>11}  {words}\n")
            })
            .collect()
    }
}

/// Figures of a part that cannot be told in a table: one a line.
pub(super) fn plain(fields: &Map<String, Value>) -> String {
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    fields
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}\n"))
        .collect()
}

/// The page of figures.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Figures of `postrider bench`\n\n\
         What each figure of [`postrider bench`](benchmark.md) means. With `--json` they are one\n\
         object: the first table's members are its own, the others are in an object each. A part\n\
         that could not be measured is `null`, `troubles` says why, and the run ends with 1.\n\n\
         This page is made from the program's own words.\n",
    );
    for part in PARTS {
        let name = match part.name {
            "" => String::new(),
            name => format!("`{name}`: "),
        };
        let about = part.about;
        // Writing to a string cannot go wrong.
        let _ = writeln!(page, "\n## {name}{about}\n\n| figure | |\n| --- | --- |");
        for (name, words) in part.figures {
            let _ = writeln!(page, "| `{name}` | {words} |");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{NPM_ABSENT, text};

    #[test]
    fn each_part_has_its_own_lines_and_a_missing_one_says_so() {
        let figures = json!({
            "raw_per_s": 5.5,
            "web_push": { "npm_web_push_per_s": null, "lost": 0 },
            "apns": null,
        });
        let text = text(&figures);
        for line in [
            "raw_per_s",
            "lost",
            "TLS, to a sink as strict as Apple: could not be measured",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains(NPM_ABSENT), "{text}");
        assert!(!text.contains("FCM"), "{text}");
    }
}
