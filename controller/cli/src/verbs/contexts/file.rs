//! The file of contexts on this machine.

use std::path::PathBuf;

use crate::config::Config;
use crate::context;
use crate::failure::Failure;
use crate::globals::Globals;

/// The configuration with its place.
pub struct File {
    pub path: PathBuf,
    pub config: Config,
}

impl File {
    pub fn open(globals: &Globals) -> Result<Self, Failure> {
        let path = context::path(globals)?;
        let config = Config::read(&path)?;
        Ok(Self { path, config })
    }

    pub fn save(&self) -> Result<(), Failure> {
        self.config.write(&self.path)
    }
}
