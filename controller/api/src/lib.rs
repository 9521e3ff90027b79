//! The operators' front door: who may call what, and the translation of calls into wishes; it decides nothing about a run.

mod access;
mod acting;
mod caller;
mod emergency;
mod error;
mod evidence;
mod experiments;
mod faults;
mod freezes;
mod glances;
mod hosts;
mod runs;
mod schedules;
mod service;
mod tokens;
mod unattended;

pub use access::{ACCESS, AccessLayer, Role, layer};
pub use caller::{ADMIN_GROUP, Caller};
pub use error::{ApiError, ApiResult};
pub use glances::Glances;
pub use service::{Api, ApiParts};
