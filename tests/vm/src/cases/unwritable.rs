//! The agent's journals cannot be written: its volume, or the root's, is full, has no inode or is read-only while faults act; all is undone all the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::refusal::Refusal;
use super::shell::{BEGIN, END, elapsed, signal_controller};
use super::trial::{AGENT, Before, stop};
use super::{Case, Extent, Figures};
use crate::site::{BALLAST, LASTS, PARTITION, Site};

pub(super) const CASES: [Case; 4] = [
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
        run: |site, figures| full_root(site, figures, &SPACE),
    },
    Case {
        name: "full-inodes",
        what: "the root's volume has no inode",
        extent: Extent::Long,
        run: |site, figures| full_root(site, figures, &INODES),
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
/// The root has a quarter of a million inodes, and each is a file that is made and removed.
const TAKEN: Duration = Duration::from_secs(600);

const PAUSE: [&str; 2] = ["process.pause", "unit=nginx"];

/// The agent's folder gets a small volume of its own.
const MAKE_OWN: &str = "set -e; systemctl stop fracas-agent; truncate -s 64M /var/tmp/own.volume; mkfs.ext4 -q -N 256 /var/tmp/own.volume; \
    mkdir -p /var/tmp/own; mount -o loop /var/tmp/own.volume /var/tmp/own; rmdir /var/tmp/own/lost+found; \
    cp -a /var/lib/fracas/agent/. /var/tmp/own/; chmod 700 /var/tmp/own; umount /var/tmp/own; \
    mount -o loop /var/tmp/own.volume /var/lib/fracas/agent; systemctl start fracas-agent";
const REMOVE_OWN: &str = "set -e; systemctl stop fracas-agent; umount /var/lib/fracas/agent; mount -o loop /var/tmp/own.volume /var/tmp/own; \
    cp -a /var/tmp/own/. /var/lib/fracas/agent/; umount /var/tmp/own; rmdir /var/tmp/own; rm /var/tmp/own.volume; systemctl start fracas-agent";
const FREE: &str = "rm -rf /var/lib/fracas/agent/others /var/lib/fracas/agent/rest /var/lib/fracas/agent/probe";

/// What journals need and others take.
struct Taken {
    what: &'static str,
    /// A line of `sh` that takes all of it.
    take: &'static str,
    /// A line of `sh` that writes as any program would, and succeeds only where the kernel refuses that.
    is_gone: &'static str,
    /// The kernel's reason, which the agent passes on.
    cause: &'static str,
}

const NO_SPACE: Taken = Taken {
    what: "no space",
    take: "dd if=/dev/zero of=/var/lib/fracas/agent/others bs=1M 2>/dev/null; \
           dd if=/dev/zero of=/var/lib/fracas/agent/rest bs=512 2>/dev/null; true",
    is_gone: "! dd if=/dev/zero of=/var/lib/fracas/agent/probe bs=4k count=1 2>/dev/null",
    cause: "No space left on device",
};
const NO_INODE: Taken = Taken {
    what: "no inode",
    take: "cd /var/lib/fracas/agent && mkdir others && n=0; while touch others/$n 2>/dev/null; do n=$((n + 1)); done",
    is_gone: "test $(stat -f -c %d /var/lib/fracas/agent) = 0 && ! touch /var/lib/fracas/agent/others/probe 2>/dev/null",
    cause: "No space left on device",
};
/// Others take all of the root's volume, also what is kept for root.
const FULL_ROOT: Taken = Taken {
    what: "full root",
    take: "left=$(($(stat -f -c '%f * %S' /var/tmp))); fallocate -l $((left - (64 << 20))) /var/tmp/others; \
           dd if=/dev/zero of=/var/tmp/rest bs=1M 2>/dev/null; dd if=/dev/zero of=/var/tmp/crumbs bs=512 2>/dev/null; true",
    is_gone: "! dd if=/dev/zero of=/var/tmp/probe bs=4k count=1 2>/dev/null",
    cause: "No space left on device",
};
/// Others take every inode of the root's volume, a few thousand in each folder.
const NO_ROOT_INODE: Taken = Taken {
    what: "no inode of the root",
    take: "python3 -c 'import os, time\nnumber = 0\ntry:\n while True:\n  if number % 4096 == 0:\n   folder = f\"/var/tmp/others/{time.time_ns()}\"\n   \
           os.makedirs(folder)\n  os.mknod(f\"{folder}/{number}\")\n  number += 1\nexcept OSError: pass'",
    is_gone: "! touch /var/tmp/probe 2>/dev/null",
    cause: "No space left on device",
};
/// What is used up of the root's volume, and how it is given back.
struct Root {
    taken: Taken,
    /// A line of `sh` that gives back enough for faults, so that the rest is soon taken again.
    free: &'static str,
    /// A line of `sh` that gives back everything.
    empty: &'static str,
}

const EMPTY_ROOT: &str = "rm -f /var/tmp/others /var/tmp/rest /var/tmp/crumbs /var/tmp/probe";
const SPACE: Root = Root {
    taken: FULL_ROOT,
    free: EMPTY_ROOT,
    empty: EMPTY_ROOT,
};
const INODES: Root = Root {
    taken: NO_ROOT_INODE,
    free: "rm -rf /var/tmp/probe $(ls -d /var/tmp/others/* | head -n 1)",
    empty: "rm -rf /var/tmp/probe /var/tmp/others",
};
/// As the kernel does when it no longer trusts a disk: every write is refused, also to files that are open already.
const READ_ONLY: Taken = Taken {
    what: "read-only root",
    take: "echo u >/proc/sysrq-trigger; until grep -q ' / ext4 ro' /proc/mounts; do sleep 0.1; done",
    is_gone: "! touch /var/tmp/probe 2>/dev/null",
    cause: "Read-only file system",
};
const WRITABLE: &str = "mount -o remount,rw / && touch /var/tmp/probe && rm /var/tmp/probe";

impl Taken {
    /// In one line: what ends meanwhile may give some of it back.
    fn take(&self, site: &Site) -> Result<()> {
        let line = format!("{}; {}", self.take, self.is_gone);
        let taken = site.machine().sh_within(&line, TAKEN)?.ok();
        taken.with_context(|| format!("{}: a program can still write", self.what)).map(drop)
    }

    /// Without this a refusal would have another reason, or none.
    fn expect_gone(&self, site: &Site) -> Result<()> {
        let tried = site.machine().sh(self.is_gone)?;
        ensure!(tried.success(), "{}: a program can still write: {}", self.what, tried.command);
        Ok(())
    }
}

fn own_volume(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let bare = Before::look(site)?;
    site.machine().sh_within(MAKE_OWN, GIVE_UP)?.ok()?;
    site.ready()?;
    for taken in [&NO_SPACE, &NO_INODE] {
        let what = taken.what;
        let before = Before::look(site)?;
        let faults: [&[&str]; 3] = [&PARTITION, &BALLAST, &PAUSE];
        let runs: Vec<String> = faults.iter().map(|fault| site.attack(fault, LASTS)).collect::<Result<_>>()?;
        taken.take(site)?;
        let refusal = expect_refusal(site, figures, taken)?;
        ensure!(
            refusal.is_of_the_journal(taken.cause),
            "{what}: the host itself has not refused the fault: {refusal:?}"
        );
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

/// A host that cannot write down how to undo a fault says so and is given none, and nothing on it is touched. The refusal is the controller's
/// own where its store is on the same volume.
fn expect_refusal(site: &Site, figures: &mut Figures<'_>, taken: &Taken) -> Result<Refusal> {
    let refusal = Refusal::expect(site, figures, taken.what)?;
    ensure!(
        refusal.is_of_the_store() || refusal.is_of_the_journal(taken.cause),
        "{}: the fault was refused for another reason: {refusal:?}",
        taken.what
    );
    expect_unable(site, taken)?;
    taken.expect_gone(site).context("after the refusal")?;
    Ok(refusal)
}

/// The doctor on the host names the journal with the kernel's reason, and no kind of fault can be injected without it.
fn expect_unable(site: &Site, taken: &Taken) -> Result<()> {
    let shown = site.machine().sh("fracas-agent doctor -o json")?;
    let doctor: Value = serde_json::from_str(&shown.stdout).with_context(|| format!("{}: {}", shown.stdout, shown.stderr))?;
    let list = |name: &str| doctor[name].as_array().cloned().unwrap_or_default();
    let (checks, kinds) = (list("checks"), list("kinds"));
    let journal = checks.iter().find(|check| check["name"] == "journal");
    let journal = journal.with_context(|| format!("the doctor says nothing of the journal: {doctor}"))?;
    ensure!(
        journal["can"] == "no" && journal["why"].as_str().unwrap_or_default().contains(taken.cause),
        "{}: the doctor does not see it: {journal}",
        taken.what
    );
    ensure!(
        !kinds.is_empty() && kinds.iter().all(|kind| kind["can"] == "no"),
        "{}: the doctor thinks that faults can be injected: {kinds:?}",
        taken.what
    );
    Ok(())
}

/// Nothing that a partition, a filled volume and a pause do is there.
const CLEAN: &str = "! nft list tables | grep -q fracas && ! ls -d /var/tmp/.fracas-* >/dev/null 2>&1 && \
    grep -q 'frozen 0' /sys/fs/cgroup/system.slice/nginx.service/cgroup.events && ping -c 1 -W 1 db >/dev/null 2>&1";

fn full_root(site: &mut Site, figures: &mut Figures<'_>, root: &Root) -> Result<()> {
    site.ready()?;
    let before = Before::look(site)?;
    // While nothing is held: the controller keeps its store there as well, and a run that it ends for that gives space back.
    root.taken.take(site)?;
    expect_refusal(site, figures, &root.taken)?;
    site.machine().sh(root.free)?.ok()?;
    site.ready()?;
    for fault in [PARTITION.as_slice(), &BALLAST, &PAUSE] {
        site.attack(fault, LASTS)?;
    }
    let took = halted_without(site, &root.taken)?;
    figures.add(format!("{}: clean after a halt on the host", root.taken.what), took, AGENT);
    site.machine().sh_within(root.empty, TAKEN)?.ok()?;
    released(site)?;
    before.expect(site)
}

/// Takes what journals need, halts the agent on its host, and waits until the host is clean; returns how long the halt and the wait took.
/// A controller that cannot write its store would stop its runs: it is stopped itself meanwhile. Everything is one line, since leases end after 15 s.
fn halted_without(site: &Site, taken: &Taken) -> Result<Duration> {
    let line = format!(
        "{}; {{ {}; {}; }} || {{ echo 'a program can still write' >&2; exit 1; }}; \
         ! {{ {CLEAN}; }} || {{ echo 'no fault acts before the halt' >&2; exit 1; }}; \
         {BEGIN}; fracas-agent halt --reason measured >&2; until {CLEAN}; do sleep 0.05; done; {END}",
        signal_controller("STOP"),
        taken.take,
        taken.is_gone
    );
    let halted = site.machine().sh_within(&line, TAKEN)?;
    site.machine().sh(&signal_controller("CONT"))?.ok()?;
    elapsed(&halted.ok().context(taken.what)?)
}

fn released(site: &mut Site) -> Result<()> {
    site.machine().sh("fracas-agent release")?.ok()?;
    site.ready()
}

fn read_only(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let before = Before::look(site)?;
    // While nothing is held, as on a full root.
    READ_ONLY.take(site)?;
    expect_refusal(site, figures, &READ_ONLY)?;
    site.machine().sh(WRITABLE)?.ok()?;
    site.ready()?;
    for fault in [PARTITION.as_slice(), &PAUSE] {
        site.attack(fault, LASTS)?;
    }
    let took = halted_without(site, &READ_ONLY)?;
    figures.add("read-only root: clean after a halt on the host", took, AGENT);
    site.machine().sh(WRITABLE)?.ok()?;
    released(site)?;
    before.expect(site)?;
    // A file on the disk that cannot be written waits for the disk, and is not forgotten.
    site.attack(&BALLAST, LASTS)?;
    READ_ONLY.take(site)?;
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
