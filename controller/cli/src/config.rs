//! The operator's own file of contexts: read strictly, written whole and private; it holds paths of secrets, never secrets.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proto_transport::replace_private;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output::yaml;

/// The name of the built-in context: the controller's socket on this machine.
pub const LOCAL: &str = "local";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: Vec<Remote>,
}

/// A controller on another machine and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    pub name: String,
    /// `HOST:PORT`
    pub server: String,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

impl Config {
    /// The file's content; nothing when there is no file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::local(format!("cannot read {}: {error}", path.display()))),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| {
            let place = error
                .location()
                .map(|at| format!(":{}:{}", at.line(), at.column()))
                .unwrap_or_default();
            let text = error.without_snippet().to_string();
            let first = text.lines().next().unwrap_or_default();
            Failure::local(format!("{}{place}: is no file of contexts: {first}", path.display()))
        })
    }

    /// Replaces the file in one step; mode 0600, its folder 0700.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let value = serde_json::to_value(self).map_err(|error| Failure::local(format!("cannot write the contexts: {error}")))?;
        let text = format!("{}\n", yaml::document(&value));
        replace(path, text.as_bytes()).map_err(|error| Failure::local(format!("cannot write {}: {error}", path.display())))
    }

    pub fn find(&self, name: &str) -> Option<&Remote> {
        self.contexts.iter().find(|remote| remote.name == name)
    }

    /// Every name that may be chosen.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(LOCAL).chain(self.contexts.iter().map(|remote| remote.name.as_str()))
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    replace_private(path, bytes)
}

/// A secret's content, only from a file that nobody else can read.
pub fn secret(path: &Path) -> Result<String, Failure> {
    let fail = |why: String| Failure::local(format!("cannot use {}: {why}", path.display()));
    let mode = fs::metadata(path).map_err(|error| fail(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(fail(format!("others can read it (mode {:04o})", mode & 0o7777)).hint(format!("chmod 600 {}", path.display())));
    }
    fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote {
            name: "staging".into(),
            server: "ctl.example:7443".into(),
            ca_file: Some("/etc/ca.pem".into()),
            token_file: Some("/home/me/token".into()),
            certificate_file: None,
            key_file: None,
        }
    }

    #[test]
    fn written_privately_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/config.yaml");
        let config = Config {
            current: Some("staging".into()),
            contexts: vec![remote()],
        };
        config.write(&path).unwrap();
        assert_eq!(Config::read(&path).unwrap(), config);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn no_file_is_no_context_and_a_wrong_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        assert_eq!(Config::read(&path).unwrap(), Config::default());
        fs::write(&path, "current: a\nkontexts: []\n").unwrap();
        assert!(Config::read(&path).is_err());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "s").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(secret(&path).unwrap_err().hint.unwrap().starts_with("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret(&path).unwrap(), "s");
    }
}
