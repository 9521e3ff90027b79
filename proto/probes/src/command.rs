//! A command probe as it is written: a program of the host's own, its arguments and what it must say. How it is run is the agent's.

use proto_model::probe::ValueBounds;
use proto_model::problem::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::{AskedBy, Example, Probe};

const MOST_ARGS: usize = 32;
/// Longest argument, in bytes.
const ARG_BYTES: usize = 1_024;

/// Hosts only, and only where the host's own policy names a directory of programs.
pub struct Command;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandParams {
    /// A name in the directory that the host's agent.toml names, never a path.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$"))]
    pub program: String,
    /// The program's arguments, as they are written: no shell reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub args: Vec<String>,
    /// The exit code that is good; 0 if left out.
    #[serde(default)]
    pub exit: u8,
    /// A text that the output must contain.
    pub contains: Option<String>,
    /// What the output must be as a number; without any bound it need not be one.
    #[serde(flatten)]
    pub bounds: ValueBounds,
}

/// Whether this could be a program's name: one component, not hidden, nothing a shell or a path would read.
pub fn is_program_name(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(known)
}

impl Probe for Command {
    const KIND: &'static str = "command";
    const SUMMARY: &'static str =
        "the exit code is the expected one, the output contains the text and, where bounds are given, is a number within them";
    const SHORTHAND: &'static str = "program";
    const ASKED_BY: AskedBy = AskedBy::Hosts;
    type Params = CommandParams;

    fn examples() -> Vec<Example<CommandParams>> {
        let params = CommandParams {
            program: "check-queue".to_owned(),
            args: vec!["--name".to_owned(), "orders".to_owned()],
            exit: 0,
            contains: None,
            bounds: ValueBounds {
                at_most: Some(100.0),
                ..ValueBounds::default()
            },
        };
        vec![Example {
            says: "at most 100 orders wait, says the host's own program",
            params,
        }]
    }

    fn validate(params: &CommandParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if !is_program_name(&params.program) {
            let problem = Problem::new("params.program", format!("{:?} is no program's name", params.program));
            problems.push(problem.allowed("a name in the host's directory of probes: letters, digits, '-', '_', '.', never a path"));
        }
        if params.args.len() > MOST_ARGS {
            let problem = Problem::new("params.args", format!("has {} arguments", params.args.len()));
            problems.push(problem.allowed(format!("..{MOST_ARGS}")));
        }
        for (i, arg) in params.args.iter().enumerate() {
            if arg.len() > ARG_BYTES || arg.contains('\0') {
                let problem = Problem::new(format!("params.args[{i}]"), "is too long or has a zero byte");
                problems.push(problem.allowed(format!("..{ARG_BYTES} bytes")));
            }
        }
        problems.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_a_name_and_no_path() {
        for (text, expected) in [
            ("check-queue_1.sh", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("../x", false),
            ("a/b", false),
            ("/bin/sh", false),
            ("a b", false),
            ("a;b", false),
            ("a\0b", false),
        ] {
            assert_eq!(is_program_name(text), expected, "{text:?}");
        }
    }
}
