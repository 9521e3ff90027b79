//! The report as Markdown: what was asked, what was done, what was measured, what it showed, and the proof.

use std::fmt::Write;

use proto_model::document::RunDocument;
use proto_model::event::Event;
use proto_telling::markup::markdown_text;
use proto_telling::{Timeline, last_answer, recovery_text};

use crate::fold::document;
use crate::state::RunState;

/// Empty when the events do not tell of a run.
pub fn markdown(events: &[Event]) -> String {
    let Some(state) = RunState::of(events) else {
        return String::new();
    };
    let run = document(&state);
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_head(&mut text, &run, &state);
    let _ = write_tables(&mut text, &run);
    let _ = write_timeline(&mut text, events);
    text
}

fn write_head(text: &mut String, run: &RunDocument, state: &RunState) -> std::fmt::Result {
    let verdict = run.verdict.map_or("none yet", |v| v.as_str());
    writeln!(text, "# {}: {verdict}\n", markdown_text(&run.name))?;
    if let Some(recovery) = &run.recovery {
        writeln!(text, "**{}**\n", markdown_text(&recovery_text(recovery)))?;
    }
    if let Some(hypothesis) = &state.plan.hypothesis {
        writeln!(text, "> {}\n", markdown_text(&hypothesis.says))?;
    }
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(text, "| run | `{}` |", run.id)?;
    if let Some(service) = &run.service {
        writeln!(text, "| service | {} |", markdown_text(service))?;
    }
    writeln!(text, "| environment | {} |", markdown_text(&run.environment))?;
    writeln!(text, "| by | {} |", markdown_text(&run.by))?;
    writeln!(text, "| cleanup | {} |", run.cleanup.as_str())?;
    writeln!(text, "| plan | `{}`, seed {} |", run.plan.digest, run.plan.seed)?;
    writeln!(
        text,
        "| from, to | {} to {} |",
        run.created_at,
        run.finished_at.map_or("now".to_owned(), |t| t.to_string())
    )?;
    for probe in run.recovery.iter().flat_map(|recovery| &recovery.probes) {
        writeln!(text, "| last answer | {} |", markdown_text(&last_answer(probe)))?;
    }
    if let Some(ms) = run.detection_ms {
        writeln!(text, "| detected after | {ms} ms |")?;
    }
    for reason in &run.reasons {
        writeln!(text, "\n- **{}**: {}", markdown_text(&reason.code), markdown_text(&reason.message))?;
    }
    Ok(())
}

fn write_tables(text: &mut String, run: &RunDocument) -> std::fmt::Result {
    writeln!(
        text,
        "\n## Injections\n\n| step | fault | host | effect | asked | measured | ended by | undone in |\n|---|---|---|---|---|---|---|---|"
    )?;
    for i in &run.injections {
        let number = |n: Option<f64>| {
            n.map_or("-".to_owned(), |n| {
                format!("{n:.1} {}", markdown_text(i.effect.unit.as_deref().unwrap_or_default()))
            })
        };
        let (ended, undo) = (
            i.ended_by.map_or("-", |e| e.as_str()),
            i.undo_ms.map_or("-".to_owned(), |ms| format!("{ms} ms")),
        );
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {ended} | {undo} |",
            markdown_text(&i.step),
            markdown_text(i.fault.as_str()),
            markdown_text(i.host.as_str()),
            i.effect.state.as_str(),
            number(i.effect.asked),
            number(i.effect.measured)
        )?;
    }
    if !run.probes.is_empty() {
        writeln!(
            text,
            "\n## Probes\n\n| probe | phase | samples | bad | missing | held |\n|---|---|---|---|---|---|"
        )?;
    }
    for p in &run.probes {
        let held = p.held.map_or("cannot say", |held| if held { "yes" } else { "no" });
        writeln!(
            text,
            "| {} | {:?} | {} | {} | {} | {held} |",
            markdown_text(&p.name),
            p.phase,
            p.samples,
            p.bad,
            p.missing
        )?;
    }
    writeln!(
        text,
        "\n## Hosts\n\n| host | is | residue | drift | changed for good |\n|---|---|---|---|---|"
    )?;
    for h in &run.hosts {
        let list = |items: &[String]| {
            if items.is_empty() {
                "none".to_owned()
            } else {
                markdown_text(&items.join("; "))
            }
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            markdown_text(h.name.as_str()),
            h.cleanliness.as_str(),
            list(&h.residue),
            list(&h.drift),
            list(&h.consequences)
        )?;
    }
    Ok(())
}

fn write_timeline(text: &mut String, events: &[Event]) -> std::fmt::Result {
    writeln!(text, "\n## Timeline\n\n| at | event | |\n|---|---|---|")?;
    let mut timeline = Timeline::default();
    for event in events {
        for words in timeline.told(event) {
            writeln!(text, "| {} | {} | {} |", event.at, event.seq, markdown_text(&words))?;
        }
    }
    Ok(())
}
