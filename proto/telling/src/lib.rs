//! How a run is told to people and pipelines, the same at the command line and in a report: pure, to text; it judges nothing.

mod figures;
pub mod junit;
pub mod markup;
mod recovery;
pub mod refusal;
pub mod terminal;
mod timeline;
mod typed;

pub use figures::{figure, stretch};
pub use recovery::{last_answer, recovery_text};
pub use timeline::{Timeline, effect_text};
pub use typed::{pairs, plain, what};
