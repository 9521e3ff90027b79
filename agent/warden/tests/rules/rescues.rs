//! Undos that keep failing: the journal says so once, and says it anew when the failure is another.

use std::fs;
use std::time::Duration;

use agent_journal::Opened;
use agent_levers::fake::FakeHost;
use agent_levers::ops::GroupOps;
use agent_levers::{EmptyGroup, History, JournalStore};
use agent_view::{GroupId, HostView};
use agent_warden::{Rescuer, rescue};
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, EndedBy, InjectionState};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::Bench;

/// A host with a group that cannot be removed, and the journal of the injection to which it belongs.
struct World {
    host: FakeHost,
    dir: TempDir,
    store: JournalStore,
    id: InjectionId,
}

impl World {
    fn new() -> Self {
        let (host, dir, id) = (FakeHost::new(), tempfile::tempdir().unwrap(), InjectionId::generate());
        let store = JournalStore::open(&dir.path().join("journal"), &dir.path().join("mirror")).unwrap();
        let opened = Opened {
            injection: id.clone(),
            run: "run".to_owned(),
            kind: "test.hold".to_owned(),
            params: Value::Null,
            boot_id: host.boot_id(),
            opened_boot_ms: host.boot_ms(),
            deadline_boot_ms: host.boot_ms() + 60_000,
            plan_digest: String::new(),
        };
        let group = GroupId::of(&id);
        let undo = EmptyGroup { group: group.0.clone() };
        store.create(opened).unwrap().intend(undo.into()).unwrap();
        host.clone().make_group(&group).unwrap();
        host.keep_groups(true);
        Self { host, dir, store, id }
    }

    fn rescue(&self) -> bool {
        let rescuer = Rescuer {
            ended_by: EndedBy::Rescue,
            name: "rescue",
            patience: Duration::ZERO,
        };
        rescue(&self.store, &mut self.host.clone(), &self.host, rescuer).unwrap().is_clean()
    }

    fn history(&self) -> History {
        self.store.read(&self.id).unwrap()
    }

    /// The failures that the journal holds.
    fn failures(&self) -> Vec<String> {
        let reports = self.history().reports.into_iter();
        let failures = reports.filter_map(|report| match report.fact {
            AgentFact::UndoFailed(failed) => Some(failed.error),
            _ => None,
        });
        failures.collect()
    }

    /// How much of the file on disk is written.
    fn written(&self) -> usize {
        let file = self.dir.path().join("journal").join(format!("{}.journal", self.id));
        let bytes = fs::read(file).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
    }
}

#[test]
fn a_thousand_rescues_that_fail_alike_leave_the_journal_as_the_first_one_left_it() {
    let world = World::new();
    assert!(!world.rescue());
    let (history, written) = (world.history(), world.written());
    let endings = history.reports.iter().filter(|report| matches!(report.fact, AgentFact::Ending(_)));
    assert_eq!((endings.count(), world.failures().len()), (1, 1), "{:?}", history.reports);
    for _ in 1..1_000 {
        assert!(!world.rescue());
    }
    assert_eq!((world.history(), world.written()), (history, written));
    world.host.keep_groups(false);
    assert!(world.rescue());
    let history = world.history();
    assert!(!history.is_open());
    let numbers: Vec<u64> = history.reports.iter().map(|report| report.agent_seq).collect();
    assert!(
        numbers.is_sorted_by(|one, next| one < next),
        "a number that was given is given to no other report: {numbers:?}"
    );
    assert!(matches!(history.reports.last().unwrap().fact, AgentFact::Undone(_)));
}

#[test]
fn another_failure_is_recorded() {
    let world = World::new();
    world.rescue();
    let busy = world.failures();
    // A rescue tries twice: the first of these fails otherwise, the second as before. What comes before its undo is the release.
    world.host.fail_nth_undo(2);
    world.rescue();
    let failures = world.failures();
    assert_eq!(
        (failures.len(), &failures[0], &failures[2]),
        (3, &busy[0], &busy[0]),
        "{failures:?}"
    );
    assert_ne!(failures[1], busy[0]);
}

#[test]
fn an_undo_that_succeeds_again_and_again_while_something_is_left_is_recorded_once() {
    let world = World::new();
    world.host.keep_groups(false);
    // A worker outside of its group: the group goes, and the look finds the worker every time.
    let mut worker = world.host.process(400).unwrap().unwrap();
    worker.pid = 6_000;
    worker.command_line = vec![GroupId::of(&world.id).0, "worker".to_owned()];
    worker.our_program = true;
    world.host.add_process(worker);
    assert!(!world.rescue());
    let written = world.written();
    for _ in 1..100 {
        assert!(!world.rescue());
    }
    assert_eq!(world.written(), written);
    world.host.kill(6_000);
    assert!(world.rescue());
}

#[test]
fn agents_that_fail_alike_one_after_the_other_report_it_and_record_it_once() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.host.fail_writes(u32::MAX);
    for _ in 0..20 {
        bench = bench.crash();
        bench.pass(30_000);
        let said = bench.facts(&id);
        assert!(said.iter().any(|fact| matches!(fact, AgentFact::Ending(_))), "{said:?}");
        assert!(said.iter().any(|fact| matches!(fact, AgentFact::UndoFailed(_))), "{said:?}");
        assert_eq!(bench.status().active[0].state, InjectionState::UndoFailed);
    }
    let recorded = bench.unsettled();
    assert_eq!(recorded.len(), 3, "applied, ending, one failure: {recorded:?}");
    bench.host.fail_writes(0);
    bench.pass(6_000);
    let newest = recorded.iter().map(|report| report.agent_seq).max().unwrap();
    let end = bench.reports.iter().find(|report| report.fact.is_terminal()).unwrap();
    assert!(end.agent_seq > newest, "the controller takes a number that it knows for a repeat");
}
