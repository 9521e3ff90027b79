//! A disk that loses in a power cut what was not synced: whatever a journal has acknowledged must be on it afterwards.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::disk::DiskDir;
use crate::sync::Sync;
use crate::{JournalError, Opened, Outcome, UndoOutcome};

type History = crate::History<Value>;
type Journal = crate::Journal<Value>;
type JournalStore = crate::JournalStore<Value>;

/// What survives: bytes by inode and names by folder, each as of its last sync.
#[derive(Default)]
struct Platter(Mutex<Survivors>);

#[derive(Default)]
struct Survivors {
    bytes: BTreeMap<u64, Vec<u8>>,
    names: BTreeMap<PathBuf, Vec<(OsString, u64)>>,
}

impl Sync for Platter {
    fn data(&self, file: &File) -> io::Result<()> {
        let (mut bytes, mut reader) = (Vec::new(), file.try_clone()?);
        reader.rewind()?;
        reader.read_to_end(&mut bytes)?;
        self.0.lock().unwrap().bytes.insert(file.metadata()?.ino(), bytes);
        Ok(())
    }

    fn all(&self, file: &File) -> io::Result<()> {
        self.data(file)
    }

    fn names(&self, folder: &Path) -> io::Result<()> {
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        let names = entries.iter().map(|entry| Ok((entry.file_name(), entry.metadata()?.ino())));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        self.0.lock().unwrap().names.insert(folder.to_owned(), names);
        Ok(())
    }
}

impl Platter {
    /// Leaves in the folder only what was synced, each file with the bytes of its last sync.
    fn cut_power(&self, folder: &Path) -> io::Result<()> {
        let survivors = self.0.lock().unwrap();
        for entry in fs::read_dir(folder)? {
            fs::remove_file(entry?.path())?;
        }
        for (name, inode) in survivors.names.get(folder).into_iter().flatten() {
            fs::write(folder.join(name), survivors.bytes.get(inode).map_or(&[][..], Vec::as_slice))?;
        }
        Ok(())
    }
}

struct World {
    dir: TempDir,
    platter: Arc<Platter>,
    id: InjectionId,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            platter: Arc::default(),
            id: InjectionId::generate(),
        }
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn journal_store(&self) -> JournalStore {
        let disk = DiskDir::with(&self.disk(), self.platter.clone()).unwrap();
        let mirror = DiskDir::with(&self.dir.path().join("run"), self.platter.clone()).unwrap();
        JournalStore::of(Arc::new(disk), Arc::new(mirror))
    }

    fn open(&self) -> Journal {
        let opened = Opened {
            injection: self.id.clone(),
            run: "run".to_owned(),
            kind: "test.all".to_owned(),
            params: Value::Null,
            boot_id: "boot".to_owned(),
            opened_boot_ms: 1,
            deadline_boot_ms: 2,
            plan_digest: String::new(),
        };
        self.journal_store().create(opened).unwrap()
    }

    /// What the next boot finds: the disk as of its last syncs, and nothing in /run.
    fn after_power_cut(&self) -> Result<History, JournalError> {
        self.platter.cut_power(&self.disk()).unwrap();
        fs::remove_dir_all(self.dir.path().join("run")).unwrap();
        Ok(self.journal_store().lock(&self.id, Duration::ZERO)?.history().clone())
    }
}

type Step = fn(&mut Journal) -> Result<(), JournalError>;

/// Everything that is acknowledged to whoever pulls a lever, and more bytes than a journal first has space for.
const STEPS: [Step; 11] = [
    |journal| journal.intend(knob(100)).map(drop),
    |journal| journal.declare(vec!["it is gone for good".to_owned()]),
    |journal| journal.intend(knob(20_000)).map(drop),
    |journal| journal.intend(knob(20_000)).map(drop),
    |journal| journal.intend(knob(20_000)).map(drop),
    |journal| journal.intend(knob(20_000)).map(drop),
    |journal| journal.applied(&json!({"effect": 1})),
    |journal| journal.ending(EndedBy::Stop),
    |journal| journal.undone(1, UndoOutcome::Restored),
    |journal| journal.undone(2, UndoOutcome::Restored),
    |journal| {
        journal.closed(&Outcome {
            ended_by: EndedBy::Stop,
            undone_by: "agent".to_owned(),
            undo_ms: 1,
            drift: Vec::new(),
        })
    },
];

fn knob(bytes: usize) -> Value {
    json!({"undo": "restore_knob", "path": "/test/knob", "ours": "1", "before": "0".repeat(bytes)})
}

#[test]
fn whatever_a_journal_acknowledged_is_there_after_a_power_cut() {
    for taken in 0..=STEPS.len() {
        let world = World::new();
        let mut journal = world.open();
        for step in &STEPS[..taken] {
            step(&mut journal).unwrap();
        }
        let acknowledged = journal.history().clone();
        drop(journal);
        let found = world.after_power_cut();
        assert_eq!(found.unwrap(), acknowledged, "power was cut after step {taken}");
    }
}

#[test]
fn a_forgotten_journal_does_not_come_back_after_a_power_cut() {
    let world = World::new();
    let mut journal = world.open();
    STEPS[STEPS.len() - 1](&mut journal).unwrap();
    drop(journal);
    world.journal_store().forget(&world.id).unwrap();
    assert!(matches!(world.after_power_cut(), Err(JournalError::Absent { .. })));
}

#[test]
fn a_journal_that_was_set_aside_is_still_there_and_aside_after_a_power_cut() {
    let world = World::new();
    drop(world.open());
    world.journal_store().set_aside(&world.id).unwrap();
    let aside = world.dir.path().join("disk.accepted");
    world.platter.cut_power(&aside).unwrap();
    assert!(matches!(world.after_power_cut(), Err(JournalError::Absent { .. })));
    assert!(fs::metadata(aside.join(format!("{}.journal", world.id))).unwrap().len() > 0);
}

#[test]
fn this_disk_loses_what_nobody_synced() {
    let world = World::new();
    drop(world.open());
    let path = world.disk().join(format!("{}.journal", world.id));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, "written and never synced").unwrap();
    fs::write(world.disk().join("name"), "").unwrap();
    world.platter.cut_power(&world.disk()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(world.disk()).unwrap().count(), 1);
}
