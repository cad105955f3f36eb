//! Figures for Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Labels of a finished request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// Pattern of the route, never the path as sent: there is a bounded number of them.
    route: String,
    method: String,
    status: u16,
}

/// Labels of a duration.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RouteLabels {
    route: String,
}

/// All figures of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    /// Requests being handled.
    pub(crate) in_flight: Gauge,
    /// Texts that wait for the model.
    pub(crate) queue_texts: Gauge,
    /// Tokens that wait for the model.
    pub(crate) queue_tokens: Gauge,
    /// Requests refused with 429.
    pub(crate) rejected: Counter,
    /// Requests whose client went away before they were computed.
    pub(crate) cancelled: Counter,
    /// Batches that failed.
    pub(crate) engine_failures: Counter,
    /// Tokens of a batch.
    pub(crate) batch_tokens: Histogram,
    /// Texts of a batch.
    pub(crate) batch_texts: Histogram,
    /// Time of a batch.
    pub(crate) batch_seconds: Histogram,
    /// Time a text waited before its batch.
    pub(crate) wait_seconds: Histogram,
    /// Measured speed of the model.
    pub(crate) tokens_per_second: Gauge<f64, AtomicU64>,
    /// Whether new requests are welcome.
    pub(crate) ready: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// From 0.5 ms to 16 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("asterism");
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            queue_texts: Gauge::default(),
            queue_tokens: Gauge::default(),
            rejected: Counter::default(),
            cancelled: Counter::default(),
            engine_failures: Counter::default(),
            batch_tokens: Histogram::new(exponential_buckets(4.0, 2.0, 14)),
            batch_texts: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            batch_seconds: seconds(),
            wait_seconds: seconds(),
            tokens_per_second: Gauge::default(),
            ready: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Requests answered, by route and status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to its response",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests being handled",
            metrics.in_flight.clone(),
        );
        registry.register(
            "queue_texts",
            "Texts waiting for the model",
            metrics.queue_texts.clone(),
        );
        registry.register(
            "queue_tokens",
            "Tokens waiting for the model",
            metrics.queue_tokens.clone(),
        );
        registry.register(
            "rejected",
            "Requests refused with 429",
            metrics.rejected.clone(),
        );
        registry.register(
            "cancelled",
            "Requests dropped because the client went away",
            metrics.cancelled.clone(),
        );
        registry.register(
            "engine_failures",
            "Batches that failed",
            metrics.engine_failures.clone(),
        );
        registry.register(
            "batch_tokens",
            "Tokens of a batch",
            metrics.batch_tokens.clone(),
        );
        registry.register(
            "batch_texts",
            "Texts of a batch",
            metrics.batch_texts.clone(),
        );
        registry.register_with_unit(
            "batch_duration",
            "Time the model takes for a batch",
            Unit::Seconds,
            metrics.batch_seconds.clone(),
        );
        registry.register_with_unit(
            "queue_duration",
            "Time from the arrival of a request to its first batch",
            Unit::Seconds,
            metrics.wait_seconds.clone(),
        );
        registry.register(
            "tokens_per_second",
            "Measured speed of the model",
            metrics.tokens_per_second.clone(),
        );
        registry.register(
            "ready",
            "1 when new requests are welcome",
            metrics.ready.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    pub(crate) fn finished(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = RouteLabels {
            route: route.to_owned(),
        };
        self.durations
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let labels = RequestLabels {
            route: labels.route,
            method: method.to_owned(),
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// All figures in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        if text::encode(&mut out, &self.registry).is_err() {
            tracing::error!("the figures are incomplete");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::new();
        for status in [200, 200, 429] {
            metrics.finished("/embed", "POST", status, Duration::from_millis(3));
        }
        metrics.batch_tokens.observe(9.0);
        let text = metrics.text();
        for line in [
            "asterism_requests_total{route=\"/embed\",method=\"POST\",status=\"200\"} 2",
            "asterism_requests_total{route=\"/embed\",method=\"POST\",status=\"429\"} 1",
            "asterism_request_duration_seconds_bucket{le=\"0.004\",route=\"/embed\"} 3",
            "asterism_batch_tokens_bucket{le=\"16.0\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
