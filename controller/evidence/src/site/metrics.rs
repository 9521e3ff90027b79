//! The site as Prometheus metrics, for a textfile collector. What is not evaluated has no value, rather than a wrong one.

use std::collections::BTreeMap;
use std::fmt::Write;

use proto_model::evidence::Standing;

use super::Site;
use crate::cadence::cadence;

pub(super) fn metrics(site: &Site<'_>) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = levels(&mut text, site);
    let _ = runs(&mut text, site);
    let _ = passes(&mut text, site);
    text
}

fn head(text: &mut String, name: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")
}

fn levels(text: &mut String, site: &Site<'_>) -> std::fmt::Result {
    let all: Vec<_> = site.services.iter().map(|shown| site.levels(&shown.service)).collect();
    head(text, "fracas_service_level", "The highest level that is reached, 0 for none.")?;
    for levels in &all {
        writeln!(
            text,
            "fracas_service_level{{service=\"{}\"}} {}",
            escaped(&levels.service),
            levels.level
        )?;
    }
    head(
        text,
        "fracas_requirement_holds",
        "Whether a requirement holds; absent when it is not evaluated.",
    )?;
    for levels in &all {
        for line in &levels.levels {
            for requirement in line.requirements.iter().filter(|r| r.standing != Standing::NotEvaluated) {
                let holds = u8::from(requirement.standing == Standing::Holds);
                let (service, level, code) = (escaped(&levels.service), line.level, &requirement.code);
                writeln!(
                    text,
                    "fracas_requirement_holds{{service=\"{service}\",level=\"{level}\",requirement=\"{code}\"}} {holds}"
                )?;
            }
        }
    }
    Ok(())
}

fn runs(text: &mut String, site: &Site<'_>) -> std::fmt::Result {
    head(text, "fracas_published_runs", "Judged runs by service, environment and verdict.")?;
    let mut counts: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    for past in site.services.iter().flat_map(|shown| site.past(&shown.service)) {
        let service = past.run.service.as_deref().unwrap_or_default();
        *counts.entry((service, &past.run.environment, past.verdict.as_str())).or_insert(0) += 1;
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
        for test in cadence(&shown.service, site.runs, site.as_of) {
            if let Some(last) = test.passes.first() {
                let (service, test) = (escaped(&shown.service.name), escaped(&test.test));
                writeln!(text, "{name}{{service=\"{service}\",test=\"{test}\"}} {}", last.at.0 / 1_000)?;
            }
        }
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
