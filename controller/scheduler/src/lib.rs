//! When unattended runs are due, and bringing each due time to one end. It plans nothing and starts nothing by itself.

mod cadence;
mod calendar;
mod decide;
mod scheduler;
mod starter;
mod window;

pub use cadence::{Cadence, Occurrences};
pub use calendar::{Calendar, Wish as FreezeWish, parse as parse_calendar, wish as freeze_wish};
pub use decide::{GRACE_MS, by, frozen};
pub use scheduler::Scheduler;
pub use starter::{Answer, Starter};
