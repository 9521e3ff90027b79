//! controller.toml: where to listen, how long leases are, and the policy by environment. Unknown keys are refused with their place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};
use controller_conductor::MassLossRule;
use controller_policy::{Environment, EnvironmentPolicy, Policy};
use proto_model::quantity::Millis;
use proto_transport::AUTHORITY_LIFE_MS;
use serde::Deserialize;

const DAY_MS: u64 = 24 * 3_600_000;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub agents_address: SocketAddr,
    pub operators_address: SocketAddr,
    /// DNS names and addresses by which operators on other machines reach this controller, for its certificate;
    /// this machine's own name, localhost and the addresses listened on are always among them.
    pub names: Vec<String>,
    /// 2s to 60s.
    pub lease: Millis,
    /// How often agents give a sign of life: 100ms to 60s.
    pub heartbeat: Millis,
    /// How long a host's certificate lives: at least 10s.
    pub certificate: Millis,
    /// How long an authority lives that this controller makes: 2160h (90 days) to 87600h (10 years). One that is there keeps its end.
    pub authority: Millis,
    /// How many hosts lost at once halt everything.
    pub mass_loss: MassLoss,
    /// Which environments there are, and which are production; the usual names where there is no table.
    pub environment: BTreeMap<String, Environment>,
    pub policy: BTreeMap<String, EnvironmentPolicy>,
}

/// More than `share` percent of the connected hosts and at least `hosts` of them, lost within `within` while runs are active.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MassLoss {
    /// 1 to 100.
    pub share: u32,
    /// At least 1.
    pub hosts: u32,
    /// 1s to 10m.
    pub within: Millis,
}

impl Default for MassLoss {
    fn default() -> Self {
        let rule = MassLossRule::default();
        Self {
            share: rule.share_percent,
            hosts: rule.hosts,
            within: Millis(rule.within_ms),
        }
    }
}

impl From<&MassLoss> for MassLossRule {
    fn from(told: &MassLoss) -> Self {
        Self {
            share_percent: told.share,
            hosts: told.hosts,
            within_ms: told.within.0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            agents_address: SocketAddr::from(([0, 0, 0, 0], 7400)),
            operators_address: SocketAddr::from(([0, 0, 0, 0], 7443)),
            names: Vec::new(),
            lease: Millis(15_000),
            heartbeat: Millis(5_000),
            certificate: Millis(24 * 3_600_000),
            authority: Millis(AUTHORITY_LIFE_MS),
            mass_loss: MassLoss::default(),
            environment: BTreeMap::new(),
            policy: BTreeMap::new(),
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

    /// What may be injected where.
    pub fn rules(&self) -> anyhow::Result<Policy> {
        Ok(Policy::new(&self.environment, &self.policy)?)
    }

    /// What the certificate is good for, each name once.
    pub fn certificate_names(&self, listening: &[SocketAddr]) -> Vec<String> {
        let mut names = self.names.clone();
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
        names.extend(listening.iter().filter(|a| !a.ip().is_unspecified()).map(|a| a.ip().to_string()));
        names.sort();
        names.dedup();
        names
    }

    fn check(&self) -> anyhow::Result<()> {
        self.rules()?;
        let within = |name: &str, value: Millis, low: u64, high: u64| {
            if (low..=high).contains(&value.0) {
                return Ok(());
            }
            bail!("{name} is {value}; allowed: {}..{}", Millis(low), Millis(high))
        };
        within("lease", self.lease, 2_000, 60_000)?;
        within("heartbeat", self.heartbeat, 100, 60_000)?;
        within("certificate", self.certificate, 10_000, 90 * DAY_MS)?;
        within("authority", self.authority, 90 * DAY_MS, 3_650 * DAY_MS)?;
        within("mass_loss.within", self.mass_loss.within, 1_000, 600_000)?;
        if !(1..=100).contains(&self.mass_loss.share) {
            bail!("mass_loss.share is {}; allowed: 1..100", self.mass_loss.share);
        }
        if self.mass_loss.hosts == 0 {
            bail!("mass_loss.hosts is 0; allowed: 1 and more");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_shows_the_defaults() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/controller.toml");
        let shipped = Config::load(&shipped).unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{:?}", Config::default()));
    }
}
