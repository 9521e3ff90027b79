//! Undo as a journal may hold it: whatever it says, it touches nothing that neither carries our name nor is named with what it reads.

use std::path::Path;
use std::time::Duration;

use agent_journal::Opened;
use agent_levers::fake::{FakeHost, Footprint};
use agent_levers::ops::GroupOps;
use agent_levers::{JournalStore, Undo, rewind};
use agent_view::{FileSeen, GroupId, HostView, ProcessState};
use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(1);
/// A group, a file and a stopped process of others.
const GROUP: &str = "redis.service";
const FILE: &str = "/var/lib/fracas-precious";
const STOPPED: u32 = 1_001;

/// The bytes are undos as JSON, as they lie in a journal's records.
pub fn check(bytes: &[u8]) {
    let Ok(undos) = serde_json::from_slice::<Vec<Undo>>(bytes) else {
        return;
    };
    let host = host();
    let before = host.footprint();
    let journal_store = JournalStore::memory();
    let mut journal = journal_store
        .create(opened(&InjectionId::generate(), &host))
        .expect("a new journal");
    for undo in &undos {
        // One that is too long for a record is refused, and then nothing was pulled for it.
        if journal.intend(undo.clone()).is_err() {
            return;
        }
    }
    let id = journal.injection().clone();
    drop(journal);
    let mut journal = journal_store.lock(&id, WAIT).expect("it is free");
    journal.ending(EndedBy::Rescue).expect("memory takes it");
    rewind(&mut journal, &mut host.clone(), &host);
    untouched(&before, &host.footprint(), &undos, &host);
}

pub(crate) fn opened(injection: &InjectionId, host: &FakeHost) -> Opened {
    Opened {
        injection: injection.clone(),
        run: "run".to_owned(),
        kind: "test.fuzz".to_owned(),
        params: Value::Null,
        boot_id: host.boot_id(),
        opened_boot_ms: host.boot_ms(),
        deadline_boot_ms: host.boot_ms() + 60_000,
        plan_digest: String::new(),
    }
}

pub(crate) fn host() -> FakeHost {
    let host = FakeHost::new();
    host.clone().make_group(&GroupId(GROUP.to_owned())).expect("a group of others");
    host.set_state(STOPPED, ProcessState::Stopped);
    let file = FileSeen {
        device: 0x802,
        inode: 5,
        regular: true,
        directory: false,
        size: 1,
        allocated: 4_096,
    };
    host.set_file(Path::new(FILE), Some(file));
    host
}

/// Panics when something changed that no undo names together with how it is.
pub(crate) fn untouched(before: &Footprint, after: &Footprint, undos: &[Undo], host: &FakeHost) {
    assert_eq!(before.groups, after.groups, "a group of others");
    assert_eq!(before.files, after.files, "a file of others");
    assert_eq!(
        (&before.workers, &before.traffic, &before.paths, &before.clsacts),
        (&after.workers, &after.traffic, &after.paths, &after.clsacts)
    );
    for (pid, state) in &before.processes {
        let started = host.process(*pid).ok().flatten().map(|process| process.start_time);
        let named = undos.iter().any(|undo| match undo {
            Undo::ResumeProcesses(undo) => undo
                .victims
                .iter()
                .any(|victim| victim.pid == *pid && Some(victim.start_time) == started),
            _ => false,
        });
        assert!(named || after.processes.get(pid) == Some(state), "process {pid} was {state:?}");
    }
    for (path, value) in &before.knobs {
        let chain = undos
            .iter()
            .any(|undo| matches!(undo, Undo::RestoreKnob(undo) if undo.path == *path && undo.ours == *value));
        assert!(chain || after.knobs.get(path) == Some(value), "{path} was {value:?}");
    }
    assert_eq!(before.knobs.len(), after.knobs.len());
}
