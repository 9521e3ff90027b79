//! The parts of a run's picture: its time axis, phases, hosts and injections, and the moments that concern the whole run.

use askama::Template;
use proto_model::document::{InjectionDocument, RunDocument};
use proto_model::event::RunPhase;
use proto_model::injection::{Cleanliness, EffectState, InjectionState};
use proto_model::time::Timestamp;
use proto_telling::{pairs, stretch};

use crate::state::RunState;

pub(super) const WIDTH: f64 = 960.0;
/// Where the time axis begins; names stand left of it.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 945.0;
const TICKS: u64 = 6;
const ROW: f64 = 20.0;
const GAP: f64 = 8.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Round,
    Cross,
    Square,
}

#[derive(Debug, Clone)]
pub(super) struct Tick {
    pub x: String,
    /// Of the text: the last one would leave the picture.
    pub anchor: &'static str,
    pub text: String,
}

#[derive(Debug, Clone)]
pub(super) struct Band {
    pub class: &'static str,
    pub x: String,
    pub y: String,
    pub width: String,
    pub height: String,
    pub title: String,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub class: &'static str,
    pub x1: String,
    pub y1: String,
    pub x2: String,
    pub y2: String,
    pub title: String,
}

#[derive(Debug, Clone)]
pub(super) struct Dot {
    pub class: &'static str,
    pub shape: Shape,
    pub x: String,
    pub y: String,
    pub title: String,
}

#[derive(Debug, Clone)]
pub(super) struct Label {
    pub class: &'static str,
    pub x: String,
    pub y: String,
    pub text: String,
}

/// Shapes with their places; drawn by the template, which escapes every text.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) summary: String,
    pub(super) ticks: Vec<Tick>,
    pub(super) bands: Vec<Band>,
    pub(super) rules: Vec<Rule>,
    pub(super) dots: Vec<Dot>,
    pub(super) labels: Vec<Label>,
}

#[derive(Template)]
#[template(path = "picture.svg")]
struct Rendered<'a> {
    picture: &'a Picture,
}

impl Picture {
    pub fn svg(&self) -> String {
        Rendered { picture: self }.render().unwrap_or_default()
    }
}

/// Time to place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Axis {
    /// From acceptance to the last word before the run was finished; amendments may come days later.
    pub fn of(state: &RunState) -> Option<Self> {
        let from = state.created_at;
        let last = state.entered_at(RunPhase::Finished).unwrap_or(state.last_at);
        (last > from).then_some(Self { from, to: last })
    }

    pub fn x(self, at: Timestamp) -> f64 {
        let share = at.since(self.from) as f64 / self.to.since(self.from) as f64;
        LEFT + share.min(1.0) * (RIGHT - LEFT)
    }
}

pub(super) fn place(value: f64) -> String {
    format!("{value:.1}")
}

pub(super) struct Drawing {
    pub axis: Axis,
    /// Where the next lane begins.
    pub y: f64,
    pub picture: Picture,
}

impl Drawing {
    pub fn ticks(&mut self) {
        let length = self.axis.to.since(self.axis.from);
        for i in 0..=TICKS {
            let ms = length * i / TICKS;
            let x = place(self.axis.x(self.axis.from.plus_ms(ms)));
            let text = format!("+{}", stretch(ms));
            let anchor = if i == TICKS { "end" } else { "start" };
            self.picture.ticks.push(Tick { x, anchor, text });
        }
    }

    pub fn phases(&mut self, state: &RunState) {
        let entered = &state.phases[1..];
        self.name("phase");
        for (i, (phase, from)) in entered.iter().enumerate() {
            let to = entered.get(i + 1).map_or(self.axis.to, |(_, at)| *at);
            if *phase == RunPhase::Finished || to <= *from {
                continue;
            }
            self.band("phase", *from, to, phase.as_str(), phase.as_str());
        }
        self.y += ROW + GAP;
    }

    pub fn hosts(&mut self, run: &RunDocument, state: &RunState) {
        for host in &run.hosts {
            let of_host: Vec<&InjectionDocument> = run.injections.iter().filter(|i| i.host == host.name).collect();
            self.name(host.name.as_str());
            for injection in &of_host {
                self.injection(injection);
                self.y += ROW;
            }
            if of_host.is_empty() {
                self.y += ROW;
            }
            if let Some(proof) = state.proofs.get(&host.name) {
                self.proof(proof.at, proof.proof.result);
            }
            self.y += GAP;
        }
    }

    fn injection(&mut self, injection: &InjectionDocument) {
        let Some(from) = injection.applied_at.or(injection.ordered_at) else {
            return;
        };
        let to = injection.ended_at.unwrap_or(self.axis.to);
        let class = match injection.state {
            InjectionState::Refused | InjectionState::UndoFailed => "broken",
            _ if injection.effect.noop => "noop",
            _ => "fault",
        };
        let seen = match injection.effect.state {
            EffectState::Confirmed => "",
            other => other.as_str(),
        };
        let undo = injection
            .undo_ms
            .map(|ms| format!(", undone in {}", stretch(ms)))
            .unwrap_or_default();
        let title = format!(
            "{} {}: {}, effect {}{undo}",
            injection.fault,
            pairs(&injection.params).join(" "),
            injection.state.as_str(),
            injection.effect.state.as_str(),
        );
        self.band(class, from, to, &format!("{} {seen}", injection.fault), &title);
    }

    /// Proofs stand at the end of the host's last row.
    fn proof(&mut self, at: Timestamp, result: Cleanliness) {
        let (class, text) = match result {
            Cleanliness::Clean => ("text-good", "\u{2713} clean"),
            Cleanliness::Dirty => ("text-bad", "\u{2717} dirty"),
            Cleanliness::Faulted => ("text-bad", "\u{2717} still faulted"),
            Cleanliness::Unproven => ("text-bad", "? unproven"),
        };
        let x = self.axis.x(at).min(RIGHT - 60.0);
        self.label(class, x, self.y - 5.0, text);
    }

    /// Moments that concern the run as a whole, as lines through all lanes.
    pub fn moments(&mut self, run: &RunDocument, state: &RunState) {
        let broken = state
            .guards_broken
            .iter()
            .map(|broken| (broken.at, format!("guard {} broke", broken.guard)));
        let stop = state.stop.iter().map(|stop| (stop.at, format!("stop: {}", stop.reason)));
        let mut moments: Vec<(&'static str, Timestamp, String)> = broken.chain(stop).map(|(at, text)| ("line-bad", at, text)).collect();
        let first = run.injections.iter().filter_map(|i| i.applied_at).min();
        if let (Some(at), Some(ms)) = (first, run.detection_ms) {
            moments.push(("line-bad", at.plus_ms(ms), format!("detected after {}", stretch(ms))));
        }
        let last = run.injections.iter().filter_map(|i| i.ended_at).max();
        if let (Some(at), Some(ms)) = (last, run.recovery_ms) {
            moments.push(("line-good", at.plus_ms(ms), format!("recovered after {}", stretch(ms))));
        }
        let top = 18.0;
        let bottom = self.y;
        for (class, at, text) in moments {
            let x = self.axis.x(at);
            self.rule(class, (x, top), (x, bottom), &text);
            self.y += 14.0;
            let class = if class == "line-good" { "text-good" } else { "text-bad" };
            self.label(class, x.min(RIGHT - 150.0) + 3.0, self.y - 3.0, &text);
        }
        self.y += GAP;
    }

    pub fn name(&mut self, text: &str) {
        let text: String = text.chars().take(28).collect();
        self.label("name", 4.0, self.y + 14.0, &text);
    }

    fn band(&mut self, class: &'static str, from: Timestamp, to: Timestamp, text: &str, title: &str) {
        let (x1, x2) = (self.axis.x(from), self.axis.x(to));
        let width = (x2 - x1).max(2.0);
        self.picture.bands.push(Band {
            class,
            x: place(x1),
            y: place(self.y + 1.0),
            width: place(width),
            height: place(ROW - 3.0),
            title: title.to_owned(),
        });
        // About six units a letter: a text that does not fit is left to the band's title.
        if text.len() as f64 * 6.0 < width {
            self.label("in", x1 + 4.0, self.y + 13.0, text);
        }
    }

    pub fn rule(&mut self, class: &'static str, from: (f64, f64), to: (f64, f64), title: &str) {
        self.picture.rules.push(Rule {
            class,
            x1: place(from.0),
            y1: place(from.1),
            x2: place(to.0),
            y2: place(to.1),
            title: title.to_owned(),
        });
    }

    pub fn across(&mut self, class: &'static str, y: f64, title: &str) {
        self.rule(class, (LEFT, y), (RIGHT, y), title);
    }

    pub fn label(&mut self, class: &'static str, x: f64, y: f64, text: &str) {
        self.picture.labels.push(Label {
            class,
            x: place(x),
            y: place(y),
            text: text.to_owned(),
        });
    }
}
