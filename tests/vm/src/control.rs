//! The suite's side of the command server in a machine: one line of JSON each way, over a virtio port.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tests_harness::interrupt;

/// The port's name in the machine; guest/server.py says the same.
pub const PORT: &str = "fracas.control";
const SLICE: Duration = Duration::from_millis(200);
/// How much longer than a command itself its answer may take, in a slow machine.
const ANSWER: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Request<'a> {
    id: u64,
    argv: &'a [String],
    stdin: String,
    /// Seconds.
    limit: f64,
}

/// What the server says: first that it is there, then one answer to each request.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Hello {
        hello: String,
    },
    Failed {
        id: u64,
        error: String,
    },
    Ended {
        id: u64,
        code: i32,
        stdout: String,
        stderr: String,
    },
}

/// How a command ended: its code, or the signal that ended it as a negative number.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    received: Vec<u8>,
    last_id: u64,
}

impl Control {
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(Self {
            stream,
            received: Vec::new(),
            last_id: 0,
        })
    }

    /// Waits until a server starts in the machine, and returns the id of its boot.
    pub fn hello(&mut self, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            if let Line::Hello { hello } = self.line(end).context("the machine's command server does not start")? {
                return Ok(hello);
            }
        }
    }

    /// Runs a command to its end.
    pub fn run(&mut self, argv: &[String], stdin: &[u8], limit: Duration) -> Result<Ended> {
        self.last_id += 1;
        let request = Request {
            id: self.last_id,
            argv,
            stdin: STANDARD.encode(stdin),
            limit: limit.as_secs_f64(),
        };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.stream.write_all(&line).context("write to the machine's port")?;
        let end = Instant::now() + limit + ANSWER;
        loop {
            match self.line(end)? {
                Line::Ended { id, code, stdout, stderr } if id == self.last_id => {
                    let (stdout, stderr) = (STANDARD.decode(stdout)?, STANDARD.decode(stderr)?);
                    return Ok(Ended { code, stdout, stderr });
                }
                Line::Failed { id, error } if id == self.last_id => bail!("{error}"),
                Line::Hello { .. } => bail!("the machine's command server was started anew"),
                // The answer to a request that was given up.
                Line::Ended { .. } | Line::Failed { .. } => {}
            }
        }
    }

    /// The next line that means something; a reset may cut one off.
    fn line(&mut self, end: Instant) -> Result<Line> {
        loop {
            while let Some(length) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=length).collect();
                if let Ok(line) = serde_json::from_slice(&line) {
                    return Ok(line);
                }
            }
            if Instant::now() > end {
                bail!("no answer from the machine's port");
            }
            interrupt::check()?;
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0; 1 << 16];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the machine has ended"),
            Ok(length) => self.received.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("read the machine's port"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn a_command_gets_its_own_answer_and_no_older_one() -> Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let mut control = Control::new(ours)?;
        theirs.write_all(b"{\"hello\": \"boot\"}\n{\"id\": 0, \"error\": \"given up\"}\ncut o\n")?;
        assert_eq!(control.hello(SOON)?, "boot");
        theirs.write_all(b"{\"id\": 1, \"code\": 3, \"stdout\": \"aGk=\", \"stderr\": \"\"}\n")?;
        let ended = control.run(&["true".to_owned()], b"", SOON)?;
        assert_eq!((ended.code, ended.stdout.as_slice()), (3, b"hi".as_slice()));
        let mut sent = [0; 4096];
        let length = theirs.read(&mut sent)?;
        let sent: serde_json::Value = serde_json::from_slice(&sent[..length])?;
        assert_eq!(sent["argv"][0], "true");
        Ok(())
    }

    #[test]
    fn a_reset_in_the_middle_of_a_command_is_an_error() -> Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let mut control = Control::new(ours)?;
        theirs.write_all(b"{\"id\": 1, \"code\"{\"hello\": \"next\"}\n{\"hello\": \"after\"}\n")?;
        let error = control.run(&["true".to_owned()], b"", SOON).unwrap_err();
        assert!(error.to_string().contains("anew"), "{error:#}");
        drop(theirs);
        assert!(control.hello(SOON).is_err());
        Ok(())
    }
}
