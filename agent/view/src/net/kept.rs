//! The thread's own socket to netfilter, kept from one use to the next; it knows nothing of what is asked through it.
//!
//! Closing such a socket makes the kernel wait until every processor has let go of the rules that were removed last: many
//! times as long as removing them took.

use std::cell::RefCell;
use std::os::linux::fs::MetadataExt;

use super::socket::{Netfilter, NetfilterError};

/// Names the namespace of the calling thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The device and inode of a network namespace.
type Namespace = (u64, u64);

thread_local! {
    static IDLE: RefCell<Option<(Namespace, Netfilter)>> = const { RefCell::new(None) };
}

/// Lends a socket to netfilter of the namespace that the thread is in. The next use finds it again, unless this one fails: then
/// an answer may still be under way to it.
pub fn with_netfilter<T, E: From<NetfilterError>>(act: impl FnOnce(&mut Netfilter) -> Result<T, E>) -> Result<T, E> {
    // Where it cannot be told which namespace this is, nothing is kept.
    let namespace = std::fs::metadata(NAMESPACE).ok().map(|found| (found.st_dev(), found.st_ino()));
    let idle = IDLE.with(RefCell::take).filter(|(of, _)| Some(*of) == namespace);
    let mut kernel = idle.map_or_else(Netfilter::open, |(_, kernel)| Ok(kernel))?;
    let done = act(&mut kernel)?;
    IDLE.with(|idle| idle.replace(namespace.map(|namespace| (namespace, kernel))));
    Ok(done)
}
