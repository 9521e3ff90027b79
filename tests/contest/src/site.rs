//! A small installation with things on its hosts that are worth harming, and the proof that nothing of a harm is left.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::harm::{host_of, reversible};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests_harness::lab::CONTROL;
use tests_harness::{Cmd, Fleet, Footprint, Host, Lab, LabPlan, Packages, programs, report, wait};

/// The shortest that a controller takes.
pub const LEASE: Duration = Duration::from_secs(2);
/// How long an agent may be silent here.
pub const WATCHDOG: Duration = Duration::from_secs(2);
/// These suites take hosts away on purpose, and look at each alone: the controller must not halt the others because of it.
const SETTINGS: &str = "lease = \"2s\"\nheartbeat = \"500ms\"\n[mass_loss]\nhosts = 1000\n";
/// The host on the other end of every connection.
pub const PEER: &str = "peer";
/// The process that the catalogue's examples name.
pub const VICTIM: &str = "redis-server";
/// What a target may have of memory, and how large the disk is on which examples fill.
pub const MEMORY: u64 = 1 << 30;
const DISK: u64 = 3 << 30;
const DISK_AT: &str = "/var/tmp";
const TICKS: &str = "/run/tmp/ticks";
const SOON: Duration = Duration::from_secs(20);
const AGENT_PROCESS: &str = "fracas-agent";
const WORKER_PROCESS: &str = "fracas-worker";
/// The newest halt or release that a host heard of: it outlives every fault, so that an older order is refused.
const HALT_RECORD: &str = "/var/lib/fracas/agent/halt.json";

/// Why hosts cannot be made here, told as a skip.
pub fn impossible() -> bool {
    let reason = Fleet::impossible();
    if let Some(reason) = &reason {
        report::skip(reason);
    }
    reason.is_some()
}

pub struct Site {
    pub lab: Lab,
    before: BTreeMap<String, Footprint>,
}

impl Site {
    /// Hosts of these names with agents, beside a peer without faults in the networks that examples are written with.
    pub fn start(name: &str, hosts: &[&str]) -> Result<Self> {
        Packages::ensure(&["iproute2", "nftables"])?;
        let watchdog = WATCHDOG.as_millis().to_string();
        let mut plan = LabPlan::new(name, "contest")
            .settings(SETTINGS)
            .agent_arguments(&["--watchdog-ms", &watchdog])
            .host(PEER, PEER);
        for host in hosts {
            plan = plan.host(host, "target");
        }
        let mut site = Self {
            lab: plan.start()?,
            before: BTreeMap::new(),
        };
        site.furnish(PEER, 20)?;
        for (number, host) in (1..).zip(hosts) {
            site.furnish(host, number)?;
            site.host(host).limit_memory(MEMORY)?;
            site.host(host).mount_disk(DISK_AT, DISK)?;
        }
        for host in [PEER].iter().chain(hosts) {
            let seen = site.look(host)?;
            site.before.insert((*host).to_owned(), seen);
        }
        Ok(site)
    }

    /// A host for each kind that can be undone, so that none of them sees what another does.
    pub fn one_each(name: &str) -> Result<Self> {
        let hosts: Vec<String> = reversible().enumerate().map(|(number, _)| host_of(number)).collect();
        Self::start(name, &hosts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Every host that may be attacked.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.lab.agents().filter(|host| *host != PEER)
    }

    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// Addresses of the documentation networks, servers on the examples' ports, and a victim that ticks.
    fn furnish(&self, name: &str, number: u8) -> Result<()> {
        let host = self.host(name);
        let mut batch = String::new();
        let mut addresses = vec![
            format!("192.0.2.{number}/24"),
            format!("198.51.100.{number}/24"),
            format!("2001:db8::{number}/64 nodad"),
        ];
        if name == PEER {
            addresses.push("192.0.2.10/24".to_owned());
        }
        for address in addresses {
            batch += &format!("ip address add {} dev eth0 {}\n", word(&address, 0), word(&address, 1));
        }
        host.exec(Cmd::sh(format!("set -e\n{batch}")))?.ok()?;
        let helper = programs::find("fracas-test-host")?;
        let doors = ["[::]:80", "[::]:5432", "[::]:7000"];
        host.start("echo", &Cmd::new(helper.to_string_lossy()).arg("echo").args(doors))?;
        let listens = || Ok(std::fs::read_to_string(host.log("echo"))?.contains("listening"));
        wait::until("the echo listens", SOON, listens)?;
        self.start_victim(host)
    }

    /// A shell under the victim's name that writes a tick every 50 ms by itself, with a child that only sleeps.
    fn start_victim(&self, host: &Host) -> Result<()> {
        host.exec(Cmd::sh(format!(
            "mkdir -p /run/tmp; cp /bin/bash /run/tmp/{VICTIM}; mkfifo /run/tmp/never"
        )))?
        .ok()?;
        let script = format!("sleep 100000 & exec 3<>/run/tmp/never; while :; do echo >>{TICKS}; read -t 0.05 -u 3; done");
        host.start("victim", &Cmd::new(format!("/run/tmp/{VICTIM}")).args(["-c", &script]))?;
        wait::until("the victim ticks", SOON, || Ok(self.ticks(host) > 0)).map(drop)
    }

    pub fn ticks(&self, host: &Host) -> u64 {
        std::fs::metadata(host.path(TICKS)).map_or(0, |file| file.len())
    }

    pub fn peer(&self) -> &Host {
        self.host(PEER)
    }

    /// The address of a host in the documentation network that `to` names; of the peer also the single one.
    pub fn documented(&self, name: &str, to: &str) -> Result<IpAddr> {
        let number = match name {
            PEER => "20".to_owned(),
            _ => {
                let place = self.targets().position(|host| host == name);
                (place.context("a host that carries an agent")? + 1).to_string()
            }
        };
        let address = match to {
            "192.0.2.10" if name == PEER => to.to_owned(),
            _ if to.starts_with("192.0.2.") => format!("192.0.2.{number}"),
            _ if to.starts_with("198.51.100.") => format!("198.51.100.{number}"),
            _ if to.starts_with("2001:db8:") => format!("2001:db8::{number}"),
            other => bail!("no host of the site answers for {other}: give it an address there"),
        };
        Ok(address.parse()?)
    }

    /// Orders an attack on one host and leaves it alone; the run's id.
    pub fn attack(&self, host: &str, fault: &str, params: &Value, lasts: Duration) -> Result<String> {
        let lasts = format!("{}s", lasts.as_secs());
        let mut line = vec!["attack".to_owned(), fault.to_owned()];
        line.extend(words(params));
        line.extend(["--on", host, "--for", &lasts, "--confirm-irreversible", "--detach"].map(str::to_owned));
        let run = self.lab.json(&line.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(run["id"].as_str().context("a run has an id")?.to_owned())
    }

    /// What would be done, and whether the host would accept it; nothing is changed.
    pub fn plan(&self, host: &str, fault: &str, params: &Value) -> Result<Value> {
        let mut line = vec!["attack".to_owned(), fault.to_owned()];
        line.extend(words(params));
        line.extend(["--on", host, "--for", "20s", "--dry-run"].map(str::to_owned));
        self.lab.json(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub fn run(&self, id: &str) -> Result<Value> {
        self.lab.json(&["runs", "show", id])
    }

    /// Waits until the run is over; its document.
    pub fn finished(&self, id: &str, limit: Duration) -> Result<Value> {
        let over = || Ok(Some(self.run(id)?).filter(|run| run["state"] == "finished"));
        let last = wait::for_some(format_args!("run {id} is finished"), limit, over);
        Ok(last.with_context(|| format!("{:?}", self.run(id).map(|run| run.to_string())))?.0)
    }

    /// The host's word, asked for anew, and the harness's own look: nothing is left, everything is as before.
    pub fn is_clean(&self, name: &str) -> Result<()> {
        self.lab.all_connected()?;
        let output = self.lab.fracas(&["hosts", "verify", name])?;
        ensure!(output.success(), "{name} is not proven clean: {output:?}");
        let shown = self.lab.json(&["hosts", "show", name])?;
        ensure!(shown.to_string().contains("\"clean\""), "{name} is not called clean: {shown}");
        let mut left = Vec::new();
        let same = wait::until(format_args!("{name} is as before"), Duration::from_secs(5), || {
            left = self.left_on(name)?;
            Ok(left.is_empty())
        });
        same.map(drop).with_context(|| format!("left on {name}: {}", left.join("; ")))
    }

    /// Every host of the site, as above.
    pub fn all_clean(&self) -> Result<()> {
        self.lab.agents().try_for_each(|host| self.is_clean(host))
    }

    /// What is not as it was, in words.
    fn left_on(&self, name: &str) -> Result<Vec<String>> {
        let after = self.look(name)?;
        let before = self.before.get(name).with_context(|| format!("nobody looked at {name} before"))?;
        let mut left: Vec<String> = before.differences(&after).iter().map(ToString::to_string).collect();
        let groups = after.0.get("groups").into_iter().flat_map(BTreeMap::keys);
        left.extend(
            groups
                .filter(|group| group.contains("/fracas-"))
                .map(|group| format!("group {group}")),
        );
        left.extend(self.workers(name)?.iter().map(|pid| format!("worker {pid}")));
        Ok(left)
    }

    fn look(&self, name: &str) -> Result<Footprint> {
        let mut seen = self.host(name).snapshot()?;
        if let Some(files) = seen.0.get_mut("files") {
            files.remove(HALT_RECORD);
        }
        if let Some(processes) = seen.0.remove("processes") {
            let named = processes.into_iter().map(|(command, state)| (without_pid(&command), state));
            seen.0.insert("processes".to_owned(), named.collect());
        }
        Ok(seen)
    }

    /// The processes that load a host for us.
    pub fn workers(&self, name: &str) -> Result<Vec<i32>> {
        let processes = self.host(name).processes_named(WORKER_PROCESS)?.into_iter();
        let works = processes.filter(|process| process.state != 'Z' && process.command.iter().any(|word| word == "worker"));
        Ok(works.map(|process| process.pid).collect())
    }

    pub fn guardian(&self, name: &str) -> Result<Option<i32>> {
        let mut processes = self.host(name).processes_named(AGENT_PROCESS)?.into_iter();
        let guards = processes.find(|process| process.state != 'Z' && process.command.iter().any(|word| word == "guardian"));
        Ok(guards.map(|process| process.pid))
    }

    pub fn control(&self) -> &Host {
        self.host(CONTROL)
    }
}

/// A guardian names the agent's pid, and both may have been replaced meanwhile.
fn without_pid(command: &str) -> String {
    match command.split_once(" --agent ") {
        Some((left, right)) => format!("{left} --agent {}", right.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => command.to_owned(),
    }
}

fn word(text: &str, number: usize) -> &str {
    text.split(' ').nth(number).unwrap_or_default()
}

/// Parameters as they are typed.
fn words(params: &Value) -> Vec<String> {
    let bare = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut all = Vec::new();
    for (name, value) in params.as_object().into_iter().flatten() {
        match value.as_array() {
            Some(list) => all.extend(list.iter().map(|value| format!("{name}={}", bare(value)))),
            None => all.push(format!("{name}={}", bare(value))),
        }
    }
    all
}
