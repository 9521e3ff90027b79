//! What the supervisor remembers of each unfinished run. It never sees inside one.

use std::collections::BTreeSet;

use proto_model::id::HostName;
use proto_model::injection::Injection;
use tokio::sync::mpsc;

use crate::machine::Input;

/// An unfinished run, from the outside.
pub(crate) struct Going {
    pub inbox: mpsc::Sender<Input>,
    pub injections: Vec<Injection>,
    pub hosts: BTreeSet<HostName>,
}
