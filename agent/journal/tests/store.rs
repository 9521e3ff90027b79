//! Journals on real files: what was appended is read back, what was torn never happened, and nobody writes beside the holder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_journal::{JournalError, Opened, Outcome, UndoOutcome};
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, AgentReport, EndedBy, Ending};
use serde_json::{Value, json};
use tempfile::TempDir;

type History = agent_journal::History<Value>;
type Journal = agent_journal::Journal<Value>;
type JournalStore = agent_journal::JournalStore<Value>;

const WAIT: Duration = Duration::from_millis(20);

struct Desk {
    folder: TempDir,
    journal_store: JournalStore,
    id: InjectionId,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let journal_store = JournalStore::open(&folder.path().join("disk"), &folder.path().join("run")).unwrap();
        Self {
            folder,
            journal_store,
            id: InjectionId::generate(),
        }
    }

    fn create(&self) -> Journal {
        self.journal_store.create(opened(&self.id, "boot-a")).unwrap()
    }

    fn file(&self, folder: &str) -> PathBuf {
        self.folder.path().join(folder).join(format!("{}.journal", self.id))
    }
}

fn opened(id: &InjectionId, boot_id: &str) -> Opened {
    Opened {
        injection: id.clone(),
        run: "run".to_owned(),
        kind: "cpu.burn".to_owned(),
        params: json!({"percent": 60}),
        boot_id: boot_id.to_owned(),
        opened_boot_ms: 5,
        deadline_boot_ms: 60_005,
        plan_digest: "sha256:0".to_owned(),
    }
}

fn knob(n: u32) -> Value {
    json!({"undo": "restore_knob", "path": format!("/proc/sys/x/{n}"), "ours": "1", "before": "0"})
}

fn report(id: &InjectionId, agent_seq: u64, reason: &str) -> AgentReport {
    AgentReport {
        injection: id.clone(),
        run: "run".to_owned(),
        agent_seq,
        boot_id: "boot-a".to_owned(),
        boot_ms: 7,
        fact: AgentFact::Ending(Ending {
            ended_by: EndedBy::Stop,
            reason: Some(reason.to_owned()),
        }),
    }
}

fn outcome() -> Outcome {
    Outcome {
        ended_by: EndedBy::Stop,
        undone_by: "agent".to_owned(),
        undo_ms: 3,
        drift: vec!["x".to_owned()],
    }
}

/// Appends one record of each sort; returns how long the file's used part is after each.
fn whole_life(journal: &mut Journal, id: &InjectionId) {
    assert_eq!(journal.intend(knob(1)).unwrap(), 1);
    assert_eq!(journal.intend(knob(2)).unwrap(), 2);
    journal.applied(&json!({"pid": 4})).unwrap();
    journal.ending(EndedBy::Stop).unwrap();
    journal.undone(2, UndoOutcome::Restored).unwrap();
    journal.report(&report(id, 9, "stopped")).unwrap();
    journal.undone(1, UndoOutcome::AlreadyGone).unwrap();
    journal.closed(&outcome()).unwrap();
}

/// The part of a file before its preallocated zeros.
fn used(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes[..end].to_vec()
}

/// A number that grows with every record of a history.
fn records(history: &History) -> usize {
    let flags = [history.applied.is_some(), history.ending.is_some(), history.closed.is_some()];
    1 + history.intents.len() + history.undone.len() + history.reports.len() + flags.iter().filter(|f| **f).count()
}

#[test]
fn everything_appended_is_read_back_by_whoever_holds_it_next() {
    let desk = Desk::new();
    let mut journal = desk.create();
    whole_life(&mut journal, &desk.id);
    let told = journal.history().clone();
    drop(journal);
    assert_eq!(desk.journal_store.read(&desk.id).unwrap(), told);
    let again = desk.journal_store.lock(&desk.id, WAIT).unwrap();
    assert_eq!(again.history(), &told);
    assert_eq!(
        (told.intents.len(), told.undone.len(), told.reports.len(), told.is_open()),
        (2, 2, 1, false)
    );
    assert_eq!(told.closed, Some(outcome()));
}

#[test]
fn pending_undos_come_last_first_and_none_is_lost_or_repeated() {
    let desk = Desk::new();
    let mut journal = desk.create();
    for n in 1..=4 {
        journal.intend(knob(n)).unwrap();
    }
    journal.undone(3, UndoOutcome::Restored).unwrap();
    let due: Vec<u32> = journal.history().pending().map(|(seq, _)| seq).collect();
    assert_eq!(due, [4, 2, 1]);
}

#[test]
fn a_tail_torn_at_any_byte_never_happened_and_is_written_over() {
    let desk = Desk::new();
    whole_life(&mut desk.create(), &desk.id);
    fs::remove_file(desk.file("run")).unwrap();
    let (whole, all) = (used(&desk.file("disk")), records(&desk.journal_store.read(&desk.id).unwrap()));
    let mut last = 0;
    for cut in 0..=whole.len() {
        let mut torn = whole[..cut].to_vec();
        torn.resize(64 * 1024, 0);
        fs::write(desk.file("disk"), &torn).unwrap();
        let history = match desk.journal_store.read(&desk.id) {
            Err(JournalError::Damaged { .. }) if last == 0 => continue,
            history => history.unwrap(),
        };
        let count = records(&history);
        assert!(count == last || count == last + 1, "cut at {cut}: {last} records, then {count}");
        last = count;
        if cut % 7 == 0 && history.is_open() {
            let mut journal = desk.journal_store.lock(&desk.id, WAIT).unwrap();
            journal.report(&report(&desk.id, 1, "after the crash")).unwrap();
            drop(journal);
            fs::remove_file(desk.file("run")).unwrap();
            let told = desk.journal_store.read(&desk.id).unwrap();
            assert_eq!(records(&told), count + 1, "cut at {cut}");
            assert_eq!(told.intents, history.intents);
        }
    }
    assert_eq!(last, all);
}

#[test]
fn the_mirror_completes_a_torn_disk_and_the_next_append_heals_it() {
    let desk = Desk::new();
    let mut journal = desk.create();
    journal.intend(knob(1)).unwrap();
    let short = used(&desk.file("disk"));
    journal.intend(knob(2)).unwrap();
    drop(journal);
    let mut torn = short.clone();
    torn.resize(64 * 1024, 0);
    fs::write(desk.file("disk"), &torn).unwrap();
    let mut journal = desk.journal_store.lock(&desk.id, WAIT).unwrap();
    assert_eq!(journal.history().intents.len(), 2);
    journal.ending(EndedBy::Rescue).unwrap();
    drop(journal);
    fs::remove_file(desk.file("run")).unwrap();
    let told = desk.journal_store.read(&desk.id).unwrap();
    assert_eq!((told.intents.len(), told.ending), (2, Some(EndedBy::Rescue)));
}

#[test]
fn a_journal_lives_on_in_the_mirror_alone() {
    let desk = Desk::new();
    desk.create().intend(knob(1)).unwrap();
    fs::remove_file(desk.file("disk")).unwrap();
    assert_eq!(desk.journal_store.ids().unwrap(), std::slice::from_ref(&desk.id));
    let mut journal = desk.journal_store.lock(&desk.id, WAIT).unwrap();
    assert!(matches!(desk.journal_store.lock(&desk.id, WAIT), Err(JournalError::Locked { .. })));
    assert!(journal.intend(knob(2)).is_err(), "an intent needs the disk");
    journal.undone(1, UndoOutcome::Restored).unwrap();
    journal.closed(&outcome()).unwrap();
    drop(journal);
    desk.journal_store.forget(&desk.id).unwrap();
    assert!(desk.journal_store.ids().unwrap().is_empty());
}

#[test]
fn the_mirror_of_another_boot_is_not_believed() {
    let desk = Desk::new();
    desk.create().intend(knob(1)).unwrap();
    let other = Desk::new();
    let mut journal = other.journal_store.create(opened(&desk.id, "boot-b")).unwrap();
    for n in 0..5 {
        journal.intend(knob(n)).unwrap();
    }
    let name = format!("{}.journal", desk.id);
    fs::copy(other.folder.path().join("disk").join(&name), desk.file("run")).unwrap();
    let told = desk.journal_store.read(&desk.id).unwrap();
    assert_eq!((told.opened.boot_id.as_str(), told.intents.len()), ("boot-a", 1));
    let mut journal = desk.journal_store.lock(&desk.id, WAIT).unwrap();
    journal.ending(EndedBy::Boot).unwrap();
    drop(journal);
    assert!(
        used(&desk.file("run")).starts_with(&used(&desk.file("disk"))),
        "the mirror was not brought in line"
    );
    assert_eq!(desk.journal_store.read(&desk.id).unwrap().ending, Some(EndedBy::Boot));
}

#[test]
fn a_flipped_byte_is_never_read_as_something_else() {
    let desk = Desk::new();
    whole_life(&mut desk.create(), &desk.id);
    fs::remove_file(desk.file("run")).unwrap();
    let told = desk.journal_store.read(&desk.id).unwrap();
    let whole = used(&desk.file("disk"));
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(desk.file("disk"), &flipped).unwrap();
        match desk.journal_store.read(&desk.id) {
            Err(JournalError::Damaged { .. }) => {}
            history => {
                let history = history.unwrap();
                assert!(
                    history.is_open() && told.intents.starts_with(&history.intents) && history.opened == told.opened,
                    "byte {at}"
                );
            }
        }
    }
}

#[test]
fn only_one_holds_it_and_the_next_one_reads_anew() {
    let desk = Desk::new();
    let mut first = desk.create();
    let started = Instant::now();
    let refused = desk.journal_store.lock(&desk.id, Duration::from_millis(60));
    assert!(matches!(refused, Err(JournalError::Locked { .. })));
    assert!(started.elapsed() >= Duration::from_millis(60));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            desk.journal_store
                .lock(&desk.id, Duration::from_secs(10))
                .unwrap()
                .history()
                .intents
                .len()
        });
        first.intend(knob(1)).unwrap();
        drop(first);
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

#[test]
fn many_writers_in_turn_lose_nothing() {
    let desk = Desk::new();
    drop(desk.create());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let desk = &desk;
            scope.spawn(move || {
                for n in 0..10 {
                    let mut journal = desk.journal_store.lock(&desk.id, Duration::from_secs(30)).unwrap();
                    journal.report(&report(&desk.id, writer * 100 + n, "")).unwrap();
                }
            });
        }
    });
    let mut seqs: Vec<u64> = desk
        .journal_store
        .read(&desk.id)
        .unwrap()
        .reports
        .iter()
        .map(|r| r.agent_seq)
        .collect();
    seqs.sort_unstable();
    let expected: Vec<u64> = (0..4).flat_map(|writer| (0..10).map(move |n| writer * 100 + n)).collect();
    assert_eq!(seqs, expected);
}

#[test]
fn an_injection_has_one_journal_and_only_a_closed_one_is_forgotten() {
    let desk = Desk::new();
    let mut journal = desk.create();
    assert!(matches!(
        desk.journal_store.create(opened(&desk.id, "boot-a")),
        Err(JournalError::Exists { .. })
    ));
    journal.ending(EndedBy::Stop).unwrap();
    assert!(matches!(journal.intend(knob(1)), Err(JournalError::Ending { .. })));
    drop(journal);
    assert!(matches!(desk.journal_store.forget(&desk.id), Err(JournalError::StillOpen { .. })));
    desk.journal_store.lock(&desk.id, WAIT).unwrap().closed(&outcome()).unwrap();
    desk.journal_store.forget(&desk.id).unwrap();
    assert!(desk.journal_store.ids().unwrap().is_empty());
    assert!(matches!(desk.journal_store.lock(&desk.id, WAIT), Err(JournalError::Absent { .. })));
    assert!(matches!(desk.journal_store.read(&desk.id), Err(JournalError::Absent { .. })));
}

#[test]
fn only_an_end_of_our_own_leaves_somebody_to_blame() {
    let desk = Desk::new();
    let mut journal = desk.create();
    journal.ending(EndedBy::Stop).unwrap();
    assert!(journal.first_rewind());
    assert!(!journal.first_rewind());
    drop(journal);
    assert!(!desk.journal_store.lock(&desk.id, WAIT).unwrap().first_rewind());
}

#[test]
fn it_grows_before_it_is_full() {
    let desk = Desk::new();
    let mut journal = desk.create();
    assert_eq!(fs::metadata(desk.file("disk")).unwrap().len(), 64 * 1024);
    let long = "x".repeat(10_000);
    (0..40).for_each(|n| journal.report(&report(&desk.id, n, &long)).unwrap());
    for n in 0..40 {
        journal.intend(knob(n)).unwrap();
    }
    drop(journal);
    assert!(fs::metadata(desk.file("disk")).unwrap().len() >= 448 * 1024);
    let told = desk.journal_store.read(&desk.id).unwrap();
    assert_eq!((told.reports.len(), told.intents.len()), (40, 40));
}

#[test]
fn strangers_in_the_folder_are_left_alone_and_damage_is_named() {
    let desk = Desk::new();
    drop(desk.create());
    let disk = desk.folder.path().join("disk");
    fs::write(disk.join("notes.txt"), "mine").unwrap();
    fs::write(disk.join(".new-x"), "half").unwrap();
    let damaged = InjectionId::generate();
    fs::write(disk.join(format!("{damaged}.journal")), "rubbish").unwrap();
    let again = JournalStore::open(&disk, &desk.folder.path().join("run")).unwrap();
    assert_eq!(again.ids().unwrap().len(), 2);
    assert!(disk.join("notes.txt").exists() && !disk.join(".new-x").exists());
    let error = again.lock(&damaged, WAIT).err().unwrap().to_string();
    assert!(error.contains(damaged.as_str()), "{error}");
    assert!(again.read(&desk.id).is_ok());
}

#[test]
fn nobody_else_may_read_it() {
    let desk = Desk::new();
    drop(desk.create());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in ["disk", "run"] {
        assert_eq!(mode(&desk.folder.path().join(folder)), 0o700);
        assert_eq!(mode(&desk.file(folder)), 0o600);
    }
}

#[test]
fn a_shelf_that_can_be_written_says_so_and_keeps_nothing_of_the_try() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mirror) = (dir.path().join("disk"), dir.path().join("mirror"));
    let journal_store = JournalStore::open(&disk, &mirror).unwrap();
    journal_store.check().unwrap();
    assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0);
    std::fs::remove_dir(&disk).unwrap();
    assert!(journal_store.check().is_err());
}

impl Desk {
    /// Where a file goes that is set aside.
    fn kept(&self, folder: &str) -> PathBuf {
        let aside = self.folder.path().join(format!("{folder}.accepted"));
        aside.join(format!("{}.journal", self.id))
    }

    /// A journal of which neither copy can be read.
    fn damaged() -> Self {
        let desk = Self::new();
        drop(desk.create());
        for folder in ["disk", "run"] {
            fs::write(desk.file(folder), format!("rubbish on {folder}")).unwrap();
        }
        desk
    }

    fn assert_aside(&self) {
        assert!(self.journal_store.ids().unwrap().is_empty());
        for folder in ["disk", "run"] {
            let left = fs::read_dir(self.folder.path().join(folder)).unwrap().count();
            assert_eq!(left, 0, "fracas-guard.path starts the last guard for any file in {folder}");
            assert_eq!(fs::read_to_string(self.kept(folder)).unwrap(), format!("rubbish on {folder}"));
        }
    }
}

#[test]
fn a_damaged_journal_is_set_aside_whole_and_is_a_journal_no_more() {
    let desk = Desk::damaged();
    assert!(matches!(desk.journal_store.forget(&desk.id), Err(JournalError::Damaged { .. })));
    desk.journal_store.set_aside(&desk.id).unwrap();
    desk.assert_aside();
    assert!(matches!(desk.journal_store.read(&desk.id), Err(JournalError::Absent { .. })));
    let aside = fs::metadata(desk.kept("disk").parent().unwrap()).unwrap();
    assert_eq!(aside.permissions().mode() & 0o777, 0o700);
    desk.journal_store.set_aside(&desk.id).unwrap();
    let again = JournalStore::open(&desk.folder.path().join("disk"), &desk.folder.path().join("run")).unwrap();
    assert!(again.ids().unwrap().is_empty());
}

#[test]
fn a_journal_of_which_only_one_copy_was_set_aside_is_still_damaged_and_is_set_aside_again() {
    let desk = Desk::damaged();
    // Where the folder for the disk's copy belongs there is a file, so it stops between the two.
    let in_the_way = desk.kept("disk").parent().unwrap().to_owned();
    fs::write(&in_the_way, "").unwrap();
    desk.journal_store.set_aside(&desk.id).unwrap_err();
    assert!(!desk.file("run").exists() && desk.file("disk").exists());
    assert_eq!(desk.journal_store.ids().unwrap(), std::slice::from_ref(&desk.id));
    assert!(matches!(desk.journal_store.read(&desk.id), Err(JournalError::Damaged { .. })));
    assert!(matches!(desk.journal_store.lock(&desk.id, WAIT), Err(JournalError::Damaged { .. })));
    fs::remove_file(&in_the_way).unwrap();
    desk.journal_store.set_aside(&desk.id).unwrap();
    desk.assert_aside();
}

#[test]
fn a_journal_that_another_process_holds_is_not_set_aside() {
    let desk = Desk::new();
    let held = desk.create();
    assert!(matches!(desk.journal_store.set_aside(&desk.id), Err(JournalError::Locked { .. })));
    assert!(desk.file("disk").exists() && desk.file("run").exists());
    drop(held);
}
