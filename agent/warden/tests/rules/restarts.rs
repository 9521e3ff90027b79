//! What is left on a host when its agent ends: the next one finds it, admits nothing, and sees by itself when it is gone.

use agent_levers::fake::FakeHost;
use agent_levers::ops::GroupOps;
use agent_view::{GroupId, HostView};
use agent_warden::Command;
use proto_model::id::InjectionId;
use proto_model::injection::Cleanliness;
use serde_json::json;

use crate::support::Bench;

#[test]
fn what_the_sweep_at_the_start_cannot_remove_makes_the_host_dirty_until_it_is_gone() {
    let bench = Bench::new();
    let group = GroupId::of(&InjectionId::generate());
    FakeHost::clone(&bench.host).make_group(&group).unwrap();
    bench.host.keep_groups(true);
    let mut bench = bench.crash();
    let status = bench.status();
    assert_eq!(status.cleanliness, Cleanliness::Dirty);
    let cause = format!("group {}: remove group {}: ", group.0, group.0);
    assert!(status.residue.iter().any(|left| left.starts_with(&cause)), "{:?}", status.residue);
    let refusal = bench.refused(bench.order("test.hold", json!({})));
    assert_eq!(refusal.code, "dirty");
    assert!(refusal.message.contains(&group.0), "{refusal}");
    bench.pass(5_000);
    assert_eq!(bench.status().cleanliness, Cleanliness::Dirty, "it is still there");
    bench.host.keep_groups(false);
    bench.pass(1_200);
    assert!(bench.host.our_groups().unwrap().is_empty(), "it is tried again");
    assert_eq!((bench.status().cleanliness, bench.status().residue.len()), (Cleanliness::Clean, 0));
    bench.hold();
}

#[test]
fn a_worker_outside_of_its_group_makes_the_host_dirty_until_it_ends() {
    let bench = Bench::new();
    let mut worker = bench.host.process(400).unwrap().unwrap();
    worker.pid = 6_000;
    worker.command_line = vec![GroupId::of(&InjectionId::generate()).0, "worker".to_owned()];
    worker.our_program = true;
    bench.host.add_process(worker);
    let mut bench = bench.crash();
    assert_eq!(bench.status().cleanliness, Cleanliness::Dirty);
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "dirty");
    bench.host.kill(6_000);
    bench.pass(1_200);
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
    bench.hold();
}

#[test]
fn what_is_accepted_is_what_was_seen_and_the_host_stays_unproven_until_everything_is() {
    let bench = Bench::new();
    let group = GroupId::of(&InjectionId::generate());
    FakeHost::clone(&bench.host).make_group(&group).unwrap();
    bench.host.keep_groups(true);
    // A process of root's, at which looks hang: it may be a worker of ours.
    bench.host.hang_programs([400]);
    let mut bench = bench.crash();
    let status = bench.status();
    assert_eq!(status.cleanliness, Cleanliness::Dirty);
    assert!(status.residue.iter().any(|left| left.contains(&group.0)), "{:?}", status.residue);
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "dirty");
    let proof = bench.verify(&[]);
    assert_eq!(proof.result, Cleanliness::Dirty, "{proof:?}");
    assert!(proof.not_restored.iter().any(|why| why.contains("process 400")), "{proof:?}");
    bench.warden.command(Command::Accept {
        by: "ann".into(),
        reason: "the group does nothing".into(),
    });
    let status = bench.status();
    assert_eq!(status.cleanliness, Cleanliness::Unproven);
    assert!(status.residue.iter().all(|why| why.contains("process 400")), "{:?}", status.residue);
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "unproven");
    bench.host.keep_groups(false);
    bench.pass(2_400);
    assert_eq!(bench.status().cleanliness, Cleanliness::Unproven, "a look still hangs");
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "unproven");
    bench.host.hang_programs([]);
    bench.pass(1_200);
    assert_eq!((bench.status().cleanliness, bench.status().residue.len()), (Cleanliness::Clean, 0));
    bench.hold();
}

#[test]
fn a_host_that_cannot_be_looked_at_when_its_agent_starts_is_unproven_until_it_can() {
    let mut bench = Bench::new().crash();
    bench.host.fail_nth_look(None);
    bench = bench.crash();
    let looks = bench.host.fail_nth_look(None);
    let mut unproven = 0;
    for nth in 1..=looks {
        bench.host.fail_nth_look(Some(nth));
        bench = bench.crash();
        bench.host.fail_nth_look(None);
        let status = bench.status();
        if status.cleanliness == Cleanliness::Clean {
            // A look of the sweep, which the proof makes up for.
            continue;
        }
        unproven += 1;
        assert_eq!(status.cleanliness, Cleanliness::Unproven, "look {nth} of {looks}");
        assert!(status.residue[0].starts_with("could not read "), "{:?}", status.residue);
        let refusal = bench.refused(bench.order("test.hold", json!({})));
        assert_eq!(refusal.code, "unproven");
        assert!(refusal.message.contains(&status.residue[0]), "{refusal}");
        bench.pass(1_200);
        assert_eq!(bench.status().cleanliness, Cleanliness::Clean, "look {nth} of {looks}");
        let id = bench.hold();
        bench.stop(&id);
    }
    assert!(
        unproven >= 4,
        "the proof looks at groups, processes, rules and paths: {unproven} of {looks}"
    );
}
