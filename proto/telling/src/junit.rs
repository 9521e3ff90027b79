//! Results as JUnit XML, as pipelines read it: one suite with its cases. What is not good is never written as good.

use std::io;

use proto_model::document::ErrorBody;
use proto_model::time::Timestamp;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

/// One run, or what kept one from being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    pub name: String,
    pub started_at: Option<Timestamp>,
    pub took_ms: Option<u64>,
    pub properties: Vec<(&'static str, String)>,
    pub cases: Vec<Case>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What sort of case: `run`, `step`, `probe`, `undo`.
    pub class: &'static str,
    pub name: String,
    pub took_ms: Option<u64>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// It was shown to be wrong.
    Failed(Trouble),
    /// Nothing was shown, or something went wrong on the way.
    Error(Trouble),
    Skipped(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Stable word, such as `hypothesis_broke`.
    pub code: String,
    pub message: String,
}

impl Trouble {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

impl Suite {
    /// For what has no result: unreachable, halted, refused, an invalid file, not finished.
    pub fn refused(name: &str, error: &ErrorBody) -> Self {
        let mut message = error.message.clone();
        for problem in &error.problems {
            message.push_str(&format!("\n{problem}"));
        }
        for host in &error.hosts {
            message.push_str(&format!("\n{}: {}: {}", host.name, host.code, host.message));
        }
        let case = Case {
            class: "run",
            name: "run".to_owned(),
            took_ms: None,
            outcome: Outcome::Error(Trouble::new(&error.code, message)),
        };
        Self {
            name: name.to_owned(),
            started_at: None,
            took_ms: None,
            properties: Vec::new(),
            cases: vec![case],
        }
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> String {
        self.cases.iter().filter(|case| which(&case.outcome)).count().to_string()
    }

    fn counts(&self) -> [(&'static str, String); 4] {
        [
            ("tests", self.cases.len().to_string()),
            ("failures", self.count(|o| matches!(o, Outcome::Failed(_)))),
            ("errors", self.count(|o| matches!(o, Outcome::Error(_)))),
            ("skipped", self.count(|o| matches!(o, Outcome::Skipped(_)))),
        ]
    }

    /// The whole file.
    pub fn xml(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        // Writing into memory cannot fail.
        let _ = self.write(&mut writer);
        let mut text = String::from_utf8(writer.into_inner()).unwrap_or_default();
        text.push('\n');
        text
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let counts = self.counts();
        let (name, took) = (line(&self.name), seconds(self.took_ms));
        // Strict readers know no `skipped` up here.
        let known = counts.iter().filter(|(key, _)| *key != "skipped");
        let all = writer
            .create_element("testsuites")
            .with_attribute(("name", name.as_str()))
            .with_attributes(known.map(|(key, count)| (*key, count.as_str())))
            .with_attribute(("time", took.as_str()));
        all.write_inner_content(|writer| {
            let mut suite = writer.create_element("testsuite").with_attribute(("name", name.as_str()));
            suite = suite.with_attributes(counts.iter().map(|(key, count)| (*key, count.as_str())));
            suite = suite.with_attribute(("time", took.as_str()));
            if let Some(at) = self.started_at {
                suite = suite.with_attribute(("timestamp", at.to_string().as_str()));
            }
            suite.write_inner_content(|writer| self.write_cases(writer))?;
            Ok(())
        })?;
        Ok(())
    }

    fn write_cases(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        if !self.properties.is_empty() {
            writer.create_element("properties").write_inner_content(|writer| {
                for (name, value) in &self.properties {
                    let attributes = [("name", *name), ("value", &line(value))];
                    writer.create_element("property").with_attributes(attributes).write_empty()?;
                }
                Ok(())
            })?;
        }
        self.cases.iter().try_for_each(|case| case.write(writer, &self.name))
    }
}

impl Case {
    /// Readers tell cases of several suites apart by the class alone, so that it names the suite.
    fn write(&self, writer: &mut Writer<Vec<u8>>, suite: &str) -> io::Result<()> {
        let class = line(&format!("{suite}.{}", self.class));
        let (name, took) = (line(&self.name), seconds(self.took_ms));
        let attributes = [("classname", class.as_str()), ("name", &name), ("time", &took)];
        let element = writer.create_element("testcase").with_attributes(attributes);
        let (word, trouble) = match &self.outcome {
            Outcome::Passed => return element.write_empty().map(drop),
            Outcome::Skipped(why) => {
                let why = line(why);
                let skipped = |writer: &mut Writer<Vec<u8>>| {
                    let skipped = writer.create_element("skipped").with_attribute(("message", why.as_str()));
                    skipped.write_empty().map(drop)
                };
                return element.write_inner_content(skipped).map(drop);
            }
            Outcome::Failed(trouble) => ("failure", trouble),
            Outcome::Error(trouble) => ("error", trouble),
        };
        let (kind, message, text) = (line(&trouble.code), line(&trouble.message), allowed(&trouble.message));
        let inner = |writer: &mut Writer<Vec<u8>>| {
            let told = writer
                .create_element(word)
                .with_attributes([("type", kind.as_str()), ("message", &message)]);
            told.write_text_content(BytesText::new(&text)).map(drop)
        };
        element.write_inner_content(inner).map(drop)
    }
}

fn seconds(ms: Option<u64>) -> String {
    let ms = ms.unwrap_or(0);
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// As an attribute holds it: one line.
fn line(text: &str) -> String {
    allowed(text).replace(['\n', '\r', '\t'], " ")
}

/// XML 1.0 has no way to write control characters, and hosts may send any.
fn allowed(text: &str) -> String {
    let fits = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_suite_with_one_error_and_nothing_of_it_is_markup() {
        let mut error = ErrorBody::new("halted", "halted by <root> & \"drill\"\u{1b}[0m");
        error
            .problems
            .push(proto_model::problem::Problem::new("steps[0]", "is bad").at(3, 7));
        let xml = Suite::refused("a \"name\"\n<x>", &error).xml();
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
<testsuites name=\"a &quot;name&quot; &lt;x&gt;\" tests=\"1\" failures=\"0\" errors=\"1\" time=\"0.000\">\n  \
<testsuite name=\"a &quot;name&quot; &lt;x&gt;\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\" time=\"0.000\">\n    \
<testcase classname=\"a &quot;name&quot; &lt;x&gt;.run\" name=\"run\" time=\"0.000\">\n      \
<error type=\"halted\" message=\"halted by &lt;root&gt; &amp; &quot;drill&quot;\u{fffd}[0m 3:7: steps[0]: is bad\">\
halted by &lt;root&gt; &amp; &quot;drill&quot;\u{fffd}[0m\n3:7: steps[0]: is bad</error>\n    \
</testcase>\n  </testsuite>\n</testsuites>\n"
        );
    }
}
