//! A run's timeline as a picture: what acted where, what the probes saw beside their bounds, and when each host was proven clean.

use proto_model::document::RunDocument;
use proto_model::event::Event;
use proto_telling::stretch;

use super::lanes;
use super::picture::{Axis, Drawing, Picture, WIDTH};
use crate::state::RunState;

/// `None` when there is no time to draw.
pub(super) fn timeline(run: &RunDocument, state: &RunState, events: &[Event]) -> Option<Picture> {
    let axis = Axis::of(state)?;
    let mut drawing = Drawing {
        axis,
        y: 24.0,
        picture: Picture::default(),
    };
    drawing.ticks();
    drawing.phases(state);
    drawing.hosts(run, state);
    lanes::probes(&mut drawing, &state.plan, events);
    drawing.moments(run, state);
    let mut picture = drawing.picture;
    picture.width = WIDTH as u32;
    picture.height = drawing.y.ceil() as u32;
    picture.summary = format!(
        "Timeline of {}: {} over {}",
        run.name,
        words(run),
        stretch(axis.to.since(axis.from))
    );
    Some(picture)
}

fn words(run: &RunDocument) -> String {
    let injections = match run.injections.len() {
        1 => "1 injection".to_owned(),
        n => format!("{n} injections"),
    };
    format!("{injections}, verdict {}", run.verdict.map_or("none yet", |v| v.as_str()))
}
