//! One host in a virtual machine: started, asked, reset, rebooted; it ends when this or its fleet is dropped.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tests_harness::host::tail;
use tests_harness::protocol::Ended;
use tests_harness::{Cmd, Host, Output, Process, packages, wait};

use crate::control::{Control, PORT};
use crate::image::Image;
use crate::qmp::Monitor;

/// The longest from power on to an answer: an emulated machine boots in half a minute, and in five times that beside a build.
const BOOT: Duration = Duration::from_secs(300);
const COMMAND: Duration = Duration::from_secs(60);
const SOCKETS: Duration = Duration::from_secs(20);
/// Where the disk with the packages is mounted.
pub const PACKAGES: &str = "/media/packages";
/// Always emulated, also where there is KVM, so that a host is the same wherever the suite runs.
const ACCELERATOR: &str = "tcg,thread=multi";
/// What a machine's processors are, in words that follow "processors that".
pub const PROCESSORS: &str = "QEMU emulates (TCG, not KVM)";
/// Of the files in a machine's folder.
const CONSOLE: &str = "console";
pub(crate) const CONSOLE_LOG: &str = "console.log";
pub(crate) const QEMU_LOG: &str = "qemu.log";
const CONTROL: &str = "control";
const MONITOR: &str = "monitor";

/// What one machine has.
#[derive(Debug, Clone)]
pub struct MachinePlan {
    pub name: String,
    /// On the network of its fleet.
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub memory_mib: u32,
    pub processors: u32,
    /// A disk image that it sees beside its own, read-only.
    pub packages: Option<PathBuf>,
    /// A folder that it and the runner can write to, with a path short enough for a socket.
    pub folder: PathBuf,
}

pub struct Machine {
    plan: MachinePlan,
    process: Process,
    control: Mutex<Control>,
    monitor: Mutex<Monitor>,
    boot_id: String,
}

impl Machine {
    /// Starts a machine in the namespaces of a host, whose place on the fleet's network it takes, and waits until it answers.
    pub fn start(host: &Host, image: &Image, plan: MachinePlan) -> Result<Self> {
        bridge(host).context("connect the machine to the fleet's network")?;
        let log = plan.folder.join(QEMU_LOG);
        let process = host.background(&command(image, &plan)?, &File::create(&log)?)?;
        Self::meet(process, plan).with_context(|| tail(&log, 20))
    }

    fn meet(process: Process, plan: MachinePlan) -> Result<Self> {
        let connect = |name: &str| {
            let path = plan.folder.join(name);
            let what = format!("QEMU opens {}", path.display());
            Ok::<_, anyhow::Error>(wait::for_some(what, SOCKETS, || Ok(UnixStream::connect(&path).ok()))?.0)
        };
        let monitor = Monitor::new(connect(MONITOR)?)?;
        let mut machine = Self {
            process,
            control: Mutex::new(Control::new(connect(CONTROL)?)?),
            monitor: Mutex::new(monitor),
            boot_id: String::new(),
            plan,
        };
        machine.wait_for_boot()?;
        Ok(machine)
    }

    pub fn name(&self) -> &str {
        &self.plan.name
    }

    pub fn v4(&self) -> Ipv4Addr {
        self.plan.v4
    }

    pub fn v6(&self) -> Ipv6Addr {
        self.plan.v6
    }

    /// Where its console can be connected to.
    pub fn console(&self) -> PathBuf {
        self.plan.folder.join(CONSOLE)
    }

    /// Where its sockets and its logs are.
    pub(crate) fn folder(&self) -> &Path {
        &self.plan.folder
    }

    /// Everything that its console has shown.
    pub fn console_log(&self) -> PathBuf {
        self.plan.folder.join(CONSOLE_LOG)
    }

    /// Runs a line of `sh` in the machine, whatever comes of it.
    pub fn sh(&self, line: &str) -> Result<Output> {
        self.sh_within(line, COMMAND)
    }

    pub fn sh_within(&self, line: &str, limit: Duration) -> Result<Output> {
        self.exec(&["/bin/sh", "-c", line], b"", limit)
    }

    pub fn exec(&self, argv: &[&str], stdin: &[u8], limit: Duration) -> Result<Output> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let command = format!("{}: {}", self.plan.name, argv.join(" "));
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = control.run(&argv, stdin, limit).with_context(|| command.clone())?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output {
            command,
            end: if ended.code < 0 {
                Ended::Signal(-ended.code)
            } else {
                Ended::Code(ended.code)
            },
            stdout: text(ended.stdout),
            stderr: text(ended.stderr),
        })
    }

    /// Writes a file, which root may read and write; larger things go on the disk of packages.
    pub fn put(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let written = self.exec(&["/bin/sh", "-c", "umask 077; cat >\"$1\"", "sh", path], text.as_ref(), COMMAND)?;
        written.ok().map(drop)
    }

    /// What the reset button does: nothing is written back or ended. Returns when the next boot answers, which is early.
    pub fn reset(&mut self) -> Result<()> {
        self.monitor()?.execute("system_reset")?;
        self.wait_for_boot()
    }

    /// Ends every service and writes everything back before the machine starts again. Returns when the next boot answers, which is early.
    pub fn reboot(&mut self) -> Result<()> {
        self.sh("systemctl reboot")?.ok()?;
        self.wait_for_boot()
    }

    /// Waits until everything that starts at boot has started.
    pub fn settle(&self) -> Result<()> {
        // Its exit code says whether a unit has failed.
        self.sh_within("systemctl is-system-running --wait", BOOT).map(drop)?;
        if self.plan.packages.is_some() {
            let mount = format!("mountpoint -q {PACKAGES} || mount -o ro /dev/vdb {PACKAGES}");
            self.sh(&mount)?.ok()?;
        }
        Ok(())
    }

    /// Pulls the plug.
    pub fn power_off(self) -> Result<()> {
        self.monitor()?.execute("quit")?;
        self.process.wait(SOCKETS).map(drop)
    }

    fn wait_for_boot(&mut self) -> Result<()> {
        let console = self.console_log();
        let control = self.control.get_mut().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::take(&mut self.boot_id);
        self.boot_id = control
            .hello(BOOT)
            .with_context(|| format!("{}: {}\n{}", self.plan.name, console.display(), tail(&console, 20)))?;
        anyhow::ensure!(self.boot_id != last, "{} did not boot again", self.plan.name);
        Ok(())
    }

    fn monitor(&self) -> Result<std::sync::MutexGuard<'_, Monitor>> {
        Ok(self.monitor.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The host's link becomes a port of a bridge, and the machine's link another.
fn bridge(host: &Host) -> Result<()> {
    let ip = packages::tool("ip")?;
    let lines = "address flush dev eth0\nlink add bridge0 type bridge\nlink set eth0 master bridge0\ntuntap add dev tap0 mode tap\n\
                 link set tap0 master bridge0 up\nlink set bridge0 up\n";
    let batch = Cmd::new(ip.to_string_lossy()).args(["-batch", "-"]).stdin(lines);
    host.exec(batch)?.ok().map(drop)
}

fn command(image: &Image, plan: &MachinePlan) -> Result<Cmd> {
    let qemu = packages::tool("qemu-system-x86_64")?;
    let boot = format!(
        "root=/dev/vda rw console=ttyS0 loglevel=5 net.ifnames=0 systemd.hostname={} systemd.machine_id={} fracas.address={}/16,{}/64",
        plan.name,
        random_id()?,
        plan.v4,
        plan.v6
    );
    let disk = |file: &Path, id: &str, how: &str| format!("file={},format=raw,if=none,id={id},{how}", file.display());
    let mut cmd = Cmd::new(qemu.to_string_lossy())
        .cwd(&plan.folder)
        .env("TMPDIR", plan.folder.to_string_lossy())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-name"])
        .arg(&plan.name)
        .args(["-accel", ACCELERATOR, "-cpu", "max"])
        .args(["-smp", &plan.processors.to_string(), "-m", &plan.memory_mib.to_string()])
        .args([
            "-kernel",
            &image.kernel.to_string_lossy(),
            "-initrd",
            &image.initrd.to_string_lossy(),
        ])
        .args(["-append", &boot])
        // What is written goes to a file without a name, which ends with the machine.
        .args(["-drive", &disk(&image.disk, "root", "snapshot=on,cache=unsafe")])
        .args(["-device", "virtio-blk-pci,drive=root"])
        .args(["-device", "virtio-rng-pci"])
        .args(["-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no"])
        .args(["-device", &format!("virtio-net-pci,netdev=net,romfile=,mac={}", mac(plan.v4))])
        .args(["-chardev", &format!("{},logfile={CONSOLE_LOG},logappend=on", socket(CONSOLE))])
        .args(["-serial", &format!("chardev:{CONSOLE}")])
        .args(["-chardev", &socket(CONTROL), "-device", "virtio-serial-pci"])
        .args(["-device", &format!("virtserialport,chardev={CONTROL},name={PORT}")])
        .args(["-qmp", &format!("unix:{MONITOR},server=on,wait=off")]);
    if let Some(packages) = &plan.packages {
        cmd = cmd
            .args(["-drive", &disk(packages, "packages", "readonly=on")])
            .args(["-device", "virtio-blk-pci,drive=packages"]);
    }
    Ok(cmd)
}

fn socket(name: &str) -> String {
    format!("socket,id={name},path={name},server=on,wait=off")
}

/// Of QEMU's own range, with the address' last two numbers.
fn mac(v4: Ipv4Addr) -> String {
    let [.., third, fourth] = v4.octets();
    format!("52:54:00:77:{third:02x}:{fourth:02x}")
}

fn random_id() -> Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("read a random id")?;
    Ok(uuid.trim().replace('-', ""))
}
