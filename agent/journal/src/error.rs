//! What can go wrong with a journal; an append that fails means that the deed must not be done.

use std::path::{Path, PathBuf};

use proto_model::id::InjectionId;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
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
    #[error("there is no journal of injection {injection}")]
    Absent { injection: InjectionId },
    #[error("there is a journal of injection {injection} already")]
    Exists { injection: InjectionId },
    #[error("the journal of injection {injection} is still open")]
    StillOpen { injection: InjectionId },
    /// From the record of an end on, nothing may be pulled.
    #[error("injection {injection} is already ending")]
    Ending { injection: InjectionId },
    #[error("a journal record of {bytes} bytes is too long (at most {most})")]
    TooLong { bytes: usize, most: usize },
    /// Only the suites do this: the process is gone at this very point.
    #[error("crashed here")]
    Crashed,
}

/// Hidden in an I/O error, it says that the suites end the process here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("crashed here")]
pub struct Crashed;

impl JournalError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        if source.get_ref().is_some_and(|inner| inner.is::<Crashed>()) {
            return Self::Crashed;
        }
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
