//! The halt button, and the way back from it: two forms, of which one is shown.

use askama::Template;
use proto_model::halt::HaltState;

use crate::frame::Frame;

/// The state of the halt with the form that changes it.
#[derive(Debug, Template)]
#[template(path = "stop.html")]
pub struct StopForms<'a> {
    pub frame: &'a Frame,
    pub halt: &'a HaltState,
    /// Only administrators may release.
    pub may_release: bool,
}

impl StopForms<'_> {
    pub fn html(&self) -> String {
        self.render().unwrap_or_default()
    }
}
