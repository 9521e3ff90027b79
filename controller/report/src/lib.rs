//! From a run's history to what it showed: the document, the verdict, the report. Pure: it reads events and nothing else.

mod fold;
pub mod html;
mod injection_status;
mod json;
mod judge;
mod junit;
mod markdown;
mod recovery;
mod rules;
mod samples;
mod standing;
mod state;

pub use fold::{document, fold};
pub use html::html;
pub use injection_status::InjectionStatus;
pub use json::json;
pub use judge::{JUDGE_VERSION, Judgement, judge};
pub use junit::junit;
pub use markdown::markdown;
pub use samples::{PhaseTally, SampleCounts, Standing};
pub use standing::standing;
pub use state::{GuardBreak, InjectionCounts, Judged, PreflightStatus, ProofStatus, RunState, StepStatus, StopStatus};
