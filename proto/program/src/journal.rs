//! Writes log records into the journal by its native protocol, each field by itself; it never waits for the journal.
//!
//! tracing-journald writes the same fields, and waits: where the journal stands still, so would whoever undoes a fault.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::dropped::{self, Dropped};

/// Where the journal of this host listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Before the names of fields of our own, which then are none of the journal's.
const PREFIX: &str = "FRACAS_";
/// What is written of one value, so that a record fits into one datagram.
const MOST_BYTES: usize = 16 << 10;
/// What may wait for room: some thousands of records, for a burst that the journal does not read as fast as it comes.
const MOST_WAITING_BYTES: usize = 1 << 20;

/// What the socket is asked to hold for the journal; without CAP_NET_ADMIN it gets as much as the host allows.
const SOCKET_BYTES: usize = 8 << 20;

/// Sends each record as a datagram. Where the journal has no room it waits here for the next one, and is dropped and counted where it has
/// none here either.
pub(crate) struct JournalLayer {
    socket: UnixDatagram,
    journal: PathBuf,
    program: String,
    waiting: Mutex<Waiting>,
    dropped: Dropped,
}

/// Records that found no room yet, oldest first.
#[derive(Default)]
struct Waiting {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl JournalLayer {
    /// Fails where no journal listens; one that stands still does listen. `program` is what records are found by.
    pub(crate) fn open(program: &str) -> io::Result<Self> {
        Self::to(Path::new(JOURNAL), program)
    }

    fn to(journal: &Path, program: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        if setsockopt(&socket, SndBufForce, &SOCKET_BYTES).is_err() {
            // As much of it as the host allows; a small socket drops sooner, and no more than that.
            setsockopt(&socket, SndBuf, &SOCKET_BYTES).ok();
        }
        // The journal discards what is empty.
        match socket.send_to(&[], journal) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        Ok(Self {
            socket,
            journal: journal.to_owned(),
            program: program.to_owned(),
            waiting: Mutex::default(),
            dropped: Dropped::default(),
        })
    }

    fn put_origin(&self, record: &mut Vec<u8>, metadata: &Metadata<'_>) {
        put(record, "", "PRIORITY", priority(metadata.level()));
        put_place(record, "", metadata);
        put(record, "", "SYSLOG_IDENTIFIER", &self.program);
    }

    fn report(&self, number: u64) -> Vec<u8> {
        let mut record = Vec::new();
        put(&mut record, "", "PRIORITY", priority(&Level::WARN));
        put(&mut record, "", "TARGET", module_path!());
        put(&mut record, "", "SYSLOG_IDENTIFIER", &self.program);
        put(&mut record, "", "MESSAGE", dropped::MESSAGE);
        put(&mut record, PREFIX, "DROPPED", &number.to_string());
        record
    }

    /// Sends it behind those that wait, or has it wait as well; false where there is no room for that.
    fn take(&self, record: &[u8]) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = waiting.records.front() {
            if !self.send(first) {
                break;
            }
            waiting.bytes -= first.len();
            waiting.records.pop_front();
        }
        if waiting.records.is_empty() && self.send(record) {
            return true;
        }
        let has_room = waiting.bytes + record.len() <= MOST_WAITING_BYTES;
        if has_room {
            waiting.bytes += record.len();
            waiting.records.push_back(record.to_owned());
        }
        has_room
    }

    fn send(&self, record: &[u8]) -> bool {
        self.socket.send_to(record, &self.journal).is_ok()
    }
}

impl<S> Layer<S> for JournalLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Vec::new();
        put(&mut fields, "", "SPAN_NAME", span.name());
        put_place(&mut fields, "SPAN_", span.metadata());
        attributes.record(&mut Fields(&mut fields));
        span.extensions_mut().insert(SpanFields(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<SpanFields>() {
            values.record(&mut Fields(&mut fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut record = Vec::with_capacity(256);
        let spans = context.lookup_current().into_iter().flat_map(|span| span.scope().from_root());
        for span in spans {
            if let Some(fields) = span.extensions().get::<SpanFields>() {
                record.extend_from_slice(&fields.0);
            }
        }
        self.put_origin(&mut record, event.metadata());
        event.record(&mut Fields(&mut record));
        let report = |number| self.report(number);
        self.dropped.deliver(&record, report, |record| self.take(record));
    }
}

/// What records inside of a span begin with.
struct SpanFields(Vec<u8>);

struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, write: impl FnOnce(&mut Vec<u8>)) {
        // The journal's own field for the text.
        let prefix = if field.name() == "message" { "" } else { PREFIX };
        put_with(self.0, prefix, field.name(), write);
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |record| record.extend_from_slice(value.as_bytes()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to memory fails only where `value` itself does: then the rest of it is left out.
        self.put(field, |record| drop(write!(record, "{value:?}")));
    }
}

fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// Where in the program a record or a span comes from.
fn put_place(record: &mut Vec<u8>, prefix: &str, metadata: &Metadata<'_>) {
    put(record, prefix, "TARGET", metadata.target());
    if let Some(file) = metadata.file() {
        put(record, prefix, "CODE_FILE", file);
    }
    if let Some(line) = metadata.line() {
        put(record, prefix, "CODE_LINE", &line.to_string());
    }
}

fn put(record: &mut Vec<u8>, prefix: &str, name: &str, value: &str) {
    put_with(record, prefix, name, |record| record.extend_from_slice(value.as_bytes()));
}

/// In the journal's form for values of any bytes: the name and a line's end, the length in eight bytes, the value and a line's end.
fn put_with(record: &mut Vec<u8>, prefix: &str, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    record.extend_from_slice(prefix.as_bytes());
    record.extend(name_bytes(name));
    record.push(b'\n');
    let length_at = record.len();
    record.extend_from_slice(&[0; 8]);
    let begin = record.len();
    write(record);
    cut(record, begin);
    let length = (record.len() - begin) as u64;
    record[length_at..begin].copy_from_slice(&length.to_le_bytes());
    record.push(b'\n');
}

/// The journal takes names of capitals, digits and underscores, and keeps those that begin with an underscore for itself.
fn name_bytes(name: &str) -> impl Iterator<Item = u8> {
    name.bytes()
        .map(|byte| if byte == b'.' { b'_' } else { byte })
        .skip_while(|byte| *byte == b'_')
        .filter(|byte| *byte == b'_' || byte.is_ascii_alphanumeric())
        .map(|byte| byte.to_ascii_uppercase())
}

/// Keeps the beginning of a value that is too long, in whole characters, and says how much is left out.
fn cut(record: &mut Vec<u8>, begin: usize) {
    let length = record.len() - begin;
    if length <= MOST_BYTES {
        return;
    }
    let mut end = begin + MOST_BYTES;
    while end > begin && record[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    record.truncate(end);
    let left_out = length - (end - begin);
    record.extend_from_slice(format!("... ({left_out} bytes more)").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const RECORDS: u64 = 10_000;
    const LONGEST: Duration = Duration::from_secs(20);

    /// A journal that reads when it is asked to.
    struct Journal {
        socket: UnixDatagram,
        path: PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Journal {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("socket");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self {
                socket,
                path,
                _folder: folder,
            }
        }

        /// All records that wait, by their fields.
        fn read(&self) -> Vec<BTreeMap<String, String>> {
            let mut buffer = vec![0; 1 << 20];
            let mut all = Vec::new();
            while let Ok(length) = self.socket.recv(&mut buffer) {
                if length > 0 {
                    all.push(fields(&buffer[..length]));
                }
            }
            all
        }
    }

    /// As the journal reads them.
    fn fields(mut record: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        while !record.is_empty() {
            let at = record.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(record[..at].to_vec()).unwrap();
            let length = u64::from_le_bytes(record[at + 1..at + 9].try_into().unwrap());
            let end = at + 9 + usize::try_from(length).unwrap();
            let value = String::from_utf8(record[at + 9..end].to_vec()).unwrap();
            assert_eq!(record[end], b'\n');
            found.insert(name, value);
            record = &record[end + 1..];
        }
        found
    }

    /// Fails where it waits for the journal.
    fn log(layer: JournalLayer, work: impl FnOnce() + Send + 'static) {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
            sender.send(()).ok();
        });
        receiver.recv_timeout(LONGEST).expect("logging waits for the journal");
    }

    #[test]
    fn a_journal_that_stands_still_holds_no_program_up_and_the_loss_is_reported() {
        let journal = Journal::new();
        let layer = JournalLayer::to(&journal.path, "fracas-test").unwrap();
        let (path, records) = (journal.path.clone(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
        let read = std::sync::Arc::clone(&records);
        log(layer, move || {
            for number in 0..RECORDS {
                tracing::info!(number, "a record");
            }
            // A program that starts meanwhile finds the journal as well.
            assert!(JournalLayer::to(&path, "fracas-test").is_ok());
            let (mut all, mut after) = (Vec::new(), 0);
            while all.iter().filter(|record| is_after(record)).count() < after || after == 0 {
                all.extend(journal.read());
                tracing::error!("after");
                after += 1;
                assert!(after < RECORDS as usize, "what waited was never sent");
                all.extend(journal.read());
            }
            *read.lock().unwrap() = all;
        });
        let records = records.lock().unwrap();
        let (mut written, mut dropped, mut bytes, mut after) = (0, 0, 0, 0);
        for record in records.iter() {
            assert_eq!(record["SYSLOG_IDENTIFIER"], "fracas-test");
            bytes += record.values().map(String::len).sum::<usize>();
            match record["MESSAGE"].as_str() {
                "after" => {
                    assert_eq!((written + dropped, record["PRIORITY"].as_str()), (RECORDS, "3"));
                    after += 1;
                }
                dropped::MESSAGE => {
                    assert_eq!(record["PRIORITY"], "4");
                    dropped += record["FRACAS_DROPPED"].parse::<u64>().unwrap();
                }
                // Each report stands where its records are missing.
                _ => {
                    assert_eq!(record["FRACAS_NUMBER"], (written + dropped).to_string());
                    written += 1;
                }
            }
        }
        assert!(dropped > 0 && after > 0, "{written} records, {dropped} dropped");
        assert!(bytes > MOST_WAITING_BYTES / 4, "{written} records: none waited for room");
    }

    fn is_after(record: &BTreeMap<String, String>) -> bool {
        record["MESSAGE"] == "after"
    }

    #[test]
    fn fields_have_the_names_and_values_that_the_journal_takes() {
        let journal = Journal::new();
        log(JournalLayer::to(&journal.path, "fracas-test").unwrap(), || {
            let why = "two\nlines=of text";
            tracing::warn!(host.name = "web", __inner = 7, error = %std::fmt::Error, list = ?["a"], why, "it {}", "broke");
            tracing::debug!("quiet");
            tracing::info_span!("request", id = 4).in_scope(|| tracing::info!("inside"));
        });
        let records = journal.read();
        let [broke, quiet, inside] = records.as_slice() else {
            panic!("{records:?}");
        };
        for (name, value) in [
            ("MESSAGE", "it broke"),
            ("PRIORITY", "4"),
            ("TARGET", module_path!()),
            ("CODE_FILE", file!()),
            ("FRACAS_HOST_NAME", "web"),
            ("FRACAS_INNER", "7"),
            ("FRACAS_LIST", "[\"a\"]"),
            ("FRACAS_WHY", "two\nlines=of text"),
        ] {
            assert_eq!(broke[name], value, "{name}");
        }
        assert_eq!(broke["FRACAS_ERROR"], std::fmt::Error.to_string());
        assert!(broke["CODE_LINE"].parse::<u32>().is_ok() && !broke["SYSLOG_IDENTIFIER"].is_empty());
        assert_eq!(quiet["PRIORITY"], "7");
        assert_eq!((inside["SPAN_NAME"].as_str(), inside["FRACAS_ID"].as_str()), ("request", "4"));
        assert_eq!((inside["MESSAGE"].as_str(), inside["PRIORITY"].as_str()), ("inside", "6"));
        assert_eq!(inside["SPAN_TARGET"], module_path!());
    }

    #[test]
    fn a_long_value_is_cut_between_characters_and_says_so() {
        let journal = Journal::new();
        log(JournalLayer::to(&journal.path, "fracas-test").unwrap(), || {
            let long = format!("x{}", "ü".repeat(MOST_BYTES));
            tracing::info!(long, "a record");
        });
        let records = journal.read();
        let value = &records[0]["FRACAS_LONG"];
        // The last character that would begin at the end of it is left out whole.
        let kept = format!("x{}", "ü".repeat((MOST_BYTES - 1) / 2));
        let left_out = 1 + 2 * MOST_BYTES - kept.len();
        assert_eq!(*value, format!("{kept}... ({left_out} bytes more)"));
    }

    #[test]
    fn without_a_journal_there_is_no_layer() {
        let folder = tempfile::tempdir().unwrap();
        let error = JournalLayer::to(&folder.path().join("socket"), "fracas-test").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
