//! A look that failed.

/// A look that failed: what was looked at, and the system's answer.
#[derive(Debug, thiserror::Error)]
#[error("read {what}")]
pub struct ViewError {
    pub what: String,
    #[source]
    pub source: std::io::Error,
}

impl ViewError {
    pub fn new(what: impl Into<String>, source: std::io::Error) -> Self {
        Self { what: what.into(), source }
    }
}
