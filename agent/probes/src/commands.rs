//! The programs that a host's policy offers to probes, whose rights they have, and who runs them: this process or one that may.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::program;
use crate::running::{RunAs, run};

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramEnd {
    /// `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output, what is no text replaced.
    pub output: String,
}

/// Runs programs for probes where this process has no right to.
pub trait Programs: Send + Sync {
    /// One program by its name in the folder that the policy names; after `within` nothing of it goes on.
    fn run<'a>(
        &'a self,
        program: &'a str,
        args: &'a [String],
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<ProgramEnd, String>> + Send + 'a>>;
}

/// What the host's policy offers; nothing unless it names a directory.
#[derive(Clone)]
pub struct Commands(Arc<Offer>);

enum Offer {
    Nothing,
    /// A directory and, unless it is our own, whose rights the programs have.
    Programs {
        directory: PathBuf,
        rights: RunAs,
    },
    /// The policy names a user that programs cannot have the rights of.
    NoUser(String),
    /// Another process looks after all that.
    Elsewhere(Box<dyn Programs>),
}

impl Commands {
    /// `directory` empty: none. `rights` are those of the programs, or why there is no user to give them: then each is refused with that.
    pub fn of(directory: PathBuf, rights: Result<RunAs, String>) -> Self {
        Self(Arc::new(match rights {
            _ if directory.as_os_str().is_empty() => Offer::Nothing,
            Ok(rights) => Offer::Programs { directory, rights },
            Err(why) => Offer::NoUser(why),
        }))
    }

    /// What another process offers and runs.
    pub fn elsewhere(programs: impl Programs + 'static) -> Self {
        Self(Arc::new(Offer::Elsewhere(Box::new(programs))))
    }

    pub fn none() -> Self {
        Self(Arc::new(Offer::Nothing))
    }

    /// Runs one program until it ends. Nothing of it goes on once the future is dropped, which the caller does after `within`.
    pub async fn run(&self, name: &str, args: &[String], within: Duration) -> Result<ProgramEnd, String> {
        let (directory, rights) = match &*self.0 {
            Offer::Programs { directory, rights } => (directory, *rights),
            Offer::Nothing => return Err("this host runs no command probes: probes.commands in agent.toml is empty".to_owned()),
            Offer::NoUser(why) => return Err(why.clone()),
            Offer::Elsewhere(programs) => return programs.run(name, args, within).await,
        };
        let program = program::find(directory, name)?;
        let ended = run(&program, args, rights).await.map_err(|why| format!("{name}: {why}"))?;
        Ok(ProgramEnd {
            code: ended.code,
            output: String::from_utf8_lossy(&ended.output).into_owned(),
        })
    }
}
