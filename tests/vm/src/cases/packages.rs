//! The agent's package is upgraded and removed while faults act: they are undone before any of its files is changed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_harness::wait;

use super::held::{CLEAN, Held, KILL_BOTH, both_pids, clean_after, clean_when_done, expect_no_process};
use super::higher::{HIGHER, higher_version};
use super::shell::main_pid;
use super::trial::injection;
use super::{Case, Extent, Figures};
use crate::machine::PACKAGES;
use crate::site::Site;

pub(super) const CASES: [Case; 5] = [
    Case {
        name: "upgrade",
        what: "the package is upgraded while five faults act",
        extent: Extent::Long,
        run: upgraded,
    },
    Case {
        name: "upgrade-refused",
        what: "an upgrade is refused while a fault cannot be undone",
        extent: Extent::Long,
        run: refused,
    },
    Case {
        name: "remove",
        what: "the package is removed while five faults act, and installed again",
        extent: Extent::Long,
        run: removed,
    },
    Case {
        name: "upgrade-restarting",
        what: "the package is upgraded while systemd starts an agent again and again that left five faults",
        extent: Extent::Long,
        run: upgraded_while_restarting,
    },
    Case {
        name: "remove-restarting",
        what: "the package is removed while systemd starts an agent again and again that left five faults",
        extent: Extent::Long,
        run: removed_while_restarting,
    },
];

/// What apt and dpkg themselves take in a slow machine is most of it.
const APT: Duration = Duration::from_secs(120);
/// Until the agent that an upgrade has started again is heard.
const CONNECTED: Duration = Duration::from_secs(60);
/// The higher version, below a folder that no case compares.
const NEXT: &str = "/tmp/fracas-test-next";
/// When the new package found the host clean.
const FOUND_CLEAN: &str = "/run/fracas-test-found-clean";

fn upgraded(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let before = make_next_version(site, figures)?;
    let held = Held::begin(site)?;
    let begin = uptime(site)?;
    let took = clean_when_done(site, figures, &format!("apt-get install -y -o Dpkg::Use-Pty=0 {NEXT}.deb >&2"), APT)?;
    let found_clean: f64 = site.machine().sh(&format!("cat {FOUND_CLEAN}"))?.ok()?.trim().parse()?;
    figures.note(
        "the host is clean before a file of the package is changed",
        Duration::try_from_secs_f64(found_clean - begin)?,
    );
    figures.add("apt-get install of a higher version", took, APT);
    let after = version(site)?;
    ensure!(after == format!("{before}{HIGHER}"), "{before} became {after}");
    site.machine().sh(&format!("rm -f {NEXT}.deb {FOUND_CLEAN}"))?.ok()?;
    held.expect_ended(site, &["ended_early"])
}

fn refused(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let before = make_next_version(site, figures)?;
    let held = Held::begin(site)?;
    site.machine().sh("chattr +i /var/tmp/.fracas-*")?.ok()?;
    let filled = site.machine().sh(BLOCKS)?.ok()?;
    let since = site.machine().sh("date +%s")?.ok()?;
    let begin = Instant::now();
    let apt = site
        .machine()
        .sh_within(&format!("apt-get install -y -o Dpkg::Use-Pty=0 {NEXT}.deb"), figures.patience(APT))?;
    ensure!(
        !apt.success() && apt.stderr.contains("is refused: this host is not proven clean"),
        "the upgrade was not refused: {}{}",
        apt.stdout,
        apt.stderr
    );
    figures.add("an upgrade is refused", begin.elapsed(), APT);
    expect_untouched(site, &before)?;
    let still = site.machine().sh(BLOCKS)?.ok()?;
    ensure!(still == filled, "the fault does not act any more: {filled} became {still}");
    let host = site.connected_within(CONNECTED)?;
    ensure!(
        host["cleanliness"].is_string() && host["cleanliness"] != "clean",
        "the host counts as clean although a file was left: {host:#}"
    );
    expect_logged(site, figures, since.trim(), &held.runs()[0])?;
    let took = clean_after(site, ":", "chattr -i /var/tmp/.fracas-*")?;
    figures.note("clean after the fault can be undone", took);
    site.machine().sh(&format!("rm -f {NEXT}.deb"))?.ok()?;
    held.expect_ended(site, &["ended_early"])
}

/// The name of the file that fills the volume, and the space that it takes.
const BLOCKS: &str = "stat -c '%n %b' /var/tmp/.fracas-*";
/// Where dpkg says which files of the package are not as it installed them, and nothing where all are.
const CHANGED: &str = "dpkg --verify fracas-agent";

/// Expects that this version is installed with each of its files, that the agent runs from them, and that the next one got nowhere.
fn expect_untouched(site: &Site, installed: &str) -> Result<()> {
    let now = version(site)?;
    ensure!(now == installed, "{installed} became {now}");
    let state = site.machine().sh("dpkg-query -W -f '${Status}' fracas-agent")?.ok()?;
    ensure!(state == "install ok installed", "the package is in the state {state:?}");
    let changed = site.machine().sh(CHANGED)?;
    ensure!(
        changed.success() && changed.stdout.is_empty(),
        "files of the package were changed: {} {}",
        changed.stdout,
        changed.stderr
    );
    site.machine().sh(&format!("test ! -e {FOUND_CLEAN}"))?.ok()?;
    site.machine().sh("systemctl is-active fracas-agent")?.ok()?;
    expect_installed_program(site)
}

fn expect_installed_program(site: &Site) -> Result<()> {
    let program = format!("readlink /proc/$({})/exe", main_pid("fracas-agent"));
    let program = site.machine().sh(&program)?.ok()?;
    // A file that was replaced since has "(deleted)" behind its name.
    ensure!(
        program.trim() == "/usr/bin/fracas-agent",
        "the agent runs from {}, not from the installed program",
        program.trim()
    );
    Ok(())
}

/// How soon the agent calls a host dirty, in a slow machine.
const LOGGED: Duration = Duration::from_secs(60);
/// An undo is tried again and again; the log hears of it less and less often.
const FLOOD: usize = 20;

/// Expects an error with the id of the injection that is not undone in the journal of the host, and no message over and over.
fn expect_logged(site: &Site, figures: &mut Figures<'_>, since: &str, run: &str) -> Result<()> {
    let id = injection(site, run)?["id"].as_str().context("an injection has an id")?.to_owned();
    let error = |entry: &Value| entry["PRIORITY"] == "3" && entry["FRACAS_INJECTION"] == id.as_str();
    let (entries, took) = wait::for_some("an error of the injection in the host's journal", LOGGED, || {
        Ok(Some(log_entries(site, since)?).filter(|entries| entries.iter().any(error)))
    })?;
    figures.note("an error of the injection is in the host's journal", took);
    let mut messages: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &entries {
        *messages.entry(entry["MESSAGE"].to_string()).or_default() += 1;
    }
    let flood: Vec<_> = messages.iter().filter(|(_, times)| **times >= FLOOD).collect();
    ensure!(flood.is_empty(), "the host's journal is flooded: {flood:?}");
    Ok(())
}

/// What the agent has logged since this second of the wall clock.
fn log_entries(site: &Site, since: &str) -> Result<Vec<Value>> {
    let line = format!("journalctl --no-pager --identifier fracas-agent --since @{since} --output json");
    let printed = site.machine().sh(&line)?.ok()?;
    let read = |line: &str| serde_json::from_str(line).with_context(|| format!("an entry of the journal: {line}"));
    printed.lines().map(read).collect()
}

fn removed(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_when_done(site, figures, "apt-get remove -y -o Dpkg::Use-Pty=0 fracas-agent >&2", APT)?;
    figures.add("apt-get remove", took, APT);
    expect_no_process(site)?;
    held.expect_footprint(site)?;
    expect_removed(site)?;
    let begin = Instant::now();
    site.install_agent(site.machine())?;
    // Under the identity that stayed.
    site.ready()?;
    figures.note("installed again, connected and clean", begin.elapsed());
    held.expect_ended(site, &["ended_early"])
}

/// Units of the package that run, have failed, or could be started.
const UNITS: &str = "for verb in list-units list-unit-files; do systemctl $verb --no-legend --plain --no-pager 'fracas-agent*' 'fracas-guard*' 'fracas-rescue*' fracas.slice; done";

/// Expects that of the package there is only what docs/install.md says a removal keeps.
fn expect_removed(site: &Site) -> Result<()> {
    // A name that a link of another unit's folder still leads to is listed as `not-found`.
    let units = site.machine().sh(UNITS)?.stdout;
    let units: Vec<&str> = units.lines().filter(|line| !line.contains("not-found")).collect();
    ensure!(units.is_empty(), "units were left: {units:?}");
    let files = &site.before_agent().context("the agent was installed here")?.files;
    let now = site.files()?;
    let left: Vec<&str> = now.difference(files).map(String::as_str).filter(|path| !is_kept(path)).collect();
    ensure!(left.is_empty(), "files were left: {}", left.join(" "));
    for kept in [
        "/etc/fracas/agent.toml",
        "/var/lib/fracas/agent/journal",
        "/var/lib/fracas/agent/identity",
    ] {
        ensure!(now.contains(kept), "{kept} is gone");
    }
    Ok(())
}

/// The host's rules, its identity and journals, and whether the units were enabled.
fn is_kept(path: &str) -> bool {
    let enabled = path.strip_prefix("/etc/systemd/system/").and_then(|unit| unit.split_once(".wants"));
    let unit = enabled.map(|(_, unit)| unit);
    path == "/etc/fracas/agent.toml"
        || path == "/var/lib/fracas/agent"
        || path.starts_with("/var/lib/fracas/agent/")
        || unit.is_some_and(|unit| unit.is_empty() || unit.starts_with("/fracas-"))
}

fn upgraded_while_restarting(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let before = make_next_version(site, figures)?;
    let held = Held::begin(site)?;
    keep_restarting(site, figures)?;
    let took = clean_when_done(site, figures, &format!("apt-get install -y -o Dpkg::Use-Pty=0 {NEXT}.deb >&2"), APT)?;
    figures.add("apt-get install while the unit restarts", took, APT);
    end_restarting(site)?;
    let after = version(site)?;
    ensure!(after == format!("{before}{HIGHER}"), "{before} became {after}");
    site.connected_within(CONNECTED)?;
    expect_installed_program(site)?;
    let old = site.machine().sh(REPLACED)?;
    ensure!(old.stdout.is_empty(), "processes of the old version run: {}", old.stdout);
    site.machine().sh(&format!("rm -f {NEXT}.deb {FOUND_CLEAN}"))?.ok()?;
    held.expect_ended(site, &["package"])
}

fn removed_while_restarting(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    keep_restarting(site, figures)?;
    let took = clean_when_done(site, figures, "apt-get remove -y -o Dpkg::Use-Pty=0 fracas-agent >&2", APT)?;
    figures.add("apt-get remove while the unit restarts", took, APT);
    expect_no_process(site)?;
    end_restarting(site)?;
    held.expect_footprint(site)?;
    expect_removed(site)?;
    site.install_agent(site.machine())?;
    site.ready()?;
    held.expect_ended(site, &["package"])
}

/// Lets no agent start before the file of the fault is gone, which nothing undoes when the agent ends.
const NO_START: &str = "[Service]\nExecStartPre=/bin/sh -c '! ls -d /var/tmp/.fracas-* >/dev/null 2>&1'\nExecStopPost=\n";
/// The last guard comes and goes, and undoes nothing.
const NO_GUARD: &str = "[Service]\nExecStart=\nExecStart=/bin/sleep 5\n";
/// Processes that run a program of ours which is no longer installed.
const REPLACED: &str = "readlink /proc/[0-9]*/exe | grep -F '/usr/bin/fracas-agent (deleted)'";
/// Additions to units that end with the boot.
const ADDED: &str = "/run/systemd/system";
/// On a slow disk an agent that comes up after the undo does so before the files are changed.
const SLOW_DISK: &str = "echo 'sleep 5' >>/var/lib/dpkg/info/fracas-agent.prerm";
const RESTARTS: &str = "systemctl show --property NRestarts --value fracas-agent";
/// Until systemd has tried twice, in a slow machine.
const RESTARTED: Duration = Duration::from_secs(90);

/// Kills the agent and its guardian, and leaves their faults to a unit that systemd starts again and again, in vain until they are undone.
fn keep_restarting(site: &Site, figures: &mut Figures<'_>) -> Result<()> {
    for (unit, addition) in [("fracas-agent", NO_START), ("fracas-guard", NO_GUARD)] {
        site.machine().sh(&format!("mkdir -p {ADDED}/{unit}.service.d"))?.ok()?;
        site.machine().put(&format!("{ADDED}/{unit}.service.d/test.conf"), addition)?;
    }
    let prepare = format!("set -e; {SLOW_DISK}; systemctl daemon-reload; systemctl stop fracas-guard.service");
    site.machine().sh(&prepare)?.ok()?;
    let line = format!("set -e; {}; begin=$({RESTARTS}); {KILL_BOTH}; echo $begin", both_pids());
    let begin: u32 = site.machine().sh(&line)?.ok()?.trim().parse()?;
    let took = wait::until("systemd starts the agent again and again", RESTARTED, || {
        let now: u32 = site.machine().sh(RESTARTS)?.ok()?.trim().parse()?;
        Ok(now >= begin + 2)
    })?;
    figures.note("systemd has tried to start the agent twice, in vain", took);
    site.machine().sh(BLOCKS)?.ok().context("no fault is left to undo")?;
    let active = site.machine().sh("systemctl is-active fracas-agent")?;
    ensure!(!active.success(), "the agent runs, which was to be restarted in vain");
    Ok(())
}

/// Takes back what `keep_restarting` has added.
fn end_restarting(site: &Site) -> Result<()> {
    let line = format!("rm -r {ADDED}/fracas-agent.service.d {ADDED}/fracas-guard.service.d && systemctl daemon-reload");
    site.machine().sh(&line)?.ok().map(drop)
}

/// Makes the same package under a higher version, which refuses to be unpacked while the host is not clean; returns the installed version.
fn make_next_version(site: &mut Site, figures: &Figures<'_>) -> Result<String> {
    site.ready()?;
    let installed = version(site)?;
    let preinst = format!(
        "#!/bin/sh\n# It runs after the old package's prerm, before any file is changed.\n{{ {CLEAN}; }} || {{ nft list tables >&2; ls -a /var/tmp /sys/class/net /sys/fs/cgroup >&2; exit 1; }}\n\
         read up rest </proc/uptime\necho $up >{FOUND_CLEAN}\n"
    );
    let add_preinst = "test ! -e $tree/DEBIAN/preinst; cat >$tree/DEBIAN/preinst; chmod 755 $tree/DEBIAN/preinst";
    let deb = format!("{PACKAGES}/fracas-agent_*.deb");
    let line = higher_version(&deb, &installed, NEXT, add_preinst, &format!("{NEXT}.deb"));
    let made = site
        .machine()
        .exec(&["/bin/sh", "-c", &line], preinst.as_bytes(), figures.patience(APT))?;
    made.ok()?;
    Ok(installed)
}

fn version(site: &Site) -> Result<String> {
    site.machine().sh("dpkg-query -W -f '${Version}' fracas-agent")?.ok()
}

/// Seconds since the machine's boot.
fn uptime(site: &Site) -> Result<f64> {
    Ok(site.machine().sh("cut -d ' ' -f 1 /proc/uptime")?.ok()?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_state_and_enablement_are_kept() {
        for (path, kept) in [
            ("/etc/fracas/agent.toml", true),
            ("/var/lib/fracas/agent", true),
            ("/var/lib/fracas/agent/identity/cert.pem", true),
            ("/etc/systemd/system/paths.target.wants", true),
            ("/etc/systemd/system/multi-user.target.wants/fracas-agent.service", true),
            ("/etc/systemd/system/multi-user.target.wants/other.service", false),
            ("/etc/systemd/system/fracas-agent.service", false),
            ("/etc/fracas/skip-rescue", false),
            ("/var/lib/fracas/agents", false),
            ("/usr/bin/fracas-agent", false),
            ("/usr/lib/systemd/system/fracas-guard.path", false),
        ] {
            assert_eq!(is_kept(path), kept, "{path}");
        }
    }
}
