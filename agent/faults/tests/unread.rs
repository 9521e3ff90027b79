//! Process faults where one process cannot be read in time: who is chosen, who is left alone, and what is said of it.

use std::path::Path;

use agent_faults::{AnyFault, FaultError, Look, Preflight, Protection, Scene, find};
use agent_journal::Opened;
use agent_levers::fake::FakeHost;
use agent_levers::{Exemptions, JournalStore, Levers, PullContext};
use agent_view::{HostView, Process, ProcessState, Volume};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::injection::{EffectState, Observation};
use proto_model::peer::Network;
use proto_model::problem::Refusal;
use serde_json::{Value, json};

const KINDS: [&str; 2] = ["process.kill", "process.pause"];

/// Protects what may be one of ours by its user, and nothing else.
struct Roots;

impl Protection for Roots {
    fn process(&self, process: &Process) -> Option<String> {
        let may_be_ours = process.unread.is_some() && process.has_user_of_workers(None);
        may_be_ours.then(|| "it may be one of ours".to_owned())
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

fn fault(kind: &str) -> &'static dyn AnyFault {
    find(&FaultKind::parse(kind).unwrap()).unwrap()
}

fn scene(host: &FakeHost) -> Scene<'_> {
    Scene {
        view: host,
        protection: &Roots,
        seed: 7,
        duration_ms: 30_000,
    }
}

fn ask(kind: &str, host: &FakeHost, params: Value) -> Result<Preflight, Refusal> {
    fault(kind).preflight(&params, &scene(host))
}

fn apply(kind: &str, host: &FakeHost, params: &Value) -> Result<Value, FaultError> {
    let injection = InjectionId::generate();
    let opened = Opened {
        injection: injection.clone(),
        run: String::new(),
        kind: kind.to_owned(),
        params: params.clone(),
        boot_id: host.boot_id(),
        opened_boot_ms: 0,
        deadline_boot_ms: 30_000,
        plan_digest: String::new(),
    };
    let context = PullContext {
        injection,
        kind: kind.to_owned(),
        seed: 7,
        deadline_boot_ms: 30_000,
        gate_ms: 30_000,
        exemptions: Exemptions::default(),
    };
    let (mut journal, mut hands) = (JournalStore::memory().create(opened).unwrap(), host.clone());
    let mut levers = Levers::new(&mut journal, &mut hands, host, context);
    fault(kind).apply(params, &scene(host), &mut levers)
}

fn seen(kind: &str, host: &FakeHost, effect: &Value) -> Observation {
    let first: Look = fault(kind).observe(effect, host, None).unwrap().1;
    fault(kind).observe(effect, host, Some(&first)).unwrap().0.unwrap()
}

/// The line about the process with this name and number.
fn left_alone<'a>(lines: &'a [String], process: &str) -> Option<&'a String> {
    lines.iter().find(|line| line.starts_with(&format!("{process} is left alone: ")))
}

#[test]
fn one_of_another_user_that_is_not_meant_changes_nothing() {
    let host = FakeHost::new();
    for kind in KINDS {
        for params in [
            json!({"name": "redis-server"}),
            json!({"pattern": "redis-server", "user": "redis"}),
            json!({"unit": "redis-server", "pattern": "redis-s"}),
        ] {
            let before = ask(kind, &host, params.clone()).unwrap();
            host.hang_programs([1_101]);
            assert_eq!(ask(kind, &host, params).unwrap(), before, "{kind}");
            host.hang_programs([]);
        }
    }
}

#[test]
fn one_that_may_be_meant_by_its_command_line_is_left_alone_and_said_before() {
    let params = json!({"pattern": "nginx|.*", "user": "www-data"});
    for kind in KINDS {
        let host = FakeHost::new();
        host.hang_programs([1_101]);
        let asked = ask(kind, &host, params.clone()).unwrap();
        assert_eq!(asked.touches, ["nginx (pid 1102)"]);
        let line = left_alone(&asked.warnings, "nginx (pid 1101)").unwrap();
        assert!(
            line.contains("whether it is meant is not known: process 1101 (nginx) gave no answer within") && line.contains("(fix: "),
            "{line}"
        );
        apply(kind, &host, &params).unwrap();
        assert_eq!(host.process(1_101).unwrap().unwrap().state, ProcessState::Sleeping, "{kind}");

        host.hang_programs([1_101, 1_102]);
        let refusal = ask(kind, &host, params.clone()).unwrap_err();
        assert_eq!(refusal.code, "no_match", "{refusal}");
        assert!(
            refusal.message.contains("nginx (pid 1101) is left alone: ") && refusal.message.contains("no answer within"),
            "{refusal}"
        );
    }
}

#[test]
fn a_name_that_the_kernel_cuts_is_not_known_without_the_program_and_the_command_line() {
    let host = FakeHost::new();
    let nginx = host.process(1_101).unwrap().unwrap();
    let script = Process {
        pid: 5_000,
        name: "order-processin".to_owned(),
        exe: Some("/usr/bin/python3.11".to_owned()),
        command_line: vec!["/usr/bin/python3".to_owned(), "/srv/order-processing.py".to_owned()],
        ..nginx
    };
    host.add_process(script.clone());
    let by_name = |name: &str| ask("process.pause", &host, json!({"name": name}));
    assert_eq!(by_name("order-processing.py").unwrap().touches, ["order-processin (pid 5000)"]);
    host.hang_programs([5_000]);
    let refusal = by_name("order-processing.py").unwrap_err();
    assert!(refusal.message.contains("order-processin (pid 5000) is left alone: "), "{refusal}");
    assert!(!by_name("another-long-name.py").unwrap_err().message.contains("left alone"));
    host.add_process(Process {
        exe: Some("/opt/order-processing.py".to_owned()),
        ..script
    });
    assert_eq!(by_name("order-processing.py").unwrap().touches, ["order-processin (pid 5000)"]);
}

#[test]
fn what_the_kernel_keeps_is_enough_to_be_meant_by() {
    let host = FakeHost::new();
    host.hang_programs([1_200]);
    for kind in KINDS {
        for params in [
            json!({"pid": 1200}),
            json!({"name": "postgres"}),
            json!({"unit": "postgresql"}),
            json!({"exe": "/usr/bin/postgres"}),
            json!({"user": "postgres"}),
        ] {
            let asked = ask(kind, &host, params.clone()).unwrap();
            assert_eq!(asked.touches, ["postgres (pid 1200)"], "{params}");
            assert_eq!(left_alone(&asked.warnings, "postgres (pid 1200)"), None);
        }
    }
}

#[test]
fn one_that_may_be_protected_is_never_touched() {
    let params = json!({"unit": "nginx"});
    for kind in KINDS {
        let host = FakeHost::new();
        host.hang_programs([1_100]);
        let asked = ask(kind, &host, params.clone()).unwrap();
        assert_eq!(asked.touches, ["nginx (pid 1101)", "nginx (pid 1102)"]);
        assert!(
            left_alone(&asked.warnings, "nginx (pid 1100)")
                .unwrap()
                .contains("it may be one of ours")
        );
        let effect = apply(kind, &host, &params).unwrap();
        assert_eq!(host.process(1_100).unwrap().unwrap().state, ProcessState::Sleeping, "{kind}");
        let seen = seen(kind, &host, &effect);
        assert_eq!(seen.state, EffectState::Confirmed, "{seen:?}");
        if kind == "process.kill" {
            assert!(seen.note.as_ref().unwrap().contains("nginx (pid 1100) is left alone"), "{seen:?}");
        }
        let refusal = ask(kind, &host, json!({"pid": 1100})).unwrap_err();
        assert_eq!(refusal.code, "protected", "{refusal}");
        assert!(refusal.message.contains("it may be one of ours"), "{refusal}");
    }
}

#[test]
fn a_command_that_may_be_the_operators_and_what_it_descends_from_are_left_alone() {
    let host = FakeHost::new();
    let nginx = host.process(1_101).unwrap().unwrap();
    for (pid, parent, name) in [(6_200, 1, "bash"), (6_201, 6_200, "fracas"), (6_202, 6_200, "vi")] {
        host.add_process(Process {
            pid,
            parent,
            name: name.to_owned(),
            exe: Some(format!("/usr/bin/{name}")),
            user: Some("ann".to_owned()),
            ..nginx.clone()
        });
    }
    host.hang_programs([6_201]);
    for kind in KINDS {
        let asked = ask(kind, &host, json!({"user": "ann"})).unwrap();
        assert_eq!(asked.touches, ["vi (pid 6202)"]);
        for process in ["bash (pid 6200)", "fracas (pid 6201)"] {
            let line = left_alone(&asked.warnings, process).unwrap();
            assert!(line.contains("fracas (pid 6201) may be a command that asks for faults"), "{line}");
        }
        for pid in [6_200, 6_201] {
            let refusal = ask(kind, &host, json!({"pid": pid})).unwrap_err();
            assert_eq!(refusal.code, "protected", "{refusal}");
        }
    }
}

#[test]
fn where_too_many_cannot_be_read_the_fault_is_refused() {
    let host = FakeHost::new();
    host.hang_programs(2_000..2_008);
    for kind in KINDS {
        let refusal = ask(kind, &host, json!({"name": "redis-server"})).unwrap_err();
        assert_eq!(refusal.code, "unsupported", "{refusal}");
        assert!(refusal.message.contains("no answer within"), "{refusal}");
    }
}
