//! What can be typed after `fracas-agent`; nothing is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::paths::Paths;

/// How long `rescue` waits where nothing else is said.
pub const RESCUE_PATIENCE_SECONDS: u64 = 15;

#[derive(Debug, Parser)]
#[command(
    name = "fracas-agent",
    version,
    about = "Holds faults on this host as the controller orders them, and undoes every one of them"
)]
pub struct Options {
    #[command(flatten)]
    pub paths: PathOptions,
    #[command(subcommand)]
    pub command: Verb,
}

#[derive(Debug, Args)]
pub struct PathOptions {
    /// The host's own rules: which faults may run, what is protected.
    #[arg(long, global = true, default_value = "/etc/fracas/agent.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// What must survive a reboot: identity, journals, the halt.
    #[arg(long, global = true, default_value = "/var/lib/fracas/agent", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// What need not: the socket, the journals' second copy.
    #[arg(long, global = true, default_value = "/run/fracas-agent", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Where control groups are made, when several hosts share one kernel.
    #[arg(long, global = true, hide = true, default_value = "/", value_name = "PATH")]
    pub group_root: PathBuf,
}

impl PathOptions {
    pub fn paths(&self) -> Paths {
        Paths {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            run_dir: self.run_dir.clone(),
            group_root: self.group_root.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent until it is told to end.
    Run {
        /// An agent silent for so long is killed by its guardian, which then undoes everything.
        #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(500..=60_000))]
        watchdog_ms: u64,
    },
    /// Join a controller with a token: on standard input with `--token-file -`, in a file, or in $FRACAS_JOIN_TOKEN.
    Enrol {
        /// Where its agents connect.
        #[arg(long, value_name = "HOST:PORT")]
        controller: String,
        /// The file that holds the token, `-` for standard input.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// The name to ask for; the host's own name when left out.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Undo everything that is still open on this host; works without the agent.
    Rescue {
        /// Said by package scripts: recorded as the cause, and an agent that still runs after the patience is an error.
        #[arg(long)]
        package: bool,
        /// Stay while there are journals of faults, and undo them whenever no agent has run for 3 s; started by fracas-guard.service.
        #[arg(long, conflicts_with = "package")]
        watch: bool,
        /// How long to wait, in all, for journals that another process holds, and to go on with undos that fail. With 0 each is tried and none
        /// is waited for.
        #[arg(long, default_value_t = RESCUE_PATIENCE_SECONDS, value_name = "SECONDS", conflicts_with = "watch",
              value_parser = clap::value_parser!(u64).range(..=3_600))]
        patience: u64,
    },
    /// Tell what the agent holds now.
    Status {
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Undo everything on this host and start nothing until `release`; works without the agent.
    Halt {
        #[arg(long, default_value = "by hand on the host", value_name = "TEXT")]
        reason: String,
    },
    /// Take back `halt`.
    Release,
    /// Check the host's rules file and say where it is wrong.
    CheckConfig {
        /// Print the shipped file, with every default, and check nothing.
        #[arg(long)]
        defaults: bool,
    },
    /// Show what this host can and cannot do, why not, and what fixes it. Exit 0: every fault that it allows can be injected; 1: some cannot,
    /// or were not evaluated; 3: agent.toml is invalid.
    Doctor {
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print every kind of fault this agent has, as JSON.
    Catalogue,
    /// Write the manual pages and completions into a folder; for packages.
    #[command(hide = true)]
    Manual {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// The body of a load fault; started by the agent.
    #[command(hide = true)]
    Worker {
        /// The user and group that it becomes before it works.
        #[arg(long, requires = "gid")]
        uid: Option<u32>,
        #[arg(long, requires = "uid")]
        gid: Option<u32>,
    },
    /// Speaks to the controller; started by the agent.
    #[command(hide = true)]
    Session,
    /// Watches the agent; started by it.
    #[command(hide = true)]
    Guardian {
        #[arg(long)]
        agent: u32,
        #[arg(long)]
        watchdog_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_secret_is_never_an_argument() {
        let enrol = Options::command();
        let enrol = enrol.find_subcommand("enrol").unwrap();
        assert!(enrol.get_arguments().all(|a| a.get_id() != "token"));
    }
}
