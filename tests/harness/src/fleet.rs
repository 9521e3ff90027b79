//! Several hosts on one bridge; nothing of them outlives the runner, however it ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::{Host, answer, ask};
use crate::packages::Packages;
use crate::protocol::{HostSpec, Neighbour, Request};
use crate::{channel, groups, programs};

const KEEPER_END: Duration = Duration::from_secs(15);
const FIRST_HOST: u8 = 10;
/// How many fleets this process has made.
static FLEETS: AtomicU32 = AtomicU32::new(0);
const GATEWAY: &str = "address add 10.77.0.1/16 dev switch\naddress add fd77::1/64 dev switch nodad\n";

/// Which hosts, and what they may do.
#[derive(Debug, Clone)]
pub struct FleetPlan {
    name: String,
    hosts: Vec<String>,
    writable: Vec<PathBuf>,
    logs: Option<PathBuf>,
}

impl FleetPlan {
    /// A fleet of this name (a word); the names of hosts fit a link's name with two characters to spare.
    pub fn new<S: AsRef<str>>(name: &str, hosts: impl IntoIterator<Item = S>) -> Self {
        let hosts = hosts.into_iter().map(|host| host.as_ref().to_owned()).collect();
        Self {
            name: name.to_owned(),
            hosts,
            writable: Vec::new(),
            logs: None,
        }
    }

    /// A folder of the machine that the hosts may write to; otherwise all of it is read-only to them.
    pub fn writable(mut self, folder: impl Into<PathBuf>) -> Self {
        self.writable.push(folder.into());
        self
    }

    /// Where services' logs go and stay; otherwise to a folder of the target folder that goes with the fleet.
    pub fn logs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.logs = Some(folder.into());
        self
    }

    pub fn create(mut self) -> Result<Fleet> {
        // Tests of one process may have fleets of one name at once.
        self.name = format!("{}.{}", self.name, FLEETS.fetch_add(1, Ordering::Relaxed));
        if let Some(reason) = Fleet::impossible() {
            bail!("cannot make hosts: {reason}");
        }
        Packages::ensure(&["iproute2"])?;
        groups::sweep();
        let (logs, passing) = match self.logs.clone() {
            Some(logs) => (logs, false),
            None => (passing_logs(&self.name)?, true),
        };
        std::fs::create_dir_all(&logs)?;
        let mut fleet = Fleet {
            switch: Switch::start()?,
            hosts: BTreeMap::new(),
            logs,
            passing,
        };
        fleet.populate(&self)?;
        Ok(fleet)
    }

    fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let neighbour = |(number, name): (usize, &String)| {
            let number = u8::try_from(number)?.checked_add(FIRST_HOST).context("too many hosts")?;
            let (v4, v6) = (
                Ipv4Addr::new(10, 77, 0, number),
                Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()),
            );
            Ok(Neighbour {
                name: name.clone(),
                v4,
                v6,
            })
        };
        self.hosts.iter().enumerate().map(neighbour).collect()
    }
}

pub struct Fleet {
    switch: Switch,
    hosts: BTreeMap<String, Host>,
    logs: PathBuf,
    /// Whether the logs go with the fleet.
    passing: bool,
}

impl Fleet {
    /// A fleet with nothing out of the ordinary.
    pub fn create(name: &str, hosts: &[&str]) -> Result<Fleet> {
        FleetPlan::new(name, hosts).create()
    }

    /// Why this process cannot make hosts, if so: the reason to skip a test with.
    pub fn impossible() -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("namespaces with links between them need root".into());
        }
        if chroot_is_shared() {
            return Some("this chroot is on a mount that is shared with the machine: enter it after `unshare --mount`".into());
        }
        let tried = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "unchanged",
                "--uts",
                "--pid",
                "--ipc",
                "--cgroup",
                "--fork",
                "true",
            ])
            .output();
        match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("unshare: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Some(format!("start unshare (package util-linux): {error}")),
        }
    }

    /// The host of this name. Panics when the fleet was made without it.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.get(name).unwrap_or_else(|| panic!("the fleet has no host {name}"))
    }

    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    pub fn logs(&self) -> &std::path::Path {
        &self.logs
    }

    /// Pulls or plugs a host's cable at the switch, as somebody trips over it.
    pub fn cable(&self, host: &str, plugged: bool) -> Result<()> {
        self.switch
            .ip(&format!("link set p-{host} {}\n", if plugged { "up" } else { "down" }))
    }

    fn populate(&mut self, plan: &FleetPlan) -> Result<()> {
        self.switch.ip(&format!(
            "link set lo up\nlink add switch type bridge\n{GATEWAY}link set switch up\n"
        ))?;
        let neighbours = plan.neighbours()?;
        for own in &neighbours {
            let spec = HostSpec {
                name: own.name.clone(),
                machine_id: random_id()?,
                boot_id: std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned(),
                neighbours: neighbours.clone(),
                groups: groups::plan(&plan.name, &own.name)?,
                writable: plan.writable.clone(),
            };
            let host = start(spec, self.logs.clone())?;
            self.hosts.insert(own.name.clone(), host);
            self.connect(own)?;
        }
        Ok(())
    }

    fn connect(&self, own: &Neighbour) -> Result<()> {
        let (host, name) = (self.host(&own.name), &own.name);
        let plug = format!(
            "link add p-{name} type veth peer name eth0 netns {}\nlink set p-{name} master switch up\n",
            host.init_pid
        );
        self.switch.ip(&plug)?;
        host.ip(&format!(
            "address add {}/16 dev eth0\naddress add {}/64 dev eth0 nodad\nlink set eth0 up\nroute add default via 10.77.0.1\nroute add default via fd77::1\n",
            own.v4, own.v6
        ))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.hosts.values_mut().for_each(Host::hang_up);
        for host in self.hosts.values_mut() {
            end(&mut host.keeper, &host.spec.name);
        }
        self.switch.socket = None;
        end(&mut self.switch.process, "switch");
        if self.passing && !std::thread::panicking() {
            std::fs::remove_dir_all(&self.logs).ok();
        }
    }
}

/// A keeper ends by itself when its socket closes; one that does not is killed.
fn end(keeper: &mut Child, name: &str) {
    let start = Instant::now();
    while matches!(keeper.try_wait(), Ok(None)) {
        if start.elapsed() > KEEPER_END {
            eprintln!("host {name} did not end within {KEEPER_END:?}: killed");
            keeper.kill().ok();
            keeper.wait().ok();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The namespace of the bridge.
struct Switch {
    process: Child,
    socket: Option<Mutex<OwnedFd>>,
}

impl Switch {
    fn start() -> Result<Self> {
        let (ours, theirs) = channel::pair()?;
        let process = helper()?
            .arg("switch")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .context("start the switch")?;
        Ok(Self {
            process,
            socket: Some(Mutex::new(ours)),
        })
    }

    fn ip(&self, batch: &str) -> Result<()> {
        let socket = self.socket.as_ref().context("the switch is ending")?;
        let socket = socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ask(socket.as_fd(), &Request::Ip { batch: batch.to_owned() }, &[]).context("switch")?;
        Ok(())
    }
}

fn start(spec: HostSpec, logs: PathBuf) -> Result<Host> {
    let (ours, theirs) = channel::pair()?;
    // One for the keeper, one for the first process.
    channel::send(ours.as_fd(), &spec, &[])?;
    channel::send(ours.as_fd(), &spec, &[])?;
    let mut keeper = helper()?
        .arg("keep")
        .stdin(theirs)
        .stdout(Stdio::piped())
        .spawn()
        .context("start a host's keeper")?;
    let mut line = String::new();
    BufReader::new(keeper.stdout.take().context("a keeper speaks")?).read_line(&mut line)?;
    let init_pid = line
        .trim()
        .parse()
        .with_context(|| format!("host {} could not be made (see above)", spec.name))?;
    let host = Host {
        spec,
        keeper,
        socket: Some(Mutex::new(ours)),
        init_pid,
        logs,
    };
    if let Some(socket) = &host.socket {
        answer(socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_fd())?;
    }
    Ok(host)
}

/// The helper program, in a process group of its own: a Ctrl-C is the runner's to hear.
fn helper() -> Result<Command> {
    let mut command = Command::new(programs::find("fracas-test-host")?);
    command.env("PATH", crate::packages::path()).process_group(0);
    Ok(command)
}

/// Whether our root is a folder of a mount that passes mounts on: what is made in such a chroot would show outside.
fn chroot_is_shared() -> bool {
    let is_root = |line: &str| line.split(' ').nth(4) == Some("/");
    let ours = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if ours.lines().any(is_root) {
        return false;
    }
    let about = std::fs::File::open("/").and_then(|root| std::fs::read_to_string(format!("/proc/self/fdinfo/{}", root.as_raw_fd())));
    let about = about.unwrap_or_default();
    let id = about
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .unwrap_or_default()
        .trim();
    let all = std::fs::read_to_string("/proc/1/mountinfo").unwrap_or_default();
    all.lines()
        .any(|line| line.split(' ').next() == Some(id) && line.contains(" shared:"))
}

/// A folder for this process' fleet; those of processes that were killed go now.
fn passing_logs(fleet: &str) -> Result<PathBuf> {
    let all = programs::profile_folder()?.join("harness");
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.rsplit('-').next().filter(|pid| pid.parse::<u32>().is_ok());
        if owner.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
    Ok(all.join(format!("{fleet}-{}", std::process::id())))
}

fn random_id() -> Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("read a random id")?;
    Ok(uuid.trim().replace('-', ""))
}
