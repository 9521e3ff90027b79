//! The units as systemd reads them, and how exposed it finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests_harness::{packages, programs};

/// The most exposure, in tenths, that `systemd-analyze security` may find; docs/install.md says the same.
const EXPOSURE: [(&str, u32); 4] = [
    ("fracas-agent.service", 46),
    ("fracas-rescue.service", 38),
    ("fracas-guard.service", 41),
    ("fracas-controller.service", 17),
];

fn units() -> BTreeMap<String, String> {
    let folder = programs::repository().join("deploy/systemd");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

/// Ours, then systemd's own where it was unpacked, then the machine's.
fn unit_path(ours: &Path) -> String {
    let unpacked = ["usr/lib/systemd/system", "lib/systemd/system"].map(packages::unpacked);
    let folders = [ours].into_iter().chain(unpacked.iter().flatten().map(PathBuf::as_path));
    folders.fold(String::new(), |path, folder| format!("{path}{}:", folder.display()))
}

#[test]
fn systemd_accepts_every_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return tests_notes::skip("systemd-analyze is not installed (Debian package systemd)");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).env("SYSTEMD_UNIT_PATH", unit_path(dir.path()));
    for (name, text) in units() {
        let path = dir.path().join(&name);
        // The programs are not installed here.
        let text = ["agent", "controller"]
            .iter()
            .fold(text, |text, name| text.replace(&format!("/usr/bin/fracas-{name}"), "/bin/true"));
        fs::write(&path, text).unwrap();
        verify.arg(&path);
    }
    let output = verify.output().unwrap();
    // What it does not know it only warns of.
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (name, most) in EXPOSURE {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &format!("--threshold={most}")])
            .arg(dir.path().join(name))
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The words behind a key, of all lines that have it.
fn words(unit: &str, key: &str) -> BTreeSet<String> {
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn undoing_has_no_capability_of_workers_and_no_unit_has_what_nothing_uses() {
    let units = units();
    let allowed = |unit: &str, key: &str| words(&units[unit], key);
    let agent = allowed("fracas-agent.service", "CapabilityBoundingSet");
    let undoing = ["fracas-guard.service", "fracas-rescue.service"];
    for capability in ["CAP_NET_RAW", "CAP_IPC_LOCK"] {
        assert!(agent.contains(capability), "{capability}");
        for unit in undoing {
            assert!(!allowed(unit, "CapabilityBoundingSet").contains(capability), "{unit}: {capability}");
        }
    }
    // What undoes starts no process, so it has none as another user either.
    let more = [
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_CHOWN",
        "CAP_FOWNER",
    ];
    let less: BTreeSet<String> = agent
        .into_iter()
        .filter(|capability| !more.contains(&capability.as_str()))
        .collect();
    for unit in undoing {
        assert_eq!(allowed(unit, "CapabilityBoundingSet"), less, "{unit}");
    }
    for unit in units.keys().filter(|name| name.ends_with(".service")) {
        assert!(!allowed(unit, "CapabilityBoundingSet").contains("CAP_SYS_NICE"), "{unit}");
        assert!(!allowed(unit, "RestrictAddressFamilies").contains("AF_PACKET"), "{unit}");
    }
}

/// Each was seen to be needed on real hosts for faults to end in time.
#[test]
fn the_agent_s_unit_has_what_the_promise_stands_on() {
    let units = units();
    let agent = &units["fracas-agent.service"];
    for line in [
        "Type=notify",
        "WatchdogSec=20",
        "KillMode=mixed",
        "OOMPolicy=continue",
        "OOMScoreAdjust=-900",
        "ExecStartPre=/usr/bin/fracas-agent check-config",
        "ExecStopPost=/usr/bin/fracas-agent rescue --patience 5",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "Wants=fracas-guard.path",
        "RequiresMountsFor=/var/lib/fracas",
        "MemoryMin=24M",
        "Delegate=yes",
        "Also=fracas-rescue.service fracas-guard.path",
    ] {
        assert!(agent.lines().any(|found| found == line), "{line}");
    }
    let set = |unit: &str, key: &str| units[unit].lines().any(|line| line.starts_with(key));
    for key in [
        "RuntimeDirectory=",
        "ProtectKernelModules=",
        "ProtectControlGroups=",
        "PrivateNetwork=",
        "PrivateTmp=",
        "ProtectHome=",
    ] {
        assert!(!set("fracas-agent.service", key), "{key}");
    }
    for unit in [
        "fracas-agent.service",
        "fracas-rescue.service",
        "fracas-guard.service",
        "fracas-guard.path",
    ] {
        let after = units[unit].lines().filter(|line| line.starts_with("After="));
        assert!(
            after.into_iter().all(|line| !line.contains("network")),
            "{unit} waits for the network"
        );
    }
    for line in [
        "ExecStart=/usr/bin/fracas-agent rescue --patience 0",
        "DefaultDependencies=no",
        "Before=network-pre.target multi-user.target shutdown.target",
        "Wants=network-pre.target",
        "WantedBy=multi-user.target",
    ] {
        assert!(units["fracas-rescue.service"].lines().any(|found| found == line), "{line}");
    }
    assert!(set("fracas-guard.path", "DirectoryNotEmpty=/var/lib/fracas/agent/journal"));
    assert!(set("fracas-guard.service", "Restart=on-failure") && set("fracas-guard.service", "StartLimitIntervalSec=0"));
    for unit in ["fracas-agent.service", "fracas-guard.service"] {
        assert!(set(unit, "Slice=fracas.slice"), "{unit}");
    }
    assert!(set("fracas-controller.service", "User=fracas-controller"));
    assert!(units["fracas-controller.service"].contains("\nCapabilityBoundingSet=\n"));
}
