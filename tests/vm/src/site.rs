//! A machine with our packages on it, a neighbour outside, for some cases a second machine, and what cases do with them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests_harness::footprint::Footprint;
use tests_harness::{Fleet, FleetPlan, Host, Output, Packages, programs, wait};

use crate::image::{self, Image};
use crate::kit::Kit;
use crate::look::LOOK;
use crate::machine::{self, Machine, MachinePlan};
use crate::suite::Suite;

/// The machine's name, which is also the host's name at the controller.
pub const HOST: &str = "web";
/// The name of the second machine that a case may start, which is also its host's name at the controller.
pub const SECOND: &str = "app";
/// A host of the fleet that the machine talks to.
const NEIGHBOUR: &str = "db";
/// The host of the fleet in whose namespaces QEMU runs; the machine has its place on the network.
const BENCH: &str = "bench";
/// The same for the second machine; it is idle where no case starts one.
const SECOND_BENCH: &str = "bench2";
const MEMORY_MIB: u32 = 1536;
/// The folder for the logs of a machine that did not start.
const BOOT: &str = "boot";
const INSTALL: Duration = Duration::from_secs(300);
/// The longest that a command of the operator may take, in a slow machine.
const OPERATOR: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(120);
/// Cuts the neighbour off.
pub const PARTITION: [&str; 2] = ["network.partition", "to=db"];
/// Fills a part of the root's volume.
pub const BALLAST: [&str; 3] = ["disk.fill", "amount=500MiB", "path=/var/tmp"];
/// How long faults last whose end no case waits for: longer than the steps of a case between their start and what ends them sooner.
pub const LASTS: &str = "5m";

pub struct Site {
    // Dropped in this order: the machines' folder goes last.
    machine: Machine,
    second: Option<Machine>,
    fleet: Fleet,
    folder: TempDir,
    image: Image,
    /// The disk of packages, and where its debs came from.
    packages: Option<PathBuf>,
    debs: Option<PathBuf>,
    logs: PathBuf,
    state: State,
    before_agent: Option<BeforeAgent>,
}

/// What a machine was like before the agent was installed.
pub struct BeforeAgent {
    pub footprint: Footprint,
    /// Its queues and rules, to the letter.
    pub network: String,
    pub files: BTreeSet<String>,
}

/// How far the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Bare,
    Installed,
    Enrolled,
}

impl Site {
    /// Boots a machine of this suite, with a disk that holds the debs of a folder; nothing of them is installed yet.
    pub fn start(suite: Suite, kit: Kit, debs: Option<&Path>) -> Result<Self> {
        let image = Image::ensure(suite, kit)?;
        Packages::ensure(&["iproute2", "nftables"])?;
        let folder = tempfile::Builder::new().prefix("fracas-vm-").tempdir()?;
        let logs = logs(suite)?;
        fs::create_dir_all(&logs)?;
        let fleet = FleetPlan::new("vm", [NEIGHBOUR, BENCH, SECOND_BENCH])
            .writable(folder.path())
            .logs(&logs)
            .create()?;
        let packages = debs.map(|debs| packages_disk(debs, folder.path())).transpose()?;
        let machine = boot(
            HOST,
            fleet.host(BENCH),
            &image,
            packages.as_deref(),
            folder.path(),
            &logs.join(BOOT),
        )?;
        let site = Self {
            machine,
            second: None,
            fleet,
            folder,
            image,
            packages,
            debs: debs.map(Path::to_owned),
            logs,
            state: State::Bare,
            before_agent: None,
        };
        introduce(&site.machine, &site.names())?;
        Ok(site)
    }

    /// Boots a second machine on the same network, and waits until it has started. It knows the first one and the neighbour by name, and nothing of
    /// the debs is installed.
    pub fn start_second(&mut self) -> Result<()> {
        ensure!(self.second.is_none(), "the machine {SECOND} runs already");
        let folder = self.folder.path().join(SECOND);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let bench = self.fleet.host(SECOND_BENCH);
        let names = format!("{}{} {SECOND}\n", self.names(), bench.v4());
        let kept = self.logs.join(BOOT).join(SECOND);
        let second = boot(SECOND, bench, &self.image, self.packages.as_deref(), &folder, &kept)?;
        // From here on its logs are kept with the case's.
        let second = self.second.insert(second);
        introduce(second, &names)?;
        second.settle()
    }

    pub fn second(&self) -> Result<&Machine> {
        self.second.as_ref().with_context(|| format!("the machine {SECOND} does not run"))
    }

    pub fn second_mut(&mut self) -> Result<&mut Machine> {
        self.second.as_mut().with_context(|| format!("the machine {SECOND} does not run"))
    }

    /// Takes the second machine's host, which is to be clean, out of the fleet, and switches the machine off.
    pub fn end_second(&mut self) -> Result<()> {
        self.fracas(&["hosts", "remove", SECOND, "--reason", "its machine is switched off"])?
            .ok()?;
        if let Some(second) = self.second.take() {
            let folder = second.folder().to_owned();
            second.power_off().with_context(|| format!("switch off {SECOND}"))?;
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        Ok(())
    }

    /// The addresses of the machine and its neighbour, as /etc/hosts has them; `db4` and `db6` are the neighbour's of one family.
    fn names(&self) -> String {
        let neighbour = self.neighbour();
        let mut names = format!("{} {HOST}\n", self.machine.v4());
        for (address, family) in neighbour.addresses().into_iter().zip([4, 6]) {
            names += &format!("{address} {name} {name}{family}\n", name = neighbour.name());
        }
        names
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Where the debs came from that its disk of packages holds.
    pub fn debs(&self) -> Option<&Path> {
        self.debs.as_deref()
    }

    /// A folder that hosts of its fleet can write to, as the runner can.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the logs of its cases are kept.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    pub fn neighbour(&self) -> &Host {
        self.fleet.host(NEIGHBOUR)
    }

    /// Installs the controller and the command line, and then the agent, by apt, which starts their services.
    pub fn install(&mut self) -> Result<()> {
        self.machine.settle()?;
        apt_install(&self.machine, &["fracas-controller", "fracas"])?;
        wait::until("the controller answers", SOON, || Ok(self.fracas(&["status"])?.success()))?;
        self.before_agent = Some(BeforeAgent {
            footprint: self.machine.footprint()?,
            network: self.machine.network()?,
            files: self.files()?,
        });
        self.install_agent(&self.machine)?;
        self.state = State::Installed;
        Ok(())
    }

    /// Installs the agent alone, which keeps the identity that an earlier one has left.
    pub fn install_agent(&self, machine: &Machine) -> Result<()> {
        apt_install(machine, &["fracas-agent"])
    }

    pub fn before_agent(&self) -> Option<&BeforeAgent> {
        self.before_agent.as_ref()
    }

    /// Makes the machine a host of its own controller.
    pub fn enrol(&mut self) -> Result<()> {
        self.enrol_machine(&self.machine, "web")?;
        self.state = State::Enrolled;
        Ok(())
    }

    /// Makes a machine a host of the controller, with this role, by the line that `tokens create` prints.
    pub fn enrol_machine(&self, machine: &Machine, role: &str) -> Result<()> {
        let role = format!("role={role}");
        let token = ["tokens", "create", "--label", "env=staging", "--label", role.as_str()];
        let line = self.fracas(&token)?.ok()?;
        machine.exec(&["/bin/bash", "-c", line.trim()], b"", OPERATOR)?.ok().map(drop)
    }

    /// Whatever a case left: afterwards the packages are there, and the host is connected and clean.
    pub fn ready(&mut self) -> Result<()> {
        if self.state == State::Bare {
            self.install().context("install the packages")?;
        }
        if self.state == State::Installed {
            self.enrol().context("enrol the host")?;
        }
        self.connected_and_clean_within(SOON)?;
        Ok(())
    }

    /// Waits until the controller counts the host as connected and clean; the error has what the controller says instead.
    pub fn connected_and_clean_within(&self, limit: Duration) -> Result<Duration> {
        self.host_ready_within(HOST, limit)
    }

    /// The same of any host.
    pub fn host_ready_within(&self, host: &str, limit: Duration) -> Result<Duration> {
        let waited = wait::until(format_args!("{host} is connected and clean"), limit, || self.is_host_ready(host));
        waited.with_context(|| match self.show_host(host) {
            Ok(shown) => format!("{}: {} {}", shown.command, shown.stdout.trim(), shown.stderr.trim()),
            Err(error) => format!("the controller cannot be asked about {host}: {error:#}"),
        })
    }

    pub fn is_connected_and_clean(&self) -> Result<bool> {
        self.is_host_ready(HOST)
    }

    fn is_host_ready(&self, host: &str) -> Result<bool> {
        let host = self.host(host)?;
        // The controller hears of a release on the host itself by the next heartbeat.
        Ok(host["connection"] == "connected" && host["cleanliness"] == "clean" && host["availability"] != "halted")
    }

    /// Waits until the controller hears the host, and returns what it says of it.
    pub fn connected_within(&self, limit: Duration) -> Result<Value> {
        let connected = || Ok(Some(self.host(HOST)?).filter(|host| host["connection"] == "connected"));
        Ok(wait::for_some("the host is connected", limit, connected)?.0)
    }

    /// The controller's document of a host. Without a controller there is none, and nothing in it counts.
    pub fn host(&self, host: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.show_host(host)?.stdout).unwrap_or_default())
    }

    fn show_host(&self, host: &str) -> Result<Output> {
        self.fracas(&["hosts", "show", host, "-o", "json"])
    }

    /// Removes the agent with everything it kept; the controller stays.
    pub fn purge(&mut self) -> Result<()> {
        let purged = self
            .machine
            .sh_within("apt-get purge -y -o Dpkg::Use-Pty=0 fracas-agent", INSTALL)?;
        self.state = State::Bare;
        purged.ok().map(drop)
    }

    /// Takes note that the agent was removed by other means, with everything it kept.
    pub fn agent_was_purged(&mut self) {
        self.state = State::Bare;
    }

    /// `fracas ARGUMENTS` on the machine, whatever it answers.
    pub fn fracas(&self, arguments: &[&str]) -> Result<Output> {
        self.machine.exec(&[&["fracas"], arguments].concat(), b"", OPERATOR)
    }

    /// Starts a fault on the host and waits until it holds; returns the run's id.
    pub fn attack(&self, fault: &[&str], lasts: &str) -> Result<String> {
        self.attack_on(HOST, fault, lasts)
    }

    /// The same on any host.
    pub fn attack_on(&self, host: &str, fault: &[&str], lasts: &str) -> Result<String> {
        let line = [&["attack"], fault, &["--on", host, "--for", lasts, "--detach", "-o", "json"]].concat();
        let run: Value = serde_json::from_str(&self.fracas(&line)?.ok()?)?;
        let id = run["id"].as_str().context("a run has an id")?.to_owned();
        let shown = || -> Result<Option<Value>> {
            let run = self.run(&id)?;
            let state = run["injections"][0]["state"].as_str().unwrap_or_default().to_owned();
            ensure!(run["state"] != "finished", "{} ended: {run:#}", fault[0]);
            Ok((state == "holding").then_some(run))
        };
        wait::for_some(format_args!("{} holds", fault[0]), SOON, shown)?;
        Ok(id)
    }

    fn run(&self, id: &str) -> Result<Value> {
        let shown = self.fracas(&["runs", "show", id, "-o", "json"])?.ok()?;
        serde_json::from_str(&shown).context("read a run's document")
    }

    /// The document of a run that has ended; waits for its end, which comes after the proof that the host is clean.
    pub fn finished(&self, id: &str) -> Result<Value> {
        let ended = || Ok(Some(self.run(id)?).filter(|run| run["state"] == "finished"));
        Ok(wait::for_some(format_args!("run {id} ends"), SOON, ended)?.0)
    }

    /// The neighbour does not answer by IPv4.
    pub fn expect_cut_off(&self) -> Result<()> {
        let ping = self.machine.sh("ping -4 -c 2 -W 2 db")?;
        ensure!(!ping.success(), "the neighbour answers during a partition: {}", ping.stdout);
        Ok(())
    }

    /// The names of all files on the machine that are not the business of its own package manager and services.
    pub fn files(&self) -> Result<BTreeSet<String>> {
        let line = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log \
                    -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/lib/systemd -o -path /var/lib/redis \
                    -o -path /var/lib/postgresql -o -path /var/lib/fracas/controller \
                    -o -name '*-' \\) -prune -o -print";
        let found = self.machine.sh(line)?.ok()?;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// Puts what helps to understand a failure into a folder of the target folder, and says which. What is of the second machine is in a folder
    /// of its name there.
    pub fn keep_logs(&self, case: &str) -> Result<PathBuf> {
        let folder = self.logs.join(case);
        keep_logs_of(&self.machine, &folder)?;
        if let Some(second) = &self.second {
            keep_logs_of(second, &folder.join(SECOND))?;
        }
        Ok(folder)
    }
}

/// Boots a machine in the namespaces of a host of the fleet; where it does not start, what it has shown is kept.
fn boot(name: &str, bench: &Host, image: &Image, packages: Option<&Path>, folder: &Path, kept: &Path) -> Result<Machine> {
    let plan = MachinePlan {
        name: name.to_owned(),
        v4: bench.v4(),
        v6: bench.v6(),
        memory_mib: MEMORY_MIB,
        processors: 2,
        packages: packages.map(Path::to_owned),
        folder: folder.to_owned(),
    };
    Machine::start(bench, image, plan).with_context(|| {
        let logs = keep_console(folder, kept);
        let logs = logs.map_or_else(|error| format!("none: {error:#}"), |()| kept.display().to_string());
        format!("start the machine {name} (logs: {logs})")
    })
}

/// Adds lines to the machine's /etc/hosts.
fn introduce(machine: &Machine, names: &str) -> Result<()> {
    machine
        .exec(&["/bin/sh", "-c", "cat >>/etc/hosts"], names.as_bytes(), SOON)?
        .ok()
        .map(drop)
}

fn apt_install(machine: &Machine, packages: &[&str]) -> Result<()> {
    let debs: Vec<String> = packages
        .iter()
        .map(|package| format!("{}/{package}_*.deb", machine::PACKAGES))
        .collect();
    let line = format!("apt-get install -y -o Dpkg::Use-Pty=0 {}", debs.join(" "));
    machine.sh_within(&line, INSTALL)?.ok().map(drop)
}

/// Puts the logs of a machine, and what it says of itself, into a folder.
fn keep_logs_of(machine: &Machine, folder: &Path) -> Result<()> {
    keep_console(machine.folder(), folder)?;
    for (name, line) in [
        ("journal", "journalctl --no-pager -o short-monotonic"),
        ("processes", "ps -eo pid,ppid,user,stat,oom,cgroup,args"),
        ("network", "ip address; tc qdisc; tc filter show dev eth0 egress; nft list ruleset"),
        ("units", "systemctl --no-pager status 'fracas*'; systemctl --no-pager --failed"),
        ("disks", "df; ls -laR /var/lib/fracas /run/fracas-agent"),
    ] {
        let said = match machine.sh(line) {
            Ok(output) => output.stdout + &output.stderr,
            Err(error) => format!("{error:#}\n"),
        };
        fs::write(folder.join(name), said)?;
    }
    Ok(())
}

/// What the machine and QEMU have written themselves, which is all there is of a machine that does not answer.
fn keep_console(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for name in [machine::CONSOLE_LOG, machine::QEMU_LOG] {
        // QEMU may have ended before it wrote one of them.
        fs::copy(from.join(name), to.join(name)).ok();
    }
    Ok(())
}

/// Where logs of failed cases are kept, those of the last run alone.
pub fn logs(suite: Suite) -> Result<PathBuf> {
    Ok(programs::target_folder()?.join("vm/logs").join(suite.name()))
}

/// A disk with these debs, and the program that looks at a host.
fn packages_disk(debs: &Path, folder: &Path) -> Result<PathBuf> {
    let stage = tempfile::tempdir()?;
    let mut found = 0;
    for entry in fs::read_dir(debs).with_context(|| format!("read {}", debs.display()))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            fs::copy(entry.path(), stage.path().join(entry.file_name()))?;
            found += 1;
        }
    }
    ensure!(found > 0, "there is no deb in {}", debs.display());
    let beside = debs.join(LOOK);
    let look = if beside.exists() { beside } else { programs::find(LOOK)? };
    fs::copy(look, stage.path().join(LOOK))?;
    let disk = folder.join("packages");
    image::disk_of(stage.path(), "packages", &disk)?;
    Ok(disk)
}
