//! Colours for verdicts and states, on a terminal only; a colour never carries what the word does not say.

use std::io::IsTerminal;

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Doubt,
    Faint,
}

/// Whether colours are on.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// On for a terminal, unless NO_COLOR is set or the terminal is dumb.
    pub fn for_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb)
    }

    pub fn is_on(self) -> bool {
        self.0
    }

    pub fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Doubt => "33",
            Tone::Faint => "2",
        };
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The tone of a verdict, a cleanup, an effect, a cleanliness or a connection.
pub fn tone_of(word: &str) -> Tone {
    match word {
        "fresh" | "started" | "passed" | "proven" | "confirmed" | "clean" | "connected" | "none" | "holds" => Tone::Good,
        "overdue" | "missed" | "failed" | "error" | "dirty" | "mismatch" | "undo_failed" | "refused" | "lost" | "missing" => Tone::Bad,
        "due" | "never" | "skipped" | "paused" | "aborted" | "inconclusive" | "unproven" | "unexercised" | "unknown" | "cordoned"
        | "halted" | "faulted" => Tone::Doubt,
        _ => Tone::Faint,
    }
}
