//! Hands a command line that was understood to its verb. It reads no argument and prints nothing itself.

use std::future::Future;

use clap::CommandFactory;

use crate::command::{Cli, Verb};
use crate::console::Console;
use crate::failure::Failure;

/// Runs the verb and answers with its exit code. Only what talks to a controller gets a runtime.
pub fn run(cli: Cli, console: &mut Console) -> Result<u8, Failure> {
    let globals = cli.globals;
    match cli.verb {
        Verb::Attack(verb) => wait(verb.run(&globals, console)),
        Verb::Plan(verb) => wait(verb.run(&globals, console)),
        Verb::Run(verb) => wait(verb.run(&globals, console)),
        Verb::Stop(verb) => wait(verb.run(&globals, console)),
        Verb::Halt(verb) => wait(verb.run(&globals, console)),
        Verb::Release(verb) => wait(verb.run(&globals, console)),
        Verb::Runs(noun) => wait(noun.run(&globals, console)),
        Verb::Hosts(noun) => wait(noun.run(&globals, console)),
        Verb::Faults(noun) => wait(noun.run(&globals, console)),
        Verb::Tokens(noun) => wait(noun.run(&globals, console)),
        Verb::Services(noun) => wait(noun.run(&globals, console)),
        Verb::Levels(noun) => wait(noun.run(&globals, console)),
        Verb::Publish(verb) => wait(verb.run(&globals, console)),
        Verb::Schedules(noun) => wait(noun.run(&globals, console)),
        Verb::Freezes(noun) => wait(noun.run(&globals, console)),
        Verb::Top(verb) => wait(verb.run(&globals, console)),
        Verb::Operators(noun) => wait(noun.run(&globals, console)),
        Verb::Audit(noun) => wait(noun.run(&globals, console)),
        Verb::Authority(noun) => wait(noun.run(&globals, console)),
        Verb::Status(verb) => wait(verb.run(&globals, console)),
        Verb::Contexts(noun) => noun.run(&globals, console),
        Verb::Schema(verb) => verb.run(console),
        Verb::Completion(verb) => verb.run(&mut Cli::command(), console),
        Verb::Manual(verb) => verb.run(Cli::command()),
    }
}

fn wait(verb: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local(format!("cannot start: {error}")))?;
    runtime.block_on(verb)
}
