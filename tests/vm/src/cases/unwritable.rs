//! The agent's journals cannot be written: its volume, or the root's, is full or read-only while faults act; all is undone all the same.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::shell::{BEGIN, END, elapsed};
use super::trial::{AGENT, Before, stop};
use super::{Case, Extent, Figures};
use crate::site::{BALLAST, LASTS, PARTITION, Site};

pub(super) const CASES: [Case; 3] = [
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
];

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
