//! A writer that survives a closed pipe and remembers any other failure; it never panics and never prints control characters.

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

/// The text with control characters made visible, line ends too, so that a host can write neither colours nor lines of ours; colours (`ESC [ digits m`) pass when `colours` is true.
pub fn printable(text: &str, colours: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = colours.then(|| colour_length(rest)).flatten() {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let mut characters = rest.chars();
        out.extend(characters.next().into_iter().flat_map(char::escape_default));
        rest = characters.as_str();
    }
    out.push_str(rest);
    out
}

fn colour_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    body[end..].starts_with('m').then_some(2 + end + 1)
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

    #[test]
    fn a_host_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b]0;owned\x07b", true), "a\\u{1b}]0;owned\\u{7}b");
        assert_eq!(printable("\x1b[31mred\x1b[0m", true), "\x1b[31mred\x1b[0m");
        assert_eq!(printable("\x1b[31mred", false), "\\u{1b}[31mred");
        assert_eq!(printable("two\nlines", false), "two\\nlines");
    }
}
