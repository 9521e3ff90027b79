//! Grows a ballast file little by little: by allocation where the file system can, else by writing; it makes and removes none.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::pattern::{PAGE, PAGE_WORDS, Pattern};
use crate::ballast;

/// What is written at once, in pages.
const PIECE: usize = 256;
/// So much is written before the disk must have it: more would only fill memory.
const SYNC_EVERY: u64 = 64 << 20;

/// An open ballast file and how much it holds.
pub struct Filler {
    file: File,
    filled: u64,
    synced: u64,
    writes: bool,
    pattern: Pattern,
}

/// An injection's ballast file, to be grown: an existing plain file of ours that has no other name.
pub fn open_ballast(path: &Path) -> io::Result<File> {
    ballast::open(path)
}

impl Filler {
    /// `file` is from `open_ballast`.
    pub fn of(file: File, seed: u64) -> io::Result<Self> {
        let filled = file.metadata()?.len();
        Ok(Self {
            file,
            filled,
            synced: filled,
            writes: false,
            pattern: Pattern::new(seed),
        })
    }

    pub fn filled(&self) -> u64 {
        self.filled
    }

    /// Whether it has to write because it cannot allocate.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Grows the file to `bytes`; it never becomes smaller.
    pub fn grow_to(&mut self, bytes: u64) -> io::Result<()> {
        if !self.writes && ballast::allocate(&self.file, self.filled, bytes)? {
            self.filled = self.filled.max(bytes);
            return Ok(());
        }
        self.writes = true;
        while self.filled < bytes {
            self.write_piece(bytes)?;
        }
        Ok(())
    }

    fn write_piece(&mut self, bytes: u64) -> io::Result<()> {
        let mut words = vec![0_u64; PIECE * PAGE_WORDS];
        self.pattern.write(self.filled / PAGE, &mut words);
        let content: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let length = (bytes - self.filled).min(content.len() as u64);
        self.file.write_all_at(&content[..length as usize], self.filled)?;
        self.filled += length;
        if self.filled - self.synced >= SYNC_EVERY {
            self.file.sync_data()?;
            self.synced = self.filled;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn filler(writes: bool) -> (tempfile::TempDir, Filler) {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("x");
        let device = folder.path().metadata().unwrap().dev();
        ballast::make(&path, device).unwrap();
        let filler = Filler::of(open_ballast(&path).unwrap(), 1).unwrap();
        (folder, Filler { writes, ..filler })
    }

    #[test]
    fn both_ways_take_what_is_asked() {
        for writes in [false, true] {
            let (_folder, mut filler) = filler(writes);
            for asked in [1, 5_000, 3 << 20, (3 << 20) + 7] {
                filler.grow_to(asked).unwrap();
                assert_eq!((filler.filled(), filler.file.metadata().unwrap().len()), (asked, asked));
            }
            filler.file.sync_all().unwrap();
            let taken = filler.file.metadata().unwrap().blocks() * 512;
            assert!((3 << 20..4 << 20).contains(&taken), "{taken}");
            filler.grow_to(1).unwrap();
            assert_eq!(filler.filled(), (3 << 20) + 7);
        }
    }
}
