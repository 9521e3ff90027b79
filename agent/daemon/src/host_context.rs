//! This host, as every command of the agent opens it: eyes, hands, journals; opening changes nothing.

use agent_levers::{HostOps, JournalStore, LinuxOps};
use agent_privileges::Account;
use agent_view::{HostView, LinuxView, Resolver};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::sync::Arc;

use crate::paths::Paths;

/// What acts on this host and looks at it.
pub struct HostContext {
    pub view: Arc<dyn HostView>,
    pub hands: Box<dyn HostOps>,
    pub journal_store: JournalStore,
}

impl HostContext {
    /// `program` is what workers are started from. Names are resolved by `resolver`, or not at all.
    /// `workers` is the user that workers become: whoever starts workers must know it.
    pub fn open(paths: &Paths, program: PathBuf, resolver: Option<Arc<dyn Resolver>>, workers: Option<Account>) -> anyhow::Result<Self> {
        paths.make()?;
        let journal_store = JournalStore::open(&paths.journal(), &paths.journal_mirror()).context("open the journals")?;
        let mut view = LinuxView::with_group_root(&paths.group_root).with_helper();
        let mut hands = LinuxOps::with_group_root(program, &paths.group_root);
        if let Some(resolver) = resolver {
            view = view.with_resolver(resolver);
        }
        if let Some(workers) = workers {
            view = view.with_worker_uid(workers.uid.as_raw());
            hands = hands.with_worker_account(workers.uid.as_raw(), workers.gid.as_raw());
        }
        Ok(Self {
            view: Arc::new(view),
            hands: Box::new(hands),
            journal_store,
        })
    }
}

/// Our own program file; by the kernel's link when an upgrade has replaced it.
pub fn own_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}

/// Acting on a whole host is for root.
pub fn need_root() -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("this must run as root: it acts on the whole host (try sudo)")
}
