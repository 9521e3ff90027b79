//! A paused process that a tracer holds at its end: it is let go on, and what cannot be seen of it is said.

use super::*;
use crate::Victim;

/// Redis, stopped by us and then held by a tracer of others.
fn traced(world: &World) -> Journal {
    let mut journal = world.open().unwrap();
    let mut hands = world.host.clone();
    let process = world.host.process(REDIS).unwrap().unwrap();
    let victim = Victim {
        pid: process.pid,
        start_time: process.start_time,
        name: process.name,
    };
    let mut levers = Levers::new(&mut journal, &mut hands, &world.host, world.context());
    assert_eq!(levers.stop_processes(vec![victim]).unwrap().len(), 1);
    journal.applied(&json!({})).unwrap();
    world.host.set_state(REDIS, ProcessState::Traced);
    journal
}

fn times_continued(world: &World) -> usize {
    let continued = format!("continue redis-server (pid {REDIS})");
    world.host.calls().iter().filter(|call| **call == continued).count()
}

#[test]
fn one_that_a_tracer_holds_at_its_end_is_let_go_on_and_reported() {
    let world = World::new();
    let mut journal = traced(&world);
    let rewound = world.finish(&mut journal).unwrap();
    assert_eq!(times_continued(&world), 1, "{:?}", world.host.calls());
    assert_eq!(rewound.drift.len(), 1, "{rewound:?}");
    assert!(
        rewound.drift[0].contains("was let go on, and a tracer of others holds it"),
        "{rewound:?}"
    );
    let proof = prove(&[journal.history()], &[], &world.host);
    assert_eq!((proof.result, proof.not_restored.len()), (Cleanliness::Clean, 0), "{proof:?}");
}

#[test]
fn before_it_is_let_go_on_it_is_unknown_whether_it_is_stopped() {
    let world = World::new();
    let mut journal = traced(&world);
    let proof = prove(&[journal.history()], &[], &world.host);
    assert_eq!(proof.result, Cleanliness::Unproven, "{proof:?}");
    assert!(proof.not_restored[0].contains("a tracer holds it"), "{proof:?}");
    world.host.fail_nth_undo(1);
    assert!(world.finish(&mut journal).is_err());
    assert_eq!(prove(&[journal.history()], &[], &world.host).result, Cleanliness::Unproven);
    // By then it may have been let go on by the first try: that is no drift.
    let rewound = world.finish(&mut journal).unwrap();
    assert_eq!((rewound.outcomes, rewound.drift.len()), (vec![UndoOutcome::Restored], 0));
    assert_eq!(prove(&[journal.history()], &[], &world.host).result, Cleanliness::Clean);
}
