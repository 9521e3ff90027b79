//! What the worker tells of itself: its heartbeat and its counts, on a page in memory that anybody may read. It reads nothing.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use agent_view::{NOTE_PAGE, boot_ms};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

/// How often it is written: a reader may take one that is a second old for the end of its writer.
const EVERY: Duration = Duration::from_millis(100);
/// Written as a whole each time, filled up with spaces, so that a longer one never shows behind a shorter.
const LENGTH: usize = 2_048;

/// The worker's own counts since its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PacketNote {
    /// Boot time at which it was written, in milliseconds: it is written ten times a second.
    pub beat_ms: u64,
    /// Packets taken out of the queues, those of its own probe left out.
    pub met: u64,
    /// Held, and sent again or let go since.
    pub released: u64,
    /// Lost by the model that was asked for.
    pub lost: u64,
    /// Dropped for want of room.
    pub overflowed: u64,
    /// The kernel refused to send them again.
    pub refused: u64,
    /// Let through at once, since they cannot be copied whole.
    pub passed_by: u64,
    /// Held now.
    pub held: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echoes: Option<Echoes>,
}

/// Round trips of the worker's own probe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Echoes {
    /// How it asks, in words.
    pub by: String,
    pub asked: u64,
    pub answered: u64,
    /// Packets that it sent, and got, while the fault acts; the next ones to be sent are counted before they are.
    #[serde(default)]
    pub sent: u64,
    #[serde(default)]
    pub came: u64,
    /// The median before the fault acted, in microseconds.
    pub before_us: Option<u64>,
    /// The last round trips while it acts, the newest last, in microseconds.
    pub last_us: Vec<u64>,
}

impl PacketNote {
    /// Reads what [`agent_view::HostView::worker_note`] saw; `None` when it was seen half written.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text.trim_end()).ok()
    }
}

pub(crate) struct Page {
    file: OwnedFd,
    next: Instant,
}

impl Page {
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            file: rustix::fs::memfd_create(NOTE_PAGE, MemfdFlags::CLOEXEC)?,
            next: Instant::now(),
        })
    }

    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    pub fn write(&mut self, note: &PacketNote) -> io::Result<()> {
        self.next = Instant::now() + EVERY;
        let told = PacketNote {
            beat_ms: boot_ms(),
            ..note.clone()
        };
        let mut text = serde_json::to_vec(&told).map_err(io::Error::other)?;
        text.resize(text.len().max(LENGTH), b' ');
        rustix::io::pwrite(self.file.as_fd(), &text, 0)?;
        Ok(())
    }

    pub fn next(&self) -> Instant {
        self.next
    }
}
