//! Opening the file: one holder, checked pages, a known schema, one epoch more. It never writes to a file that fails a check.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::transaction::{SqliteStore, backend, damaged, explain};
use super::{catalogues, finished};
use crate::records::StoreError;

/// Schema by version: a store at version n has had the first n applied.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema-1.sql"),
    include_str!("schema-2.sql"),
    include_str!("services.sql"),
    include_str!("operators.sql"),
    include_str!("plans.sql"),
    include_str!("facts.sql"),
    include_str!("catalogues.sql"),
    include_str!("unclean.sql"),
    include_str!("finished.sql"),
    include_str!("months.sql"),
    include_str!("blocks.sql"),
];
/// The version whose rows must be moved as well, and by what.
const SPLIT_CATALOGUES: u32 = 7;
const KNOWN: u32 = MIGRATIONS.len() as u32;
/// How long to wait for somebody who reads the file with other tools.
const BUSY: Duration = Duration::from_secs(5);
/// Statements kept prepared: more than this crate has.
const STATEMENTS: usize = 128;
/// A larger file is checked while it is in use: reading all of it takes longer than a controller may take to start.
const CHECKED_AT_ONCE: u64 = 64 << 20;
/// Findings of the integrity check that are worth printing.
const FINDINGS: u32 = 5;

pub(super) fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    open_at(path, i64::try_from(since_1970.as_millis()).unwrap_or(0), CHECKED_AT_ONCE)
}

/// The epoch is the time of the opening, and always later than the one on record. A copy that is restored has an old
/// record, but is opened now: it cannot repeat what was given out after it was made.
fn open_at(path: &Path, now_ms: i64, checked_at_once: u64) -> Result<SqliteStore, StoreError> {
    let lock = lock(path)?;
    make_private(path)?;
    let mut connection = Connection::open(path).map_err(|e| explain(e, "open the store", path))?;
    connection
        .busy_timeout(BUSY)
        .map_err(|e| explain(e, "set the busy timeout", path))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let size = std::fs::metadata(path).map(|of| of.len()).unwrap_or(0);
    if size <= checked_at_once {
        check(&connection, path)?;
    }
    settle(&connection).map_err(|e| explain(e, "set up the store", path))?;
    migrate(&mut connection, path)?;
    let epoch = connection
        .query_row("UPDATE meta SET epoch = max(epoch + 1, ?1) RETURNING epoch", [now_ms], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(|e| explain(e, "count the opening", path))?;
    let found = Arc::default();
    if size > checked_at_once {
        check_beside(path, Arc::clone(&found));
    } else {
        drop(found.set(Ok(())));
    }
    Ok(SqliteStore {
        check: found,
        connection,
        path: path.to_owned(),
        epoch: epoch.cast_unsigned(),
        #[cfg(test)]
        before_commit: None,
        _lock: lock,
    })
}

/// The lock is on a file beside the store, so that backups and other tools may still read the store itself.
fn lock(path: &Path) -> Result<File, StoreError> {
    let beside = with_suffix(path, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&beside)
        .map_err(|e| {
            backend(
                "open the store's lock file",
                std::io::Error::new(e.kind(), format!("{}: {e}", beside.display())),
            )
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Refused(format!(
            "open the store: {} is in use by another controller (it holds {}); stop that one first",
            path.display(),
            beside.display()
        ))),
        Err(TryLockError::Error(e)) => Err(backend("lock the store", e)),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// SQLite gives its files the mode of the first one: token hashes are nobody else's business.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    made.map(drop)
        .map_err(|e| backend("open the store", std::io::Error::new(e.kind(), format!("{}: {e}", path.display()))))
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let findings = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({FINDINGS})"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let findings = findings().map_err(|e| explain(e, "check the store", path))?;
    if findings == ["ok"] {
        return Ok(());
    }
    Err(damaged(path, &findings.join("; ")))
}

/// Checks a large file by a connection of its own, and lets the store know: to a damaged one it writes nothing from then on.
fn check_beside(path: &Path, found: Arc<OnceLock<Result<(), String>>>) {
    let path = path.to_owned();
    let thread = std::thread::Builder::new().name("store-check".into());
    let started = thread.spawn(move || {
        let opened = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        match opened
            .map_err(|e| explain(e, "open the store to check it", &path))
            .and_then(|of| check(&of, &path))
        {
            Ok(()) => {
                tracing::info!(store = %path.display(), "the store is checked and whole");
                drop(found.set(Ok(())));
            }
            Err(StoreError::Damaged(why)) => {
                tracing::error!(why, "the store is damaged; nothing more is written to it");
                drop(found.set(Err(why)));
            }
            Err(error) => tracing::error!(%error, "the store could not be checked"),
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "the store is not checked: no thread for it");
    }
}

fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |e: rusqlite::Error| explain(e, "bring the store's schema up to date", path);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let found: u32 = transaction
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)?;
    if found > KNOWN {
        return Err(StoreError::Newer { found, known: KNOWN });
    }
    for migration in &MIGRATIONS[found as usize..] {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    if found < SPLIT_CATALOGUES {
        catalogues::split(&transaction).map_err(|e| e.explain("move the catalogues of hosts", path))?;
    }
    finished::outdate_other_versions(&transaction).map_err(failed)?;
    transaction.pragma_update(None, "user_version", KNOWN).map_err(failed)?;
    transaction.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    fn corrupt(text: &[u8]) -> String {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        std::fs::write(&path, text).unwrap();
        let error = open(&path).err().expect("a damaged file was opened");
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), text, "a damaged file was written to");
        let message = error.to_string();
        assert!(message.contains("store.db") && message.contains("backup"), "{message}");
        message
    }

    #[test]
    fn what_is_no_database_is_refused_and_left_alone() {
        corrupt(&b"this is a text and no database at all. ".repeat(200));
    }

    #[test]
    fn a_database_with_a_broken_page_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("good.db");
        let mut store = SqliteStore::open(&path).unwrap();
        let run = proto_model::id::RunId::generate();
        crate::Store::append(&mut store, &run, crate::contract::notes(300, 200)).unwrap();
        store.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap_or(());
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 5 * 4096);
        for page in 2..5 {
            bytes[page * 4096..page * 4096 + 2048].fill(0xA5);
        }
        corrupt(&bytes);
    }

    #[test]
    fn a_large_file_is_opened_at_once_and_no_longer_written_when_it_proves_damaged() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let run = proto_model::id::RunId::generate();
        let mut store = open(&path).unwrap();
        store.append(&run, crate::contract::notes(300, 200)).unwrap();
        store.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap_or(());
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        // The newest pages are of the log, which opening does not read.
        let end = bytes.len();
        bytes[end - 3 * 4096..].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(open(&path), Err(StoreError::Damaged(_))), "a small file is checked first");
        let mut store = open_at(&path, 1, 0).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while store.check.get().is_none() {
            assert!(std::time::Instant::now() < until, "the damage is found within 20 s");
            std::thread::yield_now();
        }
        let refused = store.append(&run, crate::contract::notes(1, 10)).unwrap_err();
        assert!(matches!(&refused, StoreError::Damaged(why) if why.contains("backup")), "{refused}");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let store = SqliteStore::open(&path).unwrap();
        store.connection.pragma_update(None, "user_version", KNOWN + 1).unwrap();
        drop(store);
        assert!(matches!(open(&path), Err(StoreError::Newer { known: KNOWN, .. })));
    }

    #[test]
    fn a_store_of_the_first_schema_is_brought_up_to_date_with_its_runs() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let run = proto_model::id::RunId::generate();
        old.execute(
            "INSERT INTO runs (id, name, created_at, finished) VALUES (?1, 'one', 7, 1)",
            [run.as_str()],
        )
        .unwrap();
        drop(old);
        let mut store = open(&path).unwrap();
        assert_eq!(crate::Finished::outdated(&mut store, 10).unwrap(), [run]);
        assert_eq!(crate::Cadence::schedules(&mut store).unwrap(), []);
    }

    #[test]
    fn what_another_version_read_of_runs_is_read_again() {
        use crate::Finished;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let run = proto_model::id::RunId::generate();
        let mut store = open(&path).unwrap();
        store.append(&run, crate::contract::finished_run()).unwrap();
        store.keep_finished(&run, 2, None).unwrap();
        drop(store);
        let mut store = open(&path).unwrap();
        assert_eq!(store.outdated(10).unwrap(), [], "nothing is read twice");
        store.connection.execute("UPDATE reading SET version = version + 1", []).unwrap();
        drop(store);
        assert_eq!(open(&path).unwrap().outdated(10).unwrap(), [run]);
    }

    #[test]
    fn plans_that_runs_used_before_it_was_noted_are_known_by_their_runs() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let old = Connection::open(&path).unwrap();
        MIGRATIONS[..4].iter().for_each(|migration| old.execute_batch(migration).unwrap());
        old.pragma_update(None, "user_version", 4).unwrap();
        let run = proto_model::id::RunId::generate();
        old.execute("INSERT INTO runs (id, name, created_at) VALUES (?1, 'one', 7)", [run.as_str()])
            .unwrap();
        for (seq, event) in [
            (1, r#"{"type": "run.accepted", "digest": "sha256:used"}"#),
            (2, r#"{"type": "run.accepted", "digest": "sha256:late"}"#),
        ] {
            old.execute(
                "INSERT INTO events (run, seq, event) VALUES (?1, ?2, ?3)",
                (run.as_str(), seq, event),
            )
            .unwrap();
        }
        for digest in ["used", "late", "unused"] {
            let sql = "INSERT INTO plans (digest, created_at, view) VALUES ('sha256:' || ?1, 5, '')";
            old.execute(sql, [digest]).unwrap();
        }
        drop(old);
        let mut store = open(&path).unwrap();
        let forgotten = crate::Store::forget_plans(&mut store, proto_model::time::Timestamp(6)).unwrap();
        let left: String = store
            .connection
            .query_row("SELECT digest FROM plans", [], |row| row.get(0))
            .unwrap();
        assert_eq!((forgotten, left.as_str()), (2, "sha256:used"));
    }

    #[test]
    fn hosts_of_an_old_store_keep_their_catalogue_and_share_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let old = Connection::open(&path).unwrap();
        MIGRATIONS[..5].iter().for_each(|migration| old.execute_batch(migration).unwrap());
        old.pragma_update(None, "user_version", 5).unwrap();
        let kind = serde_json::json!({
            "kind": "cpu.burn", "summary": "", "aliases": [], "reversal": { "kind": "full" }, "duration": "required", "params": {},
            "examples": [], "measured_by": "", "undone_by": ""
        });
        for name in ["web", "cache"] {
            let record = serde_json::json!({
                "name": name, "labels": { "env": "staging" }, "facts": proto_model::host::HostFacts::default(), "catalogue": [kind],
                "membership": "enrolled", "cordoned": null, "cleanliness": "clean", "residue": [], "key_fingerprint": "k",
                "certificate_not_after": "2026-01-01T00:00:00.000Z", "enrolled_at": "2026-01-01T00:00:00.000Z", "last_boot_id": "b"
            });
            old.execute("INSERT INTO hosts (name, record) VALUES (?1, ?2)", [name, &record.to_string()])
                .unwrap();
        }
        drop(old);
        let mut store = open(&path).unwrap();
        let (hosts, shared) = (store.hosts().unwrap(), store.catalogues().unwrap());
        assert_eq!((hosts.len(), shared.len(), shared[0].0.len()), (2, 1, 1));
        assert!(hosts.iter().all(|host| host.catalogue_digest == shared[0].digest()));
        assert!(
            hosts[0].operator_labels.contains("env"),
            "who set it is unknown, so no token takes it away"
        );
        drop(store);
        assert_eq!(open(&path).unwrap().hosts().unwrap(), hosts, "opened again, nothing is moved twice");
    }

    #[test]
    fn a_second_opener_is_refused_until_the_first_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let first = open(&path).unwrap();
        let message = open(&path).err().expect("two hold the store").to_string();
        assert!(message.contains("in use by another controller"), "{message}");
        drop(first);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn a_restored_copy_repeats_no_epoch_even_when_the_clock_stands() {
        let root = tempfile::tempdir().unwrap();
        let (path, copy) = (root.path().join("store.db"), root.path().join("copy.db"));
        let first = open_at(&path, 1_000, CHECKED_AT_ONCE).unwrap().epoch;
        std::fs::copy(&path, &copy).unwrap();
        let later = [2_000, 2_000, 1_500].map(|now| open_at(&path, now, CHECKED_AT_ONCE).unwrap().epoch);
        assert_eq!((first, later), (1_000, [2_000, 2_001, 2_002]));
        std::fs::copy(&copy, &path).unwrap();
        assert_eq!(open_at(&path, 60_000, CHECKED_AT_ONCE).unwrap().epoch, 60_000);
        // With a clock that was set back it is earlier than what hosts have seen, and they refuse it.
        std::fs::copy(&copy, &path).unwrap();
        assert_eq!(open_at(&path, 900, CHECKED_AT_ONCE).unwrap().epoch, 1_001);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let message = open(Path::new("/proc/fracas/store.db")).err().expect("opened in /proc").to_string();
        assert!(message.starts_with("open the store"), "{message}");
    }

    #[test]
    fn others_may_not_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let _store = open(&path).unwrap();
        for file in [path.clone(), with_suffix(&path, "-wal")] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o077, 0);
        }
    }
}
