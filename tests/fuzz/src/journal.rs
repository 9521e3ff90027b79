//! Journal files of any bytes: they are read as far as they are whole, and what they say is undone without harm to others.

use agent_levers::{JournalStore, prove, rewind};
use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;
use std::fs;
use std::time::Duration;

use crate::undo::{host, untouched};

const WAIT: Duration = Duration::from_secs(1);

/// The bytes are a file in the folder of journals.
pub fn check(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a folder");
    let (disk, mirror) = (dir.path().join("disk"), dir.path().join("run"));
    let journal_store = JournalStore::open(&disk, &mirror).expect("a shelf");
    let id = InjectionId::parse(ID).expect("an id");
    fs::write(disk.join(format!("{id}.journal")), bytes).expect("write the journal");
    let read = journal_store.read(&id);
    let Ok(mut journal) = journal_store.lock(&id, WAIT) else {
        assert!(read.is_err(), "it is read and cannot be held");
        return;
    };
    let history = journal.history().clone();
    assert_eq!(read.ok().as_ref(), Some(&history), "it reads the same for whoever holds it");
    let undos: Vec<_> = history.intents.iter().map(|(_, undo)| undo.clone()).collect();
    let host = host();
    let before = host.footprint();
    if history.is_open() {
        journal.ending(EndedBy::Rescue).ok();
        rewind(&mut journal, &mut host.clone(), &host);
    }
    prove(&[journal.history()], &[], &host);
    untouched(&before, &host.footprint(), &undos, &host);
}

/// Of the journals in the corpus.
pub const ID: &str = "0123456789abcdef";
