//! A real controller process for the loopback rung, on ports and folders of its own; it injects nothing anywhere.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests_harness::{programs, wait};

/// How long a controller may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(20);

const LOG: &str = "controller.log";
/// On the loopback, wherever there is room.
const ANY_PORT: &str = "127.0.0.1:0";

/// A controller that is killed when this is dropped; its folders stay until the test's do.
pub struct Controller {
    process: Child,
    folder: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Controller {
    /// Starts one on this folder and waits until it answers.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::spawn(folder)?.ready()
    }

    /// The same where agents of a former one look for it.
    pub fn start_at(folder: &Path, agents: &str) -> Result<Self> {
        Self::spawn_at(folder, agents)?.ready()
    }

    /// Starts one as another user of this machine, who is given the folder, and waits until it answers.
    pub fn start_as(folder: &Path, user: u32) -> Result<Self> {
        // Where every user may run it, whatever folder this tree is in.
        let program = folder.join("fracas-controller");
        std::fs::copy(programs::find("fracas-controller")?, &program).context("copy fracas-controller")?;
        std::os::unix::fs::chown(folder, Some(user), Some(user)).context("give the folder to another user")?;
        let mut command = Command::new(program);
        command.uid(user).gid(user);
        Self::spawn_by(command, folder, ANY_PORT)?.ready()
    }

    /// Starts one and does not wait.
    pub fn spawn(folder: &Path) -> Result<Self> {
        Self::spawn_at(folder, ANY_PORT)
    }

    fn spawn_at(folder: &Path, agents: &str) -> Result<Self> {
        Self::spawn_by(Command::new(programs::find("fracas-controller")?), folder, agents)
    }

    fn spawn_by(mut command: Command, folder: &Path, agents: &str) -> Result<Self> {
        let (state, run) = (folder.join("state"), folder.join("run"));
        let process = command
            .arg("--config")
            .arg(folder.join("controller.toml"))
            .arg("--state-dir")
            .arg(&state)
            .arg("--run-dir")
            .arg(&run)
            .args(["--agents-address", agents, "--operators-address", ANY_PORT, "--lease-ms", "2000"])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join(LOG)).context("make the controller's log")?)
            .spawn()
            .context("start fracas-controller")?;
        Ok(Self {
            process,
            folder: folder.to_owned(),
        })
    }

    fn ready(self) -> Result<Self> {
        wait::until("the controller answers", READY_WITHIN, || Ok(self.fracas(&["status"])?.code == 0))?;
        Ok(self)
    }

    /// Runs the operators' program against this controller.
    pub fn fracas(&self, args: &[&str]) -> Result<Said> {
        fracas(&self.folder, args)
    }

    /// What it logged so far.
    pub fn said(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.join(LOG)).context("read the controller's log")
    }

    /// Where it listens, by what it said when it was ready: `agents` or `operators`.
    pub fn address(&self, whose: &str) -> Result<String> {
        let key = format!("{whose}=");
        let (address, _) = wait::for_some("the controller says where it listens", READY_WITHIN, || {
            let said = self.said()?;
            let mut words = said.split_whitespace();
            Ok(words.find_map(|word| word.strip_prefix(&key)).map(str::to_owned))
        })?;
        Ok(address)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// SIGKILL, as a crash would be.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().context("kill the controller")?;
        self.process.wait().context("wait for the controller")?;
        Ok(())
    }

    /// Waits for it to end by itself; returns its exit code and what it said.
    pub fn ended(mut self) -> Result<(Option<i32>, String)> {
        let (status, _) = wait::for_some("the controller ends", READY_WITHIN, || Ok(self.process.try_wait()?))?;
        Ok((status.code(), self.said()?))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the operators' program against the socket below this folder, whoever listens there.
pub fn fracas(folder: &Path, args: &[&str]) -> Result<Said> {
    let output = Command::new(programs::find("fracas")?)
        .args(args)
        .env("FRACAS_SOCKET", folder.join("run/controller.sock"))
        .env("FRACAS_CONFIG", folder.join("contexts.yaml"))
        .stdin(Stdio::null())
        .output()
        .context("run fracas")?;
    let Some(code) = output.status.code() else {
        bail!("fracas was ended by a signal")
    };
    Ok(Said {
        code,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Why these tests cannot run here: administrators are root and one group.
pub fn impossible() -> Option<String> {
    (!is_root()).then(|| "calling the controller's socket needs root".to_owned())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}
