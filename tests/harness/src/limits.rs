//! What processes of one measurement share: the limit of open files, which children inherit, and the monotonic clock.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Raises the limit to at least `files`, also beyond the hard limit where this process may do that; returns what it is then.
pub fn raise_open_files(files: u64) -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is written as none.
    if current.is_none_or(|current| current >= files) {
        return Ok(current.unwrap_or(u64::MAX));
    }
    let hard = maximum.unwrap_or(u64::MAX);
    let set = |current: u64, maximum: u64| {
        let limit = Rlimit {
            current: Some(current),
            maximum: (maximum != u64::MAX).then_some(maximum),
        };
        setrlimit(Resource::Nofile, limit)
    };
    set(files, files.max(hard)).or_else(|_| set(files.min(hard), hard))?;
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// Nanoseconds by the machine's monotonic clock, which all its processes share.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert_eq!(raise_open_files(1).unwrap(), before);
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(before);
        assert_eq!(raise_open_files(hard).unwrap(), hard.max(before));
    }
}
