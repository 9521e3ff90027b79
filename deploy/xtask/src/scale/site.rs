//! The processes of one measurement: a controller in a folder of its own, a simulated fleet, and the operator's program; ended with it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tests_harness::{programs, wait};

/// How long a controller may take until it answers, with a store of any size.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// A controller and its folder; the folder outlives a crash.
pub struct Site {
    folder: TempDir,
    agents: String,
    operators: String,
    controller: Option<Child>,
}

impl Site {
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            agents: free_address()?,
            operators: free_address()?,
            controller: None,
        })
    }

    /// Starts the controller where it was before; returns how long it took to answer.
    pub fn start(&mut self) -> Result<Duration> {
        self.spawn()?;
        self.wait_until_ready()
    }

    pub fn spawn(&mut self) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("controller.log"))?;
        let mut command = Command::new(programs::find("fracas-controller")?);
        command
            .arg("--config")
            .arg(self.folder.path().join("controller.toml"))
            .arg("--state-dir")
            .arg(self.state())
            .arg("--run-dir")
            .arg(self.folder.path().join("run"))
            .args(["--agents-address", &self.agents, "--operators-address", &self.operators])
            .env("FRACAS_LOG", "error")
            .stdout(Stdio::null())
            .stderr(log);
        self.controller = Some(command.spawn().context("start fracas-controller")?);
        Ok(())
    }

    pub fn wait_until_ready(&self) -> Result<Duration> {
        wait::until("the controller answers", READY_WITHIN, || {
            Ok(self.fracas(&["status"])?.status.success())
        })
    }

    /// SIGKILL, as a crash would be.
    pub fn crash(&mut self) -> Result<()> {
        if let Some(mut controller) = self.controller.take() {
            controller.kill().context("kill the controller")?;
            controller.wait()?;
        }
        Ok(())
    }

    pub fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn agents(&self) -> &str {
        &self.agents
    }

    pub fn operators(&self) -> &str {
        &self.operators
    }

    /// Proportional share of the controller's memory, in KiB.
    pub fn pss_kib(&self) -> Result<f64> {
        let id = self.controller.as_ref().context("a controller runs")?.id();
        let rollup = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .context("smaps_rollup has a Pss line")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(programs::find("fracas")?);
        command
            .args(args)
            .env("FRACAS_SOCKET", self.folder.path().join("run/controller.sock"))
            .env("FRACAS_CONFIG", self.folder.path().join("contexts.yaml"))
            .stdin(Stdio::null());
        Ok(command)
    }

    pub fn fracas(&self, args: &[&str]) -> Result<Output> {
        self.command(args)?.output().context("run fracas")
    }

    /// The document that a command prints, whatever its exit code.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let output = self.fracas(&[args, &["-o", "json"]].concat())?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("read what {args:?} printed: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// A join token for so many hosts, in a file.
    pub fn token(&self, uses: u32) -> Result<std::path::PathBuf> {
        let output = self.fracas(&[
            "tokens",
            "create",
            "--label",
            "env=staging",
            "--uses",
            &uses.to_string(),
            "--ttl",
            "2h",
        ])?;
        let text = String::from_utf8(output.stdout)?;
        let token = text
            .split(|c: char| c.is_whitespace() || c == '\'')
            .find(|word| word.starts_with("fjt1."));
        self.keep_token(token.context("a token is printed")?)
    }

    pub fn keep_token(&self, token: &str) -> Result<std::path::PathBuf> {
        let path = self.folder.path().join("token");
        std::fs::write(&path, token)?;
        Ok(path)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.crash();
    }
}

/// A port that was free a moment ago, so that a controller can come back to it.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A mode of `fracas-test-fleet`: a line in, a line of JSON out.
pub struct Tool {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Tool {
    pub fn start<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Result<Self> {
        let mut process = Command::new(programs::find("fracas-test-fleet")?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start fracas-test-fleet")?;
        let input = process.stdin.take().context("it has an input")?;
        let output = BufReader::new(process.stdout.take().context("it has an output")?);
        Ok(Self { process, input, output })
    }

    /// The hosts of one fleet, which enrol first; returns how long that took.
    pub fn fleet(controller: &str, token: &Path, hosts: u32, spread_ms: u64) -> Result<(Self, Duration)> {
        let numbers = [hosts.to_string(), spread_ms.to_string()];
        let token = token.to_str().context("the token's path is text")?;
        let args = [
            "run",
            "--controller",
            controller,
            "--token-file",
            token,
            "--hosts",
            &numbers[0],
            "--spread-ms",
            &numbers[1],
        ];
        let mut tool = Self::start(args)?;
        let took = tool.line()?["took_ms"].as_u64().context("enrolment took some time")?;
        tool.line()?;
        Ok((tool, Duration::from_millis(took)))
    }

    pub fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.input, "{line}").context("write to fracas-test-fleet")?;
        self.line()
    }

    pub fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("fracas-test-fleet has ended");
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub fn count(&mut self, what: &str) -> Result<u64> {
        self.ask("counts")?[what].as_u64().with_context(|| format!("{what} is a number"))
    }

    pub fn until(&mut self, what: &str, limit: Duration, mut holds: impl FnMut(&Value) -> bool) -> Result<Duration> {
        wait::until(what, limit, || Ok(holds(&self.ask("counts")?)))
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
