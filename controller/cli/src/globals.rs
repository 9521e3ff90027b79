//! What all verbs share: the options that may stand anywhere, and the form of the help. It knows no verb.

use std::path::PathBuf;

use clap::Args;

use crate::output::Format;

/// Examples come first in every help text.
pub const HELP: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Globals {
    /// The form of the data on standard output
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Format,
    /// The controller to talk to, by its context's name [default: $FRACAS_CONTEXT, the current one, local]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The controller's socket on this machine [default: $FRACAS_SOCKET, /run/fracas/controller.sock]
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "context")]
    pub socket: Option<PathBuf>,
    /// The file of contexts [default: $FRACAS_CONFIG, ~/.config/fracas/config.yaml]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
}
