//! Connections made inside a host by the test's own process; nothing is started there and nothing is sent but lines of text.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use tests_harness::Host;

/// Far longer than a round trip on a bridge, and shorter than TCP waits before it sends again.
const PATIENCE: Duration = Duration::from_millis(300);

/// A connection that was open before anything happened.
#[derive(Debug)]
pub struct Line(TcpStream);

impl Line {
    /// Connects from a host's own network; an error when nobody answers at once.
    pub fn open(from: &Host, to: SocketAddr) -> Result<Self> {
        let namespace = File::open(format!("/proc/{}/ns/net", from.init_pid())).context("open a host's network namespace")?;
        // A thread of its own enters the namespace and ends there; the socket stays in it.
        let connect = move || -> Result<TcpStream> {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("enter a host's network namespace")?;
            Ok(TcpStream::connect_timeout(&to, PATIENCE)?)
        };
        let stream = std::thread::spawn(connect)
            .join()
            .map_err(|_| anyhow!("the connecting thread panicked"))?;
        let stream = stream.with_context(|| format!("connect from {} to {to}", from.name()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Whether a line that is sent comes back at once.
    pub fn answers(&mut self) -> bool {
        let mut heard = [0; 6];
        self.0.write_all(b"hello\n").is_ok() && self.0.read_exact(&mut heard).is_ok()
    }
}

/// Whether a new connection is accepted at once.
pub fn reaches(from: &Host, to: SocketAddr) -> bool {
    Line::open(from, to).is_ok()
}
