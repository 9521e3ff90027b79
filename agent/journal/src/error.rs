//! What can go wrong with a journal; an append that fails means that the deed must not be done.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{deed} {}", path.display())]
    Io {
        deed: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is held by another process", path.display())]
    Locked { path: PathBuf },
    #[error("{} is not a journal of this program: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("encode a journal record: {0}")]
    Encode(#[from] serde_json::Error),
    /// Only the suites do this: the process is gone at this very point.
    #[error("crashed here")]
    Crashed,
}
