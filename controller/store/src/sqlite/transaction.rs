//! One call, one transaction on the open file, and its failures in words. It knows no table.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use proto_model::id::RunId;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::block::BlockError;
use crate::records::StoreError;

pub(super) const WHAT_TO_DO: &str = "stop the controller, move the file and its -wal aside, and put a backup in their place";

/// More of a transaction.
#[cfg(test)]
pub(super) type Also = fn(&Transaction<'_>) -> Result<(), Trouble>;

pub struct SqliteStore {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) epoch: u64,
    /// What the check of the file has found; nothing yet while a large file is checked beside the store.
    pub(super) check: Arc<OnceLock<Result<(), String>>>,
    /// What a test does with each write before it is committed.
    #[cfg(test)]
    pub(super) before_commit: Option<Also>,
    /// Held, never read: while it is open no other process may open the store.
    pub(super) _lock: File,
}

impl SqliteStore {
    /// One method, one transaction: on disk when this returns `Ok`, otherwise nothing of it.
    pub(super) fn deed<T>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        if let Some(Err(why)) = self.check.get() {
            return Err(StoreError::Damaged(why.clone()));
        }
        let path = &self.path;
        let explain = |trouble: Trouble| trouble.explain(name, path);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| explain(e.into()))?;
        let answer = body(&transaction).map_err(explain)?;
        #[cfg(test)]
        self.before_commit.map_or(Ok(()), |also| also(&transaction)).map_err(explain)?;
        transaction.commit().map_err(|e| explain(e.into()))?;
        Ok(answer)
    }

    /// Like `deed`, for what only reads: it takes no write lock.
    pub(super) fn look<T>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let path = &self.path;
        let explain = |trouble: Trouble| trouble.explain(name, path);
        let transaction = self.connection.transaction().map_err(|e| explain(e.into()))?;
        body(&transaction).map_err(explain)
    }
}

/// What can go wrong inside one transaction.
pub(super) enum Trouble {
    Sqlite(rusqlite::Error),
    /// A row that this version cannot read.
    Row {
        what: &'static str,
        source: serde_json::Error,
    },
    /// A block whose events cannot be read.
    Block {
        run: RunId,
        first: u64,
        last: u64,
        source: BlockError,
    },
    Answer(StoreError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

impl Trouble {
    pub(super) fn explain(self, deed: &'static str, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(error) => explain(error, deed, path),
            Self::Row { what, source } => {
                StoreError::Damaged(format!("{}: {what} cannot be read: {source}; {}", path.display(), WHAT_TO_DO))
            }
            Self::Block { run, first, last, source } => {
                let why = format!("events {first} to {last} of run {run} cannot be read: {source}");
                damaged(path, &why)
            }
            Self::Answer(error) => error,
        }
    }
}

/// A failure of SQLite in words: damage is told apart, because retrying does not mend it.
pub(super) fn explain(error: rusqlite::Error, deed: &'static str, path: &Path) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, &format!("{deed}: {error}")),
        _ => backend(
            deed,
            In {
                path: path.to_owned(),
                error,
            },
        ),
    }
}

/// An error with the file it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
struct In {
    path: PathBuf,
    error: rusqlite::Error,
}

pub(super) fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError::Damaged(format!("{}: {why}; {WHAT_TO_DO}", path.display()))
}

pub(super) fn backend(deed: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Backend {
        deed,
        source: Box::new(source),
    }
}
