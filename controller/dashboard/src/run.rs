//! One run: its picture, its steps, what was seen and how each host was proven clean, as the report tells it; live until it is judged.

use askama::Template;
use proto_model::event::Event;

use crate::frame::Frame;

#[derive(Debug, Template)]
#[template(path = "run.html")]
pub struct RunPage<'a> {
    pub frame: &'a Frame,
    pub id: String,
    pub name: String,
    middle: String,
    finished: bool,
}

impl<'a> RunPage<'a> {
    /// `None` when the events do not tell of a run.
    pub fn of(frame: &'a Frame, events: &[Event]) -> Option<Self> {
        let run = controller_report::fold(events)?;
        Some(Self {
            frame,
            id: run.id.to_string(),
            name: run.name,
            middle: Self::middle(events)?,
            finished: run.verdict.is_some(),
        })
    }

    /// What is sent again when something happens.
    pub fn middle(events: &[Event]) -> Option<String> {
        Some(controller_report::html::page(events, None)?.main())
    }

    pub fn html(&self) -> String {
        self.render().unwrap_or_default()
    }
}
