//! What the supervisor remembers of each unfinished run. It never sees inside one.

use std::collections::BTreeSet;

use proto_model::id::HostName;
use proto_model::injection::Injection;
use proto_model::plan::Origin;
use tokio::sync::mpsc;

use crate::machine::Input;

/// An unfinished run, from the outside.
pub(crate) struct Going {
    pub inbox: mpsc::Sender<Input>,
    pub injections: Vec<Injection>,
    pub hosts: BTreeSet<HostName>,
    pub origin: Origin,
    pub environment: String,
    pub service: Option<String>,
    /// Hosts that its widest step injects at the same time.
    pub widest: usize,
}
