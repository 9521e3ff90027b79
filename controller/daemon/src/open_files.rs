//! How many files the controller may have open: as many as it is allowed to, since every host is a connection.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than any fleet needs; some kernels allow what would only cost memory.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit to the hard one; returns what holds then.
pub fn raise_limit() -> u64 {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be read; 1024 is assumed");
            return 1_024;
        }
    };
    let wanted = hard.min(ENOUGH);
    if wanted <= soft {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, soft, hard, "the limit of open files could not be raised");
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_hard_one_and_stays() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 256.min(hard), hard).unwrap();
        let raised = raise_limit();
        assert_eq!(raised, hard.min(ENOUGH));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, hard));
        assert_eq!(raise_limit(), raised);
    }
}
