//! What the rest of the agent holds of a host that can be changed: it can hand it to the levers, and do nothing with it by itself.

use crate::kinds::AllOps;

/// A host as the levers change it. Only levers make its calls; whoever else has one passes it to them.
pub trait HostOps: Send {
    /// Takes note of workers that have ended by themselves, so that none stays a zombie; to be called now and then.
    fn reap(&mut self);

    /// The calls themselves. Nobody outside of this crate has the key.
    #[doc(hidden)]
    fn all(&mut self, key: Key) -> &mut dyn AllOps;
}

impl<T: AllOps> HostOps for T {
    fn reap(&mut self) {
        self.reap_workers();
    }

    fn all(&mut self, _key: Key) -> &mut dyn AllOps {
        self
    }
}

/// Opens a host to the levers.
pub struct Key(());

pub(crate) const KEY: Key = Key(());
