//! The audit log's files: appended to, never changed, set aside when long, never removed. They hold no secret.
//!
//! `audit.jsonl` grows to 16 MiB and is then set aside as `audit-000001.jsonl` and so on. A call that changes something is noted in
//! `pending/` and synced before it begins; its line is synced before it is answered, and the note goes. What a crash leaves in `pending/`
//! becomes a line of unknown outcome at the next start. Refusals and stops are written at once and reach the disk with the next sync.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use controller_conductor::BoxFuture;
use proto_model::document::{AuditEntry, AuditOutcome};

use crate::late::LateWriter;

/// How long one file gets.
const FILE_BYTES: u64 = 16 << 20;
const CURRENT: &str = "audit.jsonl";
const PENDING: &str = "pending";

/// Clones share the files.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    file_bytes: u64,
    state: Mutex<State>,
    /// Lines of what already happened.
    late: OnceLock<LateWriter<AuditEntry>>,
}

struct State {
    file: File,
    /// Length of the current file: whole lines only.
    bytes: u64,
}

impl AuditLog {
    /// Opens or makes the log in this folder, and gives what a crash left pending its line.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::with_files_of(folder, FILE_BYTES)
    }

    fn with_files_of(folder: &Path, file_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join(PENDING))?;
        let state = State::open(folder)?;
        let this = Self(Arc::new(Inner {
            folder: folder.to_owned(),
            file_bytes,
            state: Mutex::new(state),
            late: OnceLock::new(),
        }));
        this.adopt()?;
        Ok(this)
    }

    /// Where lines go that nothing waits for: they are tried again until they are written.
    pub(super) fn late(&self) -> &LateWriter<AuditEntry> {
        self.0.late.get_or_init(|| {
            let files = Arc::downgrade(&self.0);
            LateWriter::new(Box::new(move |entry| append_late(&files, entry)), Self::lost_lines)
        })
    }

    /// Notes a call that is about to happen; on the disk when it returns.
    pub(super) fn begin(&self, entry: &AuditEntry) -> io::Result<()> {
        let path = self.note_of(&entry.id);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let noted = made.and_then(|mut note| {
            note.write_all(&serde_json::to_vec(entry)?)?;
            note.sync_all()?;
            sync(&self.0.folder.join(PENDING))
        });
        // A note of a call that does not happen must not become a line.
        noted.inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// The line of a call that was noted; on the disk when it returns. Without a line the note stays.
    pub(super) fn end(&self, entry: &AuditEntry) -> io::Result<()> {
        self.append(entry, true)?;
        fs::remove_file(self.note_of(&entry.id))
    }

    /// A line; with `sync`, it and all before it are on the disk when it returns.
    pub(super) fn append(&self, entry: &AuditEntry, sync: bool) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut state = self.state();
        if state.bytes > 0 && state.bytes + line.len() as u64 > self.0.file_bytes {
            state.set_aside(&self.0.folder)?;
        }
        state.write(&line)?;
        if sync { state.file.sync_data() } else { Ok(()) }
    }

    /// The newest lines, the newest last; of one caller, if asked.
    pub(crate) async fn newest(&self, limit: usize, caller: Option<String>) -> io::Result<Vec<AuditEntry>> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read_back(limit, caller.as_deref())).await;
        read.map_err(io::Error::other)?
    }

    fn read_back(&self, limit: usize, caller: Option<&str>) -> io::Result<Vec<AuditEntry>> {
        let mut files = set_aside_files(&self.0.folder)?;
        files.push(self.0.folder.join(CURRENT));
        let mut found = Vec::new();
        for file in files.iter().rev() {
            let text = fs::read_to_string(file)?;
            let of_caller = |entry: &AuditEntry| caller.is_none_or(|name| entry.caller.as_deref() == Some(name));
            found.extend(
                text.lines()
                    .rev()
                    .filter_map(|line| readable(file, line))
                    .filter(of_caller)
                    .take(limit - found.len()),
            );
            if found.len() == limit {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    fn adopt(&self) -> io::Result<()> {
        let lines = fs::read_to_string(self.0.folder.join(CURRENT))?;
        for note in fs::read_dir(self.0.folder.join(PENDING))? {
            let path = note?.path();
            let text = fs::read_to_string(&path)?;
            if let Some(mut entry) = readable(&path, &text)
                && !lines.contains(&entry.id)
            {
                entry.outcome = AuditOutcome::Unknown;
                self.append(&entry, true)?;
            }
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn note_of(&self, id: &str) -> PathBuf {
        self.0.folder.join(PENDING).join(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the log itself there is nothing to write to.
fn append_late(files: &Weak<Inner>, entry: AuditEntry) -> BoxFuture<'static, Result<(), String>> {
    let files = files.upgrade();
    Box::pin(async move {
        let Some(files) = files else { return Ok(()) };
        let written = tokio::task::spawn_blocking(move || AuditLog(files).append(&entry, false)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    })
}

impl State {
    fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(CURRENT);
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        sync(folder)?;
        // A crash may have cut the last line: it stays, alone on its line.
        let text = fs::read(&path)?;
        let mut bytes = text.len() as u64;
        if text.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
            bytes += 1;
        }
        Ok(Self { file, bytes })
    }

    /// A whole line or nothing of it.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self.file.write_all(line) {
            Ok(()) => {
                self.bytes += line.len() as u64;
                Ok(())
            }
            Err(error) => self.file.set_len(self.bytes).and(Err(error)),
        }
    }

    fn set_aside(&mut self, folder: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        let last = set_aside_files(folder)?.last().and_then(|path| number(path)).unwrap_or(0);
        fs::rename(folder.join(CURRENT), folder.join(format!("audit-{:06}.jsonl", last + 1)))?;
        *self = Self::open(folder)?;
        Ok(())
    }
}

/// Oldest first.
fn set_aside_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    files.retain(|path| number(path).is_some());
    files.sort_by_key(|path| number(path));
    Ok(files)
}

fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok()
}

fn readable(path: &Path, line: &str) -> Option<AuditEntry> {
    if line.trim().is_empty() {
        return None;
    }
    let entry = serde_json::from_str(line);
    entry
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a line of the audit log cannot be read"))
        .ok()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proto_model::time::Timestamp;

    use super::*;

    fn entry(id: &str) -> AuditEntry {
        AuditEntry {
            id: id.into(),
            at: Timestamp(1),
            caller: Some("ann".into()),
            role: None,
            address: "local".into(),
            call: "Hosts/Cordon".into(),
            subject: Some("web".into()),
            outcome: AuditOutcome::Done,
            code: None,
            unlisted: 0,
        }
    }

    fn ids(log: &AuditLog, limit: usize) -> Vec<String> {
        let entries = log.read_back(limit, None).unwrap();
        entries.into_iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn a_long_file_is_set_aside_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::with_files_of(folder.path(), 1_000).unwrap();
        let all: Vec<String> = (0..40).map(|n| format!("id-{n}")).collect();
        all.iter().for_each(|id| log.append(&entry(id), false).unwrap());
        let files = set_aside_files(folder.path()).unwrap();
        assert!(files.len() > 5, "{files:?}");
        for file in files.iter().chain([&folder.path().join(CURRENT)]) {
            let about = fs::metadata(file).unwrap();
            assert!(about.len() <= 1_000 && about.permissions().mode() & 0o777 == 0o600, "{file:?}");
        }
        assert_eq!(ids(&log, 100), all);
        assert_eq!(ids(&log, 3), all[37..]);
        assert_eq!(log.read_back(10, Some("bob")).unwrap(), []);
    }

    #[test]
    fn what_a_crash_left_pending_gets_its_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::open(folder.path()).unwrap();
        log.begin(&entry("crashed")).unwrap();
        log.begin(&entry("ended")).unwrap();
        // As when the crash came between the line and the removal of its note.
        log.append(&entry("ended"), true).unwrap();
        drop(log);
        fs::write(
            folder.path().join(CURRENT),
            fs::read_to_string(folder.path().join(CURRENT)).unwrap() + "{\"id\":\"to",
        )
        .unwrap();
        for _ in 0..2 {
            let log = AuditLog::open(folder.path()).unwrap();
            let entries = log.read_back(10, None).unwrap();
            let told: Vec<_> = entries.iter().map(|e| (e.id.as_str(), e.outcome)).collect();
            assert_eq!(told, [("ended", AuditOutcome::Done), ("crashed", AuditOutcome::Unknown)]);
        }
        assert_eq!(fs::read_dir(folder.path().join(PENDING)).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_noted_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::open(folder.path()).unwrap();
        fs::remove_dir(folder.path().join(PENDING)).unwrap();
        assert!(log.begin(&entry("a")).is_err());
        assert_eq!(ids(&log, 10), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_line_that_could_not_be_written_is_written_once_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::with_files_of(folder.path(), 1).unwrap();
        // A file that cannot be set aside: the next line finds no place.
        log.append(&entry("before"), false).unwrap();
        let moved = folder.path().join("elsewhere");
        fs::rename(folder.path().join(CURRENT), &moved).unwrap();
        log.late().write(entry("stop"));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        fs::rename(&moved, folder.path().join(CURRENT)).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while ids(&log, 10) != ["before", "stop"] {
            assert!(std::time::Instant::now() < until, "not written within 10 s");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
