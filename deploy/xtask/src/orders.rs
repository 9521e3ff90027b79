//! Lets a second terminal stop and start the agents of a demo that stays up; it takes no other orders.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tests_harness::lab::AGENT;
use tests_harness::{Lab, Then, interrupt};

use crate::demo::folder;

const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// Tell the agent of one of the demo's hosts.
#[derive(Debug, Args)]
pub struct Order {
    /// web, cache or client
    host: String,
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// End it kindly; it stays down
    Down,
    /// Start it again
    Up,
    /// Kill it and its guardian; its supervisor starts it again
    Kill9,
    /// Kill it and its guardian; it stays down
    Dead,
}

impl Order {
    pub fn send(&self) -> Result<()> {
        let mut to = UnixStream::connect(socket()?).context("reach a demo that stays up (cargo xtask demo --keep)")?;
        to.set_read_timeout(Some(PATIENCE))?;
        let what = self.what.to_possible_value().context("every order has a name")?;
        writeln!(to, "{} {}", self.host, what.get_name())?;
        let mut answer = String::new();
        BufReader::new(to).read_line(&mut answer).context("wait for the demo's answer")?;
        match answer.trim() {
            "done" => Ok(()),
            other => bail!("{other}"),
        }
    }
}

/// Obeys until somebody asks to end.
pub fn serve(lab: &Lab) -> Result<()> {
    let path = socket()?;
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
    listener.set_nonblocking(true)?;
    while !interrupt::asked() {
        match listener.accept() {
            Ok((stream, _)) => answer(lab, stream).unwrap_or_else(|error| eprintln!("an order was not heard: {error:#}")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            Err(error) => return Err(error).context("wait for orders"),
        }
    }
    std::fs::remove_file(&path).ok();
    Ok(())
}

fn answer(lab: &Lab, mut stream: UnixStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    match obey(lab, line.trim()) {
        Ok(()) => writeln!(stream, "done")?,
        Err(error) => writeln!(stream, "{}", format!("{error:#}").replace('\n', "; "))?,
    }
    Ok(())
}

fn obey(lab: &Lab, line: &str) -> Result<()> {
    let (host, what) = line.split_once(' ').context("an order is a host and a word")?;
    if !lab.agents().any(|name| name == host) {
        bail!("no agent on {host} (there are: {})", lab.agents().collect::<Vec<_>>().join(", "));
    }
    match What::from_str(what, false) {
        Ok(What::Down) => lab.host(host).stop(AGENT),
        Ok(What::Up) => lab.start_agent(host),
        Ok(What::Kill9) => lab.kill_agent_and_guardian(host, Then::StartsAgain),
        Ok(What::Dead) => lab.kill_agent_and_guardian(host, Then::StaysDown),
        Err(error) => bail!("{error}"),
    }
}

fn socket() -> Result<PathBuf> {
    Ok(folder()?.join("orders.sock"))
}
