//! From a run's history to what it showed: the document, the verdict, the report. Pure: it reads events and nothing else.

mod fold;
mod history;
pub mod html;
mod json;
mod judge;
mod junit;
mod markdown;
mod rules;
mod samples;
mod versions;

pub use fold::fold;
pub use history::{History, InjectionHistory};
pub use html::html;
pub use json::json;
pub use judge::{JUDGE_VERSION, Judgement, judge};
pub use junit::junit;
pub use markdown::markdown;
pub use samples::{PhaseTally, Standing, standing, tally};
pub use versions::{HostVersions, versions};
