//! What carries our name and belongs to no injection: removed by a proof, at the start and by a rescue, and no reason to refuse anything.

use agent_levers::JournalStore;
use agent_levers::fake::FakeHost;
use agent_levers::ops::GroupOps;
use agent_view::{GroupId, HostView};
use agent_warden::{Rescuer, rescue};
use proto_model::id::InjectionId;
use proto_model::injection::{Cleanliness, EndedBy};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::Bench;

fn orphan(host: &FakeHost) -> GroupId {
    let group = GroupId::of(&InjectionId::generate());
    host.clone().make_group(&group).unwrap();
    group
}

#[test]
fn the_guardian_hears_of_the_warden_after_each_step_that_may_take_seconds() {
    let mut bench = Bench::new();
    let heard = |bench: &Bench| bench.ticks.swap(0, Ordering::Relaxed);
    orphan(&bench.host);
    heard(&bench);
    bench.verify(&[]);
    assert_eq!(heard(&bench), 3, "a look, a sweep and another look");
    bench.hold();
    heard(&bench);
    bench.pass(1_000);
    let of_one = heard(&bench);
    assert!(of_one > 10, "ten ticks, and after each time that something was done: {of_one}");
}

#[test]
fn a_proof_removes_it_and_says_so_and_the_next_fault_is_admitted() {
    let mut bench = Bench::new();
    let id = bench.hold();
    let group = orphan(&bench.host);
    let proof = bench.verify(&[]);
    assert_eq!(proof.result, Cleanliness::Clean, "{proof:?}");
    assert_eq!(
        proof.drift,
        [format!("group {}: belonged to no injection, and was removed", group.0)]
    );
    assert!(bench.host.our_groups().unwrap().is_empty());
    assert_eq!(bench.host.knob_now(), "wild", "the injection that holds goes on");
    assert!(bench.verify(&[]).drift.is_empty(), "it is said once");
    bench.stop(&id);
    bench.hold();
}

#[test]
fn what_cannot_be_removed_makes_the_host_dirty() {
    let mut bench = Bench::new();
    let group = orphan(&bench.host);
    bench.host.fail_nth_undo(1);
    let proof = bench.verify(&[]);
    assert_eq!(proof.result, Cleanliness::Dirty, "{proof:?}");
    assert!(proof.owned_left.iter().any(|left| left.contains(&group.0)), "{proof:?}");
    bench.pass(1_200);
    assert!(bench.host.our_groups().unwrap().is_empty(), "it is tried again");
    bench.hold();
}

#[test]
fn a_start_and_a_rescue_remove_it_too() {
    let bench = Bench::new();
    orphan(&bench.host);
    let bench = bench.crash();
    assert!(bench.host.our_groups().unwrap().is_empty());
    let group = orphan(&bench.host);
    let store = JournalStore::open(&bench.dir.path().join("journal"), &bench.dir.path().join("mirror")).unwrap();
    let rescuer = Rescuer {
        ended_by: EndedBy::Rescue,
        name: "rescue",
        patience: Duration::ZERO,
    };
    let rescued = rescue(&store, &mut FakeHost::clone(&bench.host), &*bench.host, rescuer).unwrap();
    assert_eq!(rescued.swept.removed, [format!("group {}", group.0)]);
    assert!(rescued.is_clean() && rescued.undone.is_empty());
    assert!(bench.host.our_groups().unwrap().is_empty());
}
