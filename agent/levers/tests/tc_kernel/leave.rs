//! How a path ends: by its deadline, by its undo, and what stays of others.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_journal::{Opened, UndoOutcome};
use agent_levers::ops::PathOps;
use agent_levers::{
    ClsactPlace, ClsactRemoval, Direction, Exemptions, JournalStore, Levers, LinuxOps, PullContext, Swept, Undo, prove, rewind, sweep,
};
use agent_view::tc::{names, our_paths};
use agent_view::{Clsact, HostView, LinuxView};
use proto_model::id::InjectionId;
use proto_model::injection::{CleanProof, Cleanliness, EndedBy};

use crate::support::*;
use crate::world::*;

const DATAGRAM: [u8; 1_000] = [7; 1_000];

#[test]
fn the_queue_of_the_path_shapes_its_packets_and_no_others() {
    run(|world| {
        give_near_a_root();
        for (peer, other, here) in [(PEER4, OTHER4, HERE4), (PEER6, OTHER6, HERE6)] {
            let (there, beside, near) = (world.in_far(|| udp(peer)), world.in_far(|| udp(other)), udp(here));
            for direction in [Direction::Out, Direction::In] {
                let mut spec = to(&[peer], narrow(50_000));
                spec.packets.direction = direction;
                let path = Path::make(&spec);
                let (from, at) = if direction == Direction::Out {
                    (&near, &there)
                } else {
                    (&there, &near)
                };
                let send = || {
                    for _ in 0..15 {
                        from.send_to(&DATAGRAM, at.local_addr().unwrap()).unwrap();
                    }
                };
                // Fifteen times some 1060 bytes less a burst of 2000, at 50000 bytes per second.
                let slow = time_of(15, at, send);
                assert!(
                    (Duration::from_millis(200)..Duration::from_millis(800)).contains(&slow),
                    "{direction:?} {slow:?}"
                );
                let quick = time_of(15, &beside, || {
                    for _ in 0..15 {
                        near.send_to(&DATAGRAM, beside.local_addr().unwrap()).unwrap();
                    }
                });
                assert!(quick < Duration::from_millis(100), "{quick:?}");
                println!("{peer} {direction:?}: {slow:?} in the path, {quick:?} beside it");
                path.remove();
            }
        }
    });
}

#[test]
fn the_kernel_ends_it_when_nobody_renews_and_it_stays_ended() {
    run(|world| {
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        let mut spec = to(&[PEER4], WIDE);
        spec.packets.direction = Direction::Both;
        let path = Path::make_with(&spec, Exemptions::default(), 700);
        let begun = Instant::now();
        assert!(path.takes(&near, &there) && path.takes(&there, &near));
        done(hands().renew_path(&path.injection, 1_500));
        while begun.elapsed() < Duration::from_millis(1_000) {
            assert!(path.takes(&near, &there), "a renewed path acts on");
        }
        assert!(
            path.counters().gate_open && path.counters().led_packets > 10,
            "renewing loses no count"
        );
        until("the kernel ends it", || !path.takes(&near, &there));
        assert!(begun.elapsed() >= Duration::from_millis(1_490), "not before its time");
        assert!(!path.takes(&there, &near) && !path.counters().gate_open);
        let error = hands().renew_path(&path.injection, 60_000).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
        assert!(!path.takes(&near, &there), "and nothing revives it");
        path.remove();
    });
}

#[test]
fn packets_under_way_arrive_when_it_is_undone_and_those_that_cannot_are_counted() {
    run(|world| {
        let before = footprint();
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        let send = |count: usize| {
            for _ in 0..count {
                near.send_to(&DATAGRAM, there.local_addr().unwrap()).unwrap();
            }
        };
        let path = Path::make(&to(&[PEER4], narrow(30_000)));
        let all = time_of(10, &there, || {
            send(10);
            assert!(path.counters().waiting_packets > 0, "{:?}", path.counters());
            assert_eq!(path.remove(), 0);
        });
        println!("all arrived within {all:?}");
        assert_as_before(&before);

        let path = Path::make(&to(&[PEER4], narrow(300)));
        send(3);
        let waiting = path.counters().waiting_packets;
        let dropped = path.remove();
        assert!(waiting > 0 && (1..=waiting).contains(&dropped), "{dropped} of {waiting}");
        assert_as_before(&before);
    });
}

#[test]
fn others_lose_nothing_while_paths_come_and_go() {
    run(|world| {
        let (beside, near) = (world.in_far(|| udp(OTHER4)), udp(HERE4));
        // The clsact is there before: adding one costs some packets of all traffic.
        let lasting = Path::make(&to(&[PEER6], WIDE));
        let stop = Arc::new(AtomicBool::new(false));
        let flood = {
            let (stop, to) = (stop.clone(), beside.local_addr().unwrap());
            std::thread::spawn(move || {
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    sent += u64::from(near.send_to(b"x", to).is_ok());
                    std::thread::sleep(Duration::from_micros(50));
                }
                sent
            })
        };
        let counted = std::thread::spawn(move || {
            let mut came = 0_u64;
            while beside.recv(&mut [0; 8]).is_ok() {
                came += 1;
            }
            came
        });
        for _ in 0..20 {
            assert_eq!(Path::make(&to(&[PEER4], narrow(10_000))).remove(), 0);
        }
        stop.store(true, Ordering::Relaxed);
        let (sent, came) = (flood.join().unwrap(), counted.join().unwrap());
        println!("{came} of {sent} came while 20 paths were made and removed");
        assert!(sent > 100);
        assert_eq!(came, sent);
        lasting.remove();
    });
}

#[test]
fn a_clsact_lasts_as_long_as_somebody_hangs_on_it() {
    run(|_| {
        let before = footprint();
        let first = Path::make(&to(&[PEER4], WIDE));
        let second = Path::make(&to(&[OTHER4], WIDE));
        assert!(second.clsacts.iter().all(|place| !place.was_absent));
        first.remove();
        assert_eq!(first.remove_clsacts(), [ClsactRemoval::InUse]);
        second.remove();
        assert_eq!(second.remove_clsacts(), [ClsactRemoval::Gone]);
        assert_as_before(&before);

        let ours = Path::make(&to(&[PEER4], WIDE));
        tc("filter add dev near0 ingress pref 77 protocol ip u32 match u32 0 0 classid 1:1");
        ours.remove();
        let listed = tc("filter show dev near0 ingress");
        assert!(listed.contains("pref 77") && !listed.contains("fracas"), "{listed}");
        assert!(tc("qdisc show dev near0").contains("clsact"));
        assert_eq!(our_paths().unwrap(), Vec::new());
        let again = Path::make(&to(&[PEER4], WIDE));
        assert!(again.clsacts.is_empty(), "it is theirs now");
        again.remove();
        assert!(tc("filter show dev near0 ingress").contains("pref 77"));
    });
}

#[test]
fn a_clsact_of_somebody_else_stays_and_one_that_bears_no_mark_yet_goes() {
    run(|_| {
        tc("qdisc add dev near0 clsact");
        let path = Path::make(&to(&[PEER4], WIDE));
        assert!(path.clsacts.is_empty());
        path.remove();
        assert!(tc("qdisc show dev near0").contains("clsact"), "theirs");
        let listed = agent_view::tc::interfaces_to(&networks(&[PEER4]), None).unwrap();
        let place = |was_absent| ClsactPlace {
            interface: "near0".into(),
            index: listed[0].index,
            was_absent,
        };
        assert_eq!(done(hands().remove_clsact(&place(false))), ClsactRemoval::Foreign);
        assert_eq!(
            done(hands().remove_clsact(&place(true))),
            ClsactRemoval::Removed,
            "made and not marked yet"
        );
        assert!(!tc("qdisc show dev near0").contains("clsact"));
        tc("qdisc add dev near0 ingress");
        let taken = agent_view::tc::interfaces_to(&networks(&[PEER4]), None).unwrap();
        assert_eq!(taken[0].clsact, Clsact::Taken);
    });
}

#[test]
fn an_undo_begins_anywhere_and_may_be_done_twice() {
    run(|_| {
        let before = footprint();
        let spec = to(&[PEER4, PEER6], WIDE);
        let prefixes: [fn(&Path); 4] = [
            |_| {},
            |path| assert!(done(hands().close_path(&path.injection))),
            |path| {
                done(hands().close_path(&path.injection));
                done(hands().remove_path(&names::link_of(&path.injection)));
            },
            // As if somebody had removed the link under the filters.
            |path| assert!(done(hands().remove_path(&names::link_of(&path.injection)))),
        ];
        for prefix in prefixes {
            let path = Path::make(&spec);
            prefix(&path);
            path.remove();
            path.remove();
            assert_as_before(&before);
        }
        let prepared = Path::prepare(&spec);
        assert_eq!(prepared.remove(), 0, "before it was opened");
        assert_as_before(&before);
    });
}

#[test]
fn a_lever_writes_its_undo_first_and_rewinding_proves_the_host_clean() {
    run(|world| {
        let before = footprint();
        let folder = tempfile::tempdir().unwrap();
        let journal_store = JournalStore::open(&folder.path().join("disk"), &folder.path().join("run")).unwrap();
        let (view, id) = (LinuxView::new(), InjectionId::generate());
        let mut journal = journal_store.create(opened(&id, &view)).unwrap();
        let context = PullContext {
            injection: id.clone(),
            kind: "test.path".into(),
            seed: 1,
            deadline_boot_ms: view.boot_ms() + 60_000,
            gate_ms: 15_000,
            exemptions: Exemptions::default(),
        };
        let mut hands = hands();
        let quiet = Path::make(&to(&[PEER6], WIDE));
        let link = agent_view::tc::names::link_of(&quiet.injection);
        let addresses = std::process::Command::new("ip")
            .args(["addr", "show", "dev", &link])
            .output()
            .unwrap();
        let addresses = String::from_utf8_lossy(&addresses.stdout).into_owned();
        assert!(addresses.contains("UP") && !addresses.contains("inet"), "{addresses}");
        quiet.remove();
        let handle = Levers::new(&mut journal, &mut hands, &view, context)
            .shape_path(&to(&[PEER4], WIDE))
            .unwrap();
        assert_eq!(handle.interfaces, ["near0"]);
        assert!(matches!(journal.history().intents[..], [(_, Undo::RemovePath(_))]));
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        assert!(arrives(&near, &there));
        let seen = view.path(&id).unwrap().unwrap();
        assert!(seen.gate_open && seen.led_packets == 1, "{seen:?}");
        let listed = tc("filter show dev near0 egress");
        assert!(
            listed.contains(&format!("fracas {id}")) && listed.contains(&handle.link),
            "{listed}"
        );

        let dirty = prove(&[journal.history()], &[], &view);
        // Other tests of this machine may own groups meanwhile.
        let ours = |proof: &CleanProof| proof.owned_left.iter().filter(|thing| thing.contains(id.as_str())).count();
        assert_eq!((dirty.result, ours(&dirty)), (Cleanliness::Dirty, 3), "{dirty:?}");
        let held = prove(&[journal.history()], std::slice::from_ref(&id), &view);
        assert_eq!(ours(&held), 0, "{held:?}");
        journal.ending(EndedBy::Stop).unwrap();
        let rewound = rewind(&mut journal, &mut hands, &view);
        assert_eq!(rewound.outcomes, [UndoOutcome::Restored], "{rewound:?}");
        assert_eq!(ours(&prove(&[journal.history()], &[], &view)), 0);
        assert_as_before(&before);
    });
}

fn opened(id: &InjectionId, view: &LinuxView) -> Opened {
    Opened {
        injection: id.clone(),
        run: "run".into(),
        kind: "test.path".into(),
        params: serde_json::Value::Null,
        boot_id: view.boot_id(),
        opened_boot_ms: view.boot_ms(),
        deadline_boot_ms: view.boot_ms() + 60_000,
        plan_digest: String::new(),
    }
}

/// A sweep removes groups too, and others on this machine may have some: so it looks for them where none are.
fn swept_by(open: &dyn Fn() -> Vec<InjectionId>) -> Swept {
    let nowhere = FilePath::new("no-such-group");
    let mut hands = LinuxOps::with_group_root("/nonexistent".into(), nowhere);
    sweep(&mut hands, &LinuxView::with_group_root(nowhere), open)
}

#[test]
fn paths_of_no_injection_are_swept_and_those_of_an_open_one_stay() {
    run(|world| {
        let (stray, open) = (Path::make(&to(&[PEER4], WIDE)), Path::make(&to(&[OTHER4], WIDE)));
        let swept = swept_by(&|| vec![open.injection.clone()]);
        assert!(swept.removed.len() == 2 && swept.failed.is_empty(), "{swept:?}");
        assert_eq!(agent_view::tc::counters(&stray.injection).unwrap(), None);
        let (there, here) = (world.in_far(|| udp(OTHER4)), udp(HERE4));
        assert!(open.takes(&here, &there), "the open path leads on");
        let swept = swept_by(&Vec::new);
        assert!(
            swept.removed.iter().any(|what| what.starts_with("clsact ")) && swept.failed.is_empty(),
            "{swept:?}"
        );
        assert!(our_paths().unwrap().is_empty());
    });
}
