//! `fracas completion`: the shell's completion script; it asks no controller.

use clap::Args;
use clap_complete::Shell;
use proto_model::exit;

use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  source <(fracas completion bash)
  fracas completion zsh > ~/.zfunc/_fracas
  fracas completion fish > ~/.config/fish/completions/fracas.fish";

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Completion {
    /// The shell
    shell: Shell,
}

impl Completion {
    pub fn run(self, grammar: &mut clap::Command, console: &mut Console) -> Result<u8, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, grammar, "fracas", &mut script);
        console.raw(String::from_utf8_lossy(&script).trim_end());
        Ok(exit::OK)
    }
}
