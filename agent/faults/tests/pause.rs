//! process.pause on the paper host: who is chosen, by what means, and who is refused; and what forks meanwhile, here too.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_faults::{AnyFault, FaultError, Look, Protection, Scene, find};
use agent_journal::Opened;
use agent_levers::fake::FakeHost;
use agent_levers::{Exemptions, JournalStore, Levers, LinuxOps, PullContext, rewind};
use agent_view::{Feature, HostView, LinuxView, Presence, Process, ProcessState, Volume};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::injection::{EffectState, EndedBy};
use proto_model::peer::Network;
use proto_model::problem::Refusal;
use serde_json::{Value, json};

struct Sshd;

impl Protection for Sshd {
    fn process(&self, process: &Process) -> Option<String> {
        (process.name == "sshd").then(|| "the host needs it".to_owned())
    }
    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Vec::new())
    }
    fn interface(&self, _name: &str) -> Option<String> {
        None
    }
    fn port(&self, _port: u16) -> Option<String> {
        None
    }
    fn path(&self, _path: &Path, _volume: &Volume) -> Option<String> {
        None
    }
    fn memory_reserve(&self) -> u64 {
        0
    }
    fn disk_reserve(&self, _volume: &Volume) -> u64 {
        0
    }
}

fn pause() -> &'static dyn AnyFault {
    find(&FaultKind::parse("process.pause").unwrap()).unwrap()
}

fn scene(host: &FakeHost, seed: u64) -> Scene<'_> {
    Scene {
        view: host,
        protection: &Sshd,
        seed,
        duration_ms: 10_000,
    }
}

/// What would be touched, and by what engine.
fn chosen(host: &FakeHost, params: Value) -> Result<(Vec<String>, String), Refusal> {
    let preflight = pause().preflight(&params, &scene(host, 7))?;
    Ok((preflight.touches, preflight.engine.unwrap()))
}

fn opened(injection: &InjectionId, params: &Value, view: &dyn HostView) -> Opened {
    Opened {
        injection: injection.clone(),
        run: String::new(),
        kind: "process.pause".into(),
        params: params.clone(),
        boot_id: view.boot_id(),
        opened_boot_ms: 0,
        deadline_boot_ms: 10_000,
        plan_digest: String::new(),
    }
}

fn context(injection: InjectionId) -> PullContext {
    PullContext {
        injection,
        kind: "process.pause".into(),
        seed: 7,
        deadline_boot_ms: 10_000,
        gate_ms: 10_000,
        exemptions: Exemptions::default(),
    }
}

fn try_apply(host: &FakeHost, params: &Value) -> Result<Value, FaultError> {
    let injection = InjectionId::generate();
    let mut journal = JournalStore::memory().create(opened(&injection, params, host)).unwrap();
    let mut hands = host.clone();
    let mut levers = Levers::new(&mut journal, &mut hands, host, context(injection));
    pause().apply(params, &scene(host, 7), &mut levers)
}

fn apply(host: &FakeHost, params: &Value) -> Value {
    try_apply(host, params).unwrap()
}

fn state(host: &FakeHost, pid: u32) -> ProcessState {
    host.process(pid).unwrap().unwrap().state
}

#[test]
fn each_matcher_finds_its_processes_and_together_they_narrow() {
    let host = FakeHost::new();
    for (params, expected) in [
        (json!({"name": "redis-server"}), vec!["redis-server (pid 1001)"]),
        (json!({"exe": "/usr/bin/postgres"}), vec!["postgres (pid 1200)"]),
        (json!({"pattern": "^/usr/bin/redis-c"}), vec!["redis-child (pid 1002)"]),
        (json!({"user": "www-data"}), vec!["nginx (pid 1101)", "nginx (pid 1102)"]),
        (json!({"user": "33", "pick": "newest"}), vec!["nginx (pid 1102)"]),
        (json!({"port": 6379}), vec!["redis-server (pid 1001)"]),
        (json!({"port": 80, "user": "root"}), vec!["nginx (pid 1100)"]),
        (json!({"pid": 1200}), vec!["postgres (pid 1200)"]),
        (
            json!({"name": "redis-server", "children": true}),
            vec!["redis-server (pid 1001)", "redis-child (pid 1002)"],
        ),
    ] {
        let (touches, engine) = chosen(&host, params.clone()).unwrap();
        assert_eq!(
            (touches, engine.as_str()),
            (expected.iter().map(|t| (*t).to_owned()).collect(), "signal"),
            "{params}"
        );
    }
}

#[test]
fn nothing_found_is_refused_and_says_what_was_looked_for() {
    let refusal = chosen(&FakeHost::new(), json!({"name": "redis", "user": "root"})).unwrap_err();
    assert_eq!(refusal.code, "no_match");
    assert!(refusal.message.contains("name redis and user root"), "{refusal}");
}

#[test]
fn an_alias_means_its_unit_and_one_that_runs_nothing_leads_to_those_that_do() {
    let host = FakeHost::new();
    host.set_unit_alias("web.service", "nginx.service");
    assert_eq!(
        chosen(&host, json!({"unit": "web"})).unwrap(),
        chosen(&host, json!({"unit": "nginx"})).unwrap()
    );
    let mut postgres = host.process(1_200).unwrap().unwrap();
    postgres.groups = vec!["/system.slice/system-postgresql.slice/postgresql@15-main.service".to_owned()];
    host.add_process(postgres);
    let refusal = chosen(&host, json!({"unit": "postgresql"})).unwrap_err();
    assert!(refusal.message.ends_with("; running: postgresql@15-main.service"), "{refusal}");
}

#[test]
fn an_operators_command_and_what_it_descends_from_are_never_meant() {
    let host = FakeHost::new();
    let add = |pid: u32, parent: u32, name: &str| {
        let nginx = host.process(1_101).unwrap().unwrap();
        host.add_process(Process {
            pid,
            parent,
            name: name.to_owned(),
            exe: Some(format!("/usr/bin/{name}")),
            command_line: vec![name.to_owned(), "pattern=redis-server".to_owned()],
            user: Some("ann".to_owned()),
            uid: 1_000,
            groups: vec!["/user.slice/session-3.scope".to_owned()],
            ..nginx
        });
    };
    for (pid, parent, name) in [
        (6_000, 1, "bash"),
        (6_001, 6_000, "timeout"),
        (6_002, 6_001, "fracas"),
        (6_003, 6_000, "vi"),
    ] {
        add(pid, parent, name);
    }
    let (touches, _) = chosen(&host, json!({"pattern": "redis-server"})).unwrap();
    assert!(touches.contains(&"redis-server (pid 1001)".to_owned()), "{touches:?}");
    for by in [
        json!({"user": "ann"}),
        json!({"group": "/user.slice"}),
        json!({"pattern": "redis-server", "user": "ann"}),
    ] {
        assert_eq!(chosen(&host, by).unwrap(), (vec!["vi (pid 6003)".to_owned()], "signal".to_owned()));
    }
    for by in [json!({"name": "bash"}), json!({"name": "fracas"})] {
        assert_eq!(chosen(&host, by).unwrap_err().code, "no_match");
    }
    for pid in [6_000, 6_001, 6_002] {
        assert_eq!(chosen(&host, json!({"pid": pid})).unwrap_err().code, "protected");
    }
}

#[test]
fn a_users_own_program_named_as_the_operators_command_shields_nothing() {
    let host = FakeHost::new();
    let nginx = host.process(1_101).unwrap().unwrap();
    let add = |pid: u32, parent: u32, exe: &str, installed_program: bool| {
        host.add_process(Process {
            pid,
            parent,
            name: "fracas".to_owned(),
            exe: Some(exe.to_owned()),
            installed_program,
            user: Some("eve".to_owned()),
            ..nginx.clone()
        });
    };
    add(6_100, 1, "/usr/bin/sleep", true);
    add(6_101, 6_100, "/home/eve/fracas", false);
    let preflight = pause().preflight(&json!({"user": "eve"}), &scene(&host, 7)).unwrap();
    assert_eq!(preflight.touches, ["fracas (pid 6100)", "fracas (pid 6101)"]);
    let warned = |pid: u32| {
        preflight
            .warnings
            .iter()
            .any(|text| text.starts_with(&format!("fracas (pid {pid}) is no installed fracas")))
    };
    assert!(warned(6_100) && warned(6_101), "{:?}", preflight.warnings);
    chosen(&host, json!({"pid": 6_100})).unwrap();
}

#[test]
fn an_operators_command_whose_program_cannot_be_read_is_known_by_its_name() {
    let host = FakeHost::new();
    let nginx = host.process(1_101).unwrap().unwrap();
    for (pid, parent, name) in [(6_200, 1, "bash"), (6_201, 6_200, "fracas"), (6_202, 6_200, "vi")] {
        host.add_process(Process {
            pid,
            parent,
            name: name.to_owned(),
            exe: None,
            installed_program: false,
            user: Some("ann".to_owned()),
            ..nginx.clone()
        });
    }
    let (touches, _) = chosen(&host, json!({"user": "ann"})).unwrap();
    assert_eq!(touches, ["vi (pid 6202)"]);
    for pid in [6_200, 6_201] {
        assert_eq!(chosen(&host, json!({"pid": pid})).unwrap_err().code, "protected");
    }
}

#[test]
fn a_users_own_unit_of_the_same_name_is_neither_meant_nor_in_the_way() {
    let host = FakeHost::new();
    let nginx = host.process(1_101).unwrap().unwrap();
    for (pid, name) in [(6_300, "nginx"), (6_301, "sshd")] {
        let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service".to_owned();
        host.add_process(Process {
            pid,
            parent: 1,
            name: name.to_owned(),
            groups: vec![own.clone()],
            unified: Some(own),
            ..nginx.clone()
        });
    }
    let nginx = ["nginx (pid 1100)", "nginx (pid 1101)", "nginx (pid 1102)"].map(str::to_owned);
    assert_eq!(
        chosen(&host, json!({"unit": "nginx"})).unwrap(),
        (nginx.to_vec(), "freezer".to_owned())
    );
    apply(&host, &json!({"unit": "nginx"}));
    let frozen = "/sys/fs/cgroup/system.slice/nginx.service/cgroup.freeze";
    assert_eq!(host.knob(frozen).unwrap().as_deref(), Some("1"));
    assert_eq!(state(&host, 6_300), ProcessState::Sleeping);
    let manager = chosen(&host, json!({"unit": "user@1000"})).unwrap_err();
    assert!(manager.message.contains("sshd (pid 6301)"), "{manager}");
}

#[test]
fn one_protected_among_many_is_refused_by_name() {
    let refusal = chosen(&FakeHost::new(), json!({"user": "root", "pattern": "s"})).unwrap_err();
    assert_eq!(refusal.code, "protected");
    assert!(refusal.message.contains("sshd (pid 400)"), "{refusal}");
}

#[test]
fn a_whole_unit_is_frozen_where_the_kernel_can_and_part_of_it_is_signalled() {
    let host = FakeHost::new();
    assert_eq!(chosen(&host, json!({"unit": "nginx"})).unwrap().1, "freezer");
    assert_eq!(chosen(&host, json!({"unit": "nginx", "pick": "oldest"})).unwrap().1, "signal");
    assert_eq!(chosen(&host, json!({"unit": "nginx", "user": "www-data"})).unwrap().1, "signal");
    host.set_state(1_101, ProcessState::Stopped);
    let preflight = pause().preflight(&json!({"unit": "nginx"}), &scene(&host, 7)).unwrap();
    assert_eq!(
        preflight.engine.as_deref(),
        Some("signal"),
        "one of them is stopped by somebody else"
    );
    assert!(preflight.warnings[0].contains("nginx (pid 1101)"));
}

#[test]
fn signals_to_other_users_are_refused_without_the_right_to_send_them() {
    let host = FakeHost::new();
    let absent = || Presence::Absent {
        why: "no CAP_KILL".to_owned(),
        fix: "allow it".to_owned(),
    };
    host.set_presence(Feature::Kill, absent());
    // Neither a freezer nor a signal to root's own process asks for it.
    assert_eq!(chosen(&host, json!({"unit": "nginx"})).unwrap().1, "freezer");
    assert_eq!(chosen(&host, json!({"pid": 1100})).unwrap().1, "signal");
    for params in [json!({"user": "www-data"}), json!({"pid": 1100, "children": true})] {
        let refusal = chosen(&host, params.clone()).unwrap_err();
        assert_eq!(refusal.code, "unsupported", "{params}: {refusal}");
        assert!(refusal.message.contains("no CAP_KILL"), "{params}: {refusal}");
    }
    // An agent of another user is not allowed root's processes either.
    host.set_presence(Feature::Root, absent());
    assert_eq!(chosen(&host, json!({"pid": 1100})).unwrap_err().code, "unsupported");
}

#[test]
fn what_is_stopped_already_is_left_alone() {
    let host = FakeHost::new();
    host.set_state(1_200, ProcessState::Stopped);
    assert_eq!(chosen(&host, json!({"pid": 1200})).unwrap_err().code, "no_match");
}

#[test]
fn what_a_tracer_holds_is_left_alone_and_is_no_evidence_of_a_pause() {
    let host = FakeHost::new();
    host.set_state(1_101, ProcessState::Traced);
    let preflight = pause().preflight(&json!({"user": "www-data"}), &scene(&host, 7)).unwrap();
    assert_eq!(preflight.touches, ["nginx (pid 1102)"]);
    assert!(
        preflight.warnings[0].starts_with("nginx (pid 1101) is held by a tracer"),
        "{:?}",
        preflight.warnings
    );
    let effect = apply(&host, &json!({"user": "www-data"}));
    let first: Option<Look> = Some(pause().observe(&effect, &host, None).unwrap().1);
    let measured = || pause().observe(&effect, &host, first.as_ref()).unwrap().0.unwrap();
    assert_eq!(measured().state, EffectState::Confirmed);
    host.set_state(1_102, ProcessState::Traced);
    assert_eq!((measured().state, measured().measured), (EffectState::Unknown, None));
}

#[test]
fn the_effect_is_seen_in_the_processes_themselves() {
    let host = FakeHost::new();
    let effect = apply(&host, &json!({"user": "www-data"}));
    assert_eq!(
        [state(&host, 1_100), state(&host, 1_101), state(&host, 1_102)],
        [ProcessState::Sleeping, ProcessState::Stopped, ProcessState::Stopped]
    );
    let first: Option<Look> = Some(pause().observe(&effect, &host, None).unwrap().1);
    let measured = || pause().observe(&effect, &host, first.as_ref()).unwrap().0.unwrap();
    assert_eq!((measured().state, measured().measured), (EffectState::Confirmed, Some(100.0)));
    host.set_state(1_101, ProcessState::Running);
    assert_eq!((measured().state, measured().measured), (EffectState::Mismatch, Some(50.0)));
    host.kill(1_101);
    assert_eq!(measured().note.as_deref(), Some("1 of 2 are gone"));
    pause().alive(&effect, &host).unwrap();
    host.kill(1_102);
    assert!(pause().alive(&effect, &host).is_err());
}

/// A child of redis that comes when `after` is stopped.
fn forks(host: &FakeHost, after: u32, pid: u32) {
    let like = host.process(1_001).unwrap().unwrap();
    let child = Process {
        pid,
        start_time: 500_000 + u64::from(pid),
        parent: after,
        ..like
    };
    host.forks_when_stopped(after, child);
}

#[test]
fn those_forked_while_others_are_stopped_are_stopped_too() {
    for params in [json!({"name": "redis-server"}), json!({"pid": 1001, "children": true})] {
        let host = FakeHost::new();
        forks(&host, 1_001, 3_001);
        forks(&host, 3_001, 3_002);
        let effect = apply(&host, &params);
        assert_eq!(
            [state(&host, 3_001), state(&host, 3_002)],
            [ProcessState::Stopped, ProcessState::Stopped],
            "{params}"
        );
        let (_, first) = pause().observe(&effect, &host, None).unwrap();
        let seen = || pause().observe(&effect, &host, Some(&first)).unwrap().0.unwrap();
        assert_eq!(seen().state, EffectState::Confirmed);
        let late = Process {
            pid: 3_003,
            start_time: 600_000,
            parent: 3_001,
            ..host.process(3_001).unwrap().unwrap()
        };
        host.add_process(Process {
            state: ProcessState::Running,
            ..late
        });
        assert_eq!(seen().state, EffectState::Mismatch);
        assert!(seen().note.unwrap().starts_with("1 more"), "{params}");
    }
}

#[test]
fn who_was_picked_stays_picked_and_looking_has_an_end() {
    let host = FakeHost::new();
    forks(&host, 1_001, 3_001);
    apply(&host, &json!({"name": "redis-server", "pick": "newest"}));
    assert_eq!(state(&host, 3_001), ProcessState::Sleeping);
    let host = FakeHost::new();
    forks(&host, 1_001, 3_001);
    (3_001..3_009).for_each(|pid| forks(&host, pid, pid + 1));
    let effect = apply(&host, &json!({"name": "redis-server"}));
    assert_eq!(effect["victims"].as_array().unwrap().len(), 5);
    assert_eq!(state(&host, 3_005), ProcessState::Sleeping);
}

#[test]
fn one_that_is_forked_later_and_is_protected_ends_the_attempt() {
    let host = FakeHost::new();
    let sshd = host.process(400).unwrap().unwrap();
    host.forks_when_stopped(
        1_001,
        Process {
            pid: 3_001,
            parent: 1_001,
            ..sshd
        },
    );
    let error = try_apply(&host, &json!({"name": "redis-server", "children": true})).unwrap_err();
    assert!(error.to_string().contains("sshd (pid 3001) is protected"), "{error}");
    assert_ne!(state(&host, 3_001), ProcessState::Stopped);
}

/// On this machine: a process that goes on forking, in a group of nobody else, is stopped with all that it has forked.
#[test]
fn one_that_goes_on_forking_is_stopped_with_all_of_them() {
    let script = "i=0; while [ $i -lt 400 ]; do sleep 20 & i=$((i+1)); done; wait";
    let mut forker = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .process_group(0)
        .spawn()
        .unwrap();
    let view = LinuxView::new();
    let below = || {
        let all = view.processes().unwrap();
        all.into_iter().filter(|p| p.parent == forker.id()).collect::<Vec<_>>()
    };
    let until = Instant::now() + Duration::from_secs(5);
    while below().len() < 5 && Instant::now() < until {
        std::thread::yield_now();
    }
    let scene = Scene {
        view: &view,
        protection: &Sshd,
        seed: 7,
        duration_ms: 10_000,
    };
    let params = json!({"pid": forker.id(), "children": true});
    let id = InjectionId::generate();
    let mut journal = JournalStore::memory().create(opened(&id, &params, &view)).unwrap();
    let mut hands = LinuxOps::new("/bin/false".into());
    let effect = pause().apply(&params, &scene, &mut Levers::new(&mut journal, &mut hands, &view, context(id)));
    let states: Vec<ProcessState> = below().iter().map(|p| p.state).collect();
    journal.ending(EndedBy::Stop).unwrap();
    let rewound = rewind(&mut journal, &mut hands, &view);
    let left = below().iter().filter(|p| p.state == ProcessState::Stopped).count();
    // Ended as a group, by its own number, before anything is judged.
    nix::sys::signal::killpg(
        nix::unistd::Pid::from_raw(forker.id().cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    forker.wait().unwrap();
    let victims = effect.unwrap()["victims"].as_array().unwrap().len();
    assert!(
        states.len() >= 5 && states.iter().all(|state| *state == ProcessState::Stopped),
        "{states:?}"
    );
    assert_eq!(victims, states.len() + 1);
    assert!(rewound.is_complete() && left == 0, "{rewound:?}, {left} are still stopped");
}
