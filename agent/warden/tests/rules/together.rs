//! Ends that are due together: none acts on while the packets of another one drain, and these drain side by side.

use agent_levers::JournalStore;
use agent_levers::fake::FakeHost;
use agent_view::{HostView, ProcessState};
use agent_warden::{Command, HaltAnswer, Rescuer, rescue};
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, EndedBy};
use serde_json::json;
use std::time::Duration;

use crate::support::{Bench, REDIS};

/// Three delays, and by their ids after them a pause and a cut.
const KINDS: [&str; 5] = ["test.slow_one", "test.slow_two", "test.slow_three", "test.pause", "test.gated"];
const DELAYS: usize = 3;
/// A delay of one second, and the moment for what is on its way.
const DRAIN_MS: u64 = 1_050;
const DURATION_MS: u64 = 4_000;

/// All of them hold, and no packet that is under way ever leaves.
struct Held {
    bench: Bench,
    ids: Vec<InjectionId>,
    /// How many calls the host had seen, and its time.
    calls: usize,
    boot_ms: u64,
}

impl Held {
    fn new() -> Self {
        let mut bench = Bench::new();
        let mut ids = Vec::new();
        for (at, kind) in KINDS.iter().enumerate() {
            let mut order = bench.order(kind, json!({}));
            // They also differ in the part of an id that the name of a link keeps.
            order.injection = InjectionId::parse(&format!("{at}{:015}", 0)).unwrap();
            order.wish.duration_ms = DURATION_MS;
            let id = order.injection.clone();
            bench.start(order);
            let applied = bench.facts(&id);
            assert!(matches!(applied.last(), Some(AgentFact::Applied(_))), "{applied:?}");
            bench.host.hold_packets(&id, 7);
            ids.push(id);
        }
        let mut held = Self {
            bench,
            ids,
            calls: 0,
            boot_ms: 0,
        };
        held.mark();
        held
    }

    /// What comes from here on is judged.
    fn mark(&mut self) {
        (self.calls, self.boot_ms) = (self.bench.host.calls().len(), self.bench.host.boot_ms());
    }

    /// What every end of all of them has to keep to.
    fn judge(host: &FakeHost, ids: &[InjectionId], calls: usize, boot_ms: u64) {
        let calls = host.calls().split_off(calls);
        let first = |what: &str| {
            let at = calls.iter().position(|call| call.starts_with(what));
            at.unwrap_or_else(|| panic!("{what} was not done: {calls:?}"))
        };
        let first_drain = first("empty the path of ");
        let at_once = ids[..DELAYS].iter().map(|id| format!("close the path of {id}")).chain([
            format!("continue redis-server (pid {REDIS})"),
            format!("remove the network rules of {}", ids[4]),
        ]);
        for what in at_once {
            assert!(first(&what) < first_drain, "{what} waited for packets: {calls:?}");
        }
        assert_eq!(host.process(REDIS).unwrap().unwrap().state, ProcessState::Sleeping);
        assert!(host.our_paths().unwrap().is_empty() && host.our_traffic().unwrap().is_empty());
        let took = host.boot_ms() - boot_ms;
        assert_eq!(took, DRAIN_MS, "they drain side by side");
    }

    fn judge_now(&self) {
        Self::judge(&self.bench.host, &self.ids, self.calls, self.boot_ms);
    }

    fn all_ended(&self, by: EndedBy) {
        for id in &self.ids {
            assert_eq!(self.bench.undone(id).ended_by, by);
        }
        for id in &self.ids[DELAYS..] {
            assert_eq!(
                self.bench.undone(id).undo_ms,
                0,
                "it is reported before any of the others is waited for"
            );
        }
    }
}

#[test]
fn a_halt_lets_nothing_act_while_packets_drain() {
    let mut held = Held::new();
    assert_eq!(held.bench.halt(1), Some(HaltAnswer { undone: 5, failed: 0 }));
    held.judge_now();
    held.all_ended(EndedBy::Halt);
}

#[test]
fn deadlines_that_are_due_together_wait_for_no_packets_of_each_other() {
    let mut held = Held::new();
    held.bench.pass(DURATION_MS - 100);
    assert_eq!(held.bench.host.process(REDIS).unwrap().unwrap().state, ProcessState::Stopped);
    held.bench.host.advance(100);
    held.mark();
    held.bench.warden.tick();
    held.judge_now();
    held.bench.pass(0);
    held.all_ended(EndedBy::DurationElapsed);
}

#[test]
fn one_whose_undo_fails_keeps_no_other_and_is_tried_again() {
    let mut held = Held::new();
    // Each delay is released, and then comes the pause.
    held.bench.host.fail_nth_undo(DELAYS as u64 + 1);
    assert_eq!(held.bench.halt(1), None, "the pause is not undone yet");
    assert!(held.bench.host.undo_has_failed());
    assert_eq!(held.bench.host.process(REDIS).unwrap().unwrap().state, ProcessState::Stopped);
    assert!(held.bench.host.our_paths().unwrap().is_empty());
    held.bench.pass(200);
    assert_eq!(held.bench.host.process(REDIS).unwrap().unwrap().state, ProcessState::Sleeping);
    assert!(held.ids.iter().all(|id| held.bench.undone(id).ended_by == EndedBy::Halt));
}

#[test]
fn a_rescue_lets_nothing_act_while_packets_drain() {
    let Held {
        bench,
        ids,
        calls,
        boot_ms,
    } = Held::new();
    let Bench { host, dir, warden, .. } = bench;
    drop(warden);
    let store = JournalStore::open(&dir.path().join("journal"), &dir.path().join("mirror")).unwrap();
    let rescuer = Rescuer {
        ended_by: EndedBy::Guardian,
        name: "guardian",
        patience: Duration::ZERO,
    };
    let rescued = rescue(&store, &mut FakeHost::clone(&host), &*host, rescuer).unwrap();
    assert!(rescued.is_clean(), "{rescued:?}");
    assert_eq!(rescued.undone.len(), ids.len());
    Held::judge(&host, &ids, calls, boot_ms);
}

#[test]
fn an_agent_that_starts_lets_nothing_of_the_last_one_act_while_packets_drain() {
    let Held {
        bench,
        ids,
        calls,
        boot_ms,
    } = Held::new();
    let mut bench = bench.crash();
    Held::judge(&bench.host, &ids, calls, boot_ms);
    bench.warden.command(Command::Settle(ids));
    assert!(bench.unsettled().is_empty());
}

#[test]
fn one_that_cannot_be_released_is_undone_all_the_same_and_stops_no_other() {
    let mut held = Held::new();
    held.bench.host.fail_nth_undo(1);
    assert_eq!(held.bench.halt(1), Some(HaltAnswer { undone: 5, failed: 0 }));
    assert!(held.bench.host.undo_has_failed());
    let paths = held.bench.host.our_paths().unwrap();
    assert!(paths.is_empty(), "{paths:?}");
    // Its packets leave it from when it was closed at last, so they have their time from then on.
    assert_eq!(held.bench.host.boot_ms() - held.boot_ms, DRAIN_MS);
    held.all_ended(EndedBy::Halt);
}
