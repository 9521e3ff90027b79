//! Two signs of life in one small file in /run: the agent's and its guardian's, each written in place by its owner alone.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Whose sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Agent,
    Guardian,
}

impl Whose {
    fn offset(self) -> u64 {
        match self {
            Self::Agent => 0,
            Self::Guardian => 8,
        }
    }
}

/// The file, open; its space is made once, so that writing needs no disk.
pub struct Beats(File);

impl Beats {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        if file.metadata()?.len() < 16 {
            file.write_all_at(&[0; 16], 0)?;
        }
        Ok(Self(file))
    }

    pub fn write(&self, whose: Whose, boot_ms: u64) -> std::io::Result<()> {
        self.0.write_all_at(&boot_ms.to_le_bytes(), whose.offset())
    }

    pub fn read(&self, whose: Whose) -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, whose.offset())?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// How long the other has been silent, by a clock that stands still while the host sleeps.
pub struct Silence {
    last: u64,
    since: Instant,
}

impl Silence {
    /// Counts from now; whatever the file says yet is old.
    pub fn begin(beats: &Beats, whose: Whose) -> Self {
        Self {
            last: beats.read(whose).unwrap_or(0),
            since: Instant::now(),
        }
    }

    /// Looks once; true when there was a new sign.
    pub fn listen(&mut self, beats: &Beats, whose: Whose) -> bool {
        let Ok(now) = beats.read(whose) else { return false };
        let new = now != self.last;
        if new {
            (self.last, self.since) = (now, Instant::now());
        }
        new
    }

    pub fn lasts(&self) -> Duration {
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hears_the_other_and_not_what_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (
            Beats::open(&dir.path().join("h")).unwrap(),
            Beats::open(&dir.path().join("h")).unwrap(),
        );
        a.write(Whose::Agent, 5).unwrap();
        let mut silence = Silence::begin(&b, Whose::Agent);
        assert!(!silence.listen(&b, Whose::Agent));
        a.write(Whose::Agent, 6).unwrap();
        assert!(silence.listen(&b, Whose::Agent));
        assert_eq!(b.read(Whose::Guardian).unwrap(), 0);
    }
}
