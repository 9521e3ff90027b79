//! The agent's package is upgraded and removed while faults act: they are undone before any of its files is changed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::held::{CLEAN, Held, clean_after, clean_when_done, expect_no_process};
use super::higher::{HIGHER, higher_version};
use super::{Case, Extent, Figures};
use crate::machine::PACKAGES;
use crate::site::Site;

pub(super) const CASES: [Case; 3] = [
    Case {
        name: "upgrade",
        what: "the package is upgraded during a partition and a filled volume",
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
        what: "the package is removed during a partition and a filled volume, and installed again",
        extent: Extent::Long,
        run: removed,
    },
];

/// What apt and dpkg themselves take in a slow machine is most of it.
const APT: Duration = Duration::from_secs(120);
/// The higher version, below a folder that no case compares.
const NEXT: &str = "/tmp/fracas-test-next";
/// When the new package found the host clean.
const FOUND_CLEAN: &str = "/run/fracas-test-found-clean";

fn upgraded(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let before = make_next_version(site)?;
    let held = Held::begin(site)?;
    let begin = uptime(site)?;
    let took = clean_when_done(site, &format!("apt-get install -y -o Dpkg::Use-Pty=0 {NEXT}.deb >&2"))?;
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
    let before = make_next_version(site)?;
    let held = Held::begin(site)?;
    site.machine().sh("chattr +i /var/tmp/.fracas-*")?.ok()?;
    let begin = Instant::now();
    let apt = site
        .machine()
        .sh_within(&format!("apt-get install -y -o Dpkg::Use-Pty=0 {NEXT}.deb"), APT)?;
    ensure!(
        !apt.success() && apt.stderr.contains("is refused: faults on this host could not be undone"),
        "the upgrade was not refused: {}{}",
        apt.stdout,
        apt.stderr
    );
    figures.add("an upgrade is refused", begin.elapsed(), APT);
    let after = version(site)?;
    ensure!(after == before, "{before} became {after}");
    site.machine().sh("systemctl is-active fracas-agent")?.ok()?;
    ensure!(!site.is_connected_and_clean()?, "the host counts as clean although a file was left");
    let took = clean_after(site, ":", "chattr -i /var/tmp/.fracas-*")?;
    figures.note("clean after the fault can be undone", took);
    site.machine().sh(&format!("rm -f {NEXT}.deb"))?.ok()?;
    held.expect_ended(site, &["ended_early"])
}

fn removed(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_when_done(site, "apt-get remove -y -o Dpkg::Use-Pty=0 fracas-agent >&2")?;
    figures.add("apt-get remove", took, APT);
    expect_no_process(site)?;
    held.expect_footprint(site)?;
    let state = site
        .machine()
        .sh("systemctl is-active fracas-agent; ls /usr/bin/fracas-agent; ls /var/lib/fracas/agent/journal")?;
    ensure!(
        state.stdout.starts_with("inactive\n") && !state.stdout.contains("/usr/bin/fracas-agent"),
        "after the removal: {}",
        state.stdout
    );
    ensure!(state.success(), "the journals are gone: {}", state.stderr);
    let begin = Instant::now();
    site.install_agent()?;
    // Under the identity that stayed.
    site.ready()?;
    figures.note("installed again, connected and clean", begin.elapsed());
    held.expect_ended(site, &["ended_early"])
}

/// Makes the same package under a higher version, which refuses to be unpacked while the host is not clean; returns the installed version.
fn make_next_version(site: &mut Site) -> Result<String> {
    site.ready()?;
    let installed = version(site)?;
    let preinst = format!(
        "#!/bin/sh\n# It runs after the old package's prerm, before any file is changed.\n{{ {CLEAN}; }} || {{ nft list tables >&2; ls -a /var/tmp >&2; exit 1; }}\n\
         read up rest </proc/uptime\necho $up >{FOUND_CLEAN}\n"
    );
    let add_preinst = "test ! -e $tree/DEBIAN/preinst; cat >$tree/DEBIAN/preinst; chmod 755 $tree/DEBIAN/preinst";
    let line = higher_version(&format!("{PACKAGES}/fracas-agent_*.deb"), NEXT, add_preinst, &format!("{NEXT}.deb"));
    let made = site.machine().exec(&["/bin/sh", "-c", &line], preinst.as_bytes(), APT)?;
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
