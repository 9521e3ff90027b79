//! The lanes of the probes: each sample at its time and height, beside the bound that it is held to.

use proto_model::event::{Event, EventBody};
use proto_model::plan::Plan;
use proto_model::probe::{ProbeRole, ProbeSpec, Sample, SampleResult};
use proto_telling::{figure, stretch};

use super::picture::{Dot, Drawing, Shape, place};

const HEIGHT: f64 = 46.0;
const GAP: f64 = 10.0;
/// Good samples of one probe that are drawn one by one; of more, every so-manieth, and the lane says so.
const MOST_GOOD: usize = 400;

pub(super) fn probes(drawing: &mut Drawing, plan: &Plan, events: &[Event]) {
    for probe in specs(plan) {
        let of_probe = |(role, sample): &(ProbeRole, &Sample)| *role == probe.role && sample.probe == probe.name;
        let samples: Vec<&Sample> = events
            .iter()
            .filter_map(sample_of)
            .filter(of_probe)
            .map(|(_, sample)| sample)
            .collect();
        lane(drawing, probe, &samples);
    }
}

/// Only a picture needs every sample; all else is in the state of the run. Every event by name, so that a new one is decided here too.
fn sample_of(event: &Event) -> Option<(ProbeRole, &Sample)> {
    match &event.body {
        EventBody::ProbeSampled { role, sample, .. } => Some((*role, sample)),
        EventBody::RunAccepted { .. }
        | EventBody::RunPhase { .. }
        | EventBody::HostPreflight { .. }
        | EventBody::GuardBroken { .. }
        | EventBody::StepStarted { .. }
        | EventBody::StepEnded { .. }
        | EventBody::InjectionOrdered { .. }
        | EventBody::InjectionWithdrawn { .. }
        | EventBody::InjectionRefused { .. }
        | EventBody::InjectionApplied { .. }
        | EventBody::InjectionObserved { .. }
        | EventBody::InjectionEnding { .. }
        | EventBody::InjectionUndone { .. }
        | EventBody::InjectionUndoFailed { .. }
        | EventBody::InjectionSpent { .. }
        | EventBody::ReportsDropped { .. }
        | EventBody::LeaseLapsed { .. }
        | EventBody::HostLost { .. }
        | EventBody::HostReturned { .. }
        | EventBody::StopRequested { .. }
        | EventBody::HostVerified { .. }
        | EventBody::ControllerRestarted { .. }
        | EventBody::HypothesisRecovered { .. }
        | EventBody::RunJudged { .. }
        | EventBody::RunAmended { .. }
        | EventBody::NoteAdded { .. } => None,
    }
}

fn specs(plan: &Plan) -> impl Iterator<Item = &ProbeSpec> {
    plan.hypothesis.iter().flat_map(|h| &h.probes).chain(&plan.guards)
}

fn lane(drawing: &mut Drawing, probe: &ProbeSpec, samples: &[&Sample]) {
    drawing.name(&probe.name);
    let (top, bottom) = (drawing.y + 4.0, drawing.y + HEIGHT);
    let bound = bound_ms(probe, samples);
    let measured = |sample: &Sample| {
        if bound.is_some() {
            Some(sample.took_ms as f64)
        } else {
            sample.value
        }
    };
    let highest = samples
        .iter()
        .filter_map(|s| measured(s))
        .fold(bound.unwrap_or(0) as f64 * 1.25, f64::max)
        .max(1.0);
    let height = |value: f64| bottom - (value / highest).clamp(0.0, 1.0) * (bottom - top);
    drawing.across("grid", bottom, "nothing");
    if let Some(ms) = bound {
        let y = height(ms as f64);
        drawing.across("bound", y, &format!("bound: within {}", stretch(ms)));
        drawing.label("dull", 4.0, drawing.y + 28.0, &format!("within {}", stretch(ms)));
    }
    let good = samples.iter().filter(|s| s.result == SampleResult::Good).count();
    let every = good.div_ceil(MOST_GOOD).max(1);
    if every > 1 {
        drawing.label("dull", 4.0, drawing.y + 41.0, &format!("1 of {every} good drawn"));
    }
    let mut seen_good = 0;
    for sample in samples {
        let (class, shape, y) = match sample.result {
            SampleResult::Good => {
                seen_good += 1;
                if (seen_good - 1) % every != 0 {
                    continue;
                }
                ("sample-good", Shape::Round, measured(sample).map_or(bottom, &height))
            }
            SampleResult::Bad => ("sample-bad", Shape::Cross, measured(sample).map_or(top, &height)),
            SampleResult::Missing => ("sample-missing", Shape::Square, bottom),
        };
        drawing.picture.dots.push(Dot {
            class,
            shape,
            x: place(drawing.axis.x(sample.started_at)),
            y: place(y),
            title: title(sample),
        });
    }
    drawing.y += HEIGHT + GAP;
}

fn title(sample: &Sample) -> String {
    let result = match sample.result {
        SampleResult::Good => "good",
        SampleResult::Bad => "bad",
        SampleResult::Missing => "missing",
    };
    let value = sample
        .value
        .map(|v| format!(", {} {}", figure(v), sample.unit.as_deref().unwrap_or_default()));
    let why = sample.error.as_ref().map(|error| format!(": {error}"));
    format!(
        "{result} after {}, from {}{}{}",
        stretch(sample.took_ms),
        sample.prober,
        value.unwrap_or_default(),
        why.unwrap_or_default()
    )
}

/// The slowest answer that is good, of what is judged by its time: every answer of it is a time.
fn bound_ms(probe: &ProbeSpec, samples: &[&Sample]) -> Option<u64> {
    let mut answered = samples.iter().filter(|sample| sample.result != SampleResult::Missing).peekable();
    answered.peek()?;
    let timed = answered.all(|sample| sample.value.is_none() || sample.unit.as_deref() == Some("ms"));
    timed.then(|| probe.check.within().map_or(probe.timeout_ms, |within| within.0))
}
