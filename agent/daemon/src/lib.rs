//! The pieces of `fracas-agent`, wired together in `run` and used one by one by its other commands; no rule is decided here.

mod accounts;
pub mod check;
pub mod doctor;
pub mod enrol;
pub mod guardian;
pub mod guardian_handle;
pub mod host_context;
mod instance_lock;
pub mod last_guard;
pub mod liveness;
pub mod local_client;
pub mod local_server;
pub mod options;
mod own_folder;
pub mod paths;
pub mod rescue;
pub mod run;
pub mod session;
mod session_process;
pub mod worker;
