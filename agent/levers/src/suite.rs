//! Every lever on a fake host, all of them in one injection, with a crash at every step: whatever kinds there are, levers are undone.

mod looks;
mod orphans;
mod recorded;
mod together;
mod traced;

use std::path::Path;
use std::time::Duration;

use agent_journal::crash::CrashPlan;
use agent_journal::{Opened, Outcome, UndoOutcome};
use agent_view::{Clsact, FileSeen, GroupId, HostView, ProcessState, Volume};
use proto_model::id::InjectionId;
use proto_model::injection::{Cleanliness, EndedBy};
use proto_model::peer::Network;
use serde_json::{Value, json};

use crate::fake::FakeHost;
use crate::kinds::EXAMPLES;
use crate::path::example as path;
use crate::traffic::example as traffic;
use crate::{
    Ballast, Exemptions, Journal, JournalStore, LeverError, Levers, PullContext, RemoveBallast, RewindReport, TrafficSpec, prove, renew,
    rewind,
};

const REDIS: u32 = 1_001;
const KNOB: &str = "/sys/fs/cgroup/system.slice/nginx.service/cgroup.freeze";
const SPACE: &str = "/var/lib";
const WAIT: Duration = Duration::from_secs(1);

struct World {
    plan: CrashPlan,
    host: FakeHost,
    journal_store: JournalStore,
    id: InjectionId,
}

impl World {
    fn new() -> Self {
        let plan = CrashPlan::new();
        Self {
            host: FakeHost::with_plan(&plan),
            journal_store: JournalStore::memory_with(&plan),
            plan,
            id: InjectionId::generate(),
        }
    }

    fn open(&self) -> Result<Journal, LeverError> {
        let opened = Opened {
            injection: self.id.clone(),
            run: "run".to_owned(),
            kind: "test.all".to_owned(),
            params: Value::Null,
            boot_id: self.host.boot_id(),
            opened_boot_ms: self.host.boot_ms(),
            deadline_boot_ms: self.host.boot_ms() + 60_000,
            plan_digest: String::new(),
        };
        self.journal_store.create(opened).map_err(LeverError::Journal)
    }

    fn pull_all(&self, journal: &mut Journal) -> Result<(), LeverError> {
        let mut hands = self.host.clone();
        let mut levers = Levers::new(journal, &mut hands, &self.host, self.context());
        EXAMPLES.iter().try_for_each(|pull| pull(&mut levers))
    }

    fn context(&self) -> PullContext {
        PullContext {
            injection: self.id.clone(),
            kind: "test.all".to_owned(),
            seed: 1,
            deadline_boot_ms: self.host.boot_ms() + 60_000,
            gate_ms: 15_000,
            exemptions: Exemptions::default(),
        }
    }

    fn held(&self) -> Journal {
        let mut journal = self.open().unwrap();
        self.pull_all(&mut journal).unwrap();
        journal.applied(&json!({})).unwrap();
        journal
    }

    fn live(&self) -> Result<(), String> {
        let mut journal = self.open().map_err(|e| e.to_string())?;
        let pulled = self.pull_all(&mut journal);
        if pulled.is_ok() {
            journal.applied(&json!({})).map_err(|e| e.to_string())?;
        }
        self.finish(&mut journal).map(|_| ())
    }

    fn finish(&self, journal: &mut Journal) -> Result<RewindReport, String> {
        let _ = journal.ending(EndedBy::Stop);
        let rewound = rewind(journal, &mut self.host.clone(), &self.host);
        if let Some(failure) = rewound.failures.first() {
            return Err(format!("{}: {}", failure.undo, failure.error));
        }
        let outcome = Outcome {
            ended_by: EndedBy::Stop,
            undone_by: "agent".to_owned(),
            undo_ms: 0,
            drift: rewound.drift.clone(),
        };
        journal.closed(&outcome).map_err(|e| e.to_string())?;
        Ok(rewound)
    }

    fn rescue(&self) -> Result<(), String> {
        self.plan.restart();
        for id in self.journal_store.ids().map_err(|e| e.to_string())? {
            let mut journal = self.journal_store.lock(&id, WAIT).map_err(|e| e.to_string())?;
            if journal.history().is_open() {
                self.finish(&mut journal)?;
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), String> {
        let ids = self.journal_store.ids().map_err(|e| e.to_string())?;
        let histories: Vec<_> = ids.iter().filter_map(|id| self.journal_store.read(id).ok()).collect();
        let proof = prove(&histories, &[], &self.host);
        let (before, after) = (FakeHost::new().footprint(), self.host.footprint());
        match proof.result == Cleanliness::Clean && proof.drift.is_empty() && before == after {
            true => Ok(()),
            false => Err(format!("{proof:?}\nbefore {before:?}\nafter  {after:?}")),
        }
    }
}

#[test]
fn a_crash_at_any_step_of_any_lever_leaves_nothing() {
    let world = World::new();
    world.live().unwrap();
    world.judge().unwrap();
    let steps = world.plan.points();
    assert!(steps > 60, "only {steps} steps");
    for point in 1..=steps {
        let world = World::new();
        world.plan.crash_at(point);
        let _ = world.live();
        let crashed = world.plan.crashed().expect("the step is reached");
        let put_right = world.rescue().and_then(|()| world.judge());
        put_right.unwrap_or_else(|why| panic!("crash at step {point}, {crashed}: {why}"));
    }
}

#[test]
fn one_undo_that_fails_stops_no_other_and_is_done_the_next_time() {
    let mut failures = 0;
    for n in 1..50 {
        let world = World::new();
        let mut journal = world.held();
        world.host.fail_nth_undo(n);
        let finished = world.finish(&mut journal);
        if !world.host.undo_has_failed() {
            break;
        }
        // Where it was what ends an effect early, the undo itself has done it.
        if finished.is_err() {
            failures += 1;
            assert_eq!(journal.history().pending().count(), 1, "undo {n}: {:?}", world.host.calls());
            world.finish(&mut journal).unwrap();
        }
        world.judge().unwrap();
    }
    assert!(failures >= 6, "only {failures} undos failed");
}

#[test]
fn what_others_changed_is_left_and_told_and_not_called_dirty() {
    let world = World::new();
    let mut journal = world.held();
    world.host.set_knob(KNOB, "2");
    world.host.set_state(REDIS, ProcessState::Sleeping);
    world.host.kill(1_200);
    let rewound = world.finish(&mut journal).unwrap();
    assert_eq!(rewound.drift.len(), 2, "{:?}", rewound.drift);
    assert_eq!(world.host.knob(KNOB).unwrap().as_deref(), Some("2"));
    let proof = prove(&[journal.history()], &[], &world.host);
    assert_eq!((proof.result, proof.drift.len()), (Cleanliness::Clean, 2), "{proof:?}");
}

#[test]
fn things_of_those_that_hold_are_nobodys_residue() {
    let world = World::new();
    let mut ended = world.held();
    world.finish(&mut ended).unwrap();
    let earlier = ended.history().clone();
    drop(ended);

    let later = World {
        id: InjectionId::generate(),
        host: world.host.clone(),
        journal_store: world.journal_store.clone(),
        plan: world.plan.clone(),
    };
    let holder = later.held();
    let histories = [&earlier, holder.history()];
    let held = prove(&histories, std::slice::from_ref(&later.id), &world.host);
    assert_eq!(held.result, Cleanliness::Clean, "{held:?}");
    let dirty = prove(&histories, &[], &world.host);
    assert_eq!(dirty.result, Cleanliness::Dirty);
    assert!(dirty.owned_left.len() >= 9 && dirty.not_restored.len() >= 3, "{dirty:?}");
}

#[test]
fn a_reboot_leaves_only_knobs_and_files_to_put_back() {
    let world = World::new();
    drop(world.held());
    world.host.reboot("another-boot");
    world.rescue().unwrap();
    assert_eq!(world.host.knob(KNOB).unwrap().as_deref(), Some("0"));
    assert!(
        prove(&[world.journal_store.read(&world.id).unwrap()], &[], &world.host)
            .drift
            .is_empty()
    );
    assert!(world.host.footprint().files.is_empty());
}

#[test]
fn another_file_in_the_place_of_ours_stays_and_is_told() {
    let world = World::new();
    let mut journal = world.held();
    let path = Ballast::path_in(Path::new(SPACE), &world.id);
    let ours = world.host.file(&path).unwrap().unwrap();
    world.host.set_file(&path, Some(FileSeen { inode: 7, ..ours }));
    let rewound = world.finish(&mut journal).unwrap();
    assert!(rewound.drift.iter().any(|what| what.contains("not the file")), "{rewound:?}");
    assert_eq!(world.host.file(&path).unwrap().unwrap().inode, 7);
    assert_eq!(prove(&[journal.history()], &[], &world.host).result, Cleanliness::Clean);
}

/// Ours, as soon as it takes space.
fn moves_ours(world: &World) -> bool {
    let path = Ballast::path_in(Path::new(SPACE), &world.id);
    let takes = world.host.file(&path).unwrap().is_some_and(|file| file.allocated > 0);
    if takes {
        world.host.move_file(&path, Path::new("/var/elsewhere"));
    }
    takes
}

#[test]
fn a_file_that_was_moved_is_dirt_until_it_is_found_and_removed() {
    let world = World::new();
    let mut journal = world.held();
    assert!(moves_ours(&world));
    let path = Ballast::path_in(Path::new(SPACE), &world.id);
    world.host.set_file(
        &path,
        world
            .host
            .file(Path::new("/var/elsewhere"))
            .unwrap()
            .map(|ours| FileSeen { inode: 7, ..ours }),
    );
    let dirty = prove(&[journal.history()], &[], &world.host);
    assert!(dirty.owned_left.iter().any(|left| left.contains("/var/elsewhere")), "{dirty:?}");
    let rewound = world.finish(&mut journal).unwrap();
    assert!(rewound.drift.iter().any(|what| what.contains("/var/elsewhere")), "{rewound:?}");
    assert_eq!(world.host.file(Path::new("/var/elsewhere")).unwrap(), None);
    assert_eq!(world.host.file(&path).unwrap().unwrap().inode, 7);
    assert_eq!(prove(&[journal.history()], &[], &world.host).result, Cleanliness::Clean);
}

#[test]
fn a_crash_at_any_step_and_a_file_that_was_moved_meanwhile_leave_nothing() {
    let world = World::new();
    world.live().unwrap();
    let (mut moved, steps) = (0, world.plan.points());
    for (point, boot) in (1..=steps).flat_map(|point| [(point, None), (point, Some("another-boot"))]) {
        let world = World::new();
        world.plan.crash_at(point);
        let _ = world.live();
        moved += u32::from(moves_ours(&world));
        boot.into_iter().for_each(|boot| world.host.reboot(boot));
        world.rescue().unwrap();
        let histories: Vec<_> = world
            .journal_store
            .ids()
            .unwrap()
            .iter()
            .map(|id| world.journal_store.read(id).unwrap())
            .collect();
        let proof = prove(&histories, &[], &world.host);
        assert_eq!(proof.result, Cleanliness::Clean, "crash at step {point}: {proof:?}");
        assert!(world.host.footprint().files.is_empty(), "crash at step {point}");
    }
    assert!(moved > 20, "moved only {moved} times");
}

#[test]
fn where_files_have_no_handles_one_that_was_moved_counts_as_gone() {
    let world = World::new();
    world.host.refuse_handles();
    let mut journal = world.held();
    assert!(moves_ours(&world));
    assert!(world.finish(&mut journal).unwrap().drift.is_empty());
    assert!(world.host.file(Path::new("/var/elsewhere")).unwrap().is_some());
}

#[test]
fn a_file_on_a_volume_that_was_taken_away_is_not_called_gone() {
    let world = World::new();
    let mut journal = world.held();
    let volume = world.host.volume(Path::new(SPACE)).unwrap().unwrap();
    let empty = Volume {
        used: volume.used - (1 << 20),
        available: volume.available + (1 << 20),
        ..volume
    };
    world.host.unmount(&empty.mount_point);
    assert!(world.finish(&mut journal).unwrap_err().contains("not mounted at /var"));
    let proof = prove(&[journal.history()], &[], &world.host);
    assert_eq!((proof.result, proof.not_restored.len()), (Cleanliness::Dirty, 1), "{proof:?}");
    world.host.set_volume(empty);
    world.finish(&mut journal).unwrap();
    world.judge().unwrap();
}

#[test]
fn a_file_without_our_name_is_never_removed() {
    let world = World::new();
    let mut journal = world.open().unwrap();
    let path = Path::new("/var/lib/precious");
    let precious = FileSeen {
        device: 0x802,
        inode: 5,
        regular: true,
        directory: false,
        size: 0,
        allocated: 0,
    };
    world.host.set_file(path, Some(precious));
    let ballast = Ballast {
        path: path.to_owned(),
        mount_point: "/var".into(),
        device: 0x802,
        volume_id: None,
        inode: None,
        volatile: false,
        handle: None,
    };
    journal.intend(RemoveBallast { ballast }.into()).unwrap();
    assert!(world.finish(&mut journal).unwrap_err().contains("does not carry our name"));
    assert!(world.host.file(path).unwrap().is_some());
}

#[test]
fn one_that_was_stopped_before_stays_stopped() {
    let world = World::new();
    world.host.set_state(REDIS, ProcessState::Stopped);
    let mut journal = world.held();
    let rewound = world.finish(&mut journal).unwrap();
    assert!(rewound.drift.is_empty());
    assert_eq!(world.host.process(REDIS).unwrap().unwrap().state, ProcessState::Stopped);
    assert_eq!(prove(&[journal.history()], &[], &world.host).result, Cleanliness::Clean);
}

#[test]
fn a_pid_that_was_given_anew_is_somebody_else() {
    let world = World::new();
    let mut journal = world.held();
    let mut stranger = world.host.process(REDIS).unwrap().unwrap();
    stranger.start_time += 1;
    world.host.add_process(stranger);
    let rewound = world.finish(&mut journal).unwrap();
    assert!(rewound.outcomes.contains(&UndoOutcome::Restored));
    assert_eq!(world.host.process(REDIS).unwrap().unwrap().state, ProcessState::Stopped);
    assert_eq!(prove(&[journal.history()], &[], &world.host).result, Cleanliness::Clean);
}

#[test]
fn a_stop_still_on_its_way_is_taken_back() {
    let world = World::new();
    let mut journal = world.held();
    world.host.set_state(REDIS, ProcessState::Uninterruptible);
    world.finish(&mut journal).unwrap();
    let continued = format!("continue redis-server (pid {REDIS})");
    assert!(world.host.calls().contains(&continued), "{:?}", world.host.calls());
}

#[test]
fn rewinding_again_changes_nothing() {
    let world = World::new();
    let mut journal = world.held();
    world.finish(&mut journal).unwrap();
    let after = world.host.footprint();
    let again = rewind(&mut journal, &mut world.host.clone(), &world.host);
    assert_eq!(again, RewindReport::default());
    assert_eq!(world.host.footprint(), after);
}

#[test]
fn a_gate_that_nobody_renews_closes_and_the_rules_still_count_as_ours() {
    let world = World::new();
    let journal = world.held();
    world.host.advance(20_000);
    assert!(!world.host.traffic(&world.id).unwrap().unwrap().gate_open);
    let proof = prove(&[journal.history()], &[], &world.host);
    assert!(proof.owned_left.iter().any(|left| left.contains("network rules")));
    assert!(world.host.group_cpu_usec(&GroupId::of(&world.id)).unwrap().unwrap() > 0);
}

#[test]
fn packets_that_are_left_in_a_path_are_told() {
    let world = World::new();
    let mut journal = world.held();
    world.host.hold_packets(&world.id, 7);
    let rewound = world.finish(&mut journal).unwrap();
    assert!(rewound.outcomes.contains(&UndoOutcome::Dropped { packets: 7 }), "{rewound:?}");
    world.judge().unwrap();
}

#[test]
fn what_the_kernel_holds_is_renewed_and_what_has_ended_by_itself_is_not_revived() {
    let world = World::new();
    let journal = world.held();
    let mut hands = world.host.clone();
    let open = || {
        let traffic = world.host.traffic(&world.id).unwrap().unwrap().gate_open;
        (traffic, world.host.path(&world.id).unwrap().unwrap().gate_open)
    };
    assert!(renew(journal.history(), &mut hands, 30_000).is_empty());
    world.host.advance(20_000);
    assert_eq!(open(), (true, true));
    world.host.advance(20_000);
    assert_eq!(open(), (false, false));
    assert_eq!(renew(journal.history(), &mut hands, 30_000).len(), 2);
    assert_eq!(open(), (false, false));
}

#[test]
fn other_packets_reach_the_rules_and_the_path() {
    let world = World::new();
    let mut journal = world.held();
    let mut hands = world.host.clone();
    let moved = TrafficSpec {
        peers: vec![Network::parse("198.51.100.7").unwrap()],
        ..traffic()
    };
    let mut levers = Levers::new(&mut journal, &mut hands, &world.host, world.context());
    levers.retarget_packets(&moved).unwrap();
    assert_eq!(world.host.traffic_spec(&world.id).unwrap().peers, moved.peers);
    let (_, path) = world.host.path_spec(&world.id).unwrap();
    assert_eq!(path.unwrap().packets.peers, moved.peers);
    journal.ending(EndedBy::Stop).unwrap();
    let mut levers = Levers::new(&mut journal, &mut hands, &world.host, world.context());
    assert!(matches!(levers.retarget_packets(&traffic()), Err(LeverError::Ending)));
}

#[test]
fn a_clsact_of_somebody_else_is_used_and_left() {
    let world = World::new();
    world.host.set_clsact("eth0", Clsact::Foreign);
    let mut journal = world.held();
    world.finish(&mut journal).unwrap();
    assert!(world.host.footprint().clsacts.contains("eth0"));
    assert_eq!(prove(&[journal.history()], &[], &world.host).result, Cleanliness::Clean);

    let refused = World::new();
    refused.host.set_clsact("eth0", Clsact::Taken);
    let mut journal = refused.open().unwrap();
    assert!(refused.pull_all(&mut journal).is_err(), "an ingress queue is in its place");
}
