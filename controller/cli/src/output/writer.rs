//! A writer that survives a closed pipe and remembers any other failure; it never panics.

use std::io::{self, Write};

/// Standard output, checked.
pub struct Writer {
    inner: Box<dyn Write>,
    trouble: Option<io::Error>,
}

impl Writer {
    pub fn stdout() -> Self {
        Self::over(Box::new(io::stdout().lock()))
    }

    fn over(inner: Box<dyn Write>) -> Self {
        Self { inner, trouble: None }
    }

    /// Writes one line; after a failure, nothing more.
    pub fn line(&mut self, text: &str) {
        if self.trouble.is_some() {
            return;
        }
        let result = writeln!(self.inner, "{text}").and_then(|()| self.inner.flush());
        self.trouble = result.err();
    }

    /// Whether anybody still reads.
    pub fn is_open(&self) -> bool {
        self.trouble.is_none()
    }

    /// What broke, unless it was only the reader who left.
    pub fn failure(&self) -> Option<&io::Error> {
        self.trouble.as_ref().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_leaves_is_no_failure_and_a_full_disk_is_one() {
        let mut left = Writer::over(Box::new(Broken(io::ErrorKind::BrokenPipe)));
        left.line("a");
        assert!(!left.is_open() && left.failure().is_none());
        let mut full = Writer::over(Box::new(Broken(io::ErrorKind::StorageFull)));
        full.line("a");
        assert!(full.failure().is_some());
    }
}
