//! The extra question before what cannot be undone: asked at a terminal, a flag without one; it starts nothing.

use std::io::{BufRead, IsTerminal, Write};

use proto_model::exit;
use proto_model::plan::Plan;

use crate::console::Console;
use crate::failure::Failure;

/// What is typed to go on.
const WORD: &str = "irreversible";

/// Whether it was confirmed. Without a terminal the flag alone says so, and the controller refuses what lacks it.
pub fn confirmation(console: &Console, plan: &Plan, given: bool) -> Result<bool, Failure> {
    let lines = warnings(plan);
    if lines.is_empty() {
        return Ok(given);
    }
    for line in &lines {
        console.note(line);
    }
    if given || !std::io::stdin().is_terminal() {
        return Ok(given);
    }
    typed(console, &format!("Type {WORD} to go on:"), WORD)?;
    Ok(true)
}

/// One line for each step that has no way back.
fn warnings(plan: &Plan) -> Vec<String> {
    let line = |(path, step, why): (&str, &proto_model::plan::FaultStep, &str)| format!("IRREVERSIBLE {path} {}: {why}", step.fault);
    plan.irreversible().map(line).collect()
}

/// Asks for a word at the terminal; anything else starts nothing.
pub fn typed(console: &Console, question: &str, word: &str) -> Result<(), Failure> {
    console.note(question);
    let _ = std::io::stderr().flush();
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    read.map_err(|error| Failure::local(format!("cannot read the confirmation: {error}")))?;
    if typed.trim() == word {
        return Ok(());
    }
    Err(Failure::new(
        exit::FORBIDDEN,
        "approval_needed",
        "not confirmed; nothing was started",
    ))
}
