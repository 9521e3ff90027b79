//! A command probe: a program from the one directory that the host's policy names, its exit code and output held against bounds.

use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::User;
use proto_model::probe::{CommandCheck, ProbeSpec, Sample, SampledBy};
use proto_model::time::Timestamp;
use proto_probes::{Answer, Told, timed};

use crate::program;
use crate::running::{As, run};

/// What the host's policy offers; nothing unless it names a directory.
#[derive(Debug, Clone)]
pub struct Commands(Arc<Offer>);

#[derive(Debug)]
enum Offer {
    Nothing,
    /// A directory and, unless it is our own, whose rights the programs have.
    Programs {
        directory: PathBuf,
        rights: As,
    },
    /// The policy names a user that this host does not know.
    NoUser(String),
}

impl Commands {
    /// `directory` empty: none. `user` empty: programs have this process's own rights.
    pub fn of(directory: PathBuf, user: &str) -> Self {
        Self(Arc::new(match rights_of(user) {
            _ if directory.as_os_str().is_empty() => Offer::Nothing,
            Ok(rights) => Offer::Programs { directory, rights },
            Err(why) => Offer::NoUser(why),
        }))
    }

    pub fn none() -> Self {
        Self(Arc::new(Offer::Nothing))
    }
}

fn rights_of(user: &str) -> Result<As, String> {
    if user.is_empty() {
        return Ok(As::Ourselves);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(As::User {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }),
        Ok(None) => Err(format!("probes.user in agent.toml: this host has no user {user:?}")),
        Err(error) => Err(format!("probes.user in agent.toml: look up {user:?}: {error}")),
    }
}

/// Runs the program once, never longer than the probe's timeout; nothing of it goes on after that.
pub async fn check(spec: &ProbeSpec, asked: &CommandCheck, commands: &Commands, prober: &SampledBy, now: Timestamp) -> Sample {
    timed(spec, prober, now, ask(asked, commands)).await
}

async fn ask(asked: &CommandCheck, commands: &Commands) -> Told {
    let missing = |why: String| (Answer::Missing(why), None);
    let (directory, rights) = match &*commands.0 {
        Offer::Programs { directory, rights } => (directory, *rights),
        Offer::Nothing => return missing("this host runs no command probes: probes.commands in agent.toml is empty".to_owned()),
        Offer::NoUser(why) => return missing(why.clone()),
    };
    let program = match program::find(directory, &asked.program) {
        Ok(program) => program,
        Err(why) => return missing(why),
    };
    match run(&program, &asked.args, rights).await {
        Ok(ended) => judge(asked, ended.code, &ended.output),
        Err(why) => missing(format!("{}: {why}", asked.program)),
    }
}

/// `code` is `None` after a signal.
fn judge(asked: &CommandCheck, code: Option<i32>, output: &[u8]) -> Told {
    let bad = |why: String| (Answer::Bad(why), None);
    match code {
        Some(code) if code == i32::from(asked.exit) => {}
        Some(code) => return bad(format!("exit code {code}; expected {}", asked.exit)),
        None => return bad("ended by a signal".to_owned()),
    }
    let output = String::from_utf8_lossy(output);
    if let Some(text) = asked.contains.as_ref().filter(|text| !output.contains(text.as_str())) {
        return bad(format!("the output does not contain {text:?}"));
    }
    if asked.bounds.is_empty() {
        return (Answer::Good, None);
    }
    match output.trim().parse::<f64>() {
        Ok(value) => (Answer::of(value, &asked.bounds), Some(value)),
        Err(_) => (Answer::Missing("the output is not one number".to_owned()), None),
    }
}
