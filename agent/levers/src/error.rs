//! What goes wrong when a host is changed, in words with its causes.

/// A call that changes a host and failed, with the system's answer.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct OpsError {
    pub action: String,
    #[source]
    pub source: std::io::Error,
}

impl OpsError {
    pub fn new(action: impl Into<String>, source: std::io::Error) -> Self {
        Self {
            action: action.into(),
            source,
        }
    }
}

/// An error with its causes, each said once.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}
