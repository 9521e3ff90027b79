//! Memory that a worker takes and holds: touched page by page with content of its own; it never decides how much.

use std::io;
use std::ptr::NonNull;

use super::pattern::{PAGE, Pattern};

/// Whole pieces of this size are asked of the kernel as one page: faster, and still exact.
const HUGE: u64 = 2 << 20;
/// Less than this is not worth a second thread.
const LEAST_PER_THREAD: u64 = 4 << 20;
const MOST_THREADS: u64 = 16;

/// Address space of a fixed size, of which the first `held` bytes are in memory.
pub struct MemoryBlock {
    base: NonNull<u8>,
    capacity: u64,
    held: u64,
    lock: bool,
    threads: u64,
    pattern: Pattern,
}

impl MemoryBlock {
    /// Sets aside addresses for at most `capacity` bytes; takes no memory yet. With `lock` nothing of it is ever swapped out.
    pub fn new(capacity: u64, lock: bool, seed: u64) -> io::Result<Self> {
        let capacity = capacity.max(PAGE).next_multiple_of(HUGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size(capacity)?,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let hoard = Self {
            base: NonNull::new(mapped.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            capacity,
            held: 0,
            lock,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(MOST_THREADS),
            pattern: Pattern::new(seed),
        };
        // Advice: without it the same is held, only a core file would be large and the last piece inexact.
        for advice in [libc::MADV_DONTDUMP, libc::MADV_NOHUGEPAGE] {
            let _ = hoard.advise(0, hoard.capacity, advice);
        }
        Ok(hoard)
    }

    pub fn held(&self) -> u64 {
        self.held
    }

    /// Takes or gives back until `bytes` are held, in whole pages; what is beyond the capacity is not taken.
    pub fn resize(&mut self, bytes: u64) -> io::Result<()> {
        let wanted = bytes.min(self.capacity) / PAGE * PAGE;
        if wanted > self.held {
            self.grow(wanted)
        } else {
            self.shrink(wanted)
        }
    }

    fn grow(&mut self, wanted: u64) -> io::Result<()> {
        let from = self.held;
        let (first, last) = (self.huge_after(from), self.huge_before(wanted));
        if first < last {
            let _ = self.advise(first, last, libc::MADV_HUGEPAGE);
        }
        let words = size(wanted - from)? / 8;
        // SAFETY: `from..wanted` lies inside the mapping, which is readable, writable, zeroed by the kernel and aligned to
        // pages; `&mut self` makes this the only slice of it.
        let fresh = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(size(from)?).cast::<u64>(), words) };
        let threads = ((wanted - from) / LEAST_PER_THREAD).clamp(1, self.threads);
        let share = size(((wanted - from).div_ceil(threads)).next_multiple_of(PAGE))? / 8;
        let pattern = &self.pattern;
        std::thread::scope(|scope| {
            let mut first_page = from / PAGE;
            for part in fresh.chunks_mut(share) {
                let first = first_page;
                first_page += part.len() as u64 * 8 / PAGE;
                scope.spawn(move || pattern.write(first, part));
            }
        });
        if self.lock {
            // SAFETY: the range lies inside the mapping; locking changes no content.
            let locked = unsafe { libc::mlock(self.at(from).cast(), size(wanted - from)?) };
            if locked != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.held = wanted;
        Ok(())
    }

    fn shrink(&mut self, wanted: u64) -> io::Result<()> {
        if wanted == self.held {
            return Ok(());
        }
        if self.lock {
            // SAFETY: the range lies inside the mapping; unlocking changes no content.
            let unlocked = unsafe { libc::munlock(self.at(wanted).cast(), size(self.held - wanted)?) };
            if unlocked != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.advise(wanted, self.held, libc::MADV_DONTNEED)?;
        self.held = wanted;
        Ok(())
    }

    /// The first huge page that begins at or after an offset, as an offset.
    fn huge_after(&self, offset: u64) -> u64 {
        let base = self.base.as_ptr() as u64;
        (base + offset).next_multiple_of(HUGE) - base
    }

    fn huge_before(&self, offset: u64) -> u64 {
        let base = self.base.as_ptr() as u64;
        ((base + offset) / HUGE * HUGE).saturating_sub(base)
    }

    fn at(&self, offset: u64) -> *mut u8 {
        self.base.as_ptr().wrapping_add(usize::try_from(offset).unwrap_or(usize::MAX))
    }

    fn advise(&self, from: u64, to: u64, advice: i32) -> io::Result<()> {
        // SAFETY: the range lies inside the mapping, and nobody holds a slice of it; content that goes is not read again.
        let advised = unsafe { libc::madvise(self.at(from).cast(), size(to - from)?, advice) };
        if advised == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for MemoryBlock {
    fn drop(&mut self) {
        let Ok(capacity) = size(self.capacity) else { return };
        // SAFETY: the whole mapping, made in `new` and unmapped once.
        unsafe { libc::munmap(self.base.as_ptr().cast(), capacity) };
    }
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says is in memory of our mapping.
    fn resident(hoard: &MemoryBlock) -> u64 {
        let base = hoard.base.as_ptr() as u64;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut inside, mut kilobytes) = (false, 0);
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            if let Some(start) = range.and_then(|(start, _)| u64::from_str_radix(start, 16).ok()) {
                inside = (base..base + hoard.capacity).contains(&start);
            } else if inside && let Some(rss) = line.strip_prefix("Rss:") {
                kilobytes += rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        kilobytes * 1_024
    }

    #[test]
    fn what_is_asked_is_in_memory_up_and_down() {
        let mut hoard = MemoryBlock::new(64 << 20, false, 1).unwrap();
        for asked in [0, 1 << 20, 33 << 20, (40 << 20) + 4_096, 7 << 20, 50 << 20, 0] {
            hoard.resize(asked).unwrap();
            assert_eq!((hoard.held(), resident(&hoard)), (asked, asked));
        }
        hoard.resize(1 << 30).unwrap();
        assert_eq!(hoard.held(), 64 << 20);
    }

    #[test]
    fn locked_memory_is_locked_and_can_be_given_back() {
        if tests_notes::lacks_root("to lock this much memory") {
            return;
        }
        let mut hoard = MemoryBlock::new(16 << 20, true, 1).unwrap();
        hoard.resize(12 << 20).unwrap();
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let locked = rollup.lines().find_map(|line| line.strip_prefix("Locked:")).unwrap();
        assert!(
            locked.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >= 12 << 10,
            "{rollup}"
        );
        hoard.resize(4 << 20).unwrap();
        assert_eq!(resident(&hoard), 4 << 20);
    }
}
