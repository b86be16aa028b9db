//! Families of metrics in the OpenMetrics text format, which Prometheus reads.
//!
//! A family is described even when it has no samples at the moment, so that what there may be can be seen.

use std::fmt::Result;

use callboard_actors::metrics::Reading;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The labels of a sample.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// No labels.
pub(super) const PLAIN: Labels<'static, 0> = [];

/// Where families are written to.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) DescriptorEncoder<'a>);

impl Text<'_> {
    /// Numbers that only grow. The samples' name is the family's with `_total`.
    pub(super) fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// One number that only grows, unless it is not known.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Into<Option<u64>>) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        let value = value.into();
        value.map_or(Ok(()), |value| {
            family.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// Numbers that rise and fall.
    pub(super) fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// One number that rises and falls, unless it is not known.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        value.map_or(Ok(()), |value| family.encode_gauge(&value))
    }

    /// Histograms; what was recorded is divided by `per_unit`.
    pub(super) fn histograms<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        per_unit: u32,
        samples: impl IntoIterator<Item = (Labels<'a, N>, Reading)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let scaled = |value: u64| real(value) / f64::from(per_unit);
        for (labels, reading) in samples {
            let bounds = reading.bounds.iter().map(|bound| scaled(*bound));
            let bounds = bounds.chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(reading.counts.iter().copied()).collect();
            let (sum, count) = (scaled(reading.sum), reading.count());
            if N == 0 {
                family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                let mut sample = family.encode_family(&labels)?;
                sample.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    /// What does not change.
    pub(super) fn info<const N: usize>(&mut self, name: &str, help: &str, labels: Labels<'_, N>) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        family.encode_info(&labels)
    }
}

/// A count as a real number; beyond 2^53, which no count reaches, the nearest there is.
#[expect(clippy::cast_precision_loss, reason = "as said")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}
