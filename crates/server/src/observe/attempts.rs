//! One line for each attempt, formatted away from the hot path.
//!
//! Lines go through a bounded queue to a thread of their own. When the queue is full a line is
//! counted instead of written, and the count is written as soon as there is room: sampled under
//! pressure, never silently.
//!
//! Absent here: URLs, payloads, business ids in the clear. A caller's key is shown as its digest.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use postrider_core::event::Event;
use postrider_core::observation::Attempt;
use serde::Serialize;

use super::metrics::Metrics;
use crate::channel::webhook::trace;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 65_536;

/// What is said of one attempt.
#[derive(Clone, Debug)]
pub struct AttemptLine {
    /// What the engine observed.
    pub attempt: Attempt,
    /// The event it was about, where it was at hand.
    pub event: Option<Arc<Event>>,
}

/// The queue's near end. Cloning shares it.
#[derive(Clone)]
pub struct AttemptLog {
    lines: Sender<AttemptLine>,
    skipped: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl AttemptLog {
    /// Starts the thread that writes to `out`. It ends when the last clone is gone and everything
    /// is written.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        queue_max: usize,
        metrics: Arc<Metrics>,
        out: impl Write + Send + 'static,
    ) -> io::Result<(AttemptLog, JoinHandle<()>)> {
        let (lines, queue) = crossbeam_channel::bounded(queue_max);
        let skipped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&skipped);
        let writer = std::thread::Builder::new()
            .name("attempt-log".into())
            .spawn(move || write_all(&queue, &counter, out))?;
        Ok((
            AttemptLog {
                lines,
                skipped,
                metrics,
            },
            writer,
        ))
    }

    /// Says one line, or counts it. Never waits.
    pub fn say(&self, line: AttemptLine) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.lines.try_send(line)
        {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            self.metrics.log_lines_skipped.inc();
        }
    }
}

fn write_all(queue: &Receiver<AttemptLine>, skipped: &AtomicU64, mut out: impl Write) {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    while let Ok(line) = queue.recv() {
        render(&line, &mut buffer);
        while buffer.len() < BUFFER_BYTES {
            match queue.try_recv() {
                Ok(line) => render(&line, &mut buffer),
                Err(_) => break,
            }
        }
        tell_skipped(skipped, &mut buffer);
        // Standard error may be closed; there is nobody left to tell.
        let _ = out.write_all(&buffer);
        buffer.clear();
    }
    tell_skipped(skipped, &mut buffer);
    let _ = out.write_all(&buffer);
    let _ = out.flush();
}

fn tell_skipped(skipped: &AtomicU64, buffer: &mut Vec<u8>) {
    match skipped.swap(0, Ordering::Relaxed) {
        0 => {}
        lines => {
            // Writing to a vector cannot fail.
            let _ = writeln!(
                buffer,
                concat!(
                    r#"{{"level":"WARN","service":"postrider","#,
                    r#""event":"attempt_lines_skipped","lines":{}}}"#
                ),
                lines
            );
        }
    }
}

/// A line as it is written. The field names are a contract with those who parse them.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    service: &'static str,
    event: &'static str,
    event_type: Option<&'a str>,
    idempotency_key: Option<String>,
    correlation_id: uuid::Uuid,
    tenant: u32,
    endpoint: u64,
    channel: &'static str,
    attempt: u32,
    policy_version: u32,
    outcome: &'static str,
    cause: &'static str,
    http_status: Option<u16>,
    latency_ms: u32,
    next_retry_at: Option<String>,
    state: Option<&'static str>,
    dead_letter: bool,
    trace_id: Option<String>,
    span_id: Option<String>,
}

fn render(line: &AttemptLine, buffer: &mut Vec<u8>) {
    let attempt = &line.attempt;
    let event = line.event.as_deref();
    let trace = event.map(|event| trace(event, attempt.correlation, attempt.attempt));
    let said = Line {
        timestamp: crate::http::words::moment(attempt.ended_at),
        level: if attempt.dead_letter { "WARN" } else { "INFO" },
        service: "postrider",
        event: "attempt",
        event_type: event.map(|event| &*event.event_type),
        idempotency_key: event.map(|event| hex::encode(event.key_digest.0)),
        correlation_id: uuid::Uuid::from_u128(attempt.correlation.0),
        tenant: attempt.tenant.0,
        endpoint: attempt.endpoint.0,
        channel: attempt.channel.name(),
        attempt: attempt.attempt,
        policy_version: attempt.policy.0,
        outcome: attempt.kind.name(),
        cause: attempt.cause.code(),
        http_status: Some(attempt.http_status).filter(|&http_status| http_status != 0),
        latency_ms: attempt.latency_ms,
        next_retry_at: attempt.next_due_at.map(crate::http::words::moment),
        state: attempt.settled.map(postrider_core::ledger::State::name),
        dead_letter: attempt.dead_letter,
        trace_id: trace.map(|trace| format!("{:032x}", trace.trace_id)),
        span_id: trace.map(|trace| format!("{:016x}", trace.span_id)),
    };
    if serde_json::to_writer(&mut *buffer, &said).is_ok() {
        buffer.push(b'\n');
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use parking_lot::Mutex;
    use postrider_core::cause::Cause;
    use postrider_core::endpoint::Channel;
    use postrider_core::event::Urgency;
    use postrider_core::id::{
        BodyDigest, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, PolicyId, TenantId,
    };
    use postrider_core::outcome::OutcomeKind;
    use postrider_core::time::Time;

    pub(crate) fn attempt(number: u32) -> Attempt {
        Attempt {
            delivery: DeliveryId(7),
            correlation: CorrelationId(0xabc),
            event: EventId(3),
            tenant: TenantId(1),
            endpoint: EndpointId(9),
            channel: Channel::Webhook,
            attempt: number,
            policy: PolicyId(2),
            kind: OutcomeKind::Retry,
            cause: Cause::ServiceDegraded,
            http_status: 503,
            latency_ms: 12,
            ended_at: Time(1_700_000_000_123),
            next_due_at: Some(Time(1_700_000_002_000)),
            settled: None,
            dead_letter: false,
        }
    }

    fn event() -> Event {
        Event {
            id: EventId(3),
            uuid: 1,
            tenant: TenantId(1),
            key_digest: KeyDigest([0xee; 16]),
            body_digest: BodyDigest([0; 16]),
            business_id: "order-1".into(),
            event_type: "order.paid".into(),
            version: 1,
            recipient: "anna".into(),
            ordering_key: "".into(),
            collapse_key: "".into(),
            urgency: Urgency::default(),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            content_type: "application/json".into(),
            admitted_at: Time(0),
            key_expires_at: Time(1),
            first_delivery: DeliveryId(7),
            deliveries: 1,
            retry_of: None,
            payload: bytes::Bytes::from_static(b"a secret"),
        }
    }

    fn line(number: u32) -> AttemptLine {
        AttemptLine {
            attempt: attempt(number),
            event: Some(Arc::new(event())),
        }
    }

    /// A writer that waits until it may go on.
    #[derive(Clone)]
    struct Gate {
        open: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.open.recv();
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_or_counted() {
        let metrics = Arc::new(Metrics::default());
        let (key, open) = crossbeam_channel::unbounded();
        let gate = Gate {
            open,
            written: Arc::default(),
        };
        let (log, writer) = AttemptLog::start(4, Arc::clone(&metrics), gate.clone()).unwrap();
        for number in 1..=1_000 {
            log.say(line(number));
        }
        drop(key);
        drop(log);
        writer.join().unwrap();
        let text = String::from_utf8(gate.written.lock().clone()).unwrap();
        let mut said = 0;
        let mut skipped = 0;
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            match value["event"].as_str() {
                Some("attempt") => said += 1,
                Some("attempt_lines_skipped") => skipped += value["lines"].as_u64().unwrap(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(said + skipped, 1_000);
        assert!(skipped > 0, "a queue of four took a thousand lines at once");
        assert_eq!(metrics.log_lines_skipped.get(), skipped);
    }

    #[test]
    fn a_line_has_every_field_that_is_promised() {
        let mut buffer = Vec::new();
        render(&line(2), &mut buffer);
        let text = String::from_utf8(buffer).unwrap();
        assert_eq!(
            text,
            "{\"timestamp\":\"2023-11-14T22:13:20.123Z\",\"level\":\"INFO\",\
             \"service\":\"postrider\",\"event\":\"attempt\",\"event_type\":\"order.paid\",\
             \"idempotency_key\":\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\",\
             \"correlation_id\":\"00000000-0000-0000-0000-000000000abc\",\"tenant\":1,\
             \"endpoint\":9,\"channel\":\"webhook\",\"attempt\":2,\
             \"policy_version\":2,\"outcome\":\"retry\",\
             \"cause\":\"SERVICE_DEGRADED\",\"http_status\":503,\"latency_ms\":12,\
             \"next_retry_at\":\"2023-11-14T22:13:22.000Z\",\"state\":null,\
             \"dead_letter\":false,\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\
             \"span_id\":\"3c6ef372fe94f296\"}\n"
        );
    }
}
