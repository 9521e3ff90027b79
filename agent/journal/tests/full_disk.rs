//! A disk that is full or read-only: nothing new is begun, and every undo is still recorded. Needs root, for a small disk of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_journal::{JournalError, Opened, Outcome, UndoOutcome};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;
use serde_json::{Value, json};
use tempfile::TempDir;

type Journal = agent_journal::Journal<Value>;
type JournalStore = agent_journal::JournalStore<Value>;

const WAIT: Duration = Duration::from_millis(20);

/// A small disk that only this thread sees, and a folder elsewhere.
struct Small {
    folder: TempDir,
}

impl Small {
    fn new() -> Option<Self> {
        if tests_notes::lacks_root("to mount a small disk") {
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of this test's own");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("mounts are private");
        let small = Self {
            folder: TempDir::new().unwrap(),
        };
        fs::create_dir(small.disk()).unwrap();
        small.mount(MsFlags::empty());
        Some(small)
    }

    fn mount(&self, flags: MsFlags) {
        mount(Some("small"), &self.disk(), Some("tmpfs"), flags, Some("size=256k")).expect("a small disk");
    }

    fn disk(&self) -> std::path::PathBuf {
        self.folder.path().join("disk")
    }

    fn journal_store(&self) -> JournalStore {
        JournalStore::open(&self.disk().join("journal"), &self.folder.path().join("run")).unwrap()
    }

    fn fill(&self) {
        let filler = self.disk().join("filler");
        let _ = fs::write(&filler, vec![1; 1024 * 1024]);
        assert!(fs::write(self.disk().join("more"), vec![1; 8192]).is_err(), "the disk is not full");
    }
}

/// Mount namespaces belong to a thread, so each test has one of its own.
fn alone(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(test).join().unwrap();
}

fn create(journal_store: &JournalStore, id: &InjectionId) -> Result<Journal, JournalError> {
    journal_store.create(Opened {
        injection: id.clone(),
        run: "run".to_owned(),
        kind: "disk.fill".to_owned(),
        params: serde_json::Value::Null,
        boot_id: "boot".to_owned(),
        opened_boot_ms: 0,
        deadline_boot_ms: 1,
        plan_digest: String::new(),
    })
}

fn group(n: usize) -> Value {
    json!({"undo": "empty_group", "group": format!("fracas-{n}-{}", "x".repeat(500))})
}

fn outcome() -> Outcome {
    Outcome {
        ended_by: EndedBy::Stop,
        undone_by: "agent".to_owned(),
        undo_ms: 1,
        drift: Vec::new(),
    }
}

fn remove_mirror(folder: &Path, id: &InjectionId) {
    fs::remove_file(folder.join("run").join(format!("{id}.journal"))).unwrap();
}

#[test]
fn with_the_disk_full_nothing_begins_and_every_undo_is_recorded() {
    alone(|| {
        let Some(small) = Small::new() else { return };
        let (journal_store, id) = (small.journal_store(), InjectionId::generate());
        let mut journal = create(&journal_store, &id).unwrap();
        small.fill();
        assert!(matches!(
            create(&journal_store, &InjectionId::generate()),
            Err(JournalError::Io { .. })
        ));
        assert_eq!(
            journal_store.ids().unwrap(),
            std::slice::from_ref(&id),
            "a refused journal left a file"
        );
        let mut intents = 0;
        while journal.intend(group(intents)).is_ok() {
            intents += 1;
            assert!(intents < 1_000, "intents never stop");
        }
        assert!(intents > 20, "only {intents} intents fit the space made beforehand");
        assert_eq!(journal.history().intents.len(), intents, "a refused intent is remembered");
        journal.ending(EndedBy::Stop).unwrap();
        for seq in 1..=u32::try_from(intents).unwrap() {
            journal.undone(seq, UndoOutcome::Restored).unwrap();
        }
        journal.closed(&outcome()).unwrap();
        drop(journal);
        remove_mirror(small.folder.path(), &id);
        let told = journal_store.read(&id).unwrap();
        assert!(
            !told.is_open() && told.pending().count() == 0,
            "the disk alone does not tell it all"
        );
    });
}

#[test]
fn on_a_read_only_disk_the_mirror_takes_the_undo() {
    alone(|| {
        let Some(small) = Small::new() else { return };
        let (journal_store, id) = (small.journal_store(), InjectionId::generate());
        create(&journal_store, &id).unwrap().intend(group(1)).unwrap();
        small.mount(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        let mut journal = journal_store.lock(&id, WAIT).unwrap();
        assert!(journal.intend(group(2)).is_err());
        journal.ending(EndedBy::Rescue).unwrap();
        journal.undone(1, UndoOutcome::Restored).unwrap();
        drop(journal);
        assert_eq!(journal_store.read(&id).unwrap().pending().count(), 0, "the mirror is not believed");

        small.mount(MsFlags::MS_REMOUNT);
        journal_store.lock(&id, WAIT).unwrap().closed(&outcome()).unwrap();
        remove_mirror(small.folder.path(), &id);
        let told = journal_store.read(&id).unwrap();
        assert!(
            !told.is_open() && told.ending == Some(EndedBy::Rescue) && told.undone.len() == 1,
            "the disk was not brought up to date"
        );
    });
}

#[test]
fn with_no_paper_at_all_the_end_still_holds() {
    alone(|| {
        let Some(small) = Small::new() else { return };
        let (journal_store, id) = (small.journal_store(), InjectionId::generate());
        create(&journal_store, &id).unwrap().intend(group(1)).unwrap();
        remove_mirror(small.folder.path(), &id);
        small.mount(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        fs::remove_dir(small.folder.path().join("run")).unwrap();
        let mut journal = journal_store.lock(&id, WAIT).unwrap();
        assert!(journal.ending(EndedBy::Stop).is_err());
        assert!(journal.is_ending() && matches!(journal.intend(group(2)), Err(JournalError::Ending { .. })));
        assert!(journal.undone(1, UndoOutcome::Restored).is_err());
        assert_eq!(
            journal.history().pending().count(),
            0,
            "what was undone is done again in the same process"
        );
    });
}
