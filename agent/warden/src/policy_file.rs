//! agent.toml as a file: whether it is to be trusted, what it says, and whether its limits limit anything.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proto_model::catalogue::{Catalogue, KindDescription};
use serde_json::Value;

use crate::policy::Policy;

/// Why a policy cannot be used; nothing is allowed then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
    },
    #[error(
        "{path} does not exist, and without this host's rules nothing may be injected here: fracas-agent check-config --defaults > {path}",
        path = .0.display()
    )]
    Missing(PathBuf),
    #[error("{path} may be written by others than its owner: chmod go-w {path}", path = .0.display())]
    Writable(PathBuf),
    #[error("{path} belongs to user {owner}, who could allow anything with it: chown root:root {path}", path = path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{}: limits[{at}].{key}: {message}", path.display())]
    Limit {
        path: PathBuf,
        at: usize,
        key: &'static str,
        message: String,
    },
}

impl Policy {
    /// Reads the file, which must be root's or our own user's, and compares its limits with what there is to limit.
    pub fn load(path: &Path, catalogue: &Catalogue) -> Result<Self, PolicyError> {
        let read = |source| PolicyError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(PolicyError::Missing(path.to_owned())),
            Err(e) => return Err(read(e)),
        };
        // Of the file that is read, whatever its name leads to a moment later.
        let found = file.metadata().map_err(read)?;
        if found.mode() & 0o022 != 0 {
            return Err(PolicyError::Writable(path.to_owned()));
        }
        if ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
            let (path, owner) = (path.to_owned(), found.uid());
            return Err(PolicyError::Foreign { path, owner });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(read)?;
        let policy = Self::parse(&text, path)?;
        policy.check_limits(catalogue, path)?;
        Ok(policy)
    }

    /// A limit that limits nothing is a mistake in its name, and would let through what it was written against.
    fn check_limits(&self, catalogue: &Catalogue, path: &Path) -> Result<(), PolicyError> {
        for (at, limit) in self.limits.iter().enumerate() {
            let wrong = |key, message| PolicyError::Limit {
                path: path.to_owned(),
                at,
                key,
                message,
            };
            let meant: Vec<_> = catalogue.0.iter().filter(|one| limit.faults.matches(one.kind.as_str())).collect();
            if meant.is_empty() {
                let kinds: Vec<&str> = catalogue.0.iter().map(|one| one.kind.as_str()).collect();
                let message = format!("no kind of fault is called {:?} (there are: {})", limit.faults.0, kinds.join(", "));
                return Err(wrong("faults", message));
            }
            let mut names: Vec<&str> = meant.iter().flat_map(|one| parameters(one)).collect();
            names.sort_unstable();
            names.dedup();
            if !names.contains(&limit.parameter.as_str()) {
                let message = format!(
                    "{:?} has no parameter {:?} (there are: {})",
                    limit.faults.0,
                    limit.parameter,
                    names.join(", ")
                );
                return Err(wrong("parameter", message));
            }
        }
        Ok(())
    }

    /// `path` is only for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PolicyError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            PolicyError::Syntax {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
                message: error.message().to_owned(),
            }
        })
    }
}

/// The names of a kind's parameters, as its schema has them.
fn parameters(kind: &KindDescription) -> impl Iterator<Item = &str> {
    let properties = kind.params.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, Path::new("agent.toml"))
    }

    fn load(path: &Path) -> Result<Policy, PolicyError> {
        Policy::load(path, &catalogue())
    }

    fn catalogue() -> Catalogue {
        let burn = json!({
            "kind": "cpu.burn", "summary": "", "aliases": [], "reversal": { "kind": "full" }, "duration": "required",
            "params": { "type": "object", "properties": { "percent": {} } }, "examples": [],
            "measured_by": "", "undone_by": ""
        });
        Catalogue(vec![serde_json::from_value(burn).unwrap()])
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("[faults]\nallow = []\nallways = []\n").unwrap_err().to_string();
        assert!(error.starts_with("agent.toml:3:1:") && error.contains("allways"), "{error}");
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(load(file.path()), Err(PolicyError::Writable(_))));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load(file.path()).unwrap(), Policy::default());
        if tests_notes::lacks_root("to give a file to another user") {
            return;
        }
        std::os::unix::fs::chown(file.path(), Some(1), None).unwrap();
        let error = load(file.path()).unwrap_err().to_string();
        assert!(error.contains("belongs to user 1") && error.contains("chown root:root"), "{error}");
    }

    #[test]
    fn without_the_file_nothing_is_allowed_and_the_command_that_writes_it_is_named() {
        let error = load(Path::new("/nonexistent/agent.toml")).unwrap_err().to_string();
        assert!(error.contains("check-config --defaults > /nonexistent/agent.toml"), "{error}");
    }

    #[test]
    fn a_limit_that_limits_nothing_is_refused_with_the_names_that_there_are() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |faults: &str, parameter: &str| {
            let text = format!("[[limits]]\nfaults = {faults:?}\nparameter = {parameter:?}\nmax = 80\n");
            std::fs::write(file.path(), text).unwrap();
            load(file.path()).map_err(|error| error.to_string())
        };
        assert_eq!(with("cpu.*", "percent").unwrap().limits.len(), 1);
        let error = with("cpu.*", "precent").unwrap_err();
        assert!(
            error.ends_with("limits[0].parameter: \"cpu.*\" has no parameter \"precent\" (there are: percent)"),
            "{error}"
        );
        let error = with("cpu.brun", "percent").unwrap_err();
        assert!(
            error.ends_with("limits[0].faults: no kind of fault is called \"cpu.brun\" (there are: cpu.burn)"),
            "{error}"
        );
    }
}
