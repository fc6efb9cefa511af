//! A run that kept every promise, and one small change for each way to break one.

use std::collections::BTreeMap;

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::ledger::State;
use postrider_core::policy::Guarantee;

use super::super::evidence::{
    Asked, Device, Evidence, Nature, Outage, Push, Row, Said, Says, Step,
};
use super::{Promise, check};
use crate::fake::{Record, Verdict};

const CRC: u32 = 7;

fn asked(id: &str, guarantee: Guarantee, path: &str, ordering_key: Option<&str>) -> Asked {
    Asked {
        id: id.into(),
        guarantee,
        ordering_key: ordering_key.map(str::to_owned),
        paths: vec![path.into()],
        payload_crc32c: CRC,
        accepted_as: u64::from(id.as_bytes()[0]),
        answers: vec![said(id, false)],
        unanswered: 0,
        conflicts: vec![true],
    }
}

fn said(id: &str, repeat: bool) -> Said {
    Said {
        repeat,
        event: format!("event-{id}"),
        deliveries: vec![id.into()],
    }
}

fn row(id: &str, guarantee: Guarantee, path: &str, sequence: Option<u64>) -> Row {
    let step = |version, settles| Step {
        version,
        settles,
        at_ms: i64::try_from(version).expect("small"),
        says: if version == 2 {
            Says::Opened
        } else {
            Says::Other
        },
    };
    Row {
        correlation_id: id.into(),
        path: path.into(),
        guarantee,
        state: State::Accepted,
        cause: Cause::Accepted,
        attempts: 1,
        sequence,
        entries: vec![step(1, false), step(2, false), step(3, true)],
    }
}

fn hit(serial: u64, id: &str, path: &str, attempt: u32, http_status: u16) -> Record {
    Record {
        serial,
        path: path.into(),
        key: id.into(),
        correlation_id: id.into(),
        attempt,
        arrived_us: 1_000_000 * serial,
        answered_us: 1_000_000 * serial,
        http_status,
        processed: http_status == 200,
        signature: Verdict::Valid,
        body_bytes: 9,
        body_crc32c: CRC,
        ..Record::default()
    }
}

fn ordered(mut hit: Record, sequence: u64, previous: u64) -> Record {
    hit.sequence = sequence;
    hit.previous_sequence = Some(previous);
    hit
}

/// A device, and when it was retired.
fn device(retired_us: Option<u64>) -> Device {
    Device {
        channel: Channel::Apns,
        known: true,
        retired_us,
    }
}

fn push(id: &str, key: &str) -> Push {
    Push {
        path: "/phone".into(),
        correlation_id: id.into(),
        key: key.into(),
    }
}

/// A notification whose first answer was withheld, another one, and one to a device that is gone.
fn phones(evidence: &mut Evidence) {
    use Guarantee::EffectivelyOnce;
    let mut gone = row("h", EffectivelyOnce, "/left", None);
    (gone.state, gone.cause) = (State::Rejected, Cause::Gone);
    (gone.entries[2].says, gone.entries[2].at_ms) = (Says::Gone, 54_000);
    let withheld = Record {
        processed: true,
        ..hit(51, "f", "/phone", 1, 0)
    };
    evidence
        .fakes
        .insert("/phone".into(), Nature::Relents(Cause::RequestTimeout));
    evidence.fakes.insert("/left".into(), Nature::Gone);
    for (id, path) in [("f", "/phone"), ("g", "/phone"), ("h", "/left")] {
        evidence.asked.push(asked(id, EffectivelyOnce, path, None));
    }
    evidence.rows.extend([
        row("f", EffectivelyOnce, "/phone", None),
        row("g", EffectivelyOnce, "/phone", None),
        gone,
    ]);
    evidence.received.extend([
        withheld,
        hit(52, "f", "/phone", 2, 200),
        hit(53, "g", "/phone", 1, 200),
        hit(54, "h", "/left", 1, 410),
    ]);
    evidence.pushes = vec![push("f", "F"), push("f", "F"), push("g", "G")];
    evidence.devices.insert("/phone".into(), device(None));
    evidence
        .devices
        .insert("/left".into(), device(Some(54_000_100)));
}

fn broken_phones(change: impl FnOnce(&mut Evidence)) -> Vec<Promise> {
    broken(|evidence| {
        phones(evidence);
        change(evidence);
    })
}

fn of_device<'a>(evidence: &'a mut Evidence, path: &str) -> &'a mut Device {
    evidence.devices.get_mut(path).expect("it is there")
}

#[test]
fn a_notification_that_came_twice_under_one_key_is_shown_once() {
    let mut evidence = kept();
    phones(&mut evidence);
    let findings = check(&evidence);
    assert_eq!(findings.broken, []);
    assert_eq!((findings.shown, findings.shown_by), (2, 3));
    assert_eq!(findings.retired, 1);
    assert_eq!(findings.dead_letters.get("GONE"), None);
    assert_eq!(findings.by_channel[&Channel::Webhook], 4);
    assert_eq!(findings.by_channel[&Channel::Apns], 2);
}

#[test]
fn what_a_screen_shows_twice_or_not_at_all_is_found() {
    let shown = [Promise::ShownOnce];
    assert_eq!(broken_phones(|e| e.pushes[1].key = "other".into()), shown);
    // One of two under the same key is not there to be seen.
    assert_eq!(broken_phones(|e| e.pushes[2].key = "F".into()), shown);
    assert_eq!(broken_phones(|e| drop(e.pushes.pop())), shown);
    // At-least-once may be shown twice.
    let at_least_once = |e: &mut Evidence| {
        e.pushes[1].key = "other".into();
        e.asked[5].guarantee = Guarantee::AtLeastOnce;
        e.rows[5].guarantee = Guarantee::AtLeastOnce;
    };
    assert_eq!(broken_phones(at_least_once), []);
}

#[test]
fn devices_that_are_forgotten_or_retired_wrongly_are_found() {
    let retired = [Promise::Retired];
    assert_eq!(
        broken_phones(|e| of_device(e, "/phone").known = false),
        [Promise::NothingLost]
    );
    let without_a_word = |e: &mut Evidence| of_device(e, "/phone").retired_us = Some(54_000_000);
    assert_eq!(broken_phones(without_a_word), retired);
    let too_early = |e: &mut Evidence| {
        of_device(e, "/left").retired_us = Some(50_000_000);
        e.rows[7].entries[2].at_ms = 50_000;
    };
    assert_eq!(broken_phones(too_early)[0], Promise::Retired);
    assert_eq!(
        broken_phones(|e| of_device(e, "/left").retired_us = None),
        retired
    );
    // What it answered last was never written down, or what was written down is not so.
    let unheard = |e: &mut Evidence| e.rows[7].entries[2].says = Says::Other;
    assert_eq!(broken_phones(unheard), retired);
    let still_there = |e: &mut Evidence| {
        unheard(e);
        of_device(e, "/left").retired_us = None;
    };
    assert_eq!(broken_phones(still_there), retired);
    // Where the engine was killed over the answer it may not know.
    let killed = |e: &mut Evidence| {
        still_there(e);
        (e.outages[0].kill_us, e.outages[0].dead_us) = (54_000_000, 54_100_000);
        // Kept clear of what the kill explained before.
        e.received[4].http_status = 0;
    };
    assert_eq!(broken_phones(killed), []);
    let sent_on = |e: &mut Evidence| {
        e.asked
            .push(asked("i", Guarantee::AtLeastOnce, "/left", None));
        let mut gone = row("i", Guarantee::AtLeastOnce, "/left", None);
        (gone.state, gone.cause) = (State::Rejected, Cause::Gone);
        gone.entries[1].at_ms = 59_999;
        e.rows.push(gone);
        e.received.push(hit(60, "i", "/left", 1, 410));
    };
    assert_eq!(broken_phones(sent_on), retired);
    let under_way = |e: &mut Evidence| {
        sent_on(e);
        e.rows[8].entries[1].at_ms = 53_999;
    };
    assert_eq!(broken_phones(under_way), []);
}

#[test]
fn an_attempt_after_the_word_that_nobody_is_there_is_found() {
    let opened_at = |at_ms| {
        move |e: &mut Evidence| {
            e.rows[7].entries[2].at_ms = 3;
            e.asked
                .push(asked("i", Guarantee::AtLeastOnce, "/left", None));
            let mut later = row("i", Guarantee::AtLeastOnce, "/left", None);
            (later.state, later.cause) = (State::Rejected, Cause::Gone);
            later.entries[1].at_ms = at_ms;
            e.rows.push(later);
            e.received.push(hit(54, "i", "/left", 1, 410));
        }
    };
    // One that was under way already is nobody's fault.
    assert_eq!(broken_phones(opened_at(3)), []);
    assert_eq!(broken_phones(opened_at(4)), [Promise::Retired]);
}

/// Two in order, one that was retried, one at-most-once that a kill made uncertain, one refused.
fn kept() -> Evidence {
    use Guarantee::{AtLeastOnce, AtMostOnce, EffectivelyOnce};
    let mut uncertain = row("d", AtMostOnce, "/good", None);
    (uncertain.state, uncertain.cause) = (State::Uncertain, Cause::UnknownOutcome);
    let mut refused = row("e", AtLeastOnce, "/bad", None);
    (refused.state, refused.cause) = (State::Rejected, Cause::BadRequest);
    let mut repeated = asked("c", AtLeastOnce, "/relents", None);
    repeated.answers.push(said("c", true));
    Evidence {
        fakes: BTreeMap::from([
            ("/good".to_owned(), Nature::Accepts),
            (
                "/relents".to_owned(),
                Nature::Relents(Cause::ServiceDegraded),
            ),
            ("/bad".to_owned(), Nature::Refuses(Cause::BadRequest)),
        ]),
        asked: vec![
            asked("a", EffectivelyOnce, "/good", Some("k")),
            asked("b", EffectivelyOnce, "/good", Some("k")),
            repeated,
            asked("d", AtMostOnce, "/good", None),
            asked("e", AtLeastOnce, "/bad", None),
        ],
        rows: vec![
            row("a", EffectivelyOnce, "/good", Some(1)),
            row("b", EffectivelyOnce, "/good", Some(2)),
            row("c", AtLeastOnce, "/relents", None),
            uncertain,
            refused,
        ],
        received: vec![
            ordered(hit(1, "a", "/good", 1, 200), 1, 0),
            ordered(hit(2, "b", "/good", 1, 200), 2, 1),
            hit(3, "c", "/relents", 1, 503),
            hit(4, "c", "/relents", 2, 200),
            hit(20, "d", "/good", 1, 200),
            hit(21, "e", "/bad", 1, 400),
        ],
        outages: vec![Outage {
            kill_us: 20_500_000,
            dead_us: 20_600_000,
            ready_us: 20_900_000,
            recovery_ms: 200,
        }],
        ..Evidence::default()
    }
}

fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<Promise> {
    let mut evidence = kept();
    change(&mut evidence);
    let findings = check(&evidence);
    let mut promises: Vec<Promise> = findings.broken.iter().map(|b| b.promise).collect();
    promises.dedup();
    promises
}

#[test]
fn a_run_that_kept_everything_is_found_so() {
    let findings = check(&kept());
    assert_eq!(findings.broken, []);
    assert_eq!(
        (findings.events, findings.accepted, findings.handed_over),
        (5, 5, 4)
    );
    assert_eq!((findings.duplicates_suppressed, findings.lost), (1, 0));
    assert_eq!((findings.ambiguous, findings.acted_on_twice), (2, 0));
    assert_eq!(findings.dead_letters.len(), 2);
}

#[test]
fn what_is_lost_is_found() {
    let lost = [Promise::NothingLost];
    assert_eq!(broken(|e| drop(e.rows.remove(2))), lost);
    assert_eq!(
        broken(|e| e.received.retain(|hit| &*hit.correlation_id != "b")),
        lost
    );
    assert_eq!(broken(|e| e.rows[2].state = State::Scheduled), lost);
    assert_eq!(
        broken(|e| {
            (e.rows[2].state, e.rows[2].cause) = (State::Exhausted, Cause::AttemptsSpent);
        }),
        lost
    );
    assert_eq!(broken(|e| e.rows[4].cause = Cause::NotFound), lost);
    let spent_by = |attempts| {
        move |e: &mut Evidence| {
            e.fakes
                .insert("/bad".to_owned(), Nature::Fails(Cause::BadRequest));
            (e.rows[4].state, e.rows[4].cause) = (State::Exhausted, Cause::AttemptsSpent);
            e.rows[4].attempts = attempts;
        }
    };
    // One attempt is known to the fake, and there was one kill.
    assert_eq!(broken(spent_by(2)), []);
    assert_eq!(broken(spent_by(3)), lost);
    assert_eq!(broken(|e| drop(e.received.pop())), lost);
    assert_eq!(
        broken(|e| e.rows[1].path = "/bad".into())[0],
        Promise::NothingLost
    );
}

#[test]
fn an_uncertain_row_needs_a_kill_or_silence() {
    assert_eq!(broken(|e| e.outages.clear()), [Promise::NothingLost]);
    assert_eq!(
        broken(|e| e.outages[0].kill_us = 90_000_000),
        [Promise::NothingLost]
    );
    let silent = |e: &mut Evidence| {
        e.outages.clear();
        e.received[4].http_status = 0;
    };
    assert_eq!(broken(silent), []);
}

#[test]
fn what_was_never_accepted_is_found() {
    let invented = [Promise::NothingInvented];
    assert_eq!(
        broken(|e| e.received.push(hit(30, "x", "/good", 1, 200))),
        invented
    );
    let stray = row("x", Guarantee::AtLeastOnce, "/good", None);
    assert_eq!(broken(|e| e.rows.push(stray)), invented);
}

#[test]
fn a_second_request_is_found_where_nothing_explains_it() {
    let twice = |e: &mut Evidence| e.received.push(hit(20, "d", "/good", 2, 200));
    assert_eq!(broken(twice), [Promise::AtMostOnce]);
    let after_acceptance = |e: &mut Evidence| e.received.push(hit(41, "c", "/relents", 3, 200));
    assert_eq!(broken(after_acceptance), [Promise::RepeatsExplained]);
    let same_attempt = |e: &mut Evidence| e.received[3].attempt = 1;
    assert_eq!(broken(same_attempt), [Promise::RepeatsExplained]);
    let after_a_kill = |e: &mut Evidence| {
        e.received[3].arrived_us = 20_000_000;
        e.received.push(hit(41, "c", "/relents", 3, 200));
        e.received[3].answered_us = 20_000_000;
    };
    assert_eq!(broken(after_a_kill), []);
}

#[test]
fn disorder_and_gaps_are_found() {
    assert_eq!(broken(|e| e.received[1].serial = 0), [Promise::Order]);
    assert_eq!(broken(|e| e.rows[1].sequence = Some(3)), [Promise::Gapless]);
    assert_eq!(broken(|e| e.rows[1].sequence = None), [Promise::Gapless]);
    assert_eq!(
        broken(|e| e.received[1].previous_sequence = Some(0)),
        [Promise::Gapless]
    );
    assert_eq!(broken(|e| e.received[1].sequence = 1), [Promise::Gapless]);
}

#[test]
fn a_forgotten_key_is_found() {
    let deduplication = [Promise::Deduplication];
    let fresh = |e: &mut Evidence| e.asked[2].answers[1].repeat = false;
    assert_eq!(broken(fresh), deduplication);
    let other = |e: &mut Evidence| e.asked[2].answers[1].event = "event-z".into();
    assert_eq!(broken(other), deduplication);
    assert_eq!(broken(|e| e.asked[0].conflicts.push(false)), deduplication);
    let never_first = |e: &mut Evidence| e.asked[0].answers[0].repeat = true;
    assert_eq!(broken(never_first), deduplication);
    let first_answer_lost = |e: &mut Evidence| {
        e.asked[0].answers[0].repeat = true;
        e.asked[0].unanswered = 1;
    };
    assert_eq!(broken(first_answer_lost), []);
}

#[test]
fn two_rows_or_two_settlements_are_found() {
    let one_row = [Promise::OneRow];
    assert_eq!(
        broken(|e| e.rows.push(e.rows[0].clone())),
        [Promise::Gapless, Promise::OneRow]
    );
    assert_eq!(broken(|e| e.rows[2].entries[1].settles = true), one_row);
    assert_eq!(broken(|e| e.rows[2].entries[2].version = 4), one_row);
    assert_eq!(broken(|e| e.rows[2].entries[2].settles = false), one_row);
}

#[test]
fn changed_payloads_and_signatures_are_found() {
    let intact = [Promise::Intact];
    assert_eq!(broken(|e| e.received[0].body_crc32c = 8), intact);
    assert_eq!(
        broken(|e| e.received[0].signature = Verdict::Missing),
        intact
    );
    assert_eq!(broken(|e| e.received[2].path = "/good".into()), intact);
}
