//! Sets up the program's log on standard error, once; what is logged is each crate's business.

use std::str::FromStr;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// The variable that sets what is logged: `debug`, or `warn,agent_warden=debug` (a level, then targets with theirs).
pub const VARIABLE: &str = "FRACAS_LOG";

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

/// Starts logging at `info`, or as `$FRACAS_LOG` says.
pub fn init(format: LogFormat) -> Result<(), LogError> {
    let filter = filter(std::env::var(VARIABLE).ok().as_deref())?;
    let layer = match format {
        LogFormat::Plain => fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|_| LogError::Twice)
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
}
