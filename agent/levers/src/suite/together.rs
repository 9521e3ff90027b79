//! Injections that end together: each is begun before any is finished, with a crash at every step of it.

use super::orphans::neighbour;
use super::*;
use crate::Rewind;
use crate::kinds::groups::DRAIN_WITHIN_MS;
use crate::work::packets::{GilbertElliott, Harm, PacketWork};

fn order() -> PacketWork {
    PacketWork {
        queues: crate::traffic::Queues::default(),
        harm: Harm::Loss(GilbertElliott::correlated(0.2, 0.0)),
        seed: 1,
        probe: None,
    }
}

/// Held by what `pull` pulls.
fn held(world: &World, pull: impl FnOnce(&mut Levers<'_>) -> Result<(), LeverError>) -> Journal {
    let mut journal = world.open().unwrap();
    let mut hands = world.host.clone();
    pull(&mut Levers::new(&mut journal, &mut hands, &world.host, world.context())).unwrap();
    journal.applied(&json!({})).unwrap();
    journal
}

/// Rules with the worker that they lead packets to, and a path with a worker beside it.
fn rules_and_path() -> (World, Vec<Journal>) {
    let world = World::new();
    let by_rules = held(&world, |levers| {
        levers.start_packet_worker(&order())?;
        levers.shape_traffic(&traffic())
    });
    let by_path = held(&neighbour(&world), |levers| {
        levers.start_worker(&json!({"percent": 50}))?;
        levers.shape_path(&path()).map(|_| ())
    });
    (world, vec![by_rules, by_path])
}

fn finish_together(world: &World, journals: &mut [Journal]) -> Result<(), String> {
    let mut hands = world.host.clone();
    for journal in journals.iter_mut() {
        let _ = journal.ending(EndedBy::Stop);
    }
    let begun: Vec<Rewind> = journals
        .iter_mut()
        .map(|journal| Rewind::begin(journal, &mut hands, &world.host))
        .collect();
    for (journal, begun) in journals.iter_mut().zip(begun) {
        let rewound = begun.finish(journal, &mut hands, &world.host);
        if let Some(failure) = rewound.failures.first() {
            return Err(format!("{}: {}", failure.undo, failure.error));
        }
        let outcome = Outcome {
            ended_by: EndedBy::Stop,
            undone_by: "agent".to_owned(),
            undo_ms: 0,
            drift: rewound.drift,
        };
        journal.closed(&outcome).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[test]
fn a_crash_at_any_step_while_two_end_together_leaves_nothing() {
    let (world, mut journals) = rules_and_path();
    world.plan.restart();
    finish_together(&world, &mut journals).unwrap();
    world.judge().unwrap();
    let steps = world.plan.points();
    assert!(steps > 20, "only {steps} steps");
    for point in 1..=steps {
        let (world, mut journals) = rules_and_path();
        world.plan.crash_at(point);
        let _ = finish_together(&world, &mut journals);
        let crashed = world.plan.crashed().expect("the step is reached");
        drop(journals);
        let put_right = world.rescue().and_then(|()| world.judge());
        put_right.unwrap_or_else(|why| panic!("crash at step {point}, {crashed}: {why}"));
    }
}

#[test]
fn what_ends_at_once_has_ended_for_each_before_any_drains() {
    let (world, mut journals) = rules_and_path();
    let before = world.host.calls().len();
    finish_together(&world, &mut journals).unwrap();
    let calls = world.host.calls().split_off(before);
    let begun: Vec<&str> = calls.iter().map(|call| call.rsplit_once(' ').unwrap().0).take(4).collect();
    assert_eq!(
        begun,
        [
            "remove the network rules of",
            "remove our idle packet",
            "drain group",
            "close the path of"
        ],
        "{calls:?}"
    );
}

#[test]
fn workers_drain_side_by_side_and_are_killed_only_after_that() {
    let world = World::new();
    let other = neighbour(&world);
    let stubborn = |world: &World| {
        held(world, |levers| {
            let worker = levers.start_packet_worker(&order())?;
            world.host.make_stubborn(worker.pid);
            Ok(())
        })
    };
    let mut journals = [stubborn(&world), stubborn(&other)];
    let (before, boot_ms) = (world.host.calls().len(), world.host.boot_ms());
    finish_together(&world, &mut journals).unwrap();
    world.judge().unwrap();
    let calls = world.host.calls().split_off(before);
    let killed = calls.iter().position(|call| !call.starts_with("drain group "));
    assert_eq!(killed, Some(3), "both are asked to end, and the first is waited for: {calls:?}");
    assert_eq!(world.host.boot_ms() - boot_ms, DRAIN_WITHIN_MS, "the other one drains meanwhile");
}
