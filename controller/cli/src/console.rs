//! Where a verb speaks: data to standard output in the asked form, messages to standard error; it never decides.

use std::io::{IsTerminal, Write};

use proto_model::document::{ErrorBody, ErrorDocument};
use proto_model::exit;
use proto_model::problem::Problem;
use proto_telling::terminal;
use serde_json::Value;

use crate::documents::{self, Shown};
use crate::failure::Failure;
use crate::output::paint::{Paint, Tone, tone_of};
use crate::output::writer::Writer;
use crate::output::{Format, table, yaml};

pub struct Console {
    pub format: Format,
    paint: Paint,
    writer: Writer,
}

impl Console {
    pub fn new(format: Format) -> Self {
        Self {
            format,
            paint: Paint::for_stdout(),
            writer: Writer::stdout(),
        }
    }

    /// One line of data for people.
    pub fn line(&mut self, text: &str) {
        let text = self.paint.render(text);
        self.writer.line(text.trim_end());
    }

    pub fn lines<T: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = T>) {
        lines.into_iter().for_each(|line| self.line(line.as_ref()));
    }

    /// A word in the colour of what it says, on a terminal.
    pub fn word(&self, word: &str) -> String {
        self.paint.text(tone_of(word), word)
    }

    pub fn paint(&self, tone: Tone, text: &str) -> String {
        self.paint.text(tone, text)
    }

    /// Whether anybody still reads the data.
    pub fn is_read(&self) -> bool {
        self.writer.is_open()
    }

    /// One line of message. Programs that read JSON read it on standard error as well, so there only a person at a terminal gets any.
    pub fn note(&self, text: &str) {
        if self.format.is_json() && !std::io::stderr().is_terminal() {
            return;
        }
        self.message(text);
    }

    fn message(&self, text: &str) {
        // Nobody listening to messages is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{}", terminal::visible(text));
    }

    /// One document in the asked form; `name` for `-o name`, `view` for people.
    pub fn document(&mut self, value: &Value, name: &str, view: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Wide => view(self)?,
            Format::Json => self.raw(&format!("{value:#}")),
            Format::Jsonl => self.raw(&value.to_string()),
            Format::Yaml => self.raw(&yaml::document(value)),
            Format::Name => self.line(name),
        }
        Ok(())
    }

    /// A list of documents of one kind in the asked form.
    pub fn list<T: Shown>(&mut self, items: &[String]) -> Result<(), Failure> {
        let values = items
            .iter()
            .map(|text| documents::value(T::KIND, text))
            .collect::<Result<Vec<_>, _>>()?;
        match self.format {
            Format::Json => self.raw(&format!("{:#}", documents::list(T::KIND, values))),
            Format::Yaml => self.raw(&yaml::document(&documents::list(T::KIND, values))),
            Format::Jsonl => values.iter().for_each(|value| self.raw(&value.to_string())),
            Format::Table | Format::Wide | Format::Name => self.rows(&documents::read_all::<T>(&values)?),
        }
        Ok(())
    }

    fn rows<T: Shown>(&mut self, items: &[T]) {
        if self.format == Format::Name {
            return self.lines(items.iter().map(Shown::name));
        }
        if items.is_empty() {
            return self.note(&format!("no {}", T::PLURAL));
        }
        let wide = self.format == Format::Wide;
        let now = crate::age::now();
        let rows: Vec<Vec<String>> = items.iter().map(|item| item.row(wide, now)).collect();
        self.lines(table::lines(T::header(wide), &rows));
    }

    /// A whole document: its lines stay, and what a terminal would act on is escaped as JSON does.
    pub fn raw(&mut self, text: &str) {
        self.writer.line(&terminal::document(text));
    }

    /// Says what went wrong, on standard error.
    pub fn fail(&self, failure: &Failure) {
        if self.format.is_json() {
            let document = ErrorDocument { error: whole(failure) };
            let text = serde_json::to_string(&document).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "{}", terminal::document(&text));
            return;
        }
        self.told(failure);
        for host in &failure.error.hosts {
            self.note(&format!("  {}: {}: {}", host.name, host.code, host.message));
        }
        if let Some(hint) = &failure.hint {
            self.note(&format!("  {hint}"));
        }
    }

    /// The problems and the message; a message that only repeats the problems is left out.
    fn told(&self, failure: &Failure) {
        let (error, file) = (&failure.error, failure.file.as_deref());
        let repeats = !error.problems.is_empty() && error.problems.iter().all(|problem| error.message.contains(&problem.message));
        let prefix = if repeats && file.is_none() { "error: " } else { "" };
        for problem in &error.problems {
            self.note(&format!("{prefix}{}", located(problem, file)));
        }
        match (repeats, file) {
            (true, Some(file)) => self.note(&format!("error: {file} was refused, see above; nothing was done")),
            (true, None) => {}
            (false, _) => self.note(&format!("error: {}", error.message)),
        }
    }

    /// The last word: a success whose data could not be written is none.
    pub fn finish(&self, code: u8) -> u8 {
        match self.writer.failure() {
            Some(error) => {
                self.fail(&Failure::local(format!("cannot write to standard output: {error}")));
                if code == exit::OK { exit::ERROR } else { code }
            }
            None => code,
        }
    }
}

/// As one document, which has no other place for the file and for what may be done.
fn whole(failure: &Failure) -> ErrorBody {
    let mut error = (*failure.error).clone();
    if let Some(file) = &failure.file {
        error.message = format!("{file}: {}", error.message);
    }
    if let Some(hint) = &failure.hint {
        error.message = format!("{}; {hint}", error.message);
    }
    error
}

/// `FILE:LINE:COLUMN: path: message (allowed: ...)`, as editors and people jump to it.
fn located(problem: &Problem, file: Option<&str>) -> String {
    let mut text = match (file, problem.line, problem.column) {
        (Some(file), Some(line), column) => format!("{file}:{line}:{}: ", column.unwrap_or(1)),
        (Some(file), None, _) => format!("{file}: "),
        (None, ..) => String::new(),
    };
    if !problem.path.is_empty() && !problem.message.starts_with(&problem.path) {
        text.push_str(&format!("{}: ", problem.path));
    }
    text.push_str(&problem.message);
    if let Some(allowed) = &problem.allowed {
        text.push_str(&format!(" (allowed: {allowed})"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_loses_neither_the_file_nor_what_may_be_done() {
        let failure = Failure::usage("3:7: steps: is required")
            .in_file("a.yaml")
            .hint("see docs/experiments.md");
        assert_eq!(whole(&failure).message, "a.yaml: 3:7: steps: is required; see docs/experiments.md");
        assert_eq!(whole(&Failure::usage("no")).message, "no");
    }

    #[test]
    fn a_problem_says_where_what_and_what_would_be_right() {
        let problem = Problem::new("steps[0].params.percent", "140 is too much")
            .allowed("1..100")
            .at(12, 18);
        assert_eq!(
            located(&problem, Some("a.yaml")),
            "a.yaml:12:18: steps[0].params.percent: 140 is too much (allowed: 1..100)"
        );
        assert_eq!(located(&Problem::new("", "is empty"), Some("a.yaml")), "a.yaml: is empty");
        assert_eq!(
            located(&Problem::new("percent", "percent is no number"), None),
            "percent is no number"
        );
        assert_eq!(
            located(&Problem::new("cron", "\"x\" is no cron pattern"), None),
            "cron: \"x\" is no cron pattern"
        );
    }
}
