//! Who runs as what, read from /proc while an agent runs: the page says it, and the kernel must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use serde_json::json;

use crate::agent::{Agent, guardian_of, is_root, paths, wait_until};

/// `Uid`, `CapEff` and so on of a process.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(key, value)| (key.to_owned(), value.trim().replace('\t', " ")))
        .collect()
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    listed
        .flat_map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The child of this process whose second word is `verb`, such as `session`.
fn child(of: u32, verb: &str) -> Option<u32> {
    children(of).into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == verb.as_bytes())
    })
}

/// Waits until the kernel says all of it: rights are given up one after the other.
fn expect(pid: u32, expected: &[(&str, &str)]) {
    let says = |found: &BTreeMap<String, String>| {
        let wrong = |(key, value): &&(&str, &str)| found.get(*key).map(String::as_str) != Some(*value);
        expected.iter().find(wrong).map(|(key, _)| (*key).to_owned())
    };
    let all = wait_until(Duration::from_secs(15), || says(&status(pid)).is_none());
    let found = status(pid);
    assert!(all, "{:?} of {pid}: {found:?}", says(&found));
}

/// How many filters of system calls are in force.
fn filters(pid: u32) -> u32 {
    status(pid)["Seccomp_filters"].parse().unwrap()
}

fn four(user: &str) -> String {
    let id = nix::unistd::User::from_name(user).unwrap().unwrap().uid.as_raw();
    format!("{id} {id} {id} {id}")
}

const NO_CAPABILITY: &str = "0000000000000000";
/// As bits of a set, by capability.h.
const DAC_READ_SEARCH: u64 = 1 << 2;
const IPC_LOCK: u64 = 1 << 14;
const SYS_RESOURCE: u64 = 1 << 24;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(dir: &Path) -> Running {
    Running(crate::manners::run(&paths(dir)))
}

#[test]
fn a_session_has_no_rights_and_no_way_to_any() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let agent = run(dir.path());
    let of = agent.0.id();
    assert!(wait_until(Duration::from_secs(15), || child(of, "session")
        .is_some_and(|pid| { status(pid).get("Seccomp").is_some_and(|mode| mode == "2") })));
    let session = child(of, "session").unwrap();
    let nobody = four("nobody");
    let rights = [
        ("Uid", nobody.as_str()),
        ("Groups", ""),
        ("CapInh", NO_CAPABILITY),
        ("CapPrm", NO_CAPABILITY),
        ("CapEff", NO_CAPABILITY),
        ("CapBnd", NO_CAPABILITY),
        ("CapAmb", NO_CAPABILITY),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ];
    expect(session, &rights);
    assert!(
        wait_until(Duration::from_secs(5), || filters(session) == filters(of) + 2),
        "{:?}",
        status(session)
    );
    // Each of its threads, not only the first.
    let threads = || std::fs::read_dir(format!("/proc/{session}/task")).unwrap().flatten();
    assert!(wait_until(Duration::from_secs(5), || threads().count() >= 4));
    for task in threads() {
        let id = task.file_name().to_str().unwrap().parse().unwrap();
        // One that ends meanwhile says nothing.
        if !status(id).is_empty() {
            expect(id, &rights);
        }
    }
    let score = std::fs::read_to_string(format!("/proc/{session}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "0", "it has the agent's place when memory runs out");
    // The agent itself keeps its rights, and opens no socket of the network.
    expect(of, &[("Uid", "0 0 0 0")]);
    assert_eq!(sockets_of_the_network(of), 0);
}

/// Sockets over TCP or UDP among the descriptors of a process.
fn sockets_of_the_network(pid: u32) -> usize {
    let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"];
    let open: Vec<String> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|text| {
            text.lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(9).map(str::to_owned))
                .collect::<Vec<_>>()
        })
        .collect();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let inode = |link: String| {
        link.strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
            .map(str::to_owned)
    };
    links
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|link| inode(link.to_string_lossy().into_owned()))
        .filter(|inode| open.contains(inode))
        .count()
}

#[test]
fn a_session_that_is_killed_is_replaced_and_one_without_its_agent_ends() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let agent = run(dir.path());
    let of = agent.0.id();
    assert!(wait_until(Duration::from_secs(15), || child(of, "session").is_some()));
    let first = child(of, "session").unwrap();
    let pid = |pid: u32| rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid(first), rustix::process::Signal::KILL).unwrap();
    assert!(wait_until(Duration::from_secs(15), || child(of, "session").is_some_and(|now| now != first)));
    let second = child(of, "session").unwrap();
    drop(agent);
    assert!(
        wait_until(Duration::from_secs(5), || status(second).is_empty()),
        "the session outlives its agent"
    );
}

/// What the unit of the last guard leaves it, as bits of a set.
fn bits_of_the_last_guard() -> u64 {
    let unit = include_str!("../../../../deploy/systemd/fracas-guard.service");
    let known = [
        ("DAC_OVERRIDE", 1),
        ("DAC_READ_SEARCH", 2),
        ("KILL", 5),
        ("NET_ADMIN", 12),
        ("SYS_PTRACE", 19),
        ("SYS_ADMIN", 21),
        ("SYS_RESOURCE", 24),
        ("PERFMON", 38),
        ("BPF", 39),
    ];
    let bit = |word: &str| {
        let name = word.strip_prefix("CAP_").unwrap_or(word);
        let found = known.iter().find(|(known, _)| *known == name);
        1_u64 << found.unwrap_or_else(|| panic!("{word} is not known to this test")).1
    };
    let lines = unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    lines.flat_map(str::split_whitespace).map(bit).fold(0, |all, bit| all | bit)
}

/// Units that start a process of ours on a host, by their files' names.
const UNITS: [(&str, &str); 3] = [
    (
        "fracas-agent.service",
        include_str!("../../../../deploy/systemd/fracas-agent.service"),
    ),
    (
        "fracas-guard.service",
        include_str!("../../../../deploy/systemd/fracas-guard.service"),
    ),
    (
        "fracas-rescue.service",
        include_str!("../../../../deploy/systemd/fracas-rescue.service"),
    ),
];

/// The words of a setting that a unit may give on several lines.
fn words<'a>(unit: &'a str, setting: &str) -> BTreeSet<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    let values = lines.filter(|(key, _)| *key == setting).map(|(_, value)| value);
    values.flat_map(str::split_whitespace).collect()
}

#[test]
fn a_rescue_at_boot_is_confined_as_the_last_guard_and_no_less_than_the_agent() {
    let [agent, guard, rescue] = UNITS.map(|(_, unit)| unit);
    for setting in ["CapabilityBoundingSet", "SystemCallFilter", "RestrictAddressFamilies"] {
        let (kept, allowed) = (words(rescue, setting), words(agent, setting));
        assert!(!kept.is_empty(), "{setting}");
        assert_eq!(kept, words(guard, setting), "{setting}");
        assert!(kept.is_subset(&allowed), "{setting}: {kept:?}");
    }
    let confines = |unit: &str| unit.lines().any(|line| line == "NoNewPrivileges=yes");
    assert!([agent, guard, rescue].into_iter().all(confines));
}

#[test]
fn whatever_a_unit_starts_has_its_row_of_the_page() {
    let page = include_str!("../../../../docs/privileges.md");
    let controller = include_str!("../../../../deploy/systemd/fracas-controller.service");
    let mut started = BTreeSet::new();
    for (name, unit) in UNITS.into_iter().chain([("fracas-controller.service", controller)]) {
        assert!(
            page.lines().any(|line| line.starts_with("| `") && line.contains(name)),
            "no row names {name}"
        );
        let commands = unit.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once("=/usr/bin/"));
        // A program and its verb; further words say only how.
        started.extend(commands.map(|(_, command)| command.split(' ').take(2).collect::<Vec<_>>().join(" ")));
    }
    assert!(started.len() >= 5, "{started:?}");
    for command in started {
        let is_row = |line: &str| {
            line.strip_prefix("| ")
                .is_some_and(|row| row.split('|').next().unwrap().contains(&format!("`{command}")))
        };
        assert!(page.lines().any(is_row), "no row for {command}");
    }
}

#[test]
fn a_guardian_keeps_what_undoing_needs_and_no_more() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let agent = run(dir.path());
    let of = agent.0.id();
    assert!(wait_until(Duration::from_secs(15), || guardian_of(of).is_some()));
    let own = status(std::process::id());
    let kept = |set: &str| format!("{:016x}", u64::from_str_radix(&own[set], 16).unwrap() & bits_of_the_last_guard());
    let (bounding, permitted) = (kept("CapBnd"), kept("CapPrm"));
    if own["CapBnd"] == bounding {
        tests_notes::skip("this machine leaves root no capability that a guardian gives up");
        return;
    }
    expect(
        guardian_of(of).unwrap(),
        &[
            ("Uid", "0 0 0 0"),
            ("CapBnd", bounding.as_str()),
            ("CapPrm", permitted.as_str()),
            ("CapEff", permitted.as_str()),
            ("CapInh", NO_CAPABILITY),
            ("CapAmb", NO_CAPABILITY),
        ],
    );
}

#[test]
fn workers_keep_only_what_their_kind_says() {
    if !is_root() {
        return;
    }
    // On a machine that does not let root have all capabilities, a worker cannot have them either.
    let own = status(std::process::id());
    let own = u64::from_str_radix(&own["CapPrm"], 16).unwrap();
    let volume = tempfile::tempdir().unwrap();
    for (kind, params, keeps) in [
        ("cpu.burn", json!({ "percent": 5, "cores": 1 }), 0),
        ("memory.hog", json!({ "amount": "16MiB" }), IPC_LOCK),
        (
            "disk.fill",
            json!({ "path": volume.path(), "amount": "64MiB", "rate": "1MiB" }),
            DAC_READ_SEARCH | SYS_RESOURCE,
        ),
    ] {
        let capabilities = format!("{:016x}", keeps & own);
        let agent = Agent::holding(&[(kind, params)]);
        agent.applied();
        let of = agent.child.id();
        assert!(
            wait_until(Duration::from_secs(10), || child(of, "worker")
                .is_some_and(|pid| { status(pid).get("NoNewPrivs").is_some_and(|flag| flag == "1") })),
            "{kind}"
        );
        let worker = child(of, "worker").unwrap();
        let daemon = four("daemon");
        expect(
            worker,
            &[
                ("Uid", daemon.as_str()),
                ("Groups", ""),
                ("CapEff", capabilities.as_str()),
                ("CapPrm", capabilities.as_str()),
                ("CapBnd", NO_CAPABILITY),
                ("CapInh", NO_CAPABILITY),
            ],
        );
    }
}

#[test]
fn without_its_users_an_agent_does_not_start_and_says_what_to_do() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    std::fs::write(&paths.config, "[users]\nsession = \"no-such-user\"\n").unwrap();
    let output = crate::manners::command(&paths, &["run"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("users.session in agent.toml: this host has no user \"no-such-user\""),
        "{error}"
    );
    assert!(error.contains("useradd --system"), "{error}");
}
