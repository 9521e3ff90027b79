//! Rescues of faults that another process holds, or that an undo does not end: each has its turn, and all of them together are waited for once.

use agent_journal::Opened;
use agent_levers::fake::FakeHost;
use agent_levers::{Exemptions, JournalStore, Levers, PullContext};
use agent_view::HostView;
use agent_warden::{Rescued, Rescuer, rescue};
use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;
use serde_json::Value;
use std::time::{Duration, Instant};

const FAULTS: u32 = 5;
/// Five times as long would be noticed also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// A host with five faults that no agent holds.
struct Left {
    host: FakeHost,
    store: JournalStore,
    ids: Vec<InjectionId>,
}

impl Left {
    fn new() -> Self {
        let (host, store) = (FakeHost::new(), JournalStore::memory());
        let ids = (0..FAULTS).map(|number| begin(&host, &store, &knob(number))).collect();
        Self { host, store, ids }
    }

    /// What a rescue comes to, and how long it takes.
    fn rescue(&self, patience: Duration) -> (Rescued, Duration) {
        let rescuer = Rescuer {
            ended_by: EndedBy::Rescue,
            name: "rescue",
            patience,
        };
        let begin = Instant::now();
        let rescued = rescue(&self.store, &mut self.host.clone(), &self.host, rescuer).unwrap();
        (rescued, begin.elapsed())
    }

    fn all_are_undone(&self) -> bool {
        (0..FAULTS).all(|number| self.host.knob(&knob(number)).unwrap().as_deref() == Some("calm"))
    }
}

fn knob(number: u32) -> String {
    format!("/sys/fs/cgroup/test{number}/cgroup.freeze")
}

fn begin(host: &FakeHost, store: &JournalStore, knob: &str) -> InjectionId {
    host.set_knob(knob, "calm");
    let injection = InjectionId::generate();
    let opened = Opened {
        injection: injection.clone(),
        run: "run".to_owned(),
        kind: "test.hold".to_owned(),
        params: Value::Null,
        boot_id: host.boot_id(),
        opened_boot_ms: host.boot_ms(),
        deadline_boot_ms: host.boot_ms() + 60_000,
        plan_digest: String::new(),
    };
    let context = PullContext {
        injection: injection.clone(),
        kind: opened.kind.clone(),
        seed: 1,
        deadline_boot_ms: opened.deadline_boot_ms,
        gate_ms: 15_000,
        exemptions: Exemptions::default(),
    };
    let mut journal = store.create(opened).unwrap();
    let mut hands = host.clone();
    Levers::new(&mut journal, &mut hands, host, context).set_knob(knob, "wild").unwrap();
    injection
}

#[test]
fn undos_that_fail_share_one_patience_and_each_is_tried() {
    let left = Left::new();
    left.host.fail_writes(u32::MAX);
    for (patience, least, most) in [(PATIENCE, PATIENCE, PATIENCE * 2), (Duration::ZERO, Duration::ZERO, PATIENCE)] {
        let (rescued, took) = left.rescue(patience);
        assert!(took >= least && took < most, "{took:?} with a patience of {patience:?}");
        assert!(!rescued.is_clean() && rescued.undone.is_empty(), "{rescued:?}");
        let mut tried: Vec<&InjectionId> = rescued.left.iter().map(|(id, _)| id).collect();
        let mut all: Vec<&InjectionId> = left.ids.iter().collect();
        tried.sort_unstable();
        all.sort_unstable();
        assert_eq!(tried, all);
        assert!(rescued.left.iter().all(|(_, why)| why.contains("told to fail")), "{rescued:?}");
    }
    left.host.fail_writes(0);
    let (rescued, _) = left.rescue(Duration::ZERO);
    assert!(rescued.is_clean() && left.all_are_undone(), "{rescued:?}");
    assert_eq!(rescued.undone.len(), left.ids.len());
}

#[test]
fn journals_that_another_process_holds_share_one_patience() {
    let left = Left::new();
    let holders: Vec<_> = left.ids.iter().map(|id| left.store.lock(id, Duration::ZERO).unwrap()).collect();
    for (patience, least, most) in [(PATIENCE, PATIENCE, PATIENCE * 2), (Duration::ZERO, Duration::ZERO, PATIENCE)] {
        let (rescued, took) = left.rescue(patience);
        assert!(took >= least && took < most, "{took:?} with a patience of {patience:?}");
        assert!(!rescued.is_clean() && rescued.held.len() == left.ids.len(), "{rescued:?}");
    }
    drop(holders);
    let (rescued, _) = left.rescue(Duration::ZERO);
    assert!(rescued.is_clean() && left.all_are_undone(), "{rescued:?}");
}

#[test]
fn what_fails_once_is_undone_by_a_rescue_that_waits_for_nothing() {
    let left = Left::new();
    left.host.fail_writes(FAULTS);
    let (rescued, _) = left.rescue(Duration::ZERO);
    assert!(rescued.is_clean() && left.all_are_undone(), "{rescued:?}");
}
