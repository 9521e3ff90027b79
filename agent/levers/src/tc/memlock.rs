//! The bound on locked memory, which kernels before 5.11 hold maps and programs of bpf to: services have 64 KiB, less than one map of ours takes.

use std::io;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

const BOUND: Resource = Resource::RLIMIT_MEMLOCK;

/// Makes something without that bound, and restores it. A process that may not lift it makes it within the most that it may have, and a
/// refusal says so.
pub(super) fn lifted<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (soft, hard) = getrlimit(BOUND)?;
    if soft == RLIM_INFINITY {
        return make();
    }
    let lifted = setrlimit(BOUND, RLIM_INFINITY, RLIM_INFINITY);
    if lifted.is_err() {
        setrlimit(BOUND, hard, hard)?;
    }
    let made = make();
    setrlimit(BOUND, soft, hard)?;
    made.map_err(|error| match lifted {
        Ok(()) => error,
        Err(refused) => {
            let text = format!(
                "{error} (locked memory is bounded at {hard} bytes and that cannot be lifted: {refused}; fix: LimitMEMLOCK=infinity)"
            );
            io::Error::new(error.kind(), text)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_lifted_while_something_is_made_and_is_as_before_after_that() {
        let (_, hard) = getrlimit(BOUND).unwrap();
        setrlimit(BOUND, 4_096, hard).unwrap();
        // Root of a container may have no more than the hard one.
        let (within, _) = lifted(|| Ok(getrlimit(BOUND)?)).unwrap();
        assert!([RLIM_INFINITY, hard].contains(&within), "{within}");
        assert_eq!(getrlimit(BOUND).unwrap(), (4_096, hard));
        assert!(lifted(|| Err::<(), _>(io::ErrorKind::NotFound.into())).is_err());
        assert_eq!(getrlimit(BOUND).unwrap(), (4_096, hard));
    }
}
