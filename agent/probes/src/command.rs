//! A command probe: a program from the one directory that the host's policy names, its exit code and output held against bounds.

use std::time::Duration;

use proto_probes::{Answer, Command, CommandParams, Told};

use crate::commands::Commands;
use crate::kind::HostProbe;

/// Runs the program once; nothing of it goes on once the future is dropped.
pub(crate) struct Run;

impl HostProbe for Run {
    type Declared = Command;

    async fn ask(params: &CommandParams, commands: &Commands, within: Duration) -> Told {
        match commands.run(&params.program, &params.args, within).await {
            Ok(ended) => judge(params, ended.code, &ended.output),
            Err(why) => (Answer::Missing(why), None),
        }
    }
}

/// `code` is `None` after a signal.
fn judge(asked: &CommandParams, code: Option<i32>, output: &str) -> Told {
    let bad = |why: String| (Answer::Bad(why), None);
    match code {
        Some(code) if code == i32::from(asked.exit) => {}
        Some(code) => return bad(format!("exit code {code}; expected {}", asked.exit)),
        None => return bad("ended by a signal".to_owned()),
    }
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
