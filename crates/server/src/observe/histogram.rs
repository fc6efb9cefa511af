//! A histogram that costs three relaxed additions.
//!
//! Absent here: quantiles. The reader of the metrics computes them from the buckets.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Upper edges of the buckets of a [`Latency`], in microseconds. Dense around the 50 ms that are
/// promised from answer to ledger.
const LATENCY_US: [u64; 22] = [
    250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 40_000, 50_000,
    75_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 15_000_000, 60_000_000,
];
/// The same of a [`Size`].
const SIZES: [u64; 14] = [
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192,
];

/// Counts values by the smallest edge that is not below them.
struct Buckets<const N: usize> {
    edges: &'static [u64; N],
    /// One for each edge; what is above them all is in the count alone.
    counts: [AtomicU64; N],
    count: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Buckets<N> {
    fn new(edges: &'static [u64; N]) -> Buckets<N> {
        Buckets {
            edges,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    fn observe(&self, value: u64) {
        let place = self.edges.partition_point(|&edge| edge < value);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    #[allow(clippy::cast_precision_loss)] // sums beyond 2^53 may round
    fn encode(&self, mut encoder: MetricEncoder<'_>, per_unit: f64) -> fmt::Result {
        let count = self.count.load(Ordering::Relaxed);
        let mut inside = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(N + 1);
        for (edge, bucket) in self.edges.iter().zip(&self.counts) {
            let here = bucket.load(Ordering::Relaxed);
            inside += here;
            buckets.push((*edge as f64 / per_unit, here));
        }
        // The encoder adds the buckets up; the last one takes what is above all edges.
        buckets.push((f64::INFINITY, count.saturating_sub(inside)));
        let sum = self.sum.load(Ordering::Relaxed) as f64 / per_unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count.max(inside), &buckets, None)
    }
}

macro_rules! histograms {
    ($($(#[$doc:meta])* $name:ident($edges:ident: $width:literal) unit $unit:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<Buckets<$width>>);

        impl $name {
            /// Counts one value.
            pub fn observe(&self, value: u64) {
                self.0.observe(value);
            }

            /// How many were counted.
            #[must_use]
            pub fn count(&self) -> u64 {
                self.0.count.load(Ordering::Relaxed)
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name(Arc::new(Buckets::new(&$edges)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.count())
            }
        }

        impl EncodeMetric for $name {
            fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
                self.0.encode(encoder, $unit)
            }

            fn metric_type(&self) -> MetricType {
                MetricType::Histogram
            }
        }

        impl prometheus_client::metrics::TypedMetric for $name {
            const TYPE: MetricType = MetricType::Histogram;
        }
    )*};
}

histograms! {
    /// Times, observed in microseconds and shown in seconds.
    Latency(LATENCY_US: 22) unit 1_000_000.0;
    /// Counts of things.
    Size(SIZES: 14) unit 1.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn buckets_add_up_and_nothing_is_lost_above_the_last_edge() {
        let latency = Latency::default();
        let mut registry = Registry::default();
        registry.register("t_seconds", "Times", latency.clone());
        for us in [1, 250, 251, 50_000, 90_000_000] {
            latency.observe(us);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("t_seconds_bucket{le=\"0.00025\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("t_seconds_bucket{le=\"0.0005\"} 3\n"),
            "{text}"
        );
        assert!(text.contains("t_seconds_bucket{le=\"0.05\"} 4\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{le=\"60.0\"} 4\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{le=\"+Inf\"} 5\n"), "{text}");
        assert!(text.contains("t_seconds_count 5\n"), "{text}");
    }
}
