//! What runs are worth: services, the levels they have reached, coverage, and the site that shows it. Pure: history and a moment in, text out.

mod cadence;
mod coverage;
mod file;
mod graph;
mod known;
mod levels;
mod past;
mod required;
mod requirements;
mod select;
mod site;

pub use cadence::{CADENCE_DAYS, TestCadence, WARN_DAYS, cadence};
pub use coverage::{Covered, coverage};
pub use file::parse_service;
pub use known::Evidence;
pub use levels::weigh;
pub use select::{History, select, select_shown};
pub use site::{MARKER, Month, MonthLine, NEWEST, Shown, Site, View, file_name, maker, month, month_of, run_page};
