//! A look that failed.

use std::io::ErrorKind;

/// A look that failed: what was looked at, and the system's answer.
#[derive(Debug, thiserror::Error)]
#[error("read {what}")]
pub struct ViewError {
    pub what: String,
    #[source]
    pub source: std::io::Error,
}

impl ViewError {
    pub fn new(what: impl Into<String>, source: std::io::Error) -> Self {
        Self { what: what.into(), source }
    }

    /// It says nothing of what was looked at, and the next look may see it: the host is out of descriptors or memory, or did not answer in time.
    pub fn is_transient(&self) -> bool {
        let exhausted = [libc::ENFILE, libc::EMFILE, libc::ENOMEM, libc::EAGAIN];
        self.source.kind() == ErrorKind::TimedOut || self.source.raw_os_error().is_some_and(|error| exhausted.contains(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_look_for_which_the_host_lacks_the_means_may_succeed_later() {
        let transient = |source: io::Error| ViewError::new("x", source).is_transient();
        assert!(transient(io::Error::from_raw_os_error(libc::ENFILE)) && transient(ErrorKind::TimedOut.into()));
        assert!(!transient(io::Error::from_raw_os_error(libc::EACCES)) && !transient(io::Error::from_raw_os_error(libc::EIO)));
    }
}
