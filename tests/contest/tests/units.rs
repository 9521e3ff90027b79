//! A cut of one group's packets on a host: nobody else feels it, the group's next life feels it too, and afterwards nothing of it is left.

use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_contest::{Site, impossible};
use tests_harness::{Cmd, Process, report, wait};

const LONG: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(15);
const GROUP: &str = "/fracas-test.slice/web.service";
/// Where the peer answers.
const PORT: u16 = 7_000;

/// A unit as its group alone: a folder with its name, and somebody in it.
struct Unit<'a> {
    site: &'a Site,
    folder: String,
    to: IpAddr,
    member: Option<Process>,
}

impl<'a> Unit<'a> {
    /// `None` where the host has no unified hierarchy.
    fn start(site: &'a Site) -> Result<Option<Self>> {
        let mount = "awk '$3 == \"cgroup2\" { print $2; exit }' /proc/self/mounts";
        let mount = site.host("web").exec(Cmd::sh(mount))?.ok()?;
        if mount.trim().is_empty() {
            return Ok(None);
        }
        let mut unit = Self {
            site,
            folder: format!("{}{GROUP}", mount.trim()),
            to: site.documented("peer", "192.0.2.10")?,
            member: None,
        };
        unit.begin()?;
        Ok(Some(unit))
    }

    fn sh(&self, script: &str) -> Result<bool> {
        Ok(self.site.host("web").exec(Cmd::sh(script))?.success())
    }

    fn begin(&mut self) -> Result<()> {
        let folder = &self.folder;
        ensure!(self.sh(&format!("mkdir -p {folder}"))?, "the unit's group cannot be made");
        let member = Cmd::sh(format!("echo $$ > {folder}/cgroup.procs && exec sleep 600"));
        self.member = Some(self.site.host("web").background(&member, &File::open("/dev/null")?)?);
        let lives = format!("test -n \"$(cat {folder}/cgroup.procs)\"");
        wait::until("the unit runs", SOON, || self.sh(&lives)).map(drop)
    }

    /// Its group goes with its last process.
    fn end(&mut self) -> Result<()> {
        let member = self.member.take().context("it runs")?;
        self.site.host("web").signal(member.pid(), nix::libc::SIGKILL)?;
        member.wait(SOON)?;
        let remove = format!("rmdir {}", self.folder);
        wait::until("the unit's group goes", SOON, || self.sh(&remove)).map(drop)
    }

    fn connects(&self, first: &str) -> Result<bool> {
        self.sh(&format!("{first}timeout 1 bash -c '</dev/tcp/{}/{PORT}'", self.to))
    }

    fn its_own_connect(&self) -> Result<bool> {
        self.connects(&format!("echo $$ > {}/cgroup.procs && ", self.folder))
    }

    fn others_connect(&self) -> Result<bool> {
        self.connects("")
    }
}

#[test]
fn a_unit_is_cut_off_through_its_restart_and_others_are_not() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("units", &["web"])?;
    let Some(mut unit) = Unit::start(&site)? else {
        report::skip("no unified hierarchy of groups (cgroup v2) is mounted here");
        return Ok(());
    };
    ensure!(unit.its_own_connect()? && unit.others_connect()?, "before any fault");
    let run = site.attack("web", "network.partition", &json!({"to": [unit.to], "unit": "web"}), LONG)?;
    wait::until("the unit is cut off", SOON, || Ok(!unit.its_own_connect()?))?;
    ensure!(unit.others_connect()?, "others are cut off with it");

    unit.end()?;
    unit.begin()?;
    wait::until("the unit is followed", SOON, || Ok(!unit.its_own_connect()?))?;
    ensure!(unit.others_connect()?, "others are cut off with its next life");
    let told = || Ok(site.run(&run)?.to_string().contains("web.service was made anew 1 times"));
    wait::until("the gap is told", SOON, told)?;

    site.lab.fracas(&["stop", &run])?.ok()?;
    ensure!(site.finished(&run, SOON)?["cleanup"] == "proven");
    ensure!(unit.its_own_connect()?, "the unit is still cut off");
    unit.end()?;
    ensure!(unit.sh(&format!("rmdir $(dirname {})", unit.folder))?, "the group above it stays");
    site.all_clean()
}
