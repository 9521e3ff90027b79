//! Reads a program's TOML file strictly and says where it is wrong; it never guesses and never writes.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A settings file that cannot be used, with the place and the reason.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}{place}: {message}", path.display())]
    Invalid { path: PathBuf, place: Place, message: String },
}

/// `:LINE:COLUMN`, both counted from 1; nothing when the parser does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub Option<(usize, usize)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// Reads `path` as `T`. Mark `T` and all it holds with `#[serde(deny_unknown_fields)]`: strictness is in the type.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    parse(path, &text)
}

/// As [`load`], but a file that does not exist means the defaults.
pub fn load_or_default<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ConfigError> {
    match load(path) {
        Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        read => read,
    }
}

/// Reads `text`, which came from `path`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Invalid {
        path: path.into(),
        place: Place(error.span().map(|span| place_of(text, span.start))),
        message: plain(error.message()),
    })
}

/// Line and column of a byte, counted in characters.
fn place_of(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// The parser's words in ours: people write keys, not fields.
fn plain(message: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    let Some(rest) = message.strip_prefix("unknown field ") else {
        return message.replace("missing field ", "missing key ");
    };
    let (key, expected) = rest.split_once(", ").unwrap_or((rest, ""));
    let allowed = expected.trim_start_matches("expected ").trim_start_matches("one of ");
    match allowed {
        "" | "there are no fields" => format!("unknown key {key}, no keys are allowed here"),
        names => format!("unknown key {key}, allowed keys: {names}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        level: u8,
        listen: String,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "needed")]
        _needed: u8,
    }

    fn complaint(text: &str) -> String {
        parse::<Settings>(Path::new("agent.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_allowed_keys() {
        assert_eq!(
            complaint("level = 1\n  lisen = \"x\"\n"),
            "agent.toml:2:3: unknown key `lisen`, allowed keys: `level`, `listen`, `inner`"
        );
        assert_eq!(
            complaint("[inner]\nneeded = 1\nextra = 2\n"),
            "agent.toml:3:1: unknown key `extra`, allowed keys: `needed`"
        );
    }

    #[test]
    fn wrong_types_missing_and_double_keys_say_where() {
        assert!(complaint("level = \"high\"").starts_with("agent.toml:1:9: "));
        assert!(complaint("[inner]\n").contains("missing key `needed`"));
        assert!(complaint("level = 1\nlevel = 2\n").starts_with("agent.toml:2:1: "));
        assert!(complaint("level = [\n").starts_with("agent.toml:"));
    }

    #[test]
    fn columns_count_characters_of_the_line() {
        assert_eq!(place_of("ä = 1\nöö x", "ä = 1\nöö ".len()), (2, 4));
    }

    #[test]
    fn an_absent_file_is_the_default_only_where_that_was_asked_for() {
        let path = Path::new("/nonexistent/agent.toml");
        assert_eq!(load_or_default::<Settings>(path).unwrap(), Settings::default());
        assert_eq!(load::<Settings>(path).unwrap_err().to_string(), "read /nonexistent/agent.toml");
    }
}
