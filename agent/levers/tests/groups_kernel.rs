//! Groups, workers and signals on this very kernel. Needs root; touches only groups and processes that it made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_journal::{Opened, UndoOutcome};
use agent_levers::ops::{GroupOps, KnobOps, ProcessOps};
use agent_levers::{
    EmptyGroup, History, HostOps, Journal, JournalStore, LinuxOps, RestoreKnob, ResumeProcesses, RewindReport, Undo, Victim, WorkerSpec,
    prove, rewind,
};
use agent_view::{GroupId, HostView, LinuxView, ProcessState};
use proto_model::id::InjectionId;
use proto_model::injection::{Cleanliness, EndedBy};
use serde_json::json;
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(5);

/// A host of this test's own: its groups lie in a folder that nobody else looks into.
struct Ground {
    below: PathBuf,
    view: LinuxView,
    journal_store: JournalStore,
    folder: TempDir,
    id: InjectionId,
}

impl Ground {
    fn new() -> Option<Self> {
        if tests_notes::lacks_root("to make groups") {
            return None;
        }
        let id = InjectionId::generate();
        let below = PathBuf::from(format!("levers-test-{id}"));
        let view = LinuxView::with_group_root(&below);
        if view.hierarchies().used().is_empty() {
            tests_notes::skip("no cgroup hierarchy is mounted here");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let journal_store = JournalStore::open(&folder.path().join("disk"), &folder.path().join("run")).unwrap();
        Some(Self {
            below,
            view,
            journal_store,
            folder,
            id,
        })
    }

    fn group(&self) -> GroupId {
        GroupId::of(&self.id)
    }

    /// Hands whose workers are `grep worker`: they read their order, and on until the pipe is closed.
    fn hands(&self) -> LinuxOps {
        LinuxOps::with_group_root(PathBuf::from("/bin/grep"), &self.below)
    }

    /// Hands whose workers run a shell script.
    fn hands_with(&self, script: &str) -> LinuxOps {
        let path = self.folder.path().join("agent");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        LinuxOps::with_group_root(path, &self.below)
    }

    fn spec(&self) -> WorkerSpec {
        WorkerSpec {
            injection: self.id.clone(),
            kind: "test.wait".to_owned(),
            params: json!({"x": 1}),
            deadline_boot_ms: self.view.boot_ms() + 60_000,
        }
    }

    fn journal(&self) -> Journal {
        let opened = Opened {
            injection: self.id.clone(),
            run: "run".to_owned(),
            kind: "test.wait".to_owned(),
            params: json!({}),
            boot_id: self.view.boot_id(),
            opened_boot_ms: self.view.boot_ms(),
            deadline_boot_ms: self.view.boot_ms() + 60_000,
            plan_digest: String::new(),
        };
        self.journal_store.create(opened).unwrap()
    }

    /// Recorded, held, and now at its end.
    fn ending(&self, undo: impl Into<Undo>) -> Journal {
        let mut journal = self.journal();
        journal.intend(undo.into()).unwrap();
        journal.applied(&json!({})).unwrap();
        journal.ending(EndedBy::Stop).unwrap();
        journal
    }

    fn rewind(&self, journal: &mut Journal) -> RewindReport {
        rewind(journal, &mut self.hands(), &self.view)
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.view.hierarchies().used().iter().map(|h| h.folder(&self.group())).collect()
    }
}

impl Drop for Ground {
    /// Also after a failed assertion nothing stays.
    fn drop(&mut self) {
        let mut hands = self.hands();
        let _ = hands.end_group(&self.group(), 2_000);
        let _ = hands.remove_group(&self.group());
        for hierarchy in self.view.hierarchies().used() {
            let _ = fs::remove_dir(&hierarchy.root);
        }
    }
}

/// A child of this test; killed at its end.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn victim(&self, view: &LinuxView) -> Victim {
        let process = view.process(self.0.id()).unwrap().unwrap();
        Victim {
            pid: process.pid,
            start_time: process.start_time,
            name: process.name,
        }
    }

    fn state(&self, view: &LinuxView) -> ProcessState {
        view.process(self.0.id()).unwrap().unwrap().state
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true within {WITHIN:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn has_ended(view: &LinuxView, pid: u32) -> bool {
    view.process(pid).unwrap().is_none_or(|p| p.state == ProcessState::Zombie)
}

#[test]
fn a_group_is_made_held_and_gone_without_a_trace() {
    let Some(ground) = Ground::new() else { return };
    let (group, mut hands) = (ground.group(), ground.hands());
    hands.make_group(&group).unwrap();
    let pid = hands.start_worker(&group, &ground.spec()).unwrap();
    let other = Sleeper::new();

    assert!(ground.folders().iter().all(|folder| folder.is_dir()));
    for folder in ground.folders() {
        let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
        assert_eq!(members.trim(), pid.to_string(), "{}", folder.display());
    }
    assert_eq!(ground.view.our_groups().unwrap(), std::slice::from_ref(&group));
    assert_eq!(ground.view.group_members(&group).unwrap(), [pid]);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "1000");
    let worker = ground.view.process(pid).unwrap().unwrap();
    assert_eq!(worker.command_line, [group.0.clone(), "worker".to_owned()]);
    assert!(ground.view.group_cpu_usec(&group).unwrap().is_some());

    let dirty = prove::<History>(&[], &[], &ground.view);
    // The worker is grep here, not our program: it is found by its group alone.
    assert!(
        dirty.owned_left.iter().any(|left| left.contains(ground.id.as_str())),
        "{:?}",
        dirty.owned_left
    );
    let held = prove::<History>(&[], std::slice::from_ref(&ground.id), &ground.view);
    assert!(
        !held.owned_left.iter().any(|left| left.contains(ground.id.as_str())),
        "{:?}",
        held.owned_left
    );

    assert!(hands.end_group(&group, 2_000).unwrap());
    assert_eq!(ground.view.process(pid).unwrap(), None, "the worker is still there, or a zombie");
    hands.remove_group(&group).unwrap();
    assert!(!ground.folders().iter().any(|folder| folder.exists()));
    assert!(!hands.end_group(&group, 2_000).unwrap());
    hands.remove_group(&group).unwrap();
    assert!(!has_ended(&ground.view, other.0.id()), "a stranger was ended");
}

#[test]
fn workers_end_with_the_hands_that_hold_their_pipe() {
    let Some(ground) = Ground::new() else { return };
    let (group, mut hands) = (ground.group(), ground.hands());
    hands.make_group(&group).unwrap();
    let pid = hands.start_worker(&group, &ground.spec()).unwrap();
    drop(hands);
    eventually("the worker's own end", || has_ended(&ground.view, pid));
    // The parent is gone for this worker: nothing but the group is left to take away.
    assert!(ground.hands().end_group(&group, 2_000).unwrap());
    ground.hands().remove_group(&group).unwrap();
}

#[test]
fn a_group_is_weighed_for_each_processor_that_it_uses() {
    let Some(ground) = Ground::new() else { return };
    let (group, mut hands) = (ground.group(), ground.hands());
    hands.make_group(&group).unwrap();
    hands.weigh_group(&group, 3).unwrap();
    let mut weights = 0;
    for folder in ground.folders() {
        for (file, expected) in [("cpu.shares", "3072"), ("cpu.weight", "300")] {
            if let Ok(weight) = fs::read_to_string(folder.join(file)) {
                assert_eq!(weight.trim(), expected, "{}", folder.display());
                weights += 1;
            }
        }
    }
    if weights == 0 {
        tests_notes::skip("no hierarchy here divides processor time by groups");
    }
    hands.remove_group(&group).unwrap();
}

#[test]
fn the_quota_of_a_group_above_ours_is_seen() {
    let Some(ground) = Ground::new() else { return };
    let (group, mut hands) = (ground.group(), ground.hands());
    hands.make_group(&group).unwrap();
    let host = ground.view.cpu_quota();
    let above = |folder: &PathBuf| folder.parent().unwrap().to_owned();
    let settings = [("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")];
    let folders = ground.folders();
    let files = folders
        .iter()
        .map(above)
        .flat_map(|folder| settings.map(|(file, value)| (folder.join(file), value)));
    let written = files
        .filter(|(file, value)| file.exists() && fs::write(file, value).is_ok())
        .count();
    if written == 0 {
        tests_notes::skip("no hierarchy here has quotas of processor time");
    } else {
        assert_eq!(ground.view.cpu_quota(), Some(host.map_or(0.5, |host| host.min(0.5))));
    }
    hands.remove_group(&group).unwrap();
}

#[test]
fn a_worker_is_told_its_order_and_reaped_when_it_ends_by_itself() {
    let Some(ground) = Ground::new() else { return };
    let note = ground.folder.path().join("order");
    let script = format!("IFS= read -r order; printf '%s' \"$order\" > {}; exit 0", note.display());
    let (group, mut hands) = (ground.group(), ground.hands_with(&script));
    hands.make_group(&group).unwrap();
    let spec = ground.spec();
    let pid = hands.start_worker(&group, &spec).unwrap();
    eventually("the worker is reaped", || {
        hands.reap();
        ground.view.process(pid).unwrap().is_none()
    });
    let told: WorkerSpec = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    assert_eq!(told, spec);
    hands.remove_group(&group).unwrap();
}

#[test]
fn a_whole_family_that_ignores_its_end_is_ended() {
    let Some(ground) = Ground::new() else { return };
    let script =
        "trap '' TERM HUP INT; read order; for i in 1 2 3 4 5 6 7 8 9 10; do (trap '' TERM; while :; do sleep 1000; done) & done; wait";
    let (group, mut hands) = (ground.group(), ground.hands_with(script));
    hands.make_group(&group).unwrap();
    hands.start_worker(&group, &ground.spec()).unwrap();
    eventually("the family", || ground.view.group_members(&group).unwrap().len() >= 20);
    let family = ground.view.group_members(&group).unwrap();

    let mut journal = ground.ending(EmptyGroup { group: group.0.clone() });
    let rewound = rewind(&mut journal, &mut hands, &ground.view);
    assert_eq!(rewound.failures, []);
    assert_eq!(rewound.outcomes, [UndoOutcome::Restored]);
    assert!(
        family.iter().all(|pid| has_ended(&ground.view, *pid)),
        "somebody of {family:?} lives"
    );
    assert!(!ground.folders().iter().any(|folder| folder.exists()));
    assert_eq!(ground.rewind(&mut journal).outcomes, [UndoOutcome::AlreadyGone]);
}

#[test]
fn a_worker_that_cannot_start_is_an_error_that_names_it() {
    let Some(ground) = Ground::new() else { return };
    let group = ground.group();
    let mut hands = LinuxOps::with_group_root(Path::new("/no/such/agent").to_owned(), &ground.below);
    let error = hands.start_worker(&group, &ground.spec()).unwrap_err();
    assert!(error.to_string().contains(&group.0), "{error}");
    hands.make_group(&group).unwrap();
    let error = hands.start_worker(&group, &ground.spec()).unwrap_err();
    assert!(error.to_string().contains("/no/such/agent"), "{error}");
    assert!(ground.view.group_members(&group).unwrap().is_empty());
    hands.remove_group(&group).unwrap();
}

#[test]
fn only_the_very_process_is_stopped_and_goes_on_again() {
    let Some(ground) = Ground::new() else { return };
    let (mut hands, sleeper) = (ground.hands(), Sleeper::new());
    let victim = sleeper.victim(&ground.view);
    let namesake = Victim {
        start_time: victim.start_time + 1,
        ..victim.clone()
    };
    assert!(!hands.stop_process(&namesake).unwrap());
    assert_ne!(sleeper.state(&ground.view), ProcessState::Stopped);
    assert!(hands.stop_process(&victim).unwrap());
    assert_eq!(sleeper.state(&ground.view), ProcessState::Stopped);
    assert!(!hands.continue_process(&namesake).unwrap());
    assert_eq!(sleeper.state(&ground.view), ProcessState::Stopped);

    let undo = ResumeProcesses { victims: vec![victim] };
    let mut journal = ground.ending(undo);
    let before = prove(&[journal.history()], &[], &ground.view);
    assert_eq!((before.result, before.not_restored.len()), (Cleanliness::Dirty, 1));
    let rewound = ground.rewind(&mut journal);
    assert_eq!(
        (rewound.outcomes, rewound.failures, rewound.drift),
        (vec![UndoOutcome::Restored], vec![], vec![])
    );
    assert_ne!(sleeper.state(&ground.view), ProcessState::Stopped);
    assert!(prove(&[journal.history()], &[], &ground.view).not_restored.is_empty());
}

#[test]
fn victims_that_ended_are_no_failure_and_what_others_resumed_is_drift() {
    let Some(ground) = Ground::new() else { return };
    let (mut hands, mut dying, resumed) = (ground.hands(), Sleeper::new(), Sleeper::new());
    let victims = vec![dying.victim(&ground.view), resumed.victim(&ground.view)];
    for victim in &victims {
        assert!(hands.stop_process(victim).unwrap());
    }
    let mut journal = ground.ending(ResumeProcesses { victims: victims.clone() });
    dying.end();
    assert!(hands.continue_process(&victims[1]).unwrap());
    eventually("it sleeps again", || resumed.state(&ground.view) == ProcessState::Sleeping);
    let rewound = ground.rewind(&mut journal);
    assert_eq!(rewound.failures, []);
    assert_eq!(rewound.drift.len(), 1, "{:?}", rewound.drift);
    assert!(rewound.drift[0].contains(&format!("pid {}", victims[1].pid)));
    assert_eq!(prove(&[journal.history()], &[], &ground.view).drift, rewound.drift);
}

#[test]
fn a_knob_is_restored_only_while_it_is_ours() {
    let Some(ground) = Ground::new() else { return };
    let freezers = [
        ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"),
        ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"),
        ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
    ];
    let group = |root: &str| Path::new(root).join(&ground.below);
    let made = |(root, file, _, _): &(&str, &str, &str, &str)| {
        fs::create_dir_all(group(root)).is_ok_and(|()| group(root).join(file).exists() || fs::remove_dir(group(root)).is_err())
    };
    let Some((root, file, frozen, thawed)) = freezers.into_iter().find(made) else {
        tests_notes::skip("no freezer of groups is mounted here");
        return;
    };
    let path = group(root).join(file);
    let name = path.to_str().unwrap().to_owned();
    for (now, outcome, after) in [
        (Some(frozen), "restored", thawed),
        (Some(thawed), "gone", thawed),
        (None, "gone", ""),
    ] {
        match now {
            Some(value) => fs::write(&path, value).unwrap(),
            None => fs::remove_dir(group(root)).unwrap(),
        }
        let undo = RestoreKnob {
            path: name.clone(),
            ours: frozen.to_owned(),
            before: thawed.to_owned(),
        };
        let ground = Ground::new().unwrap();
        let mut journal = ground.ending(undo);
        let rewound = ground.rewind(&mut journal);
        assert_eq!(rewound.failures, []);
        let found = match &rewound.outcomes[0] {
            UndoOutcome::Restored => "restored",
            UndoOutcome::AlreadyGone => "gone",
            UndoOutcome::Drift { .. } => "drift",
            UndoOutcome::Dropped { .. } => "dropped",
        };
        assert_eq!(found, outcome, "{now:?}");
        let read = fs::read_to_string(&path).unwrap_or_default();
        assert!(read.starts_with(after), "{now:?}: {read:?}");
        assert_eq!(prove(&[journal.history()], &[], &ground.view).not_restored, Vec::<String>::new());
    }
}

#[test]
fn a_journal_that_names_another_file_writes_nothing() {
    let Some(ground) = Ground::new() else { return };
    let file = ground.folder.path().join("cgroup.freeze");
    fs::write(&file, "1").unwrap();
    let undo = RestoreKnob {
        path: file.to_str().unwrap().to_owned(),
        ours: "1".to_owned(),
        before: "* * * * * root id".to_owned(),
    };
    let mut journal = ground.ending(undo);
    assert_eq!(ground.rewind(&mut journal).failures.len(), 1);
    // Nor is it written where only its path looks right.
    assert!(ground.hands().write_knob(file.to_str().unwrap(), "0").is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "1");
}

#[test]
fn a_group_without_our_name_is_refused() {
    let Some(ground) = Ground::new() else { return };
    for group in ["system.slice", "fracas-x/../..", ""] {
        let ground = Ground::new().unwrap();
        let mut journal = ground.ending(EmptyGroup { group: group.to_owned() });
        assert_eq!(ground.rewind(&mut journal).failures.len(), 1, "{group:?}");
    }
    drop(ground);
}
