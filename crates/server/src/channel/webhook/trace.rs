//! Trace context (W3C Trace Context, `traceparent`): each attempt is a child of the request that
//! brought the event, or the root of a trace of its own.
//!
//! Absent here: random numbers. A span's id is mixed from the correlation id and the attempt's
//! number, so the same attempt has the same id wherever it is asked for, the log line included.

use postrider_core::event::Event;
use postrider_core::id::CorrelationId;

/// The ids of one attempt's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace it belongs to.
    pub trace_id: u128,
    /// Its own id. Never 0.
    pub span_id: u64,
    /// Trace flags, as they came; sampled for a trace that begins here.
    pub flags: u8,
}

/// Characters of a `traceparent` of version 00.
pub(super) const TRACEPARENT_LEN: usize = 55;

const SAMPLED: u8 = 1;

/// The span of attempt number `attempt` of the delivery with this correlation id.
#[must_use]
pub fn trace(event: &Event, correlation: CorrelationId, attempt: u32) -> Trace {
    let id = correlation.0;
    let (trace_id, flags) = parse(&event.traceparent).unwrap_or((id, SAMPLED));
    // The golden-ratio multiplier of SplitMix64 keeps consecutive attempts far apart.
    let step = u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let low = u64::try_from(id & u128::from(u64::MAX)).unwrap_or(1);
    let high = u64::try_from(id >> 64).unwrap_or(1);
    Trace {
        trace_id,
        span_id: (low ^ high.rotate_left(32) ^ step).max(1),
        flags,
    }
}

/// Trace id and flags of a `traceparent`. Later versions are read as far as version 00 goes, as the
/// recommendation asks (section 3.2.1).
fn parse(text: &str) -> Option<(u128, u8)> {
    let bytes = text.as_bytes();
    let (version, fits) = (text.get(..2)?, bytes.len() == TRACEPARENT_LEN);
    let later = version != "00" && bytes.get(TRACEPARENT_LEN) == Some(&b'-');
    let dashes = [2, 35, 52].iter().all(|&at| bytes.get(at) == Some(&b'-'));
    let lower = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (trace_id, parent, flags) = (text.get(3..35)?, text.get(36..52)?, text.get(53..55)?);
    let spelled = [version, trace_id, parent, flags].into_iter().all(lower);
    if !(fits || later) || version == "ff" || !dashes || !spelled {
        return None;
    }
    let trace_id = u128::from_str_radix(trace_id, 16)
        .ok()
        .filter(|&id| id != 0)?;
    u64::from_str_radix(parent, 16).ok().filter(|&id| id != 0)?;
    Some((trace_id, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_a_whole_traceparent_is_taken_over() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
        assert_eq!(parse(good), Some((id, 1)));
        assert_eq!(parse(&good.replacen("00", "01", 1)), Some((id, 1)));
        assert_eq!(
            parse(&format!("{}-more", good.replacen("00", "cc", 1))),
            Some((id, 1))
        );
        let bad = [
            String::new(),
            good.to_uppercase(),
            good.replacen("00", "ff", 1),
            format!("{good}-more"),
            good[..54].to_owned(),
            good.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01".into(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".into(),
            "00-4bf92f3577b34da6a3ce929d0e0e47äx-00f067aa0ba902b7-0".into(),
        ];
        for text in bad {
            assert_eq!(parse(&text), None, "{text}");
        }
    }
}
