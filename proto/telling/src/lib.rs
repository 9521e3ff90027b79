//! How a run is told to people, the same at the command line and in a report: pure, from events to words; it judges nothing.

mod figures;
mod timeline;
mod typed;

pub use figures::{figure, stretch};
pub use timeline::{Timeline, effect_text};
pub use typed::{pairs, what};
