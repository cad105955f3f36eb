//! burn-train's terminal dashboard, driven through its `MetricsRenderer` trait.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn_train::Interrupter;
use burn_train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer};

use crate::progress::{Progress, StepReport, number};
use crate::signals::{Interruption, StopFlag};

/// The dashboard. Pressing `q` and then `s` asks the run to stop after the step, exactly as Ctrl-C
/// does outside of it (the dashboard owns the keyboard, so Ctrl-C itself does not arrive as a
/// signal). Pressing `q` and then `k` ends the process without saving.
pub struct Dashboard {
    renderer: Option<Box<dyn MetricsRenderer>>,
    interrupter: Interrupter,
    stop: StopFlag,
    stage: String,
    epoch: Option<u64>,
    metrics: BTreeMap<String, MetricId>,
}

impl std::fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dashboard")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Dashboard {
    /// Takes over the terminal. Standard output must be one: see [`auto`](crate::auto).
    pub fn new(stop: StopFlag) -> Self {
        let interrupter = Interrupter::new();
        let renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        Self::with_renderer(Box::new(renderer), interrupter, stop)
    }

    /// The same on another renderer; `interrupter` is the one the renderer sets.
    pub fn with_renderer(
        renderer: Box<dyn MetricsRenderer>,
        interrupter: Interrupter,
        stop: StopFlag,
    ) -> Self {
        Self {
            renderer: Some(renderer),
            interrupter,
            stop,
            stage: String::new(),
            epoch: None,
            metrics: BTreeMap::new(),
        }
    }

    fn forward_stop(&self) {
        if self.interrupter.should_stop() {
            self.stop.request(Interruption::Interrupt);
        }
    }
}

impl Progress for Dashboard {
    fn report(&mut self, report: &StepReport) {
        self.forward_stop();
        let Some(renderer) = &mut self.renderer else {
            return;
        };
        if self.stage != report.stage {
            self.stage.clone_from(&report.stage);
            self.epoch = None;
            // The number of epochs is not part of a report; steps are what the bar counts.
            let total = usize::try_from(report.total_steps).unwrap_or(usize::MAX);
            renderer.start(0, 0, Some(total), Some(&report.stage));
            renderer.start_split("train", total);
        }
        if self.epoch != Some(report.epoch) {
            self.epoch = Some(report.epoch);
            renderer.log_event_training(format!("{} epoch {}", report.stage, report.epoch));
        }
        let lr = ("lr", report.lr);
        let values = report.values.iter().map(|(k, v)| (k.as_str(), *v));
        for (name, value) in values.chain([lr]) {
            let name = format!("{}/{name}", report.stage);
            let id = self.metrics.entry(name.clone()).or_insert_with(|| {
                let attributes = numeric(&name);
                let id = MetricId::new(Arc::new(name.clone()));
                renderer.register_metric(MetricDefinition {
                    metric_id: id.clone(),
                    name: Arc::new(name),
                    description: None,
                    attributes,
                });
                id
            });
            let entry = SerializedEntry::new(number(value), value.to_string());
            renderer.update_train(MetricState::Numeric(
                MetricEntry::new(id.clone(), entry),
                Some(NumericEntry::Value(value)),
            ));
        }
        let done = usize::try_from(report.step.saturating_add(1)).unwrap_or(usize::MAX);
        renderer.update_split(done);
        self.forward_stop();
    }

    fn message(&mut self, text: &str) {
        self.forward_stop();
        if let Some(renderer) = &mut self.renderer {
            renderer.log_event_training(text.to_owned());
        }
    }

    fn finish(&mut self) {
        self.forward_stop();
        if let Some(mut renderer) = self.renderer.take() {
            renderer.end_split();
            renderer.end();
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Attributes of the metric `name`: only a loss is better when smaller.
fn numeric(name: &str) -> MetricAttributes {
    let attributes = NumericAttributes {
        unit: None,
        higher_is_better: !name.contains("loss"),
    };
    attributes.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Mutex;

    use burn_train::LearnerSummary;
    use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
    use burn_train::renderer::{
        EvaluationName, MetricsRendererEvaluation, MetricsRendererTraining,
    };

    use super::*;
    use crate::progress::tests::report;

    type Log = Arc<Mutex<Vec<String>>>;

    /// Writes down what it is told; a metric must be registered before it is updated, since the
    /// dashboard panics otherwise.
    #[derive(Clone, Default)]
    struct Recorder(Log);

    impl Recorder {
        fn push(&self, text: impl Into<String>) {
            self.0.lock().unwrap().push(text.into());
        }
    }

    impl MetricsRendererTraining for Recorder {
        fn update_train(&mut self, state: MetricState) {
            let MetricState::Numeric(entry, Some(value)) = state else {
                panic!("expected a number");
            };
            let text = entry.serialized_entry.formatted;
            self.push(format!("value {text} {}", value.current()));
        }
        fn update_valid(&mut self, _: MetricState) {}
        fn on_train_end(
            &mut self,
            _: Option<LearnerSummary>,
        ) -> Result<(), Box<dyn std::error::Error>> {
            Ok(())
        }
    }

    impl MetricsRendererEvaluation for Recorder {
        fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
    }

    impl MetricsRenderer for Recorder {
        fn manual_close(&mut self) {}
        fn register_metric(&mut self, definition: MetricDefinition) {
            self.push(format!("register {}", definition.name));
        }
    }

    impl TrainingProgressLogger for Recorder {
        fn start(&mut self, _: usize, _: usize, total: Option<usize>, label: Option<&str>) {
            self.push(format!("start {} {}", label.unwrap(), total.unwrap()));
        }
        fn update_epoch(&mut self, _: usize) {}
        fn start_split(&mut self, split: &str, total: usize) {
            self.push(format!("split {split} {total}"));
        }
        fn update_split(&mut self, done: usize) {
            self.push(format!("done {done}"));
        }
        fn end_split(&mut self) {
            self.push("end split");
        }
        fn end(&mut self) {
            self.push("end");
        }
        fn log_event_training(&mut self, event: String) {
            self.push(format!("event {event}"));
        }
    }

    impl EvaluationProgressLogger for Recorder {
        fn start_global_progress(&mut self, _: usize) {}
        fn start_test(&mut self, _: &str, _: usize) {}
        fn update_test_progress(&mut self, _: usize) {}
        fn end_test(&mut self) {}
        fn end_global_progress(&mut self) {}
        fn log_event_evaluation(&mut self, _: String) {}
    }

    fn dashboard(stop: &StopFlag) -> (Dashboard, Log, Interrupter) {
        let (recorder, interrupter) = (Recorder::default(), Interrupter::new());
        let log = recorder.0.clone();
        let dashboard =
            Dashboard::with_renderer(Box::new(recorder), interrupter.clone(), stop.clone());
        (dashboard, log, interrupter)
    }

    #[test]
    fn a_report_becomes_metrics_and_progress() {
        let (mut dashboard, log, _) = dashboard(&StopFlag::new());
        dashboard.report(&report("star", 0, 3));
        dashboard.report(&report("star", 1, 3));
        drop(dashboard);
        assert_eq!(
            *log.lock().unwrap(),
            [
                "start star 3",
                "split train 3",
                "event star epoch 0",
                "register star/loss",
                "value 2.0000 2",
                "register star/lr",
                "value 1.500e-5 0.000015",
                "done 1",
                "value 2.0000 2",
                "value 1.500e-5 0.000015",
                "done 2",
                "end split",
                "end",
            ]
        );
    }

    #[test]
    fn quitting_sets_the_stop_flag() {
        let stop = StopFlag::new();
        let (mut dashboard, _, interrupter) = dashboard(&stop);
        dashboard.report(&report("star", 0, 3));
        assert_eq!(stop.requested(), None);
        interrupter.stop(Some("key"));
        dashboard.message("next");
        assert_eq!(stop.requested(), Some(Interruption::Interrupt));
    }

    #[test]
    fn after_the_end_nothing_is_shown() {
        let (mut dashboard, log, _) = dashboard(&StopFlag::new());
        dashboard.finish();
        dashboard.report(&report("star", 0, 3));
        dashboard.message("late");
        dashboard.finish();
        assert_eq!(*log.lock().unwrap(), ["end split", "end"]);
    }
}
