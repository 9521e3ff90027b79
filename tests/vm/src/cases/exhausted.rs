//! What the agent needs itself is used up while faults act: disks, process ids, descriptors, processors; all is undone in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::shell::{BEGIN, END, elapsed, main_pid};
use super::trial::{AGENT, Before, injection, stop};
use super::{Case, Extent, Figures};
use crate::site::{BALLAST, LASTS, PARTITION, Site};

pub(super) const CASES: [Case; 6] = [
    Case {
        name: "own-volume",
        what: "the volume of the agent's journals has no space, and then no inode",
        extent: Extent::Long,
        run: own_volume,
    },
    Case {
        name: "full-root",
        what: "the root's volume is full",
        extent: Extent::Long,
        run: full_root,
    },
    Case {
        name: "read-only",
        what: "the root is remounted read-only",
        extent: Extent::Long,
        run: read_only,
    },
    Case {
        name: "pids",
        what: "there is no process id left",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, "pids", "cpu.burn percent=20"),
    },
    Case {
        name: "descriptors",
        what: "no file can be opened any more",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, "descriptors", "cpu.burn percent=20"),
    },
    Case {
        name: "processors",
        what: "every processor is kept busy by processes of the highest priority, and by a fault",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, "processors", "cpu.burn"),
    },
];

/// The bound where processors, process ids or descriptors are used up.
const EXHAUSTED: Duration = Duration::from_secs(6);
/// An undo that failed is tried again after at most 5 s.
const RETRIED: Duration = Duration::from_secs(5 + 2);
const GIVE_UP: Duration = Duration::from_secs(120);

const PAUSE: [&str; 2] = ["process.pause", "unit=nginx"];

/// The agent's folder gets a small volume of its own.
const MAKE_OWN: &str = "set -e; systemctl stop fracas-agent; truncate -s 64M /var/tmp/own.volume; mkfs.ext4 -q -N 256 /var/tmp/own.volume; \
    mkdir -p /var/tmp/own; mount -o loop /var/tmp/own.volume /var/tmp/own; rmdir /var/tmp/own/lost+found; \
    cp -a /var/lib/fracas/agent/. /var/tmp/own/; chmod 700 /var/tmp/own; umount /var/tmp/own; \
    mount -o loop /var/tmp/own.volume /var/lib/fracas/agent; systemctl start fracas-agent";
const REMOVE_OWN: &str = "set -e; systemctl stop fracas-agent; umount /var/lib/fracas/agent; mount -o loop /var/tmp/own.volume /var/tmp/own; \
    cp -a /var/tmp/own/. /var/lib/fracas/agent/; umount /var/tmp/own; rmdir /var/tmp/own; rm /var/tmp/own.volume; systemctl start fracas-agent";
/// Others take all that is left of the agent's volume; it fails unless nothing is left.
const NO_SPACE: &str = "dd if=/dev/zero of=/var/lib/fracas/agent/others bs=1M 2>/dev/null; dd if=/dev/zero of=/var/lib/fracas/agent/rest bs=512 2>/dev/null; \
    ! dd if=/dev/zero of=/var/lib/fracas/agent/rest bs=4k count=1 2>/dev/null";
const NO_INODE: &str = "cd /var/lib/fracas/agent && mkdir others && n=0; while touch others/$n 2>/dev/null; do n=$((n + 1)); done; \
    test $(stat -f -c %d /var/lib/fracas/agent) = 0";
const FREE: &str = "rm -rf /var/lib/fracas/agent/others /var/lib/fracas/agent/rest";

fn own_volume(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let bare = Before::look(site)?;
    site.machine().sh_within(MAKE_OWN, GIVE_UP)?.ok()?;
    site.ready()?;
    for (what, take) in [("no space", NO_SPACE), ("no inode", NO_INODE)] {
        let before = Before::look(site)?;
        let faults: [&[&str]; 3] = [&PARTITION, &BALLAST, &PAUSE];
        let runs: Vec<String> = faults.iter().map(|fault| site.attack(fault, LASTS)).collect::<Result<_>>()?;
        site.machine().sh_within(take, GIVE_UP)?.ok().context(what)?;
        expect_refusal(site, figures, what)?;
        site.expect_cut_off()?;
        for (fault, run) in faults.iter().zip(&runs) {
            stop(site, figures, &format!("{what}: {}", fault[0]), run)?;
        }
        site.machine().sh(FREE)?.ok()?;
        site.ready()?;
        before.expect(site).context(what)?;
    }
    site.machine().sh_within(REMOVE_OWN, GIVE_UP)?.ok()?;
    site.ready()?;
    bare.expect(site)
}

/// A host that cannot write down how to undo a fault is given none, and nothing on it is touched.
fn expect_refusal(site: &Site, figures: &mut Figures<'_>, what: &str) -> Result<()> {
    let before = site.footprint()?;
    let begin = Instant::now();
    let fault = ["network.delay", "delay=200ms", "protocol=udp", "to=192.0.2.10"];
    let refused = site.fracas(&[&["attack"], fault.as_slice(), &["--on", "web", "--for", "1m", "--detach"]].concat())?;
    ensure!(!refused.success(), "{what}: a fault is accepted: {}", refused.stdout);
    figures.note(format!("{what}: a fault is refused"), begin.elapsed());
    site.expect_footprint(&before)
}

/// Others take all of the root's volume, also what is kept for root.
const FILL_ROOT: &str = "left=$(($(stat -f -c '%f * %S' /var/tmp))); fallocate -l $((left - (64 << 20))) /var/tmp/others; \
    dd if=/dev/zero of=/var/tmp/rest bs=1M 2>/dev/null; dd if=/dev/zero of=/var/tmp/crumbs bs=512 2>/dev/null; \
    ! dd if=/dev/zero of=/var/tmp/none bs=4k count=1 2>/dev/null";
const EMPTY_ROOT: &str = "rm -f /var/tmp/others /var/tmp/rest /var/tmp/crumbs /var/tmp/none";
/// Nothing that a partition, a filled volume and a pause do is there.
const CLEAN: &str = "! nft list tables | grep -q fracas && ! ls -d /var/tmp/.fracas-* >/dev/null 2>&1 && \
    grep -q 'frozen 0' /sys/fs/cgroup/system.slice/nginx.service/cgroup.events && ping -c 1 -W 1 db >/dev/null 2>&1";

fn full_root(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let before = Before::look(site)?;
    for fault in [PARTITION.as_slice(), &BALLAST, &PAUSE] {
        site.attack(fault, LASTS)?;
    }
    site.machine().sh_within(FILL_ROOT, GIVE_UP)?.ok()?;
    expect_refusal(site, figures, "full root")?;
    // The controller keeps its store there as well, so that it may have ended its runs by now: what is promised is the halt.
    let took = halted_and(site, CLEAN)?;
    figures.add("full root: clean after a halt on the host", took, AGENT);
    site.machine().sh(EMPTY_ROOT)?.ok()?;
    released(site)?;
    before.expect(site)
}

/// Halts the agent on its host, and waits until a line of `sh` succeeds; returns how long both took.
fn halted_and(site: &Site, clean: &str) -> Result<Duration> {
    let line = format!("{BEGIN}; fracas-agent halt --reason measured >&2; until {clean}; do sleep 0.05; done; {END}");
    elapsed(&site.machine().sh_within(&line, GIVE_UP)?.ok()?)
}

fn released(site: &mut Site) -> Result<()> {
    site.machine().sh("fracas-agent release")?.ok()?;
    site.ready()
}

/// As the kernel does when it no longer trusts a disk: every write is refused, whoever has a file open.
const READ_ONLY: &str =
    "echo u >/proc/sysrq-trigger; until grep -q ' / ext4 ro' /proc/mounts; do sleep 0.1; done; ! touch /var/tmp/none 2>/dev/null";
const WRITABLE: &str = "mount -o remount,rw / && touch /var/tmp/none && rm /var/tmp/none";

fn read_only(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let before = Before::look(site)?;
    for fault in [PARTITION.as_slice(), &PAUSE] {
        site.attack(fault, LASTS)?;
    }
    site.machine().sh_within(READ_ONLY, GIVE_UP)?.ok()?;
    expect_refusal(site, figures, "read-only root")?;
    let took = halted_and(site, CLEAN)?;
    figures.add("read-only root: clean after a halt on the host", took, AGENT);
    site.machine().sh(WRITABLE)?.ok()?;
    released(site)?;
    before.expect(site)?;
    // A file on the disk that cannot be written waits for the disk, and is not forgotten.
    site.attack(&BALLAST, LASTS)?;
    site.machine().sh_within(READ_ONLY, GIVE_UP)?.ok()?;
    let halt = site.machine().sh_within("fracas-agent halt --reason measured", GIVE_UP)?;
    ensure!(
        !halt.success(),
        "a file on a read-only disk is printed to be removed: {}",
        halt.stdout
    );
    site.machine().sh("ls -d /var/tmp/.fracas-*")?.ok()?;
    let line = format!("{WRITABLE} && {BEGIN}; until {CLEAN}; do sleep 0.05; done; {END}");
    let printed = site.machine().sh_within(&line, GIVE_UP)?.ok()?;
    figures.add("the file is removed when the root is writable again", elapsed(&printed)?, RETRIED);
    released(site)?;
    before.expect(site)
}

/// What is held while a resource is used up: how it is typed, and how it shows to a process that starts no other.
struct Held {
    fault: &'static str,
    look: &'static str,
    /// `ID` stands for the injection's id.
    at: &'static str,
}

const HELD: [Held; 5] = [
    Held {
        fault: "memory.hog amount=64MiB",
        look: "exists",
        at: "/sys/fs/cgroup/fracas-ID",
    },
    Held {
        fault: "disk.fill amount=100MiB path=/var/tmp rate=50MiB",
        look: "exists",
        at: "/var/tmp/.fracas-ID",
    },
    Held {
        fault: "process.pause unit=nginx",
        look: "frozen",
        at: "/sys/fs/cgroup/system.slice/nginx.service/cgroup.events",
    },
    Held {
        fault: "network.partition direction=out protocol=udp to=db6",
        look: "refused",
        at: "DB6",
    },
    Held {
        fault: "network.delay delay=200ms protocol=icmp to=db4",
        look: "link",
        at: "fracas",
    },
];
const SCRIPT: &str = "/run/fracas-test-exhaust.py";

/// What the script prints: all times in seconds since boot.
#[derive(Debug, Deserialize)]
struct Watched {
    /// Injections whose effects were not there in the beginning.
    idle: Vec<String>,
    begin: f64,
    exhausted: bool,
    gone: BTreeMap<String, f64>,
}

fn exhausted(site: &mut Site, figures: &mut Figures<'_>, resource: &str, burn: &'static str) -> Result<()> {
    site.ready()?;
    let before = Before::look(site)?;
    site.machine().put(SCRIPT, include_str!("../../guest/exhaust.py"))?;
    let burn = Held {
        fault: burn,
        look: "exists",
        at: "/sys/fs/cgroup/fracas-ID",
    };
    // Last, since it slows down what comes after it.
    let held: Vec<&Held> = HELD.iter().chain([&burn]).collect();
    let mut ids = Vec::new();
    for one in &held {
        let words: Vec<&str> = one.fault.split_whitespace().collect();
        let run = site.attack(&words, LASTS)?;
        ids.push(injection(site, &run)?["id"].as_str().context("an injection has an id")?.to_owned());
    }
    let db6 = site.neighbour().v6().to_string();
    let look = |(one, id): (&&Held, &String)| json!({"id": id, "look": one.look, "at": one.at.replace("ID", id).replace("DB6", &db6)});
    let looks = json!(held.iter().zip(&ids).map(look).collect::<Vec<_>>()).to_string();
    let ends = lease_ends(site)?;
    let printed = site
        .machine()
        .exec(&["python3", SCRIPT, resource, &looks], b"", GIVE_UP * 2)?
        .ok()?;
    site.machine().sh(&signal_controller("CONT"))?.ok()?;
    let watched: Watched = serde_json::from_str(&printed)?;
    ensure!(
        watched.idle.is_empty(),
        "some faults did not act when there were no {resource} left: {watched:?}"
    );
    ensure!(watched.exhausted, "there were {resource} left: {watched:?}");
    for (one, id) in held.iter().zip(&ids) {
        let kind = one.fault.split(' ').next().unwrap_or_default();
        let end = ends.get(id).with_context(|| format!("{kind} has a lease"))?;
        let gone = watched
            .gone
            .get(id)
            .with_context(|| format!("{kind} was not undone: {watched:?}"))?;
        let late = Duration::try_from_secs_f64(gone - end).unwrap_or_default();
        figures.add(format!("{kind} is gone after its lease, with no {resource} left"), late, EXHAUSTED);
    }
    let last = watched.gone.values().fold(watched.begin, |last, gone| last.max(*gone));
    figures.note(
        format!("there were no {resource} left"),
        Duration::try_from_secs_f64(last - watched.begin)?,
    );
    site.machine().sh(&format!("rm {SCRIPT}"))?.ok()?;
    site.ready()?;
    before.expect(site)
}

/// Stopped where it is, the controller renews no lease, so that every fault ends without a command.
fn signal_controller(signal: &str) -> String {
    format!("kill -{signal} $({})", main_pid("fracas-controller"))
}

/// Silences the controller, and returns when each injection's lease ends, in seconds since boot; rather too early than too late.
fn lease_ends(site: &Site) -> Result<BTreeMap<String, f64>> {
    let silence = signal_controller("STOP");
    let line = format!("{silence}; {BEGIN}; echo $begin; fracas-agent status -o json");
    let printed = site.machine().sh(&line)?.ok()?;
    let (now, status) = printed.split_once('\n').context("a time and a status")?;
    let (now, status): (f64, Value) = (now.parse()?, serde_json::from_str(status)?);
    let active = status["active"].as_array().context("a status lists what is active")?;
    let end = |one: &Value| {
        Some((
            one["injection"].as_str()?.to_owned(),
            now + one["lease_left_ms"].as_f64()? / 1_000.0,
        ))
    };
    Ok(active.iter().filter_map(end).collect())
}
