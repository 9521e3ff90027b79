//! A program's manual pages and shell completions, written from its own grammar.

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Into a folder that exists: a page for the program and for each of its verbs, and a completion for each shell.
pub fn write(grammar: Command, folder: &Path) -> io::Result<()> {
    let name = grammar.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut grammar.clone(), &name, folder)?;
    }
    clap_mangen::generate_to(with_examples(grammar), folder)
}

/// A page has no place for what help shows first, so that its examples come last.
fn with_examples(mut grammar: Command) -> Command {
    if let Some(before) = grammar.get_before_help().map(ToString::to_string) {
        let after = grammar.get_after_help().map(ToString::to_string).unwrap_or_default();
        grammar = grammar.after_help(format!("{before}\n\n{after}").trim_end().to_owned());
    }
    grammar.mut_subcommands(with_examples)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn every_verb_but_the_hidden_has_a_page() {
        let grammar = Command::new("tool")
            .about("Does it")
            .subcommand(
                Command::new("act")
                    .before_help("Examples:\n  tool act --how well")
                    .arg(Arg::new("how").long("how").help("In which way")),
            )
            .subcommand(Command::new("secret").hide(true));
        let dir = tempfile::tempdir().unwrap();
        write(grammar, dir.path()).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["_tool", "tool-act.1", "tool.1", "tool.bash", "tool.fish"]);
        let page = std::fs::read_to_string(dir.path().join("tool-act.1")).unwrap();
        assert!(page.contains("In which way") && page.contains("tool act \\-\\-how well"), "{page}");
    }
}
