//! One unit's or group's packets only: what is refused and claimed on a host in memory, and a unit of the test's own on the real kernel.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use agent_faults::{Answers, GroupSeen, Preflight, Protection, Scene};
use agent_levers::fake::FakeHost;
use agent_view::hierarchy::Version;
use agent_view::{Feature, HostView, LinuxView, Listener, Presence, Process, Volume};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::injection::EffectState;
use proto_model::peer::Network;
use proto_model::problem::Refusal;
use serde_json::{Value, json};

use crate::kernel::{Acting, in_the_void, send};
use crate::partition;

struct Redis;

impl Protection for Redis {
    fn process(&self, process: &Process) -> Option<String> {
        (process.name == "redis-child").then(|| "it is precious".to_owned())
    }
    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Vec::new())
    }
    fn interface(&self, _: &str) -> Option<String> {
        None
    }
    fn port(&self, _: u16) -> Option<String> {
        None
    }
    fn path(&self, _: &Path, _: &Volume) -> Option<String> {
        None
    }
    fn memory_reserve(&self) -> u64 {
        0
    }
    fn disk_reserve(&self, _: &Volume) -> u64 {
        0
    }
}

fn with(more: Value) -> Value {
    let mut params = json!({"to": ["192.0.2.10"]});
    let more = more.as_object().expect("an object").clone();
    params.as_object_mut().expect("an object").extend(more);
    params
}

fn asked_of(kind: &str, host: &FakeHost, more: Value) -> Result<Preflight, Refusal> {
    let scene = Scene {
        view: host,
        protection: &Redis,
        seed: 1,
        duration_ms: 60_000,
    };
    let fault = agent_faults::find(&FaultKind::parse(kind).unwrap()).expect("it is registered");
    fault.preflight(&with(more), &scene)
}

#[track_caller]
fn refused(host: &FakeHost, more: Value, code: &str, path: &str, says: &str) {
    let refusal = asked_of("network.partition", host, more).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.path.as_str()), (code, path), "{refusal}");
    assert!(refusal.message.contains(says), "{refusal}");
}

#[test]
fn what_is_no_unit_or_group_here_is_refused_with_its_path_and_mend() {
    let host = FakeHost::new();
    let both = json!({"unit": "nginx", "group": "/system.slice/nginx.service"});
    refused(&host, both, "invalid_params", "params.group", "beside a unit");
    for root in ["/", "system.slice", "/a/../b"] {
        refused(&host, json!({"group": root}), "invalid_params", "params.group", "below the root");
    }
    refused(&host, json!({"unit": "a/b"}), "invalid_params", "params.unit", "not the name");
    refused(
        &host,
        json!({"unit": "apache"}),
        "no_match",
        "params.unit",
        "systemctl start apache.service",
    );
    refused(&host, json!({"group": "/system.slice/x"}), "no_match", "params.group", "no process");
    refused(
        &host,
        json!({"unit": "redis-server"}),
        "protected",
        "params.unit",
        "redis-child (pid 1002)",
    );
    refused(&host, json!({"group": "/system.slice"}), "protected", "params.group", "redis-child");
    host.set_group("/system.slice/nginx.service", None);
    refused(&host, json!({"unit": "nginx"}), "no_match", "params.unit", "is not there");
}

#[test]
fn an_alias_means_its_unit_and_one_that_runs_nothing_leads_to_those_that_do() {
    let host = FakeHost::new();
    host.set_unit_alias("web.service", "nginx.service");
    let real = asked_of("network.partition", &host, json!({"unit": "nginx"})).unwrap();
    assert_eq!(asked_of("network.partition", &host, json!({"unit": "web"})).unwrap(), real);
    let mut postgres = host.process(1_200).unwrap().unwrap();
    let instance = "/system.slice/system-postgresql.slice/postgresql@15-main.service".to_owned();
    (postgres.groups, postgres.unified) = (vec![instance.clone()], Some(instance));
    host.add_process(postgres);
    refused(
        &host,
        json!({"unit": "postgresql"}),
        "no_match",
        "params.unit",
        "running: postgresql@15-main.service",
    );
}

#[test]
fn a_users_own_unit_of_the_same_name_is_neither_meant_nor_in_the_way() {
    let host = FakeHost::new();
    let expected = asked_of("network.partition", &host, json!({"unit": "nginx"})).unwrap();
    let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service".to_owned();
    let redis = host.process(1_002).unwrap().unwrap();
    host.set_group(&own, Some(9_000));
    host.add_process(Process {
        pid: 6_300,
        groups: vec![own.clone()],
        unified: Some(own),
        ..redis
    });
    assert_eq!(asked_of("network.partition", &host, json!({"unit": "nginx"})).unwrap(), expected);
    host.kill(1_100);
    host.kill(1_101);
    host.kill(1_102);
    refused(&host, json!({"unit": "nginx"}), "no_match", "params.unit", "no process is in it");
}

#[test]
fn a_host_without_the_unified_hierarchy_or_the_kernels_part_is_refused_only_where_it_is_asked_for() {
    let host = FakeHost::new();
    let mut nginx = host.process(1_200).unwrap().unwrap();
    nginx.unified = Some("/".to_owned());
    host.add_process(nginx);
    refused(
        &host,
        json!({"unit": "postgresql"}),
        "unsupported",
        "params.unit",
        "unified_cgroup_hierarchy=1",
    );
    let absent = Presence::Absent {
        why: "kernel 1 has no nft_socket".to_owned(),
        fix: "install it".to_owned(),
    };
    host.set_presence(Feature::SocketGroups, absent);
    let says = "kernel 1 has no nft_socket (fix: install it)";
    refused(&host, json!({"unit": "nginx"}), "unsupported", "params.unit", says);
    refused(
        &host,
        json!({"group": "/system.slice/nginx.service"}),
        "unsupported",
        "params.group",
        says,
    );
    asked_of("network.partition", &host, json!({})).expect("everybody's packets need it not");
}

#[test]
fn what_is_accepted_says_whose_and_by_what_and_what_is_left_alone() {
    let host = FakeHost::new();
    let answer = asked_of("network.partition", &host, json!({"unit": "nginx"})).unwrap();
    assert_eq!(
        answer.touches,
        ["packets to and from 192.0.2.10; of nginx.service (/system.slice/nginx.service)"]
    );
    assert!(answer.warnings.iter().any(|w| w.contains("icmp that comes in")), "{answer:?}");
    let group = json!({"group": "/system.slice/nginx.service/", "delay": "10ms", "protocol": "udp"});
    let answer = asked_of("network.delay", &host, group).unwrap();
    assert_eq!(answer.engine.as_deref(), Some("packets"), "although netem is there");
    assert!(answer.warnings.iter().any(|w| w.contains("see no socket")), "{answer:?}");
    assert!(
        answer.touches[0].ends_with("of the group /system.slice/nginx.service"),
        "{answer:?}"
    );
    let lossy = asked_of("network.loss", &host, json!({"unit": "nginx", "percent": 10, "protocol": "tcp"})).unwrap();
    assert_eq!((lossy.engine.as_deref(), lossy.warnings.len()), (Some("nftables"), 1));
    assert!(lossy.warnings[0].contains("SYN-ACK"), "{:?}", lossy.warnings);
    let nginx = host
        .listeners()
        .unwrap()
        .into_iter()
        .find(|listener| listener.pid == 1_100)
        .expect("it listens");
    host.add_listener(Listener { pid: 1, ..nginx });
    let answer = asked_of("network.partition", &host, json!({"unit": "nginx", "protocol": "tcp"})).unwrap();
    assert!(
        answer
            .warnings
            .iter()
            .any(|w| w.contains("port 80 of nginx.service was opened by the init")),
        "{answer:?}"
    );
}

#[test]
fn units_compete_for_packets_unless_they_are_known_to_be_apart() {
    let host = FakeHost::new();
    let conflict = |a: Value, b: Value| {
        let claims = |more| partition().claims_here(&with(more), &host).unwrap();
        let (a, b) = (claims(a), claims(b));
        a.iter().any(|x| b.iter().any(|y| x.conflicts_with(y)))
    };
    let nginx = || json!({"unit": "nginx"});
    assert!(!conflict(nginx(), json!({"unit": "redis-server.service"})));
    for other in [
        nginx(),
        json!({}),
        json!({"group": "/system.slice/nginx.service"}),
        json!({"group": "/system.slice"}),
        json!({"unit": "does-not-run"}),
    ] {
        assert!(conflict(nginx(), other.clone()), "{other}");
    }
}

/// A unit of the test's own: a group with the unit's name, and a shell in it that sends where it is told.
struct Unit {
    folder: PathBuf,
    name: String,
    shell: Child,
    says: BufReader<ChildStdout>,
    told: ChildStdin,
}

/// Enters the group, then sends a datagram to each address that it reads.
const SENDER: &str = "echo $$ > $0/cgroup.procs; echo; while read to; do echo x > /dev/udp/$to; echo; done";

impl Unit {
    /// `None`, and said why, where this machine cannot have one.
    fn start() -> Option<Self> {
        let view = LinuxView::new();
        let Some(unified) = view.hierarchies().used().iter().find(|h| h.version == Version::V2) else {
            tests_notes::skip("no unified hierarchy of groups (cgroup v2) is mounted here");
            return None;
        };
        if Command::new("bash").arg("--version").stdout(Stdio::null()).status().is_err() {
            tests_notes::skip("bash is required to send from a process of the unit");
            return None;
        }
        let id = InjectionId::generate();
        let name = format!("fracas-test-unit-{id}.service");
        Some(Self::at(unified.root.join(format!("fracas-test-{id}.slice")).join(&name), name))
    }

    fn at(folder: PathBuf, name: String) -> Self {
        fs::create_dir_all(&folder).expect("make the unit's group");
        let mut shell = Command::new("bash");
        let shell = shell
            .arg("-c")
            .arg(SENDER)
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("start the unit's process");
        let (told, says) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let mut unit = Self {
            folder,
            name,
            shell,
            says: BufReader::new(says),
            told,
        };
        unit.answered();
        unit
    }

    fn answered(&mut self) {
        self.says.read_line(&mut String::new()).expect("the unit's process answers");
    }

    fn send(&mut self, to: &str) {
        writeln!(self.told, "{to}").expect("tell the unit's process");
        self.answered();
    }

    fn path(&self) -> String {
        let own = fs::read_to_string(format!("/proc/{}/cgroup", self.shell.id())).expect("read its groups");
        own.lines().find_map(|line| line.strip_prefix("0::")).expect("its group").to_owned()
    }

    fn stop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        fs::remove_dir(&self.folder).expect("remove the unit's group");
    }

    fn start_anew(mut self) -> Self {
        self.stop();
        Self::at(self.folder.clone(), self.name.clone())
    }

    fn end(mut self) {
        self.stop();
        fs::remove_dir(self.folder.parent().unwrap()).expect("remove the group above it");
    }
}

#[test]
fn a_units_packets_are_cut_and_those_of_its_next_life_too() {
    in_the_void(|| {
        let Some(mut unit) = Unit::start() else { return };
        let params = json!({"to": ["192.0.2.10"], "unit": unit.name});
        let path = unit.path();
        let mut acting = Acting::begin(&params, 60_000);
        assert_eq!(partition().groups(&acting.effect), std::slice::from_ref(&path));
        (0..10).for_each(|_| send("192.0.2.10:9"));
        let (state, _, note) = acting.told();
        assert_eq!(state, EffectState::Unexercised, "nobody else's: {note}");
        (0..3).for_each(|_| unit.send("192.0.2.10/9"));
        unit.send("192.0.2.11/9");
        let (state, _, note) = acting.told();
        assert_eq!(state, EffectState::Confirmed, "{note}");
        assert!(note.contains("3 packets stopped, 0 came through"), "{note}");

        let mut unit = unit.start_anew();
        assert_eq!(unit.path(), path);
        unit.send("192.0.2.10/9");
        assert_eq!(acting.told().0, EffectState::Unexercised, "nobody has followed yet");
        let now = Ok(LinuxView::new().unified_group(&path).unwrap());
        let seen = GroupSeen { now, since_ms: 250 };
        let answers = Answers {
            groups: [(path, seen)].into(),
            ..Answers::default()
        };
        acting.follow(&params, &answers);
        let followed = acting.effect.clone();
        unit.send("192.0.2.10/9");
        let (state, _, note) = acting.told();
        assert_eq!(state, EffectState::Confirmed, "{note}");
        assert!(
            note.contains("1 packets stopped, 0 came through") && note.contains("for up to 250 ms"),
            "{note}"
        );
        acting.follow(&params, &answers);
        assert_eq!(acting.effect, followed, "once");
        acting.end();
        unit.end();
    });
}
