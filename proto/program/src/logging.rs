//! Sets up the program's log, once: on standard error, or in the journal where standard error is the journal. It waits for no reader.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::dropped;
use crate::journal::JournalLayer;
use crate::stderr;

/// The variable that sets what is logged: `debug`, or `warn,agent_warden=debug` (a level, then targets with theirs).
pub const VARIABLE: &str = "FRACAS_LOG";

/// Set by systemd: the device and inode of the standard error that leads to the journal.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Plain,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{VARIABLE}={value}: not a level or a list of target=level (levels: error warn info debug trace off)")]
    Filter { value: String },
    #[error("a log is already set up in this process")]
    Twice,
}

/// Starts logging at `info`, or as `$FRACAS_LOG` says; `program` is what the journal finds the records by, whatever the process is called.
pub fn init(program: &str, format: LogFormat) -> Result<(), LogError> {
    let filter = filter(std::env::var(VARIABLE).ok().as_deref())?;
    let layer = match format {
        LogFormat::Plain => match journal(program) {
            Some(journal) => journal.boxed(),
            None => fmt::layer().with_writer(stderr::log(plain_report)).with_ansi(false).boxed(),
        },
        LogFormat::Json => fmt::layer().json().with_writer(stderr::log(json_report)).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|_| LogError::Twice)
}

/// The journal has times and priorities of its own and keeps fields apart, which text on standard error would lose.
fn journal(program: &str) -> Option<JournalLayer> {
    let stream = std::env::var(JOURNAL_STREAM).ok()?;
    let stderr = File::from(std::io::stderr().as_fd().try_clone_to_owned().ok()?);
    let stderr = stderr.metadata().ok()?;
    if stream != format!("{}:{}", stderr.dev(), stderr.ino()) {
        return None;
    }
    JournalLayer::open(program).ok()
}

/// A line in the form of the others, with how many are missing before it.
fn plain_report(number: u64) -> Vec<u8> {
    let (now, target, message) = (now(), module_path!(), dropped::MESSAGE);
    format!("{now}  WARN {target}: {message} dropped={number}\n").into_bytes()
}

fn json_report(number: u64) -> Vec<u8> {
    let (now, target, message) = (now(), module_path!(), dropped::MESSAGE);
    let fields = format!(r#"{{"message":"{message}","dropped":{number}}}"#);
    format!("{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"fields\":{fields},\"target\":\"{target}\"}}\n").into_bytes()
}

fn now() -> String {
    let mut text = String::new();
    // Without a time the rest still says what is missing.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn filter(value: Option<&str>) -> Result<Targets, LogError> {
    let value = value.map(str::trim).filter(|value| !value.is_empty());
    let Some(value) = value else {
        return Ok(Targets::new().with_default(Level::INFO));
    };
    let wrong = |_| LogError::Filter { value: value.to_owned() };
    value.split(',').map(directive).collect::<Result<Vec<()>, ()>>().map_err(wrong)?;
    Targets::from_str(value).map_err(|_| LogError::Filter { value: value.to_owned() })
}

/// A word that is no level would be taken for a target and log everything: a misspelt level is refused instead.
fn directive(text: &str) -> Result<(), ()> {
    let level = text.rsplit('=').next().unwrap_or_default().trim();
    let known = ["error", "warn", "info", "debug", "trace", "off"];
    if known.contains(&level.to_lowercase().as_str()) {
        Ok(())
    } else {
        Err(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_filter_is_a_level_and_targets() {
        let targets = filter(Some("warn,agent_warden=debug")).unwrap();
        assert!(targets.would_enable("agent_warden::keep", &Level::DEBUG));
        assert!(!targets.would_enable("agent_session", &Level::INFO));
        assert!(targets.would_enable("agent_session", &Level::WARN));
        assert!(filter(None).unwrap().would_enable("any", &Level::INFO));
        assert!(filter(Some("")).unwrap().would_enable("any", &Level::INFO));
    }

    #[test]
    fn a_misspelt_level_is_refused_with_the_levels() {
        let error = filter(Some("debgu")).unwrap_err().to_string();
        assert!(error.contains("FRACAS_LOG=debgu") && error.contains("debug"), "{error}");
        assert!(filter(Some("agent_warden=loud")).is_err());
    }

    #[test]
    fn a_report_of_dropped_lines_has_the_form_of_the_log() {
        let plain = String::from_utf8(plain_report(7)).unwrap();
        let (time, rest) = plain.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{plain}");
        assert_eq!(rest, format!(" WARN proto_program::logging: {} dropped=7\n", dropped::MESSAGE));
        let json = String::from_utf8(json_report(7)).unwrap();
        let (head, rest) = json.split_once(",\"level\"").unwrap();
        assert!(head.starts_with("{\"timestamp\":\"2") && head.ends_with("Z\""), "{json}");
        let fields = format!("{{\"message\":\"{}\",\"dropped\":7}}", dropped::MESSAGE);
        assert_eq!(
            rest,
            format!(":\"WARN\",\"fields\":{fields},\"target\":\"proto_program::logging\"}}\n")
        );
    }

    /// The journal's socket on a host that only this thread sees.
    fn with_journal(test: impl FnOnce(&UnixDatagram) + Send + 'static) {
        if tests_notes::lacks_root("to put a journal in its place") {
            return;
        }
        let done = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            std::fs::create_dir_all("/run/systemd/journal").unwrap();
            test(&UnixDatagram::bind("/run/systemd/journal/socket").unwrap());
        });
        done.join().unwrap();
    }

    #[test]
    fn the_journal_gets_priorities_and_fields_and_no_time_in_the_text() {
        with_journal(|journal| {
            let subscriber = tracing_subscriber::registry().with(JournalLayer::open("fracas-test").unwrap());
            tracing::subscriber::with_default(subscriber, || {
                tracing::error!(injection = "abc", "the host is dirty");
                tracing::info!("ready");
            });
            journal.set_nonblocking(true).unwrap();
            let mut buffer = [0; 4_096];
            let mut said = Vec::new();
            while let Ok(length) = journal.recv(&mut buffer) {
                said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            let of = |text: &str| said.iter().find(|entry| entry.contains(text)).unwrap_or_else(|| panic!("{said:?}"));
            // The journal's form for values of any bytes: their length in eight bytes, then they.
            let priority = |level: u8| format!("PRIORITY\n\u{1}{}{level}\n", "\0".repeat(7));
            let error = of("the host is dirty");
            assert!(error.contains(&priority(3)) && error.contains("FRACAS_INJECTION"), "{error}");
            assert!(error.contains("abc") && !error.contains("ERROR"), "{error}");
            assert!(of("ready").contains(&priority(6)), "{said:?}");
        });
    }
}
