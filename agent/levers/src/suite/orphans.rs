//! Things that carry our name and belong to no open injection: removed by a sweep, with nothing of those that are open.

use super::*;
use crate::sweep;

/// Groups, rules and paths of an injection, as if its journal were gone.
fn orphaned(world: &World) {
    let mut journal = world.open().unwrap();
    let mut hands = world.host.clone();
    let mut levers = Levers::new(&mut journal, &mut hands, &world.host, world.context());
    levers.start_worker(&json!({"percent": 50})).unwrap();
    levers.shape_traffic(&traffic()).unwrap();
    levers.shape_path(&path()).unwrap();
}

/// Another injection on the same host.
pub(super) fn neighbour(world: &World) -> World {
    World {
        id: InjectionId::generate(),
        host: world.host.clone(),
        journal_store: world.journal_store.clone(),
        plan: world.plan.clone(),
    }
}

#[test]
fn a_sweep_removes_what_belongs_to_no_injection_and_names_it() {
    let world = World::new();
    orphaned(&world);
    let swept = sweep(&mut world.host.clone(), &world.host, &Vec::new);
    assert_eq!(swept.failed, Vec::<String>::new());
    for what in [
        "group fracas-",
        "network rules of ",
        "filter of ",
        "link fracas",
        "clsact of ours on ",
    ] {
        assert!(swept.removed.iter().any(|removed| removed.starts_with(what)), "{what}: {swept:?}");
    }
    assert_eq!(world.host.footprint(), FakeHost::new().footprint());
    assert_eq!(sweep(&mut world.host.clone(), &world.host, &Vec::new), sweep::Swept::default());
}

#[test]
fn a_sweep_leaves_open_injections_as_they_are() {
    let (world, open) = (World::new(), World::new());
    let open = World {
        host: world.host.clone(),
        ..open
    };
    let _held = open.held();
    let before = world.host.footprint();
    orphaned(&neighbour(&world));
    let swept = sweep(&mut world.host.clone(), &world.host, &|| vec![open.id.clone()]);
    assert!(swept.removed.len() >= 4 && swept.failed.is_empty(), "{swept:?}");
    assert!(!swept.removed.iter().any(|what| what.contains(open.id.as_str())), "{swept:?}");
    assert_eq!(world.host.footprint(), before);
}

#[test]
fn what_a_sweep_cannot_see_or_remove_stays_and_the_rest_goes() {
    for n in 1..=3 {
        let world = World::new();
        orphaned(&world);
        world.host.fail_nth_look(Some(n));
        let blind = sweep(&mut world.host.clone(), &world.host, &Vec::new);
        assert!(!blind.removed.is_empty() && blind.failed.is_empty(), "look {n}: {blind:?}");
        sweep(&mut world.host.clone(), &world.host, &Vec::new);
        assert_eq!(world.host.footprint(), FakeHost::new().footprint(), "look {n}");
    }
    let world = World::new();
    orphaned(&world);
    world.host.fail_nth_undo(1);
    let failed = sweep(&mut world.host.clone(), &world.host, &Vec::new);
    assert_eq!(failed.failed.len(), 1, "{failed:?}");
    assert!(prove::<crate::History>(&[], &[], &world.host).result == Cleanliness::Dirty);
}
