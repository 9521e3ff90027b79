//! The grammar of the command line: every verb and noun in one tree; it does nothing, and no verb knows of it.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::globals::{Globals, HELP};
use crate::verbs;

const EXAMPLES: &str = "\
Examples:
  fracas attack cpu.burn percent=60 --on role=web --pick 1 --for 20s
  fracas run checkout.yaml
  fracas runs show @last
  fracas halt";

const AFTER: &str = "\
Exit codes: 0 passed or done, 1 error, 2 usage, 3 invalid file, 4 not authenticated, 5 forbidden, 6 failed,
7 aborted or halted, 8 a host is not proven clean, 9 --timeout reached, 10 controller unreachable, 11 inconclusive.";

/// Breaks hosts on purpose, and proves that they are whole again
#[derive(Debug, Parser)]
#[command(name = "fracas", version, before_help = EXAMPLES, after_help = AFTER, help_template = HELP)]
#[command(subcommand_required = true, arg_required_else_help = false, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Attack(verbs::attack::Attack),
    Plan(verbs::plan::Plan),
    Run(verbs::run::Run),
    Stop(verbs::stop::Stop),
    Halt(verbs::halt::Halt),
    Release(verbs::release::Release),
    Runs(verbs::runs::Runs),
    #[command(alias = "host")]
    Hosts(verbs::hosts::Hosts),
    #[command(alias = "fault")]
    Faults(verbs::faults::Faults),
    #[command(alias = "token")]
    Tokens(verbs::tokens::Tokens),
    #[command(alias = "operator")]
    Operators(verbs::operators::Operators),
    Audit(verbs::audit::Audit),
    Authority(verbs::authority::Authority),
    #[command(alias = "context")]
    Contexts(verbs::contexts::Contexts),
    #[command(alias = "service")]
    Services(verbs::services::Services),
    #[command(alias = "level")]
    Levels(verbs::levels::Levels),
    Publish(verbs::publish::Publish),
    Status(verbs::status::Status),
    Schema(verbs::schema::Schema),
    #[command(alias = "schedule")]
    Schedules(verbs::schedules::Schedules),
    #[command(alias = "freeze")]
    Freezes(verbs::freezes::Freezes),
    Top(verbs::top::Top),
    Completion(verbs::completion::Completion),
    #[command(hide = true)]
    Manual(verbs::manual::Manual),
}

/// `run show X` means `runs show X`, unless a file of that name is to be run.
pub fn singular(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let text = |at: usize| arguments.get(at).and_then(|a| a.to_str());
    let noun = text(1) == Some("run");
    let verb = text(2).filter(|verb| verbs::runs::VERBS.contains(verb));
    if noun && verb.is_some_and(|verb| !std::path::Path::new(verb).exists()) {
        arguments[1] = "runs".into();
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_a_verb_and_the_singular_of_runs() {
        let read = |texts: &[&str]| singular(texts.iter().map(OsString::from).collect())[1].clone();
        assert_eq!(read(&["fracas", "run", "show", "@last"]), "runs");
        assert_eq!(read(&["fracas", "run", "checkout.yaml"]), "run");
    }

    #[test]
    fn every_verb_shows_an_example_first() {
        fn check(command: &clap::Command, path: &str) {
            let help = command.clone().render_long_help().to_string();
            let example = help.find("Examples:").unwrap_or_else(|| panic!("{path} shows no example"));
            assert!(
                help.find("Usage:").is_some_and(|usage| example < usage),
                "{path} shows its usage first"
            );
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                check(verb, &format!("{path} {}", verb.get_name()));
            }
        }
        check(&Cli::command(), "fracas");
    }
}
