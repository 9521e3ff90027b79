//! process.kill on the paper host: who is chosen, when KILL follows, who counts as a replacement, and when a round is left out.

use std::path::Path;

use agent_faults::{AnyFault, FaultError, Look, Protection, Scene, find};
use agent_journal::Opened;
use agent_levers::fake::FakeHost;
use agent_levers::{Exemptions, Journal, JournalStore, Levers, PullContext};
use agent_view::{Feature, HostView, Presence, Process, ProcessState, Volume};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::injection::EffectState;
use proto_model::peer::Network;
use proto_model::problem::Refusal;
use serde_json::{Value, json};

const DURATION_MS: u64 = 30_000;

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

fn kill() -> &'static dyn AnyFault {
    find(&FaultKind::parse("process.kill").unwrap()).unwrap()
}

fn scene(host: &FakeHost) -> Scene<'_> {
    Scene {
        view: host,
        protection: &Sshd,
        seed: 7,
        duration_ms: DURATION_MS,
    }
}

/// One injection under way on a host of paper.
struct Acting {
    host: FakeHost,
    params: Value,
    journal: Journal,
    injection: InjectionId,
    effect: Value,
}

impl Acting {
    fn begin(host: &FakeHost, params: Value) -> Self {
        let injection = InjectionId::generate();
        let opened = Opened {
            injection: injection.clone(),
            run: String::new(),
            kind: "process.kill".into(),
            params: params.clone(),
            boot_id: host.boot_id(),
            opened_boot_ms: host.boot_ms(),
            deadline_boot_ms: host.boot_ms() + DURATION_MS,
            plan_digest: String::new(),
        };
        let journal = JournalStore::memory().create(opened).unwrap();
        let mut acting = Self {
            host: host.clone(),
            params: kill().check(&params).unwrap(),
            journal,
            injection,
            effect: Value::Null,
        };
        acting.effect = acting.pull(|params, _, scene, levers| kill().apply(params, scene, levers)).unwrap();
        acting
    }

    fn pull(
        &mut self,
        action: impl Fn(&Value, &Value, &Scene<'_>, &mut Levers<'_>) -> Result<Value, FaultError>,
    ) -> Result<Value, FaultError> {
        let context = PullContext {
            injection: self.injection.clone(),
            kind: "process.kill".into(),
            seed: 7,
            deadline_boot_ms: 0,
            gate_ms: 0,
            exemptions: Exemptions::default(),
        };
        let mut hands = self.host.clone();
        let mut levers = Levers::new(&mut self.journal, &mut hands, &self.host, context);
        action(&self.params, &self.effect, &scene(&self.host), &mut levers)
    }

    /// Lets time pass and does what is due, as the warden does.
    fn pass(&mut self, ms: u64) -> Result<(), FaultError> {
        for _ in 0..ms / 250 {
            self.host.advance(250);
            if kill().due(&self.effect).is_some_and(|due| due <= self.host.boot_ms()) {
                self.effect = self.pull(|params, effect, scene, levers| kill().go_on(params, effect, scene, levers))?;
            }
        }
        Ok(())
    }

    fn told(&self) -> String {
        self.journal.history().consequences.join("\n")
    }

    fn seen(&self) -> Option<(EffectState, Option<f64>)> {
        let first: Look = kill().observe(&self.effect, &self.host, None).unwrap().1;
        let seen = kill().observe(&self.effect, &self.host, Some(&first)).unwrap().0;
        seen.map(|seen| (seen.state, seen.measured))
    }
}

fn refused(host: &FakeHost, params: Value) -> Refusal {
    kill().preflight(&params, &scene(host)).unwrap_err()
}

fn is_there(host: &FakeHost, pid: u32) -> bool {
    host.process(pid).unwrap().is_some()
}

/// As a supervisor would start it again.
fn start_again(host: &FakeHost, pid: u32, of: &Process) {
    host.add_process(Process {
        pid,
        start_time: host.boot_ms() / 10,
        ..of.clone()
    });
}

#[test]
fn signals_to_other_users_are_refused_without_the_right_to_send_them() {
    let host = FakeHost::new();
    let absent = Presence::Absent {
        why: "no CAP_KILL".to_owned(),
        fix: "allow it".to_owned(),
    };
    host.set_presence(Feature::Kill, absent);
    let roots = kill().preflight(&json!({"pid": 1100}), &scene(&host)).unwrap();
    assert_eq!(roots.touches, ["nginx (pid 1100)"]);
    let refusal = refused(&host, json!({"user": "www-data"}));
    assert_eq!(refusal.code, "unsupported", "{refusal}");
    assert!(refusal.message.contains("no CAP_KILL"), "{refusal}");
    // The kernel asks for the real and the saved user.
    let other = host.process(1_101).unwrap().unwrap();
    for (uid, real_uid, saved_uid, is_roots) in [(0, 33, 33, false), (33, 33, 0, true), (33, 0, 33, true)] {
        start_again(
            &host,
            2_001,
            &Process {
                uid,
                real_uid,
                saved_uid,
                ..other.clone()
            },
        );
        let allowed = kill().preflight(&json!({"pid": 2001}), &scene(&host)).is_ok();
        assert_eq!(allowed, is_roots, "{uid} {real_uid} {saved_uid}");
    }
}

#[test]
fn one_signal_ends_them_and_says_so_before() {
    let host = FakeHost::new();
    let acting = Acting::begin(&host, json!({"user": "www-data"}));
    assert!(!is_there(&host, 1_101) && !is_there(&host, 1_102) && is_there(&host, 1_100));
    assert_eq!(acting.told().lines().count(), 2);
    assert!(
        acting.told().contains("TERM was sent to nginx (pid 1101, start time 11010)"),
        "{}",
        acting.told()
    );
    assert_eq!(acting.seen(), Some((EffectState::Confirmed, Some(100.0))));
}

#[test]
fn a_zombie_is_gone_and_one_that_stays_is_a_mismatch() {
    let host = FakeHost::new();
    host.make_stubborn(1_101);
    let mut acting = Acting::begin(&host, json!({"user": "www-data"}));
    assert_eq!(acting.seen(), None, "it may still be ending");
    acting.pass(4_000).unwrap();
    assert_eq!(acting.seen(), Some((EffectState::Mismatch, Some(50.0))));
    host.set_state(1_101, ProcessState::Zombie);
    assert_eq!(acting.seen(), Some((EffectState::Confirmed, Some(100.0))));
}

#[test]
fn kill_follows_after_the_grace_and_only_for_those_that_are_left() {
    let host = FakeHost::new();
    host.make_stubborn(1_101);
    let mut acting = Acting::begin(&host, json!({"user": "www-data", "grace": "5s"}));
    acting.pass(4_750).unwrap();
    assert!(is_there(&host, 1_101));
    assert_eq!(acting.seen(), None, "its grace is not over");
    acting.pass(500).unwrap();
    assert!(!is_there(&host, 1_101));
    assert!(
        acting.told().ends_with("KILL was sent to nginx (pid 1101, start time 11010)"),
        "{}",
        acting.told()
    );
    assert_eq!(acting.told().matches("KILL").count(), 1);
    assert_eq!(acting.seen(), Some((EffectState::Confirmed, Some(100.0))));
}

#[test]
fn a_replacement_is_told_once_with_its_delay_and_strangers_are_none() {
    let host = FakeHost::new();
    let redis = host.process(1_001).unwrap().unwrap();
    let mut acting = Acting::begin(&host, json!({"name": "redis-server"}));
    host.advance(340);
    start_again(
        &host,
        2_001,
        &Process {
            groups: vec!["/user.slice".into()],
            ..redis.clone()
        },
    );
    start_again(&host, 2_002, &redis);
    acting.pass(5_000).unwrap();
    assert!(is_there(&host, 2_002), "one round only");
    let told = acting.told();
    assert!(
        told.ends_with("redis-server (pid 1001) was replaced by pid 2002 after 340 ms"),
        "{told}"
    );
    assert_eq!(told.matches("replaced").count(), 1);
    assert_eq!(kill().due(&acting.effect), None, "nobody is left to watch");
}

#[test]
fn rounds_kill_the_replacements_and_leave_out_the_rounds_in_which_nobody_is_there() {
    let host = FakeHost::new();
    let redis = host.process(1_001).unwrap().unwrap();
    let mut acting = Acting::begin(&host, json!({"name": "redis-server", "signal": "KILL", "every": "2s"}));
    acting.pass(2_500).unwrap();
    start_again(&host, 2_001, &redis);
    acting.pass(2_000).unwrap();
    assert!(!is_there(&host, 2_001));
    let told = acting.told();
    assert!(
        told.contains("replaced by pid 2001") && told.contains("KILL was sent to redis-server (pid 2001"),
        "{told}"
    );
    assert_eq!(acting.effect["rounds"], 2);
}

#[test]
fn a_round_that_would_meet_a_protected_one_ends_the_fault_with_its_name() {
    let host = FakeHost::new();
    let mut acting = Acting::begin(&host, json!({"exe": "/usr/bin/postgres", "every": "1s"}));
    let mut sshd = host.process(400).unwrap().unwrap();
    sshd.exe = Some("/usr/bin/postgres".into());
    start_again(&host, 3_000, &sshd);
    let error = acting.pass(2_000).unwrap_err().to_string();
    assert!(error.contains("sshd (pid 3000) is protected"), "{error}");
    assert!(is_there(&host, 3_000));
}

#[test]
fn nothing_is_done_to_a_reused_pid() {
    let host = FakeHost::new();
    let old = host.process(1_101).unwrap().unwrap();
    host.make_stubborn(1_101);
    let mut acting = Acting::begin(&host, json!({"pid": 1101, "grace": "1s"}));
    host.kill(1_101);
    start_again(
        &host,
        1_101,
        &Process {
            name: "other".into(),
            ..old
        },
    );
    acting.pass(3_000).unwrap();
    assert!(is_there(&host, 1_101), "{}", acting.told());
}

#[test]
fn what_cannot_be_is_refused_and_what_stays_down_is_warned_of() {
    let host = FakeHost::new();
    assert_eq!(refused(&host, json!({"name": "nobody"})).code, "no_match");
    assert!(
        refused(&host, json!({"user": "root", "pattern": "sshd"}))
            .message
            .contains("sshd (pid 400)")
    );
    assert_eq!(
        refused(&host, json!({"name": "nginx", "grace": "29s"})).allowed.as_deref(),
        Some("..28s")
    );
    assert_eq!(refused(&host, json!({"name": "nginx", "every": "1m"})).path, "params.every");
    host.set_knob("/usr/lib/systemd/system/nginx.service", "[Service]\nType=forking\n");
    host.set_knob("/usr/lib/systemd/system/redis-server.service", "[Service]\nRestart=always\n");
    let warnings = |name: &str| kill().preflight(&json!({"name": name}), &scene(&host)).unwrap().warnings;
    assert!(warnings("nginx")[0].starts_with("nginx.service has no Restart="));
    assert!(warnings("redis-server").is_empty());
}
