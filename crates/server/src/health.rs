//! Whether the server answers requests.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// State of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelState {
    /// The warm-up batch is not done.
    Starting,
    /// Requests are computed.
    Ready,
    /// The engine panicked and there is no new one yet.
    Broken,
}

/// Readiness, shared by all parts.
#[derive(Debug, Default)]
pub(crate) struct Health {
    model: AtomicU8,
    draining: AtomicBool,
}

impl Health {
    pub(crate) fn model(&self) -> ModelState {
        match self.model.load(Ordering::Acquire) {
            0 => ModelState::Starting,
            1 => ModelState::Ready,
            _ => ModelState::Broken,
        }
    }

    pub(crate) fn set_model(&self, state: ModelState) {
        let number = match state {
            ModelState::Starting => 0,
            ModelState::Ready => 1,
            ModelState::Broken => 2,
        };
        self.model.store(number, Ordering::Release);
    }

    /// The server is about to stop.
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Why new work should go elsewhere; `None` when ready.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        if self.draining() {
            return Some("the server is stopping");
        }
        self.model_unready()
    }

    /// Why the model cannot answer; `None` when it can, also while the server is about to stop.
    pub(crate) fn model_unready(&self) -> Option<&'static str> {
        match self.model() {
            ModelState::Starting => Some("the model is warming up"),
            ModelState::Ready => None,
            ModelState::Broken => Some("the model failed and is being restarted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_after_the_warm_up_and_until_the_drain() {
        let health = Health::default();
        assert!(health.unready().is_some());
        for state in [ModelState::Starting, ModelState::Ready, ModelState::Broken] {
            health.set_model(state);
            assert_eq!(health.model(), state);
            assert_eq!(health.unready().is_none(), state == ModelState::Ready);
        }
        health.set_model(ModelState::Ready);
        health.drain();
        assert_eq!(health.unready(), Some("the server is stopping"));
        assert_eq!(health.model_unready(), None);
    }
}
