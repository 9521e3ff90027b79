//! Which controller is meant: flag, then environment, then the current context, then the local socket; it never connects.

use std::path::PathBuf;

use proto_model::catalogue::nearest;

use crate::config::{Config, LOCAL, Remote};
use crate::failure::Failure;
use crate::globals::Globals;

const SOCKET: &str = "/run/fracas/controller.sock";

/// A controller, by the name people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub name: String,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Socket(PathBuf),
    Remote(Remote),
}

impl Context {
    pub fn resolve(globals: &Globals) -> Result<Self, Failure> {
        if let Some(socket) = &globals.socket {
            return Ok(Self::local(socket.clone()));
        }
        let named = globals.context.clone().or_else(|| variable("FRACAS_CONTEXT"));
        let config = Config::read(&path(globals)?)?;
        let socket = variable("FRACAS_SOCKET").map(PathBuf::from);
        Self::choose(&config, named, socket)
    }

    fn choose(config: &Config, named: Option<String>, socket: Option<PathBuf>) -> Result<Self, Failure> {
        let current = if socket.is_some() { None } else { config.current.clone() };
        let name = named.or(current).unwrap_or_else(|| LOCAL.to_owned());
        if name == LOCAL {
            return Ok(Self::local(socket.unwrap_or_else(|| SOCKET.into())));
        }
        let remote = config.find(&name).ok_or_else(|| unknown(config, &name))?;
        Ok(Self {
            name,
            place: Place::Remote(remote.clone()),
        })
    }

    fn local(socket: PathBuf) -> Self {
        Self {
            name: LOCAL.to_owned(),
            place: Place::Socket(socket),
        }
    }

    /// Where it is, as a person would look for it.
    pub fn address(&self) -> String {
        match &self.place {
            Place::Socket(path) => path.display().to_string(),
            Place::Remote(remote) => remote.server.clone(),
        }
    }
}

/// The configuration's path: flag, $FRACAS_CONFIG, the user's configuration folder; a unit of systemd has no $HOME, its user has.
pub fn path(globals: &Globals) -> Result<PathBuf, Failure> {
    if let Some(path) = &globals.config {
        return Ok(path.clone());
    }
    if let Some(path) = variable("FRACAS_CONFIG") {
        return Ok(path.into());
    }
    let folder = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    let folder = folder.ok_or_else(|| Failure::local("cannot find the contexts: $FRACAS_CONFIG is not set and this user has no home"))?;
    Ok(folder.join("fracas/config.yaml"))
}

/// The error for a context that is not in the configuration.
pub fn unknown(config: &Config, name: &str) -> Failure {
    let failure = Failure::usage(format!("there is no context {name:?}"));
    match nearest(name, config.names()) {
        Some(near) => failure.hint(format!("did you mean {near:?}?")),
        None => failure.hint(format!("there are: {}", config.names().collect::<Vec<_>>().join(", "))),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(current: Option<&str>) -> Config {
        let remote = Remote {
            name: "staging".into(),
            server: "ctl:7443".into(),
            ca_file: None,
            token_file: None,
            certificate_file: None,
            key_file: None,
        };
        Config {
            current: current.map(str::to_owned),
            contexts: vec![remote],
        }
    }

    #[test]
    fn named_before_current_before_local() {
        let name = |current, named: Option<&str>, socket: Option<&str>| {
            let chosen = Context::choose(&config(current), named.map(str::to_owned), socket.map(PathBuf::from));
            chosen.map(|context| context.name)
        };
        assert_eq!(name(None, None, None).unwrap(), "local");
        assert_eq!(name(Some("staging"), None, None).unwrap(), "staging");
        assert_eq!(name(Some("staging"), Some("local"), None).unwrap(), "local");
        assert_eq!(name(None, Some("staging"), Some("/tmp/s")).unwrap(), "staging");
        assert_eq!(
            name(Some("staging"), None, Some("/tmp/s")).unwrap(),
            "local",
            "a socket in the environment means it"
        );
    }

    #[test]
    fn an_unknown_context_names_the_nearest() {
        let failure = Context::choose(&config(None), Some("stagin".into()), None).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert_eq!(failure.hint.as_deref(), Some("did you mean \"staging\"?"));
    }
}
