//! Telling: what happened, in one readable line each, for logs and timelines.
//!
//! Absent here: judging, and colour.

use std::fmt;

use postrider_core::dispatch::Dispatch;
use postrider_core::engine::Reply;
use postrider_core::event::Submission;
use postrider_core::ledger::{Entry, Fact, Next, Record};

use crate::history::{Happened, Who};

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} epoch {}", self.shard, self.epoch)
    }
}

impl fmt::Display for Happened<'_> {
    #[expect(
        clippy::too_many_lines,
        reason = "one line for each kind of thing that happens"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happened::Granted { who } => write!(f, "granted    {who}"),
            Happened::Ended { who } => write!(f, "ended      {who}"),
            Happened::Policy(policy) => write!(f, "policy     {policy:?}"),
            Happened::Told { who, gate, .. } => write!(
                f,
                "told       {who}: endpoint {} is {:?}",
                gate.endpoint, gate.reach
            ),
            Happened::ToldRoute {
                who, route, open, ..
            } => write!(f, "told       {who}: route {route}, open: {open}"),
            Happened::Retired {
                endpoint,
                since,
                registered_at,
            } => write!(
                f,
                "retired    endpoint {endpoint}: gone since {since}, registered at {registered_at}"
            ),
            Happened::Shown {
                correlation,
                replaced,
            } => {
                write!(f, "shown      {:x}", correlation.0)?;
                match replaced {
                    Some(other) => write!(f, " for {:x}", other.0),
                    None => Ok(()),
                }
            }
            Happened::Asked {
                who,
                ask,
                at,
                submission,
            } => {
                write!(f, "asked      {who}: question {ask} at {at}: ")?;
                asked(f, submission)
            }
            Happened::Bounds {
                window_max,
                records_max,
            } => write!(f, "bounds     {window_max} rows, {records_max} records"),
            Happened::Unread { who, key } => {
                let key = u128::from_le_bytes(key.0);
                write!(f, "unread     {who}: who holds key {key}")
            }
            Happened::CancelAsked { who, ask, delivery } => {
                write!(f, "asked      {who}: question {ask}: withdraw #{delivery}")
            }
            Happened::ReceiptAsked {
                who,
                ask,
                delivery,
                receipt,
            } => write!(
                f,
                "asked      {who}: question {ask}: receipt {receipt} of #{delivery}"
            ),
            Happened::Replied { who, ask, reply } => {
                write!(f, "replied    {who}: question {ask}: ")?;
                replied(f, reply)
            }
            Happened::Committed { shard, record } => {
                write!(f, "committed  shard {shard} ")?;
                recorded(f, record)
            }
            Happened::Refused {
                shard,
                record,
                verdict,
            } => {
                write!(f, "refused    shard {shard} ")?;
                recorded(f, record)?;
                write!(f, ": {verdict:?}")
            }
            Happened::Sent { who, at, dispatch } => went(f, "sent", who, dispatch, Some(at)),
            Happened::Left { who, at, dispatch } => went(f, "left", who, dispatch, Some(at)),
            Happened::Written { who, dispatch } => went(f, "written", who, dispatch, None::<&&str>),
            Happened::Unprocessed { correlation } => write!(f, "unprocessed {:x}", correlation.0),
            Happened::Arrived {
                correlation,
                attempt,
                processed,
            } => write!(
                f,
                "arrived    {:x} attempt {attempt}, processed: {processed}",
                correlation.0
            ),
            Happened::Turned { who, figures, .. } => write!(f, "turned     {who}: {figures:?}"),
            Happened::Published { shard, seq, entry } => {
                write!(f, "published  shard {shard} at {seq}: #{}", entry.delivery)
            }
            Happened::CursorKept { who, seq } => write!(f, "cursor     {who}: {seq}"),
            Happened::Purged { shard, gone } => write!(f, "purged     shard {shard}: {gone:?}"),
            Happened::Calm => write!(f, "calm       nothing breaks any more"),
            Happened::Rest { rested } => write!(f, "rest       by itself: {rested}"),
            Happened::Held { shard, rows, .. } => {
                write!(f, "held       shard {shard}: {} rows", rows.len())
            }
        }
    }
}

fn went(
    f: &mut fmt::Formatter<'_>,
    how: &str,
    who: &Who,
    dispatch: &Dispatch,
    at: Option<&impl fmt::Display>,
) -> fmt::Result {
    let Dispatch {
        delivery,
        correlation,
        endpoint,
        attempt,
        guarantee,
        ..
    } = dispatch;
    write!(
        f,
        "{how:<10} {who}: #{delivery} attempt {attempt} to endpoint {endpoint}, "
    )?;
    write!(f, "{}, {:x}", guarantee.name(), correlation.0)?;
    if let Some(lane) = dispatch.lane {
        write!(f, ", lane {} number {}", lane.key, lane.sequence)?;
    }
    match at {
        Some(at) => write!(f, ", at {at} of {}", dispatch.expires_at),
        None => Ok(()),
    }
}

fn asked(f: &mut fmt::Formatter<'_>, submission: &Submission) -> fmt::Result {
    let event = &submission.event;
    let (key, body) = (event.key_digest.0, event.body_digest.0);
    let short = |digest: [u8; 16]| u128::from_le_bytes(digest);
    write!(
        f,
        "key {} body {}, held until {}",
        short(key),
        short(body),
        event.key_expires_at
    )?;
    for target in &submission.targets {
        write!(f, ", to endpoint {}", target.endpoint)?;
    }
    Ok(())
}

fn replied(f: &mut fmt::Formatter<'_>, reply: &Reply) -> fmt::Result {
    match reply {
        Reply::Admitted {
            event,
            first_delivery,
            deliveries,
            ..
        } => {
            let many = deliveries.len();
            write!(
                f,
                "admitted as event {event}, {many} deliveries from #{first_delivery}"
            )
        }
        Reply::Duplicate(seen) => write!(f, "a repeat of event {}", seen.event),
        Reply::KeyConflict(seen) => write!(f, "a conflict with event {}", seen.event),
        other => write!(f, "{other:?}"),
    }
}

fn recorded(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let epoch = record.fences.first().map_or(0, |(_, epoch)| epoch.0);
    write!(f, "epoch {epoch}:")?;
    if let Some(event) = &record.event {
        write!(
            f,
            " event {} key {}",
            event.id,
            u128::from_le_bytes(event.key_digest.0)
        )?;
    }
    for entry in &record.entries {
        fact(f, entry)?;
    }
    Ok(())
}

fn fact(f: &mut fmt::Formatter<'_>, entry: &Entry) -> fmt::Result {
    let Entry {
        seq,
        delivery,
        version,
        ..
    } = entry;
    write!(f, " [{seq}: #{delivery} v{version} ")?;
    match &entry.fact {
        Fact::Admitted(admitted) => {
            write!(f, "admitted to endpoint {}, ", admitted.endpoint)?;
            write!(f, "{}, due {}", admitted.guarantee.name(), admitted.due_at)?;
            match admitted.lane {
                Some(lane) => write!(f, ", lane {} number {}]", lane.key, lane.sequence),
                None => write!(f, "]"),
            }
        }
        Fact::Opened { attempt, .. } => write!(f, "opened {attempt}]"),
        Fact::Answered {
            attempt,
            outcome,
            next,
        } => {
            write!(
                f,
                "answered {attempt}: {:?} {}",
                outcome.kind,
                outcome.cause.code()
            )?;
            match next {
                Next::Again { due_at } => write!(f, ", again at {due_at}]"),
                Next::Settle { state, cause } => {
                    write!(f, ", {} {}]", state.name(), cause.code())
                }
            }
        }
        Fact::NotSent { attempt, cause, .. } => {
            write!(f, "put back {attempt}: {}]", cause.code())
        }
        Fact::Closed { state, cause } => write!(f, "closed {} {}]", state.name(), cause.code()),
        other => write!(f, "{other:?}]"),
    }
}
