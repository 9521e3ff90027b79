//! The report as one HTML page that stands alone: the verdict, the picture, what was done and seen, and the proof of each host.

mod lanes;
mod page;
mod picture;
mod timeline;

pub use page::{Cell, Link, Page, STYLE, Section, Table, Tone};
pub use picture::Picture;

use proto_model::document::{InjectionDocument, RunDocument};
use proto_model::event::Event;
use proto_model::probe::Phase;
use proto_model::verdict::Verdict;
use proto_telling::{Timeline, figure, last_answer, pairs, recovery_text, stretch};

use crate::fold::document;
use crate::state::RunState;

/// Empty when the events do not tell of a run. `up` leads back to where the page is one of many.
pub fn html(events: &[Event], up: Option<Link>) -> String {
    page(events, up).map_or_else(String::new, |page| page.html())
}

/// What the page holds; `None` when the events do not tell of a run.
pub fn page(events: &[Event], up: Option<Link>) -> Option<Page> {
    let state = RunState::of(events)?;
    let run = document(&state);
    let verdict = run.verdict.map_or("no verdict yet", Verdict::as_str);
    Some(Page {
        title: run.name.clone(),
        mark: Some(Cell::word(verdict)),
        lead: lead(&state, &run),
        up,
        sections: vec![
            facts(&run, &state),
            timeline_picture(&run, &state, events),
            steps(&run),
            injections(&run),
            probes(&run),
            hosts(&run, &state),
            timeline(events),
        ],
    })
}

/// Whether the system came back stands first.
fn lead(state: &RunState, run: &RunDocument) -> Vec<String> {
    let recovery = run.recovery.iter().map(recovery_text);
    recovery
        .chain(state.plan.hypothesis.iter().map(|hypothesis| hypothesis.says.clone()))
        .collect()
}

fn section(title: &str, table: Table) -> Section {
    Section {
        title: title.to_owned(),
        tables: vec![table],
        ..Section::default()
    }
}

fn facts(run: &RunDocument, state: &RunState) -> Section {
    let mut rows: Vec<Vec<Cell>> = vec![
        vec!["run".into(), Cell::from(&run.id)],
        vec!["service".into(), run.service.as_deref().unwrap_or("-").into()],
        vec!["environment".into(), Cell::from(&run.environment)],
        vec!["started by".into(), Cell::from(&run.by)],
        vec!["from".into(), run.created_at.into()],
        vec![
            "to".into(),
            run.finished_at.map_or("not finished".to_owned(), |t| t.to_string()).into(),
        ],
        vec!["cleanup".into(), Cell::word(run.cleanup.as_str())],
        vec!["plan".into(), Cell::from(&run.plan.digest)],
        vec!["seed".into(), run.plan.seed.into()],
    ];
    rows.extend(run.detection_ms.map(|ms| vec!["detected after".into(), stretch(ms).into()]));
    for probe in run.recovery.iter().flat_map(|recovery| &recovery.probes) {
        rows.push(vec!["last answer".into(), last_answer(probe).into()]);
    }
    for (host, asked) in &state.preflights {
        rows.push(vec![
            Cell::from(host),
            format!("agent {}, kernel {}", asked.agent_version, asked.kernel).into(),
        ]);
    }
    let reasons = run.reasons.iter().map(|r| format!("{}: {}", r.code, r.message)).collect();
    Section {
        title: "What it showed".to_owned(),
        text: reasons,
        picture: None,
        tables: vec![Table::of(&[], rows)],
    }
}

fn timeline_picture(run: &RunDocument, state: &RunState, events: &[Event]) -> Section {
    Section {
        title: "Picture".to_owned(),
        picture: timeline::timeline(run, state, events),
        ..Section::default()
    }
}

fn steps(run: &RunDocument) -> Section {
    let rows = run
        .steps
        .iter()
        .map(|step| vec![Cell::from(&step.path), Cell::from(&step.title), Cell::word(&step.state)]);
    section("Steps", Table::of(&["step", "what", "state"], rows.collect()))
}

fn injections(run: &RunDocument) -> Section {
    let head = [
        "fault",
        "parameters",
        "host",
        "state",
        "effect",
        "asked",
        "measured",
        "ended by",
        "undone in",
        "error",
    ];
    section("Injections", Table::of(&head, run.injections.iter().map(injection).collect()))
}

fn injection(i: &InjectionDocument) -> Vec<Cell> {
    let unit = i.effect.unit.as_deref().unwrap_or_default();
    let number = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{} {unit}", figure(n)));
    let note = i.effect.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    let mut effect = Cell::word(i.effect.state.as_str());
    effect.text.push_str(&note);
    vec![
        Cell::from(&i.fault),
        pairs(&i.params).join(" ").into(),
        Cell::from(&i.host),
        Cell::word(i.state.as_str()),
        effect,
        number(i.effect.asked).into(),
        number(i.effect.measured).into(),
        i.ended_by.map_or("-", |e| e.as_str()).into(),
        i.undo_ms.map_or("-".to_owned(), stretch).into(),
        i.error.as_deref().unwrap_or("-").into(),
    ]
}

fn probes(run: &RunDocument) -> Section {
    let rows = run.probes.iter().map(|p| {
        let phase = match p.phase {
            Phase::Before => "before",
            Phase::During => "during",
            Phase::After => "after",
        };
        let held = p.held.map_or("cannot say", |held| if held { "yes" } else { "no" });
        vec![
            Cell::from(&p.name),
            phase.into(),
            p.samples.into(),
            p.bad.into(),
            p.missing.into(),
            Cell::word(held),
        ]
    });
    section(
        "Probes",
        Table::of(&["probe", "phase", "samples", "bad", "missing", "held"], rows.collect()),
    )
}

fn hosts(run: &RunDocument, state: &RunState) -> Section {
    let proven_at = |name: &proto_model::id::HostName| state.proofs.get(name).map(|proof| proof.at.to_string());
    let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join("; ") };
    let rows = run.hosts.iter().map(|h| {
        vec![
            Cell::from(&h.name),
            Cell::word(h.cleanliness.as_str()),
            proven_at(&h.name).unwrap_or_else(|| "-".to_owned()).into(),
            list(&h.residue).into(),
            list(&h.drift).into(),
            list(&h.consequences).into(),
        ]
    });
    section(
        "Hosts",
        Table::of(
            &["host", "is", "asked at", "residue", "changed by others", "stays changed"],
            rows.collect(),
        ),
    )
}

fn timeline(events: &[Event]) -> Section {
    let mut told = Timeline::default();
    let mut rows = Vec::new();
    for event in events {
        for words in told.told(event) {
            rows.push(vec![event.at.into(), event.seq.into(), words.into()]);
        }
    }
    section("Timeline", Table::of(&["at", "event", "what"], rows))
}
