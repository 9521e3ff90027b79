//! The site as Prometheus metrics, for a textfile collector. They are read long after they were written, so that nothing here says
//! that something holds: only until when. What is not evaluated has no value, rather than a wrong one.

use std::collections::BTreeMap;
use std::fmt::Write;

use proto_model::evidence::{LevelLine, Levels, Standing};
use proto_model::time::Timestamp;

use super::shown::Site;
use crate::cadence::cadence;

const REACHED_UNTIL: &str = "fracas_level_reached_until_timestamp_seconds";
const HOLDS_UNTIL: &str = "fracas_requirement_holds_until_timestamp_seconds";
const AS_OF: &str = "fracas_site_as_of_timestamp_seconds";

pub(super) fn metrics(site: &Site<'_>) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = as_of(&mut text, site);
    let _ = levels(&mut text, site);
    let _ = runs(&mut text, site);
    let _ = passes(&mut text, site);
    text
}

fn head(text: &mut String, name: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")
}

fn as_of(text: &mut String, site: &Site<'_>) -> std::fmt::Result {
    head(
        text,
        AS_OF,
        "The last entry of the log that these figures come from, in seconds since 1970.",
    )?;
    writeln!(text, "{AS_OF} {}", seconds(site.as_of))
}

fn levels(text: &mut String, site: &Site<'_>) -> std::fmt::Result {
    let all: Vec<_> = site.services.iter().map(|shown| site.levels(&shown.service)).collect();
    head(
        text,
        REACHED_UNTIL,
        "Until when a level is reached without more evidence, in seconds since 1970; 0 when it is not reached.",
    )?;
    for levels in &all {
        for line in &levels.levels {
            let (service, level, end) = (escaped(&levels.service), line.level, reached_until(levels, line));
            writeln!(text, "{REACHED_UNTIL}{{service=\"{service}\",level=\"{level}\"}} {end}")?;
        }
    }
    head(
        text,
        HOLDS_UNTIL,
        "Until when a requirement holds without more evidence, in seconds since 1970; 0 when it does not; absent when it is not evaluated.",
    )?;
    for levels in &all {
        for line in &levels.levels {
            for requirement in line.requirements.iter().filter(|r| r.standing != Standing::NotEvaluated) {
                let end = until(requirement.standing == Standing::Holds, requirement.holds_until);
                let (service, level, code) = (escaped(&levels.service), line.level, &requirement.code);
                writeln!(
                    text,
                    "{HOLDS_UNTIL}{{service=\"{service}\",level=\"{level}\",requirement=\"{code}\"}} {end}"
                )?;
            }
        }
    }
    Ok(())
}

/// A level ends with the first of its lines and of those below that ends.
fn reached_until(levels: &Levels, line: &LevelLine) -> String {
    let below = levels.levels.iter().filter(|other| other.level <= line.level);
    let ends = below.flat_map(|other| &other.requirements).filter_map(|r| r.holds_until);
    until(line.reached, ends.min())
}

/// What does not age has no end; what does not hold has had it.
fn until(holds: bool, end: Option<Timestamp>) -> String {
    match (holds, end) {
        (false, _) => "0".to_owned(),
        (true, Some(end)) => seconds(end).to_string(),
        (true, None) => "+Inf".to_owned(),
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000)
}

fn runs(text: &mut String, site: &Site<'_>) -> std::fmt::Result {
    head(text, "fracas_published_runs", "Judged runs by service, environment and verdict.")?;
    let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for shown in site.services {
        for tally in site.tally(&shown.service) {
            let sort = (shown.service.name.as_str(), tally.environment.as_str(), tally.verdict.as_str());
            *counts.entry(sort).or_insert(0) += tally.runs;
        }
    }
    for ((service, environment, verdict), count) in counts {
        let (service, environment) = (escaped(service), escaped(environment));
        writeln!(
            text,
            "fracas_published_runs{{service=\"{service}\",environment=\"{environment}\",verdict=\"{verdict}\"}} {count}"
        )?;
    }
    Ok(())
}

fn passes(text: &mut String, site: &Site<'_>) -> std::fmt::Result {
    let name = "fracas_required_test_passed_seconds";
    head(
        text,
        name,
        "When a required test passed last, in seconds since 1970; absent when it never did.",
    )?;
    for shown in site.services {
        for test in cadence(&shown.service, site.runs(&shown.service), site.as_of) {
            if let Some(last) = test.passes.first() {
                let (service, test) = (escaped(&shown.service.name), escaped(&test.test));
                writeln!(text, "{name}{{service=\"{service}\",test=\"{test}\"}} {}", seconds(last.at))?;
            }
        }
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
