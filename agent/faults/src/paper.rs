//! A policy of paper for the tests of kinds, which keeps what it is told to keep and protects nothing else.

use std::path::{Path, PathBuf};

use agent_view::{Process, Volume};
use proto_model::peer::Network;

use crate::fault::Protection;

#[derive(Default)]
pub(crate) struct Keeps {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) path: Option<PathBuf>,
}

impl Protection for Keeps {
    fn process(&self, _process: &Process) -> Option<String> {
        None
    }

    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Vec::new())
    }

    fn interface(&self, _name: &str) -> Option<String> {
        None
    }

    fn port(&self, _port: u16) -> Option<String> {
        None
    }

    fn path(&self, path: &Path, _volume: &Volume) -> Option<String> {
        let hit = self.path.as_deref().is_some_and(|ward| path.starts_with(ward));
        hit.then(|| "it is precious".to_owned())
    }

    fn memory_reserve(&self) -> u64 {
        self.memory
    }

    fn disk_reserve(&self, _volume: &Volume) -> u64 {
        self.disk
    }
}
