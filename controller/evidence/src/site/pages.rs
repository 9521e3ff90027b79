//! The site's pages: the index, and one for each service. Every figure leads to the run it comes from.

use std::collections::{BTreeMap, BTreeSet};

use controller_report::html::{Cell, Link, Page, Section, Table};
use proto_model::evidence::{LevelLine, Levels, Requirement, Standing};
use proto_model::required_test::RequiredTest;
use proto_model::service::Service;
use proto_model::time::Timestamp;

use super::paths::{file_name, month_path, run_path};
use super::shown::Site;
use crate::cadence::{CADENCE_DAYS, cadence};
use crate::coverage::{Covered, coverage};
use crate::past::Past;

/// Runs of each environment on a service's own page.
pub const NEWEST: usize = 50;

pub(super) fn index(site: &Site<'_>) -> String {
    let rows = site.services.iter().map(|shown| summary(site, &shown.service)).collect();
    let mut text = Vec::new();
    if site.services.is_empty() {
        text.push("No service was applied yet.".to_owned());
    }
    match site.unowned() {
        0 => {}
        n => text.push(format!(
            "Not shown: {n} judged runs that name no declared service, attacks among them."
        )),
    }
    let services = Section {
        title: "Services".to_owned(),
        text,
        picture: None,
        tables: vec![Table::of(
            &["service", "level", "level 1", "level 2", "level 3", "runs", "last run", "verdict"],
            rows,
        )],
    };
    let page = Page {
        title: "Resilience".to_owned(),
        lead: vec![as_of(site.as_of), "As data: history.json, feed.xml, metrics.prom.".to_owned()],
        sections: vec![services],
        ..Page::default()
    };
    page.html()
}

fn as_of(at: Timestamp) -> String {
    format!("Everything is as of {at}, the last entry of the log. A level is computed from evidence and falls when it ages.")
}

fn summary(site: &Site<'_>, service: &Service) -> Vec<Cell> {
    let (levels, past) = (site.levels(service), site.past(service));
    let href = format!("services/{}", file_name(&service.name));
    let mut row = vec![Cell::link(&service.name, &href), Cell::link(levels.level.to_string(), &href)];
    row.extend(levels.levels.iter().take(3).map(|line| Cell::word(line.standing.as_str())));
    let runs: u64 = site.tally(service).iter().map(|tally| tally.runs).sum();
    row.push(Cell::link(runs.to_string(), &href));
    match past.first() {
        Some(last) => {
            let page = run_path(&last.run.id);
            row.push(Cell::link(&last.run.name, &page));
            row.push(Cell::link(last.verdict.as_str(), page));
        }
        None => row.extend([Cell::word("-"), Cell::word("-")]),
    }
    row
}

pub(super) fn service(site: &Site<'_>, service: &Service) -> String {
    let (levels, past) = (site.levels(service), site.past(service));
    let mut sections = vec![levels_section(&levels), evidence_section(&levels)];
    let months = months_section(site, service);
    sections.extend(history_sections(&past, "..", NEWEST, months));
    sections.extend([coverage_section(site, service), cadence_section(site, service), about(service)]);
    let page = Page {
        title: service.name.clone(),
        mark: Some(format!("level {}", levels.level).into()),
        lead: vec![as_of(site.as_of)],
        up: Some(Link {
            text: "All services".to_owned(),
            href: "../index.html".to_owned(),
        }),
        sections,
    };
    page.html()
}

fn run_link(text: &str, run: &proto_model::id::RunId) -> Cell {
    Cell::link(text, format!("../{}", run_path(run)))
}

fn levels_section(levels: &Levels) -> Section {
    let rows = levels
        .levels
        .iter()
        .flat_map(|line| line.requirements.iter().map(move |r| requirement(line, r)));
    let head = ["level", "requirement", "is", "because", "holds until", "next"];
    Section {
        title: "Levels".to_owned(),
        text: levels.levels.iter().filter_map(|line| beyond(line, levels)).collect(),
        picture: None,
        tables: vec![Table::of(&head, rows.collect())],
    }
}

/// A level whose own lines hold although one below is not reached is said to be just that.
fn beyond(line: &LevelLine, levels: &Levels) -> Option<String> {
    let below = levels.levels.iter().find(|below| below.standing != Standing::Holds)?;
    (line.standing == Standing::Holds && !line.reached).then(|| {
        format!(
            "The lines of level {} hold, but the level is not reached: level {} is {}.",
            line.level,
            below.level,
            below.standing.as_str()
        )
    })
}

fn requirement(line: &LevelLine, requirement: &Requirement) -> Vec<Cell> {
    let warning = requirement
        .warning
        .as_ref()
        .map(|warning| format!("; {warning}"))
        .unwrap_or_default();
    vec![
        line.level.into(),
        Cell::from(&requirement.title),
        Cell::word(requirement.standing.as_str()),
        (requirement.says.join("; ") + &warning).into(),
        requirement.holds_until.map_or("-".to_owned(), |at| at.to_string()).into(),
        requirement.next.as_deref().unwrap_or("-").into(),
    ]
}

fn evidence_section(levels: &Levels) -> Section {
    let mut rows = Vec::new();
    for requirement in levels.levels.iter().flat_map(|line| &line.requirements) {
        let evidence = requirement.evidence.iter().map(|witness| (witness, "evidence"));
        let excluded = requirement.passed_over.iter().map(|witness| (witness, "not counted"));
        for (witness, counted) in evidence.chain(excluded) {
            rows.push(vec![
                Cell::from(&requirement.title),
                counted.into(),
                run_link(&witness.name, &witness.run),
                Cell::from(&witness.environment),
                run_link(witness.verdict.as_str(), &witness.run),
                witness.at.into(),
                witness.reason.clone().unwrap_or_default().into(),
            ]);
        }
    }
    Section {
        title: "Evidence".to_owned(),
        tables: vec![Table::of(
            &["requirement", "is", "run", "environment", "verdict", "at", "because"],
            rows,
        )],
        ..Section::default()
    }
}

/// The newest runs of each environment, with the way from this page to the site's root; and what leads to the others.
pub(super) fn history_sections(past: &[Past<'_>], root: &str, most: usize, others: Section) -> Vec<Section> {
    let environments: BTreeSet<&str> = past.iter().map(|p| p.run.environment.as_str()).collect();
    let of = |environment: &str| {
        let there = past.iter().filter(|p| p.run.environment == environment).take(most);
        Section {
            title: format!("History in {environment}"),
            tables: vec![Table::of(
                &["at", "run", "verdict", "cleanup", "faults", "detected after", "recovered after"],
                there.map(|past| history_row(past, root)).collect(),
            )],
            ..Section::default()
        }
    };
    let all = environments.into_iter().map(of);
    all.chain((!others.tables.is_empty()).then_some(others)).collect()
}

fn history_row(past: &Past<'_>, root: &str) -> Vec<Cell> {
    let run = past.run;
    let link = |text: &str| Cell::link(text, format!("{root}/{}", run_path(&run.id)));
    let faults: Vec<&str> = past.known.worth.faults.iter().map(|fault| fault.as_str()).collect();
    let ms = |ms: Option<u64>| ms.map_or(Cell::word("-"), |ms| link(&format!("{ms} ms")));
    vec![
        past.ended_at.into(),
        link(&run.name),
        link(past.verdict.as_str()),
        Cell::word(run.cleanup.as_str()),
        faults.join(", ").into(),
        ms(run.detection_ms),
        ms(run.recovery_ms),
    ]
}

fn months_section(site: &Site<'_>, service: &Service) -> Section {
    let rows = site.months(service).iter().map(|line| {
        let href = format!("../{}", month_path(&service.name, &line.month));
        vec![Cell::link(&line.month, &href), Cell::link(line.runs.to_string(), &href)]
    });
    Section {
        title: "All runs".to_owned(),
        text: vec![format!("Above are the newest {NEWEST} runs of each environment.")],
        picture: None,
        tables: vec![Table::of(&["month", "runs"], rows.collect())],
    }
}

fn coverage_section(site: &Site<'_>, service: &Service) -> Section {
    let matrix = coverage(service, site.runs(service), site.as_of);
    let kinds: BTreeSet<&str> = matrix.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let mut head = vec!["dependency"];
    head.extend(&kinds);
    let rows = service.dependencies().map(|(dependency, _)| {
        let mut row = vec![Cell::from(dependency)];
        for kind in &kinds {
            row.push(covered_cell(matrix.get(dependency).and_then(|row| row.get(*kind))));
        }
        row
    });
    let rows = rows.collect();
    let mut counted = Table::of(&["dependency", "fault", "run", "verdict", "at"], counted_rows(&matrix));
    counted.caption = "The runs that are counted above".to_owned();
    Section {
        title: "Coverage".to_owned(),
        text: vec![
            "The last decided run of each kind of fault against each dependency; - is never, among the newest 100 of each test.".to_owned(),
        ],
        picture: None,
        tables: vec![Table::of(&head, rows), counted],
    }
}

fn covered_cell(covered: Option<&Covered>) -> Cell {
    let Some((covered, last)) = covered.and_then(|covered| Some((covered, covered.runs.first()?))) else {
        return Cell::word("-");
    };
    let mut cell = run_link(last.verdict.as_str(), &last.run);
    cell.text = format!("{} ({} of {} passed)", cell.text, covered.passed(), covered.runs.len());
    cell
}

fn counted_rows(matrix: &BTreeMap<&str, BTreeMap<String, Covered>>) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for (dependency, kinds) in matrix {
        for (kind, covered) in kinds {
            rows.extend(covered.runs.iter().map(|run| {
                vec![
                    Cell::from(*dependency),
                    Cell::from(kind),
                    run_link(&run.name, &run.run),
                    run_link(run.verdict.as_str(), &run.run),
                    run.at.into(),
                ]
            }));
        }
    }
    rows
}

fn cadence_section(site: &Site<'_>, service: &Service) -> Section {
    let rows = cadence(service, site.runs(service), site.as_of).into_iter().map(|test| {
        let last = test.passes.first();
        let mut because = Cell::from(&test.says);
        let excluded = test.excluded.first().filter(|_| test.passes.is_empty());
        because.href = excluded.and_then(|w| run_link("", &w.run).href);
        vec![
            Cell::from(&test.test),
            Cell::word(test.standing.as_str()),
            last.map_or(Cell::word("-"), |w| run_link(&w.at.to_string(), &w.run)),
            test.due_at.map_or("now".to_owned(), |at| at.to_string()).into(),
            because,
        ]
    });
    Section {
        title: "Cadence".to_owned(),
        text: vec![format!("Each required test is to pass at least every {CADENCE_DAYS} days.")],
        picture: None,
        tables: vec![Table::of(&["test", "is", "last pass", "due by", "because"], rows.collect())],
    }
}

fn about(service: &Service) -> Section {
    let seconds = |ms: u64| format!("{}", proto_model::quantity::Millis(ms));
    let rows = service.critical.iter().map(|d| {
        vec![
            Cell::from(&d.name),
            seconds(d.criticality_period_ms).into(),
            seconds(d.rto_ms).into(),
            seconds(d.rpo_ms).into(),
            d.children.join(", ").into(),
            names(&d.tests).into(),
        ]
    });
    let mut critical = Table::of(
        &[
            "critical dependency",
            "criticality period",
            "RTO",
            "RPO",
            "children",
            "required tests",
        ],
        rows.collect(),
    );
    critical.caption = format!("Owned by {}", service.owners.join(", "));
    let rows = service
        .non_critical
        .iter()
        .map(|d| vec![Cell::from(&d.name), Cell::from(&d.threshold), names(&d.tests).into()]);
    let others = Table::of(&["non-critical dependency", "hurts from", "required tests"], rows.collect());
    Section {
        title: "The service".to_owned(),
        tables: vec![critical, others],
        ..Section::default()
    }
}

fn names(tests: &[RequiredTest]) -> String {
    tests.iter().map(|test| test.name.as_str()).collect::<Vec<_>>().join(", ")
}
