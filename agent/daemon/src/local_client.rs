//! Asking the agent of this host over its socket, and printing what it says; it changes nothing by itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use agent_session::IdentityFolder;
use agent_warden::{AgentStatus, HaltLatch};
use anyhow::Context;

pub use crate::local_server::Answer;
use crate::local_server::Ask;
use crate::options::Output;
use crate::paths::Paths;

/// Longer than the agent itself waits for an undo.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

pub fn ask(paths: &Paths, ask: &Ask) -> anyhow::Result<Answer> {
    let socket = paths.socket();
    let mut stream = UnixStream::connect(&socket).with_context(|| format!("reach the agent at {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    stream.set_write_timeout(Some(ANSWERED_WITHIN))?;
    let mut question = serde_json::to_string(ask)?;
    question.push('\n');
    stream.write_all(question.as_bytes()).context("ask the agent")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("hear the agent's answer")?;
    serde_json::from_str(&line).context("understand the agent's answer")
}

pub fn status(paths: &Paths, output: Output) -> anyhow::Result<ExitCode> {
    let status = match ask(paths, &Ask::Status)? {
        Answer::Status(status) => status,
        other => anyhow::bail!("the agent answered with {other:?}"),
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&status)?),
        Output::Table => print!("controller {}\n{}", controller(paths), in_lines(&status)),
    }
    Ok(ExitCode::SUCCESS)
}

fn controller(paths: &Paths) -> String {
    match agent_session::controller_of(IdentityFolder::at(paths.identity())) {
        Ok(Some(controller)) => controller,
        Ok(None) => "none: this host is not enrolled (run the command that `fracas tokens create` prints)".to_owned(),
        Err(error) => format!("unknown: {error}"),
    }
}

fn in_lines(status: &AgentStatus) -> String {
    let mut text = format!("host      {}\n", status.cleanliness.as_str());
    for residue in &status.residue {
        text.push_str(&format!("residue   {residue}\n"));
    }
    let halt = match &status.halted {
        None => "no".to_owned(),
        Some(halted) => {
            let by = if halted.latch == HaltLatch::Host {
                "on this host"
            } else {
                "by the controller"
            };
            format!("{by}: {}", halted.reason)
        }
    };
    text.push_str(&format!("halted    {halt}\n"));
    text.push_str(&format!(
        "guarded   {}\n",
        if status.guarded { "yes" } else { "no: nothing is admitted" }
    ));
    for active in &status.active {
        let (id, state, left) = (&active.injection, active.state.as_str(), active.left_ms as f64 / 1_000.0);
        text.push_str(&format!(
            "injection {id} {} {state}, {left:.0} s left, run {}\n",
            active.fault, active.run
        ));
    }
    if status.active.is_empty() {
        text.push_str("injection none\n");
    }
    text
}
