//! A command probe: a program from the one directory that the host's policy names, its exit code and output held against bounds.

use proto_probes::{Answer, Command, CommandParams, Told};

use crate::commands::{Commands, Offer};
use crate::kind::HostProbe;
use crate::program;
use crate::running::run;

/// Runs the program once; nothing of it goes on once the future is dropped.
pub(crate) struct Run;

impl HostProbe for Run {
    type Declared = Command;

    async fn ask(params: &CommandParams, commands: &Commands) -> Told {
        run_once(params, commands).await
    }
}

async fn run_once(asked: &CommandParams, commands: &Commands) -> Told {
    let missing = |why: String| (Answer::Missing(why), None);
    let (directory, rights) = match commands.offer() {
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
fn judge(asked: &CommandParams, code: Option<i32>, output: &[u8]) -> Told {
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
