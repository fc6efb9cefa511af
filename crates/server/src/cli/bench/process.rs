//! What a process costs, as the system counts it: CPU, bytes written, memory.
//!
//! Absent here: what it does meanwhile.

use crate::cli::failure::Failure;

/// Clock ticks a second in `/proc`, fixed for user space on Linux.
const TICKS_PER_S: u64 = 100;
/// Bytes of the unit in which `/proc` counts memory.
const KIB: u64 = 1_024;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU in user and kernel, in microseconds.
    pub(super) cpu_us: u64,
    /// Bytes handed to the device.
    pub(super) written_bytes: u64,
    /// Memory resident now.
    pub(super) rss_bytes: u64,
}

impl Usage {
    /// Reads the usage of a process.
    pub(super) fn of(id: u32) -> Result<Usage, Failure> {
        let read = |file: &str| {
            let path = format!("/proc/{id}/{file}");
            std::fs::read_to_string(&path)
                .map_err(|error| Failure::no(format!("{path} cannot be read")).because(error))
        };
        let stat = read("stat")?;
        Ok(Usage {
            cpu_us: cpu_ticks(&stat).unwrap_or(0) * (1_000_000 / TICKS_PER_S),
            written_bytes: field(&read("io")?, "write_bytes:").unwrap_or(0),
            rss_bytes: field(&read("status")?, "VmRSS:").unwrap_or(0) * KIB,
        })
    }

    /// What was used since `before`; memory is as it is now.
    pub(super) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_us: self.cpu_us.saturating_sub(before.cpu_us),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            rss_bytes: self.rss_bytes,
        }
    }
}

/// User and kernel time from `/proc/<id>/stat`, whose second field may hold anything in brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Usage, cpu_ticks, field};

    #[test]
    fn numbers_are_found_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 9 0 0 0 12 30 0 0 20 0 1 0 5 1 2";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(field("a: 1\nwrite_bytes: 77\n", "write_bytes:"), Some(77));
        assert_eq!(field("VmRSS:\t  512 kB\n", "VmRSS:"), Some(512));
    }

    #[test]
    fn our_own_usage_grows() {
        let before = Usage::of(std::process::id()).expect("our own");
        assert!(before.rss_bytes > 0);
        let mut ends = 0_u64;
        let used = loop {
            // Work until the system has noticed.
            ends = (0..1_000_000_u64).fold(ends, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
            let used = Usage::of(std::process::id())
                .expect("our own")
                .since(before);
            if used.cpu_us > 0 {
                break used;
            }
        };
        assert!(used.cpu_us > 0 && std::hint::black_box(ends) != 1);
    }
}
