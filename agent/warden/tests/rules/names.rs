//! Real kinds of the network on a host in memory: names that move while a fault acts, and packets that two faults want.

use agent_levers::JournalStore;
use agent_levers::fake::FakeHost;
use agent_levers::ops::PathOps;
use agent_view::HostView;
use agent_warden::{Command, Kinds, Latches, Parts, Policy, StartOrder, Warden};
use proto_model::catalogue::FaultKind;
use proto_model::id::{InjectionId, PlanDigest, RunId};
use proto_model::injection::{AgentFact, AgentReport, EffectState, Wish};
use proto_model::peer::Network;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::support::Guard;

const PATIENCE: Duration = Duration::from_secs(10);

struct Desk {
    host: FakeHost,
    warden: Warden,
    reports: Receiver<AgentReport>,
    _dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let (dir, host, (sender, reports)) = (tempfile::tempdir().unwrap(), FakeHost::new(), channel());
        let sender = Mutex::new(sender);
        let parts = Parts {
            view: Arc::new(host.clone()),
            hands: Box::new(host.clone()),
            journal_store: JournalStore::open(&dir.path().join("journal"), &dir.path().join("mirror")).unwrap(),
            policy: Policy::default(),
            kinds: Kinds {
                find: agent_faults::find,
                catalogue: agent_faults::catalogue,
            },
            latches: Latches::open(dir.path()),
            guardian: Box::new(Guard(Arc::new(AtomicBool::new(true)), Arc::default())),
            reports: Box::new(move |report| drop(sender.lock().unwrap().send(report))),
        };
        Self {
            host,
            warden: Warden::new(parts).unwrap(),
            reports,
            _dir: dir,
        }
    }

    fn start(&mut self, kind: &str, params: Value) -> (InjectionId, AgentFact) {
        let injection = InjectionId::generate();
        let order = StartOrder {
            injection: injection.clone(),
            run: RunId::generate(),
            lease_ms: 60_000,
            plan_digest: PlanDigest("sha256:0".into()),
            wish: Wish {
                fault: FaultKind::parse(kind).unwrap(),
                params,
                duration_ms: 200_000,
                seed: 1,
                beside: Vec::new(),
                unattended: false,
            },
        };
        self.warden.command(Command::Start(order, Box::new(drop)));
        let fact = self.reports.try_iter().filter(|report| report.injection == injection).last();
        (injection, fact.expect("an answer").fact)
    }

    fn refused(&mut self, kind: &str, params: Value) -> String {
        match self.start(kind, params) {
            (_, AgentFact::Refused(refusal)) if refusal.code == "conflict" => refusal.message,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn holds(&mut self, kind: &str, params: Value) -> InjectionId {
        match self.start(kind, params) {
            (id, AgentFact::Applied(_)) => id,
            other => panic!("not applied: {other:?}"),
        }
    }

    /// Time passes on the host while the looks run on threads of their own.
    fn until(&mut self, what: &str, holds: impl Fn(&FakeHost, &[AgentReport]) -> bool) {
        let (begun, mut reports) = (Instant::now(), Vec::new());
        while !holds(&self.host, &reports) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {reports:?}");
            self.host.advance(100);
            self.warden.tick();
            reports.extend(self.reports.try_iter());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| Network::parse(text).unwrap()).collect()
}

fn is_kept(report: &AgentReport) -> bool {
    let AgentFact::Observed(seen) = &report.fact else { return false };
    seen.observation.note.as_ref().is_some_and(|note| note.contains("are kept"))
}

#[test]
fn a_fault_follows_its_name_and_a_failed_look_changes_nothing() {
    let mut desk = Desk::new();
    let id = desk.holds("network.partition", json!({"to": ["db.example", "192.0.2.99"]}));
    let peers = |host: &FakeHost| host.traffic_spec(&id).map(|spec| spec.peers).unwrap_or_default();
    assert_eq!(peers(&desk.host), networks(&["192.0.2.10", "192.0.2.99"]));
    let moved: IpAddr = "192.0.2.77".parse().unwrap();
    desk.host.set_name("db.example", vec![moved]);
    let expected = networks(&["192.0.2.77", "192.0.2.99"]);
    desk.until("the peers are replaced", |host, _| peers(host) == expected);
    desk.host.set_name("db.example", Vec::new());
    desk.until("the failed look is reported", |_, reports| reports.iter().any(is_kept));
    assert_eq!(peers(&desk.host), expected);
}

#[test]
fn a_path_beside_the_interface_follows_its_name_as_well() {
    let mut desk = Desk::new();
    let id = desk.holds(
        "network.delay",
        json!({"to": ["db.example"], "except": ["192.0.2.1"], "delay": "100ms"}),
    );
    let packets = |host: &FakeHost| host.path_spec(&id).and_then(|(_, spec)| spec).map(|spec| spec.packets);
    assert_eq!(packets(&desk.host).unwrap().peers, networks(&["192.0.2.10"]));
    desk.host.set_name("db.example", vec!["192.0.2.77".parse().unwrap()]);
    let expected = networks(&["192.0.2.77"]);
    desk.until("the peers are replaced", |host, _| {
        packets(host).is_some_and(|packets| packets.peers == expected)
    });
    assert_eq!(packets(&desk.host).unwrap().except, networks(&["192.0.2.1"]));
}

fn is_not_followed(report: &AgentReport) -> bool {
    let AgentFact::Observed(seen) = &report.fact else { return false };
    let note = seen.observation.note.as_deref().unwrap_or_default();
    seen.observation.state == EffectState::Unknown && note.contains("could not be followed for")
}

#[test]
fn a_name_that_cannot_be_followed_to_the_end_leaves_the_last_window_unknown() {
    let mut desk = Desk::new();
    desk.holds("network.delay", json!({"to": ["db.example"], "delay": "100ms"}));
    // The path does not begin at the interface behind which the name is from now on.
    desk.host.add_interface("eth1", Network::parse("198.51.100.0/24").unwrap());
    desk.host.set_name("db.example", vec!["198.51.100.7".parse().unwrap()]);
    desk.until("the last window says that the name is not followed", |_, reports| {
        let end = reports.iter().position(|report| matches!(report.fact, AgentFact::Ending(_)));
        let windows = reports[..end.unwrap_or(0)].iter().rev();
        let mut windows = windows.filter(|report| matches!(report.fact, AgentFact::Observed(_)));
        windows.next().is_some_and(is_not_followed)
    });
}

#[test]
fn a_path_whose_filters_somebody_else_removes_ends_its_fault_with_the_reason() {
    let mut desk = Desk::new();
    let id = desk.holds("network.delay", json!({"to": ["192.0.2.10"], "delay": "100ms"}));
    assert!(desk.host.clone().close_path(&id).unwrap());
    let ended = |report: &AgentReport| matches!(&report.fact, AgentFact::Ending(ending) if format!("{ending:?}").contains("2 of 2 filters on eth0"));
    desk.until("it ends early", |_, reports| reports.iter().any(ended));
    desk.until("nothing is left", |host, _| host.our_paths().is_ok_and(|things| things.is_empty()));
}

#[test]
fn packets_are_wanted_once_whatever_the_kind_and_however_the_peer_is_written() {
    let mut desk = Desk::new();
    let delay = desk.holds("network.delay", json!({"to": ["192.0.2.10"], "delay": "100ms"}));
    for (kind, params) in [
        ("network.loss", json!({"to": ["192.0.2.0/24"], "percent": 10})),
        ("network.partition", json!({"to": ["any"]})),
        ("network.delay", json!({"to": ["db.example"], "delay": "1s"})),
    ] {
        let message = desk.refused(kind, params);
        assert!(message.contains("network.delay") && message.contains(delay.as_str()), "{message}");
    }
    desk.holds("network.loss", json!({"to": ["192.0.2.10"], "percent": 10, "direction": "in"}));
    desk.holds("network.loss", json!({"to": ["192.0.2.11"], "percent": 10}));
    desk.holds("network.partition", json!({"to": ["192.0.2.12"]}));
}

fn reports_a_gap(report: &AgentReport) -> bool {
    let AgentFact::Observed(seen) = &report.fact else { return false };
    let note = seen.observation.note.as_deref().unwrap_or_default();
    note.contains("nginx.service was made anew 1 times, and its packets came through for up to")
}

fn reports_its_absence(report: &AgentReport) -> bool {
    let AgentFact::Observed(seen) = &report.fact else { return false };
    seen.observation
        .note
        .as_deref()
        .unwrap_or_default()
        .contains("nginx.service does not run now")
}

#[test]
fn a_fault_on_a_unit_follows_it_through_its_restart_and_tells_the_gap() {
    for (kind, more) in [
        ("network.partition", json!({})),
        ("network.loss", json!({"percent": 10})),
        ("network.loss", json!({"percent": 10, "correlation": 50})),
        ("network.delay", json!({"delay": "100ms"})),
    ] {
        let mut desk = Desk::new();
        let mut params = json!({"to": ["192.0.2.99"], "unit": "nginx"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id = desk.holds(kind, params);
        let ids = |host: &FakeHost| {
            host.traffic_spec(&id)
                .and_then(|spec| spec.groups)
                .map(|groups| groups.ids)
                .unwrap_or_default()
        };
        let path = "/system.slice/nginx.service";
        let first = desk.host.unified_group(path).unwrap().unwrap().id;
        assert_eq!(ids(&desk.host), [first], "{kind}");
        desk.host.set_group(path, None);
        desk.until("its absence is reported", |_, reports| reports.iter().any(reports_its_absence));
        assert_eq!(ids(&desk.host), [first], "{kind}: what is left of it is still meant");
        desk.host.set_group(path, Some(4_711));
        desk.until("the group is followed", |host, _| ids(host) == [first, 4_711]);
        desk.until("the gap is reported", |_, reports| reports.iter().any(reports_a_gap));
    }
}

#[test]
fn a_unit_that_is_started_anew_is_followed_within_half_a_second() {
    let (mut desk, path) = (Desk::new(), "/system.slice/nginx.service");
    let id = desk.holds("network.partition", json!({"to": ["192.0.2.99"], "unit": "nginx"}));
    let first = desk.host.unified_group(path).unwrap().unwrap().id;
    desk.warden.tick();
    desk.host.set_group(path, Some(4_711));
    let mut waited = 0;
    while waited < 500 {
        let pause = desk.warden.idle_ms();
        assert!(pause > 0 && pause <= 250, "{pause} ms");
        desk.host.advance(pause);
        waited += pause;
        desk.warden.tick();
    }
    let groups = desk.host.traffic_spec(&id).and_then(|spec| spec.groups);
    assert_eq!(groups.map(|groups| groups.ids), Some(vec![first, 4_711]));
}

/// How many looks there were at the tick after nginx was started anew, and whether it was followed later only.
fn start_anew(failing_look: Option<u64>) -> (u64, bool) {
    let (mut desk, path) = (Desk::new(), "/system.slice/nginx.service");
    let id = desk.holds("network.partition", json!({"to": ["192.0.2.99"], "unit": "nginx"}));
    let ids = |host: &FakeHost| {
        let groups = host.traffic_spec(&id).and_then(|spec| spec.groups);
        groups.map(|groups| groups.ids).unwrap_or_default()
    };
    let first = desk.host.unified_group(path).unwrap().unwrap().id;
    desk.host.advance(1_000);
    desk.warden.tick();
    desk.host.set_group(path, Some(4_711));
    desk.host.advance(1_000);
    desk.host.fail_nth_look(failing_look);
    desk.warden.tick();
    let looks = desk.host.fail_nth_look(None);
    // Where it cannot be seen that the rules are there, the fault ends.
    if desk.reports.try_iter().any(|report| matches!(report.fact, AgentFact::Ending(_))) {
        return (looks, false);
    }
    let is_late = ids(&desk.host) != [first, 4_711];
    desk.until(&format!("look {failing_look:?} failed: the group is followed"), |host, _| {
        ids(host) == [first, 4_711]
    });
    desk.until(&format!("look {failing_look:?} failed: the gap is reported"), |_, reports| {
        reports.iter().any(reports_a_gap)
    });
    (looks, is_late)
}

#[test]
fn a_unit_that_cannot_be_followed_at_once_is_followed_later() {
    let (looks, is_late) = start_anew(None);
    assert!(!is_late);
    let late = (1..=looks).filter(|nth| start_anew(Some(*nth)).1).count();
    assert!(late >= 2, "the group and the mounts are looked at: {late} of {looks}");
}

#[test]
fn two_units_are_no_conflict_on_the_way_to_one_peer() {
    let mut desk = Desk::new();
    desk.holds("network.delay", json!({"to": ["192.0.2.10"], "delay": "100ms", "unit": "nginx"}));
    desk.holds("network.loss", json!({"to": ["192.0.2.0/24"], "percent": 10, "unit": "postgresql"}));
    for other in [
        json!({}),
        json!({"unit": "nginx.service"}),
        json!({"group": "/system.slice/nginx.service"}),
    ] {
        let mut params = json!({"to": ["192.0.2.10"]});
        params.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        desk.refused("network.partition", params);
    }
}

#[test]
fn a_unit_that_the_host_needs_is_refused_by_its_name() {
    let mut desk = Desk::new();
    for (whose, path) in [
        (json!({"unit": "ssh"}), "params.unit"),
        (json!({"unit": "fracas-agent"}), "params.unit"),
        (json!({"group": "/system.slice"}), "params.group"),
    ] {
        let mut params = json!({"to": ["192.0.2.10"]});
        params.as_object_mut().unwrap().extend(whose.as_object().unwrap().clone());
        let (_, AgentFact::Refused(refusal)) = desk.start("network.partition", params) else {
            panic!("not refused: {whose}")
        };
        assert_eq!((refusal.code.as_str(), refusal.path.as_str()), ("protected", path), "{refusal}");
    }
}
