//! What the kernel says about this process.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Bytes of memory in use.
pub fn rss_bytes() -> u64 {
    1024 * field("/proc/self/status", "VmRSS:")
}

/// Most bytes of memory in use so far.
pub fn rss_peak_bytes() -> u64 {
    1024 * field("/proc/self/status", "VmHWM:")
}

/// Bytes that this process has made the kernel write to a device.
pub fn written_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// CPU time of this process, all threads.
pub fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(Duration::ZERO, |usage| {
        let micros = |time: nix::sys::time::TimeVal| {
            let whole = time.tv_sec() * 1_000_000 + time.tv_usec();
            Duration::from_micros(u64::try_from(whole).unwrap_or(0))
        };
        micros(usage.user_time()) + micros(usage.system_time())
    })
}

/// How long calls took.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Latencies {
        Latencies(Histogram::new(3).expect("three digits are within the histogram's range"))
    }

    /// Calls `work` and notes how long it took.
    pub fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.note(start.elapsed());
        done
    }

    pub fn note(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0
            .record(nanos)
            .expect("a histogram without a limit takes everything");
    }

    pub fn mean_us(&self) -> f64 {
        self.0.mean() / 1e3
    }

    /// The time that this percentage of the calls did not exceed.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        Duration::from_nanos(self.0.value_at_percentile(percent)).as_secs_f64() * 1e6
    }

    pub fn max_ms(&self) -> f64 {
        Duration::from_nanos(self.0.max()).as_secs_f64() * 1e3
    }
}
