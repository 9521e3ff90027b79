//! What a worker's body may ask while it loads the host: whether to go on, and how the host looks. It is told nothing else.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use agent_view::HostView;
use proto_model::id::InjectionId;

/// Shared by every thread of a worker.
#[derive(Clone)]
pub struct WorkControl {
    pub deadline_boot_ms: u64,
    injection: InjectionId,
    stop: Arc<AtomicBool>,
    view: Arc<dyn HostView>,
    file: Arc<Mutex<Option<File>>>,
}

impl WorkControl {
    pub fn new(injection: InjectionId, deadline_boot_ms: u64, stop: Arc<AtomicBool>, view: Arc<dyn HostView>) -> Self {
        Self {
            injection,
            deadline_boot_ms,
            stop,
            view,
            file: Arc::default(),
        }
    }

    /// With what the kind has opened before root's rights were given up.
    #[must_use]
    pub fn with_file(self, file: Option<File>) -> Self {
        Self {
            file: Arc::new(Mutex::new(file)),
            ..self
        }
    }

    /// That file, once; `None` where the body has the right to open it itself.
    pub fn take_file(&self) -> Option<File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take()
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
