//! What is protected, with its reason: always, by kinship with the agent, and by the host's policy.

use std::path::Path;

use agent_faults::{Protection, Scene};
use agent_journal::Opened;
use agent_levers::fake::{AGENT_PID, FakeHost};
use agent_levers::{Exemptions, JournalStore, Levers, PullContext};
use agent_view::{HostView, Process};
use agent_warden::{Policy, ProtectedResources};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::problem::Refusal;
use serde_json::json;

fn reason(policy: &str, pick: impl Fn(&Process) -> bool, mend: impl Fn(&mut Process)) -> Option<String> {
    let host = FakeHost::new();
    let policy = Policy::parse(policy, Path::new("agent.toml")).unwrap();
    let mut process = host.processes().unwrap().into_iter().find(|p| pick(p)).unwrap();
    mend(&mut process);
    ProtectedResources::of(&policy, &host).process(&process)
}

fn named(name: &'static str) -> impl Fn(&Process) -> bool {
    move |process| process.name == name
}

#[test]
fn what_a_host_needs_is_always_protected() {
    let always = |name| reason("", named(name), |_| {});
    assert_eq!(always("systemd").as_deref(), Some("it is the init process"));
    assert_eq!(always("kthreadd").as_deref(), Some("it is a kernel thread"));
    assert!(always("sshd").is_some());
    assert_eq!(
        reason("", |p| p.pid == AGENT_PID, |p| p.name = "renamed".into()).as_deref(),
        Some("it is the agent")
    );
    assert_eq!(always("redis-server"), None);
    for ours in ["fracas", "fracas-controller", "fracas-agent"] {
        let installed = |p: &mut Process| p.exe = Some(format!("/usr/bin/{ours}"));
        assert!(reason("", named("nginx"), installed).is_some(), "{ours}");
        let look_alike = |p: &mut Process| {
            p.name = ours.into();
            p.exe = Some(format!("/home/eve/{ours}"));
            p.installed_program = false;
        };
        assert_eq!(reason("", named("nginx"), look_alike), None, "{ours}");
    }
    let session = |p: &mut Process| (p.name, p.our_program) = ("fracas-session".into(), true);
    assert!(reason("", named("nginx"), session).is_some());
}

/// One of nginx's processes under this name, with these real, effective and saved uids.
fn looking_like(name: &str, uids: (u32, u32, u32), parent: u32, group: &str) -> Option<String> {
    let disguise = |p: &mut Process| {
        p.name = name.to_owned();
        (p.real_uid, p.uid, p.saved_uid) = uids;
        p.parent = parent;
        p.groups = vec![group.to_owned(), "/".to_owned()];
    };
    reason("", named("nginx"), disguise)
}

const SSHD: u32 = 400;
const OF_USER: (u32, u32, u32) = (1_000, 1_000, 1_000);
const SESSION: &str = "/user.slice/user-1000.slice/session-3.scope";

#[test]
fn a_process_that_a_user_has_named_so_is_not_what_the_host_needs() {
    let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service";
    for name in [
        "sshd",
        "sshd-session",
        "dbus-daemon",
        "dbus-broker",
        "dbus-broker-lau",
        "systemd-journal",
        "systemd-journald",
    ] {
        for (uids, parent, group) in [
            (OF_USER, 1, own),
            (OF_USER, SSHD, own),
            // A program of root's with the setuid bit, by a link of this name.
            ((1_000, 0, 0), 1, own),
            ((0, 0, 0), 1, own),
            (OF_USER, 1, SESSION),
            (OF_USER, 1_100, "/system.slice/nginx.service"),
        ] {
            assert_eq!(looking_like(name, uids, parent, group), None, "{name}: {uids:?} {parent} {group}");
        }
        for (uids, group) in [
            ((0, 0, 0), "/system.slice/ssh.service"),
            ((81, 81, 81), "/system.slice/dbus.service"),
            ((0, 0, 0), "/user.slice/user-0.slice/user@0.service/app.slice/x.service"),
            // What may be root's, or cannot be read, is in doubt.
            ((1_000, 1_000, 0), SESSION),
            ((1_000, 0, 1_000), SESSION),
            ((u32::MAX, u32::MAX, u32::MAX), SESSION),
        ] {
            let why = looking_like(name, uids, 1, group);
            assert_eq!(why.as_deref(), Some("the host needs it"), "{name}: {uids:?} {group}");
        }
    }
}

#[test]
fn sessions_of_roots_sshd_are_protected_wherever_their_group_is() {
    for name in ["sshd", "sshd-session"] {
        for group in [SESSION, "/system.slice/ssh.service", "/"] {
            assert!(looking_like(name, OF_USER, SSHD, group).is_some(), "{name}: {group}");
        }
        // Its parent has ended at this moment.
        assert!(looking_like(name, OF_USER, 9_999, SESSION).is_some(), "{name}");
    }
    assert_eq!(looking_like("dbus-daemon", OF_USER, SSHD, SESSION), None);
    let (host, policy) = (FakeHost::new(), Policy::default());
    let of_user = |pid: u32, parent: u32, name: &str| {
        let sshd = host.process(SSHD).unwrap().unwrap();
        let process = Process {
            pid,
            parent,
            name: name.to_owned(),
            uid: 1_000,
            real_uid: 1_000,
            saved_uid: 1_000,
            groups: vec![SESSION.to_owned()],
            ..sshd
        };
        host.add_process(process.clone());
        process
    };
    let session = of_user(6_400, SSHD, "sshd-session");
    let transfer = of_user(6_401, 6_400, "sshd-session");
    let (shell, look_alike) = (of_user(6_402, 6_400, "bash"), of_user(6_403, 6_402, "sshd"));
    let protected = ProtectedResources::of(&policy, &host);
    assert!(protected.process(&session).is_some() && protected.process(&transfer).is_some());
    assert_eq!((protected.process(&shell), protected.process(&look_alike)), (None, None));
    host.fail_nth_look(Some(1));
    assert!(protected.process(&look_alike).is_some(), "its parent cannot be read");
}

#[test]
fn where_programs_cannot_be_read_the_names_of_ours_protect() {
    let unreadable = |name: &'static str| {
        let unread = move |p: &mut Process| {
            p.name = name.to_owned();
            (p.exe, p.our_program, p.installed_program) = (None, false, false);
        };
        reason("", named("nginx"), unread)
    };
    // The kernel cuts the controller's name.
    for ours in ["fracas", "fracas-agent", "fracas-controll", "fracas-session", "fracas-worker"] {
        assert_eq!(unreadable(ours).as_deref(), Some("it is one of Fracas's own programs"), "{ours}");
    }
    for other in ["nginx", "fracas-demo", "bash"] {
        assert_eq!(unreadable(other), None, "{other}");
    }
}

#[test]
fn one_that_cannot_be_read_is_protected_where_it_may_be_one_of_ours() {
    let unread = |name: &'static str, uid: u32, exe: &'static str| {
        let unread = move |p: &mut Process| {
            (p.uid, p.real_uid, p.saved_uid) = (uid, uid, uid);
            (p.exe, p.our_program, p.installed_program) = (Some(exe.to_owned()), false, false);
            p.command_line.clear();
            p.unread = Some("process 1100 gave no answer".to_owned());
        };
        reason("", named(name), unread)
    };
    let may_be_ours = Some("it may be one of Fracas's own programs: process 1100 gave no answer");
    assert_eq!(unread("nginx", 0, "/usr/sbin/nginx").as_deref(), may_be_ours);
    for ours in ["/usr/bin/fracas", "/usr/bin/fracas-agent", "/opt/fracas-controller"] {
        assert_eq!(unread("nginx", 1_000, ours).as_deref(), may_be_ours, "{ours}");
    }
    assert_eq!(unread("nginx", 1_000, "/mnt/dead/nginx"), None);
    assert!(unread("sshd", 100, "/mnt/dead/sshd").unwrap().contains("the host needs it"));

    let host = FakeHost::new();
    host.set_worker_uid(33);
    host.hang_programs([1_101]);
    let nginx = host.process(1_101).unwrap().unwrap();
    let policy = Policy::default();
    let why = ProtectedResources::of(&policy, &host).process(&nginx).unwrap();
    assert!(
        why.contains("may be one of Fracas's own") && why.contains("process 1101 (nginx)"),
        "{why}"
    );
}

#[test]
fn workers_of_injections_are_protected_and_look_alikes_are_not() {
    let in_group = |group: &'static str| reason("", named("nginx"), move |p| p.groups = vec![group.to_owned()]);
    assert!(in_group("/fracas-0123456789abcdef").is_some());
    assert!(in_group("/fracas-0123456789abcdef/below").is_some());
    for elsewhere in [
        "/fracas-demo/web",
        "/hosts/fracas-0123456789abcdef",
        "/user.slice/fracas-0123456789abcdef",
    ] {
        assert_eq!(in_group(elsewhere), None, "{elsewhere}");
    }
}

#[test]
fn the_policy_protects_by_name_and_by_unit() {
    let by_name = reason("[protect]\nprocesses = [\"redis-*\"]\n", named("redis-server"), |_| {});
    assert!(by_name.unwrap().contains("redis-*"));
    let by_unit = reason("[protect]\nunits = [\"nginx\"]\n", named("nginx"), |_| {});
    assert!(by_unit.unwrap().contains("protect.units"));
}

#[test]
fn interfaces_ports_and_networks() {
    let host = FakeHost::new();
    host.set_network_mounts(vec!["192.0.2.9".parse().unwrap()]);
    let text = "[protect]\ninterfaces = [\"bond*\"]\nports = [\"9000-9010\"]\nnetworks = [\"10.0.0.0/8\"]\n";
    let policy = Policy::parse(text, Path::new("agent.toml")).unwrap();
    let protected = ProtectedResources::of(&policy, &host);
    assert!(protected.interface("lo").is_some() && protected.interface("bond0").is_some() && protected.interface("eth0").is_none());
    assert!(protected.port(22).is_some() && protected.port(9_005).is_some() && protected.port(80).is_none());
    let networks = protected.networks().unwrap();
    assert_eq!(
        networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "192.0.2.9"]
    );
    assert_eq!(protected.exemptions(&[]).networks, networks);
}

#[test]
fn unreadable_mounts_leave_the_policys_networks_exempt() {
    let host = FakeHost::new();
    let policy = Policy::parse("[protect]\nnetworks = [\"10.0.0.0/8\"]\n", Path::new("agent.toml")).unwrap();
    host.fail_nth_look(None);
    let expected = ProtectedResources::of(&policy, &host).networks().unwrap();
    let looks = host.fail_nth_look(None);
    let mut unreadable = 0;
    for nth in 1..=looks {
        host.fail_nth_look(Some(nth));
        let protected = ProtectedResources::of(&policy, &host);
        unreadable += u32::from(protected.networks().is_err());
        assert_eq!(protected.exemptions(&[]).networks, expected, "look {nth} of {looks}");
    }
    assert_eq!(unreadable, 1);
}

#[test]
fn unreadable_mounts_refuse_a_network_fault() {
    let (host, policy) = (FakeHost::new(), Policy::default());
    host.set_network_mounts(vec!["192.0.2.9".parse().unwrap()]);
    let partition = agent_faults::find(&FaultKind::parse("network.partition").unwrap()).unwrap();
    let params = partition.check(&json!({"to": ["198.51.100.7"]})).unwrap();
    let preflight = |failing: Option<u64>| {
        host.fail_nth_look(failing);
        let protected = ProtectedResources::of(&policy, &host);
        let scene = Scene {
            view: &host,
            protection: &protected,
            seed: 1,
            duration_ms: 60_000,
        };
        partition.preflight(&params, &scene)
    };
    preflight(None).unwrap();
    let looks = host.fail_nth_look(None);
    let refusals: Vec<Refusal> = (1..=looks).filter_map(|n| preflight(Some(n)).err()).collect();
    let of_mounts = |refusal: &&Refusal| {
        refusal
            .message
            .contains("the mounts of this host cannot be read: read network mounts")
    };
    let of_mounts: Vec<&Refusal> = refusals.iter().filter(of_mounts).collect();
    assert_eq!(of_mounts.len(), 2, "by the host's protection and by the fault itself: {refusals:?}");
    for refusal in of_mounts {
        assert_eq!((refusal.code.as_str(), refusal.path.as_str()), ("unreadable", "params.to"));
        assert!(refusal.message.contains("can read /proc/thread-self/mountinfo"), "{refusal}");
    }
}

/// Mounts may become unreadable after the preflight.
#[test]
fn unreadable_mounts_keep_a_network_fault_from_acting() {
    let (host, policy) = (FakeHost::new(), Policy::default());
    let mut tries = (1..100).map(|nth| {
        host.fail_nth_look(Some(nth));
        ProtectedResources::of(&policy, &host)
    });
    let protected = tries.find(|protected| protected.networks().is_err());
    let protected = protected.expect("the mounts are looked at");
    host.fail_nth_look(None);
    let scene = Scene {
        view: &host,
        protection: &protected,
        seed: 1,
        duration_ms: 60_000,
    };
    for (kind, params) in [
        ("network.partition", json!({"to": ["192.0.2.7"]})),
        ("network.loss", json!({"to": ["192.0.2.7"], "percent": 10})),
        ("network.delay", json!({"to": ["192.0.2.7"], "delay": "100ms"})),
    ] {
        let fault = agent_faults::find(&FaultKind::parse(kind).unwrap()).unwrap();
        let (params, before, injection) = (fault.check(&params).unwrap(), host.footprint(), InjectionId::generate());
        let opened = Opened {
            injection: injection.clone(),
            run: String::new(),
            kind: kind.to_owned(),
            params: params.clone(),
            boot_id: host.boot_id(),
            opened_boot_ms: 0,
            deadline_boot_ms: 60_000,
            plan_digest: String::new(),
        };
        let context = PullContext {
            injection,
            kind: kind.to_owned(),
            seed: 1,
            deadline_boot_ms: 60_000,
            gate_ms: 60_000,
            exemptions: Exemptions::default(),
        };
        let (mut journal, mut hands) = (JournalStore::memory().create(opened).unwrap(), host.clone());
        let mut levers = Levers::new(&mut journal, &mut hands, &host, context);
        let error = fault.apply(&params, &scene, &mut levers).unwrap_err().to_string();
        assert!(error.contains("the mounts of this host cannot be read"), "{kind}: {error}");
        assert_eq!(host.footprint(), before, "{kind}");
    }
}

#[test]
fn what_cannot_be_read_is_protected() {
    let host = FakeHost::new();
    let text = "[protect]\npaths = [\"/var/lib/db\"]\n";
    let policy = Policy::parse(text, Path::new("agent.toml")).unwrap();
    let root = host.volume(Path::new("/")).unwrap().unwrap();
    let nginx = host.processes().unwrap().into_iter().find(named("nginx")).unwrap();
    host.fail_nth_look(None);
    let complete = ProtectedResources::of(&policy, &host);
    let looks = host.fail_nth_look(None);
    assert_eq!((complete.path(&root.path, &root), complete.process(&nginx)), (None, None));
    let protected = |failing: u64| {
        host.fail_nth_look(Some(failing));
        ProtectedResources::of(&policy, &host)
    };
    let volumes: Vec<String> = (1..=looks).filter_map(|n| protected(n).path(&root.path, &root)).collect();
    assert!(
        volumes.len() == 1 && volumes[0].contains("/var/lib/db, whose volume cannot be read"),
        "{volumes:?}"
    );
    let ancestors: Vec<String> = (1..=looks).filter_map(|n| protected(n).process(&nginx)).collect();
    assert!(
        !ancestors.is_empty() && ancestors.iter().all(|why| why.contains("ancestors cannot be read")),
        "{ancestors:?}"
    );
    let policy = Policy::parse("[reserve]\ndisk = \"0B\"\ndisk_percent = 0\n", Path::new("agent.toml")).unwrap();
    let blind = ProtectedResources::of(&policy, &host);
    host.fail_nth_look(Some(1));
    let blind = blind.with_journals(&["/var/lib/fracas/journal".into()], &host);
    assert_eq!(blind.disk_reserve(&root) >> 20, 64, "the journals may lie on any volume");
}

#[test]
fn a_volume_with_a_protected_path_is_protected_as_a_whole() {
    let host = FakeHost::new();
    let reason = |policy: &str, path: &str| {
        let policy = Policy::parse(policy, Path::new("agent.toml")).unwrap();
        let volume = host.volume(Path::new(path)).unwrap().unwrap();
        ProtectedResources::of(&policy, &host).path(&volume.path, &volume)
    };
    let policy = "[protect]\npaths = [\"/var/lib/db\"]\n";
    assert!(reason(policy, "/var/lib/db/x").is_some());
    assert!(reason(policy, "/var/tmp").unwrap().contains("/var/lib/db"));
    assert_eq!(reason(policy, "/srv"), None);
    assert_eq!(reason("", "/var/tmp"), None);
}

#[test]
fn reserves_come_from_the_policy_and_journals_keep_theirs() {
    let host = FakeHost::new();
    let volume = |path: &str| host.volume(Path::new(path)).unwrap().unwrap();
    let reserves = |policy: &str| {
        let policy = Policy::parse(policy, Path::new("agent.toml")).unwrap();
        let protected = ProtectedResources::of(&policy, &host).with_journals(&["/var/lib/fracas/journal".into()], &host);
        (
            protected.memory_reserve() >> 20,
            [volume("/"), volume("/var")].map(|v| protected.disk_reserve(&v) >> 20),
        )
    };
    assert_eq!(reserves(""), (512, [2_048, 1_024]));
    assert_eq!(reserves("[reserve]\nmemory = \"1GiB\"\ndisk = \"3GiB\"\n"), (1_024, [3_072, 3_072]));
    assert_eq!(
        reserves("[reserve]\nmemory = \"0B\"\ndisk = \"0B\"\ndisk_percent = 0\n"),
        (0, [0, 64])
    );
}
