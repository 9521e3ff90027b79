//! Writes to standard error without waiting for its reader: a journal or a pipe that takes nothing must not hold up who undoes a fault.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Stderr, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};

use crate::dropped::Dropped;

/// How long a message to a person waits for room.
const MESSAGE_WAITS: Duration = Duration::from_secs(1);
/// A pipe that can be written at all takes so much, which is PIPE_BUF.
const PIECE: usize = 4_096;

/// One line for a person. It waits for a second where there is no room for it, and is left out after that.
pub fn print(text: &str) {
    let line = format!("{text}\n");
    Sink::of(io::stderr()).write(line.as_bytes(), Some(Instant::now() + MESSAGE_WAITS));
}

/// The log on standard error. `report` makes a record that says how many were dropped.
pub(crate) fn log(report: fn(u64) -> Vec<u8>) -> Arc<LogWriter<Stderr>> {
    Arc::new(LogWriter::of(Sink::of(io::stderr()), report))
}

/// Where text goes, and how it goes there without waiting.
struct Sink<F> {
    fd: F,
    way: Way,
}

/// The descriptor itself is never made non-blocking: it may be shared with other processes, which do not expect that.
enum Way {
    /// A terminal or a file, which have no reader to wait for.
    Plain,
    Socket,
    /// A pipe that was opened again, for this process alone and non-blocking.
    OwnPipe(File),
    /// A pipe that cannot be opened again. Between a look whether there is room and a write, another process may take that room.
    SharedPipe,
}

impl<F: AsFd> Sink<F> {
    fn of(fd: F) -> Self {
        let way = way(fd.as_fd());
        Self { fd, way }
    }

    /// How much of it was taken; it waits for room until then, or not at all.
    fn write(&self, bytes: &[u8], until: Option<Instant>) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                    let has_room = left.is_some_and(|left| !left.is_zero() && self.has_room_within(left));
                    if !has_room {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        written
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.way {
            Way::Plain => Ok(nix::unistd::write(&self.fd, bytes)?),
            Way::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                Ok(send(self.fd.as_fd().as_raw_fd(), bytes, flags)?)
            }
            Way::OwnPipe(pipe) => {
                let mut pipe = pipe;
                pipe.write(bytes)
            }
            Way::SharedPipe if self.has_room_within(Duration::ZERO) => {
                let piece = &bytes[..bytes.len().min(PIECE)];
                Ok(nix::unistd::write(&self.fd, piece)?)
            }
            Way::SharedPipe => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// True as well when its reader is gone: then writing fails at once.
    fn has_room_within(&self, wait: Duration) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        poll(&mut fds, wait).is_ok_and(|ready| ready > 0)
    }
}

fn way(fd: BorrowedFd<'_>) -> Way {
    let kind = fstat(fd).map_or(0, |stat| stat.st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFSOCK.bits() {
        return Way::Socket;
    }
    if kind != SFlag::S_IFIFO.bits() {
        return Way::Plain;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path) {
        Ok(pipe) => Way::OwnPipe(pipe),
        Err(_) => Way::SharedPipe,
    }
}

/// Takes each record whole or not at all. What of a record found no room is written before the next; at the end of the process it is lost.
pub(crate) struct LogWriter<F> {
    sink: Sink<F>,
    unfinished: Mutex<Vec<u8>>,
    dropped: Dropped,
    report: fn(u64) -> Vec<u8>,
}

impl<F: AsFd> LogWriter<F> {
    fn of(sink: Sink<F>, report: fn(u64) -> Vec<u8>) -> Self {
        Self {
            sink,
            unfinished: Mutex::default(),
            dropped: Dropped::default(),
            report,
        }
    }

    fn take(&self, record: &[u8]) -> bool {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.sink.write(&unfinished, None);
        unfinished.drain(..written);
        if !unfinished.is_empty() {
            return false;
        }
        let written = self.sink.write(record, None);
        if written > 0 {
            unfinished.extend_from_slice(&record[written..]);
        }
        written > 0
    }
}

/// One write is one record. It never fails: what is dropped is counted.
impl<F: AsFd> Write for &LogWriter<F> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.dropped.deliver(record, self.report, |record| self.take(record));
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    const RECORDS: usize = 10_000;
    const LONGEST: Duration = Duration::from_secs(20);

    fn report(number: u64) -> Vec<u8> {
        format!("dropped {number}\n").into_bytes()
    }

    /// A writer, and the other end, which is not read yet.
    fn pipe() -> (OwnedFd, File) {
        let (reader, writer) = io::pipe().unwrap();
        (writer.into(), File::from(OwnedFd::from(reader)))
    }

    fn socket() -> (OwnedFd, File) {
        let (reader, writer) = UnixStream::pair().unwrap();
        (writer.into(), File::from(OwnedFd::from(reader)))
    }

    /// Fails where it waits for a reader.
    fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        std::thread::spawn(move || drop(sender.send(work())));
        receiver.recv_timeout(LONGEST).expect("it waits for a reader")
    }

    /// All that is there to read now.
    fn drain(reader: &File) -> String {
        let mut all = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            let mut source = reader;
            let count = match poll(&mut fds, PollTimeout::from(100_u8)).unwrap() {
                0 => 0,
                _ => source.read(&mut piece).unwrap(),
            };
            if count == 0 {
                return String::from_utf8(all).unwrap();
            }
            all.extend_from_slice(&piece[..count]);
        }
    }

    fn holds_no_writer_up(sink: Sink<OwnedFd>, reader: &File) {
        let log = Arc::new(LogWriter::of(sink, report));
        let writing = Arc::clone(&log);
        in_time(move || {
            for number in 0..RECORDS {
                let record = format!("record {number} {}\n", "x".repeat(100));
                assert_eq!((&*writing).write(record.as_bytes()).unwrap(), record.len());
            }
        });
        let mut text = drain(reader);
        assert_eq!((&*log).write(b"after\n").unwrap(), 6);
        text.push_str(&drain(reader));
        let (mut written, mut dropped) = (0, 0);
        let lines = text.strip_suffix("after\n").expect("what is written after the reader came back");
        for line in lines.lines() {
            match line.strip_prefix("dropped ") {
                Some(number) => dropped += number.parse::<usize>().unwrap(),
                None => {
                    // Each report stands where its records are missing.
                    assert_eq!(line, format!("record {} {}", written + dropped, "x".repeat(100)));
                    written += 1;
                }
            }
        }
        assert!(written > 0 && dropped > 0, "{written} records, and {dropped} dropped");
        assert_eq!(written + dropped, RECORDS);
        let flags = OFlag::from_bits_truncate(fcntl(&log.sink.fd, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "other processes share the descriptor");
    }

    #[test]
    fn a_pipe_that_is_not_read_holds_no_program_up_and_the_loss_is_reported() {
        let (writer, reader) = pipe();
        let sink = Sink::of(writer);
        assert!(matches!(sink.way, Way::OwnPipe(_)));
        holds_no_writer_up(sink, &reader);
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_again_holds_no_program_up_either() {
        let (writer, reader) = pipe();
        let sink = Sink {
            fd: writer,
            way: Way::SharedPipe,
        };
        holds_no_writer_up(sink, &reader);
    }

    #[test]
    fn a_socket_that_is_not_read_holds_no_program_up_and_the_loss_is_reported() {
        let (writer, reader) = socket();
        let sink = Sink::of(writer);
        assert!(matches!(sink.way, Way::Socket));
        holds_no_writer_up(sink, &reader);
    }

    #[test]
    fn a_record_that_found_room_for_its_beginning_is_finished_before_the_next() {
        let (writer, reader) = pipe();
        let log = Arc::new(LogWriter::of(Sink::of(writer), report));
        let long = "y".repeat(100_000);
        let (writing, record) = (Arc::clone(&log), format!("{long}\n"));
        in_time(move || (&*writing).write_all(record.as_bytes()).unwrap());
        let mut text = drain(&reader);
        assert!(!text.is_empty() && text.len() < long.len(), "{} bytes", text.len());
        (&*log).write_all(b"next\n").unwrap();
        text.push_str(&drain(&reader));
        assert_eq!(text, format!("{long}\nnext\n"));
    }

    #[test]
    fn a_message_waits_for_room_no_longer_than_it_may() {
        let (writer, reader) = pipe();
        let sink = Arc::new(Sink::of(writer));
        let full = Arc::clone(&sink);
        assert!(in_time(move || full.write(&vec![b'z'; 1 << 20], None)) < 1 << 20);
        let waiting = Arc::clone(&sink);
        let (written, waited) = in_time(move || {
            let began = Instant::now();
            (
                waiting.write(b"failed\n", Some(began + Duration::from_millis(200))),
                began.elapsed(),
            )
        });
        assert_eq!(written, 0);
        assert!(waited >= Duration::from_millis(150), "{waited:?}");
        // It is written as soon as there is room.
        let slow = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drain(&reader)
        });
        assert_eq!(in_time(move || sink.write(b"failed\n", Some(Instant::now() + LONGEST))), 7);
        assert!(slow.join().unwrap().ends_with("failed\n"));
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (writer, reader) = pipe();
        let log = LogWriter::of(Sink::of(writer), report);
        drop(reader);
        assert_eq!((&log).write(b"record\n").unwrap(), 7);
    }

    #[test]
    fn a_file_takes_every_record() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let log = LogWriter::of(Sink::of(path.reopen().unwrap()), report);
        for _ in 0..RECORDS {
            (&log).write_all(b"record\n").unwrap();
        }
        assert_eq!(std::fs::metadata(path.path()).unwrap().len(), 7 * RECORDS as u64);
    }
}
