//! The operators' front door: who may call what, and the translation of calls into wishes; it decides nothing about a run.

mod access;
mod acting;
#[cfg(test)]
mod asked_once;
mod audit;
mod authority;
mod caller;
mod door;
mod emergency;
mod error;
mod evidence;
mod experiments;
mod failures;
mod faults;
mod freezes;
#[cfg(test)]
mod full_disk;
mod glances;
mod history;
mod hosts;
mod http;
mod keyring;
mod late;
mod operators;
mod publishing;
mod retention;
mod routes;
mod runs;
mod schedules;
mod service;
mod tokens;
mod unattended;
mod watched;
mod whole;

pub use access::{ACCESS, Deed, Row, may, row};
pub use audit::AuditLog;
pub use caller::{ADMIN_GROUP, Caller, Credential};
pub use door::{Door, DoorLayer};
pub use error::{ApiError, ApiResult};
pub use glances::Glances;
pub use keyring::Keyring;
pub use service::{Api, ApiParts};
