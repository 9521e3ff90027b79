//! A Linux host as the levers change it: the program of its workers, where groups lie, and the workers that live.

use std::path::{Path, PathBuf};

use agent_view::{GroupId, LinuxView};

use crate::netfilter::QueueBy;
use crate::spawn::Worker;

/// This host, and the parent of its workers. Dropped, its workers end by themselves. It records nothing: that was done before it is called.
pub struct LinuxOps {
    pub(crate) agent: PathBuf,
    pub(crate) view: LinuxView,
    pub(crate) workers: Vec<Worker>,
    pub(crate) queue_by: QueueBy,
    /// The user and group that workers become.
    pub(crate) worker_account: Option<(u32, u32)>,
}

impl LinuxOps {
    /// `agent` is the program that is started as `agent worker`.
    pub fn new(agent: PathBuf) -> Self {
        Self::with_group_root(agent, Path::new(""))
    }

    /// Groups are made in this folder of each hierarchy; `LinuxView` must be told the same.
    pub fn with_group_root(agent: PathBuf, below: &Path) -> Self {
        Self {
            agent,
            view: LinuxView::with_group_root(below),
            workers: Vec::new(),
            queue_by: QueueBy::default(),
            worker_account: None,
        }
    }

    /// Workers become this user and group before they work; without, they stay root.
    #[must_use]
    pub fn with_worker_account(mut self, uid: u32, gid: u32) -> Self {
        self.worker_account = Some((uid, gid));
        self.view = self.view.with_worker_uid(uid);
        self
    }

    pub(crate) fn let_go(&mut self, group: &GroupId) {
        self.workers
            .iter_mut()
            .filter(|worker| worker.group == *group)
            .for_each(Worker::let_go);
    }
}
