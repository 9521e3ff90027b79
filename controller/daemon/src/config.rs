//! controller.toml: where to listen, how long leases are, and the policy by environment. Unknown keys are refused with their place.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};
use controller_planner::Policy;
use proto_model::quantity::Millis;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub agents_address: SocketAddr,
    pub operators_address: SocketAddr,
    /// 2s to 60s.
    pub lease: Millis,
    /// How often agents give a sign of life: 100ms to 60s.
    pub heartbeat: Millis,
    /// How long a host's certificate lives: at least 10s.
    pub certificate: Millis,
    pub policy: Policy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            agents_address: SocketAddr::from(([0, 0, 0, 0], 7400)),
            operators_address: SocketAddr::from(([0, 0, 0, 0], 7443)),
            lease: Millis(15_000),
            heartbeat: Millis(2_000),
            certificate: Millis(24 * 3_600_000),
            policy: Policy::default(),
        }
    }
}

impl Config {
    /// The defaults when there is no file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let config: Self = proto_program::config::load_or_default(path)?;
        config.check().with_context(|| format!("read {}", path.display()))?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let within = |name: &str, value: Millis, low: u64, high: u64| {
            if (low..=high).contains(&value.0) {
                return Ok(());
            }
            bail!("{name} is {value}; allowed: {}..{}", Millis(low), Millis(high))
        };
        within("lease", self.lease, 2_000, 60_000)?;
        within("heartbeat", self.heartbeat, 100, 60_000)?;
        within("certificate", self.certificate, 10_000, 90 * 24 * 3_600_000)
    }
}
