//! Looks that fail: a host that cannot be read is unproven, never clean, and its undo is tried again.

use agent_view::Process;

use super::*;
use crate::kinds::traffic::TrafficOps;

/// What a proof needs to look at on a host where everything is undone.
fn looks_of_a_proof(world: &World, journal: &Journal) -> u64 {
    world.host.fail_nth_look(None);
    let proof = prove(&[journal.history()], &[], &world.host);
    assert_eq!(proof.result, Cleanliness::Clean, "{proof:?}");
    world.host.fail_nth_look(None)
}

#[test]
fn a_look_that_fails_leaves_a_clean_host_unproven_and_is_named() {
    let world = World::new();
    let mut journal = world.held();
    world.finish(&mut journal).unwrap();
    let looks = looks_of_a_proof(&world, &journal);
    assert!(
        looks >= 7,
        "groups, processes, rules, paths, two victims, a knob, a file: only {looks} looks"
    );
    for n in 1..=looks {
        world.host.fail_nth_look(Some(n));
        let proof = prove(&[journal.history()], &[], &world.host);
        assert_eq!(proof.result, Cleanliness::Unproven, "look {n} failed: {proof:?}");
        let named = proof.not_restored.iter().filter(|why| why.starts_with("could not read ")).count();
        assert_eq!(named, 1, "look {n} failed: {proof:?}");
    }
}

#[test]
fn a_look_that_fails_never_makes_a_dirty_host_clean() {
    let world = World::new();
    let journal = world.held();
    for n in 1..=20 {
        world.host.fail_nth_look(Some(n));
        let proof = prove(&[journal.history()], &[], &world.host);
        assert_eq!(proof.result, Cleanliness::Dirty, "look {n} failed: {proof:?}");
    }
}

#[test]
fn what_was_not_seen_of_the_host_is_apart_from_what_was_not_seen_of_the_undos() {
    let world = World::new();
    let mut journal = world.held();
    world.finish(&mut journal).unwrap();
    let looks = looks_of_a_proof(&world, &journal);
    let of_the_host = {
        world.host.fail_nth_look(None);
        prove::<crate::History>(&[], &[], &world.host);
        world.host.fail_nth_look(None)
    };
    for n in 1..=looks {
        world.host.fail_nth_look(Some(n));
        let found = crate::inspect(&[journal.history()], &[], &world.host);
        assert_eq!(found.seen.result, Cleanliness::Clean, "look {n} failed: {found:?}");
        assert!(found.seen.not_restored.is_empty(), "look {n} failed: {found:?}");
        let expected = if n <= of_the_host { (1, 0) } else { (0, 1) };
        let apart = (found.unseen_on_host.len(), found.unseen_of_undos.len());
        assert_eq!(apart, expected, "look {n} failed: {found:?}");
    }
}

#[test]
fn a_worker_outside_of_its_group_is_ours_by_its_program_and_by_who_started_it() {
    let world = World::new();
    let lost = Process {
        groups: vec!["/".to_owned()],
        unified: Some("/".to_owned()),
        ..worker_process(&world)
    };
    let named = |process: Process| {
        world.host.add_process(process);
        let proof = prove::<crate::History>(&[], &[], &world.host);
        proof.owned_left.iter().any(|left| left.starts_with("worker "))
    };
    // Any user can start a setuid program under any name.
    assert!(!named(Process {
        real_uid: 1000,
        ..lost.clone()
    }));
    assert!(!named(Process {
        our_program: false,
        ..lost.clone()
    }));
    assert!(named(lost));
}

#[test]
fn a_process_at_which_looks_hang_keeps_nothing_from_being_undone_and_leaves_the_host_unproven() {
    // The paused process itself, and one that no fault has touched, beside so many others that none is looked at.
    for hanging in [REDIS, 400] {
        let world = World::new();
        let mut journal = world.held();
        world.host.hang_programs([hanging, 2_000, 2_001, 2_002, 2_003, 2_004, 2_005, 2_006]);
        world.finish(&mut journal).unwrap();
        let proof = prove(&[journal.history()], &[], &world.host);
        assert_eq!(proof.result, Cleanliness::Unproven, "{proof:?}");
        let named = |why: &String| why.contains(&format!("process {hanging}")) && why.contains("no answer within");
        assert!(proof.not_restored.iter().any(named), "{proof:?}");
        world.host.hang_programs([]);
        world.judge().unwrap();
    }
}

#[test]
fn a_process_at_which_looks_hang_leaves_the_host_unproven_only_if_it_may_be_a_worker() {
    let world = World::new();
    let mut journal = world.held();
    world.finish(&mut journal).unwrap();
    world.host.set_worker_uid(65_534);
    let like = world.host.process(REDIS).unwrap().unwrap();
    let proof_with = |uid: u32, saved_uid: u32, state: ProcessState| {
        world.host.add_process(Process {
            pid: 5_000,
            uid,
            real_uid: uid,
            saved_uid,
            state,
            ..like.clone()
        });
        world.host.hang_programs([5_000]);
        prove(&[journal.history()], &[], &world.host)
    };
    for (uid, saved_uid, expected) in [
        (1_000, 1_000, Cleanliness::Clean),
        (0, 0, Cleanliness::Unproven),
        (1_000, 0, Cleanliness::Unproven),
        (65_534, 65_534, Cleanliness::Unproven),
    ] {
        let proof = proof_with(uid, saved_uid, ProcessState::Sleeping);
        assert_eq!(proof.result, expected, "{uid} {saved_uid}: {proof:?}");
        let named = proof
            .not_restored
            .iter()
            .any(|why| why.contains("process 5000") && why.contains("no answer within"));
        assert_eq!(named, expected == Cleanliness::Unproven, "{proof:?}");
    }
    assert_eq!(proof_with(0, 0, ProcessState::Zombie).result, Cleanliness::Clean);
    // What was not read is no reason to call a host clean that is not.
    world.host.hang_programs([]);
    world.host.add_process(worker_process(&world));
    let dirty = prove::<crate::History>(&[], &[], &world.host);
    assert_eq!(dirty.result, Cleanliness::Dirty, "{dirty:?}");
    world.host.hang_programs([4_242]);
    let unproven = prove::<crate::History>(&[], &[], &world.host);
    assert_eq!(unproven.result, Cleanliness::Unproven, "{unproven:?}");
}

/// A worker as the kernel shows one.
fn worker_process(world: &World) -> Process {
    let group = GroupId::of(&world.id);
    let like = world.host.processes().unwrap().remove(0);
    Process {
        pid: 4242,
        command_line: vec![group.0, "worker".to_owned()],
        uid: 0,
        real_uid: 0,
        our_program: true,
        kernel_thread: false,
        state: agent_view::ProcessState::Running,
        ..like
    }
}

#[test]
fn an_undo_whose_look_fails_is_done_the_next_time() {
    let mut failures = 0;
    for n in 1..=40 {
        let world = World::new();
        let mut journal = world.held();
        world.host.fail_nth_look(Some(n));
        if world.finish(&mut journal).is_err() {
            failures += 1;
            world.finish(&mut journal).unwrap();
        }
        world.host.fail_nth_look(None);
        world.judge().unwrap();
    }
    assert!(failures >= 3, "only {failures} undos failed");
}

#[test]
fn what_is_exempt_reaches_the_rules_and_the_path() {
    let world = World::new();
    let mut journal = world.open().unwrap();
    let exemptions = Exemptions {
        controllers: vec!["192.0.2.7:7443".parse().unwrap()],
        networks: vec![Network::parse("198.51.100.0/24").unwrap()],
        ports: vec![proto_model::quantity::PortRange { first: 5432, last: 5432 }],
    };
    let context = PullContext {
        injection: world.id.clone(),
        kind: "test.exempt".to_owned(),
        seed: 1,
        deadline_boot_ms: world.host.boot_ms() + 60_000,
        gate_ms: 15_000,
        exemptions: exemptions.clone(),
    };
    let mut hands = world.host.clone();
    let mut levers = Levers::new(&mut journal, &mut hands, &world.host, context);
    levers.shape_traffic(&traffic()).unwrap();
    assert_eq!(world.host.exemptions(&world.id), Some(exemptions.clone()));
    world.host.clone().remove_traffic(&world.id).unwrap();
    levers.shape_path(&path()).unwrap();
    assert_eq!(world.host.exemptions(&world.id), Some(exemptions));
}
