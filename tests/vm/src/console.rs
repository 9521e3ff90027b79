//! A machine's console on the terminal of whoever asks for it.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::machine::Machine;

/// Control and `]`, as with telnet.
const LEAVE: u8 = 0x1d;

/// Connects the terminal with the console until somebody leaves it.
pub fn attach(machine: &Machine) -> Result<()> {
    let path = machine.console();
    let stream = UnixStream::connect(&path).with_context(|| format!("connect to {}", path.display()))?;
    let _raw = Raw::enter().context("a shell needs a terminal")?;
    let mut output = stream.try_clone()?;
    let shown = std::thread::spawn(move || show(&mut output));
    // For a prompt.
    (&stream).write_all(b"\n")?;
    type_into(&stream)?;
    stream.shutdown(Shutdown::Both).ok();
    shown.join().ok();
    Ok(())
}

fn show(stream: &mut UnixStream) {
    let (mut chunk, mut output) = ([0; 4096], std::io::stdout());
    while let Ok(length) = stream.read(&mut chunk) {
        if length == 0 || output.write_all(&chunk[..length]).and_then(|()| output.flush()).is_err() {
            break;
        }
    }
}

fn type_into(mut stream: &UnixStream) -> Result<()> {
    let (mut chunk, mut input) = ([0; 256], std::io::stdin());
    loop {
        let length = match input.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        let typed = &chunk[..length];
        let leave = typed.iter().position(|byte| *byte == LEAVE);
        let gone = stream.write_all(&typed[..leave.unwrap_or(length)]).is_err();
        if length == 0 || leave.is_some() || gone {
            return Ok(());
        }
    }
}

/// The terminal gives every key at once, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let input = std::io::stdin();
        let before = tcgetattr(input.as_fd())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(input.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.0).ok();
    }
}
