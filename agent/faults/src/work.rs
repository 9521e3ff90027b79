//! What a worker's body may ask while it loads the host: whether to go on, and how the host looks. It is told nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_view::HostView;
use proto_model::id::InjectionId;

/// Shared by every thread of a worker.
#[derive(Clone)]
pub struct WorkControl {
    pub deadline_boot_ms: u64,
    injection: InjectionId,
    stop: Arc<AtomicBool>,
    view: Arc<dyn HostView>,
}

impl WorkControl {
    pub fn new(injection: InjectionId, deadline_boot_ms: u64, stop: Arc<AtomicBool>, view: Arc<dyn HostView>) -> Self {
        Self {
            injection,
            deadline_boot_ms,
            stop,
            view,
        }
    }

    /// True when the pipe to the agent closed or the deadline has passed (the caller's watcher sets it).
    pub fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whose work it is: things are named after it.
    pub fn injection(&self) -> &InjectionId {
        &self.injection
    }

    pub fn view(&self) -> &dyn HostView {
        self.view.as_ref()
    }
}
