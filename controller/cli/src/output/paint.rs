//! Colours for verdicts and states, on a terminal only; a colour never carries what the word does not say.

use std::hash::{BuildHasher, RandomState};
use std::io::IsTerminal;
use std::sync::OnceLock;

use proto_telling::terminal::visible;

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
            format!("{0}{code}m{text}{0}0m", mark())
        } else {
            text.to_owned()
        }
    }

    /// The text as a terminal may have it: our own marks become colours, and whatever else steers a terminal becomes visible.
    pub fn render(self, text: &str) -> String {
        if !self.0 {
            return visible(text);
        }
        let mut parts = text.split(mark());
        let mut out = visible(parts.next().unwrap_or_default());
        for part in parts {
            // Only `text` above writes a mark: its code ends at the first m.
            let (code, rest) = part.split_once('m').unwrap_or(("0", part));
            out.push_str(&format!("\x1b[{code}m{}", visible(rest)));
        }
        out
    }
}

/// Stands before a colour of ours: random for each process, so that no text from elsewhere can hold it.
fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| {
        format!(
            "\u{1}{:016x}{:016x}\u{2}",
            RandomState::new().hash_one(1),
            RandomState::new().hash_one(2)
        )
    })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto_telling::terminal::is_unsafe;

    use super::*;

    proptest! {
        #[test]
        fn only_our_own_colours_reach_the_terminal(before: String, word: String, after: String) {
            let steering = format!("{before}\x1b[31m\u{9b}2J\u{1}31m{after}");
            let paint = Paint(true);
            let line = paint.render(&format!("{steering}{}{steering}", paint.text(Tone::Bad, &word)));
            let (left, rest) = line.split_once("\x1b[31m").unwrap();
            let (middle, right) = rest.split_once("\x1b[0m").unwrap();
            prop_assert!(![left, middle, right].concat().chars().any(is_unsafe), "{line:?}");
            prop_assert!(!Paint(false).render(&steering).chars().any(is_unsafe));
        }
    }

    #[test]
    fn a_word_is_painted_and_a_host_cannot_paint() {
        let paint = Paint(true);
        assert_eq!(paint.render(&paint.text(Tone::Good, "clean")), "\x1b[32mclean\x1b[0m");
        assert_eq!(paint.render("\x1b[32mclean\x1b[0m"), "\\u{1b}[32mclean\\u{1b}[0m");
        assert_eq!(Paint(false).render(&Paint(false).text(Tone::Good, "two\nlines")), "two\\nlines");
    }
}
