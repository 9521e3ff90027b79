//! Runs cargo and shows what it says while reading it; a Ctrl-C ends it.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use tests_harness::{interrupt, programs};

const LOOK: Duration = Duration::from_millis(50);

/// Cargo in the repository, building where this process was built.
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(arguments)
        .current_dir(programs::repository())
        .env("CARGO_TARGET_DIR", programs::target_folder()?);
    if std::io::stderr().is_terminal() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    Ok(cargo)
}

/// Whether a cargo subcommand is there.
pub fn has(subcommand: &str) -> bool {
    let asked = command(&[subcommand, "--version"]).and_then(|mut cargo| Ok(cargo.output()?));
    asked.is_ok_and(|output| output.status.success())
}

/// Runs it to its end and returns what it said on both outputs, which was shown as it came.
pub fn watch(mut command: Command) -> Result<(ExitStatus, String)> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    // Our own ends of the pipe go with the command.
    drop(command);
    let said = std::thread::spawn(move || show(reader));
    let status = ended(&mut child)?;
    let said = said.join().unwrap_or_default();
    Ok((status, said))
}

fn show(reader: std::io::PipeReader) -> String {
    let (mut said, mut line) = (String::new(), Vec::new());
    let mut reader = BufReader::new(reader);
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        std::io::stderr().write_all(&line).ok();
        said += &String::from_utf8_lossy(&line);
        line.clear();
    }
    said
}

fn ended(child: &mut Child) -> Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            interrupt::check()?;
            return Ok(status);
        }
        if interrupt::asked() && !told {
            interrupt::pass_on(child);
            told = true;
        }
        std::thread::sleep(LOOK);
    }
}

/// A line without the colours it was shown in.
pub fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            plain.push(letter);
        }
    }
    plain
}
