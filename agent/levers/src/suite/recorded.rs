//! A journal as the program before levers had files of their own wrote it, with every undo that there was: it is still read, reads the same when written, and is undone.

use std::fs;

use super::*;

const RECORDED: &[u8] = include_bytes!("recorded.journal");
const ID: &str = "0123456789abcdef";

#[test]
fn a_journal_of_the_program_before_is_read_written_the_same_and_undone() {
    let dir = tempfile::tempdir().unwrap();
    let journal_store = JournalStore::open(&dir.path().join("disk"), &dir.path().join("run")).unwrap();
    let id = InjectionId::parse(ID).unwrap();
    fs::write(dir.path().join(format!("disk/{id}.journal")), RECORDED).unwrap();
    let mut journal = journal_store.lock(&id, WAIT).unwrap();
    let history = journal.history().clone();
    assert_eq!((history.strange.as_slice(), history.intents.len()), ([].as_slice(), 8));
    let text = String::from_utf8_lossy(RECORDED);
    for (seq, undo) in &history.intents {
        let written = format!(
            r#"{{"record":"intends","seq":{seq},"undo":{}}}"#,
            serde_json::to_string(undo).unwrap()
        );
        assert!(text.contains(&written), "{written}");
    }
    let host = FakeHost::new();
    host.set_state(REDIS, ProcessState::Stopped);
    host.set_knob(KNOB, "1");
    let report = rewind(&mut journal, &mut host.clone(), &host);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(host.footprint(), FakeHost::new().footprint());
}
