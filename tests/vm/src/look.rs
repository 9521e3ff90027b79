//! What a machine looks like: everything that a fault could touch, and its queues and rules to the letter.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests_harness::footprint::Footprint;

use crate::machine::{Machine, PACKAGES};

/// Looks at everything on the machine that a fault could touch; beside the debs there may be one for older C libraries.
pub const LOOK: &str = "fracas-test-host";
/// Of a footprint, what no fault of the cases may change and nothing else on the machine changes by itself.
const WATCHED: [&str; 9] = [
    "addresses",
    "groups",
    "iptables",
    "links",
    "mounts",
    "nft",
    "qdiscs",
    "routes",
    "sysctls",
];
/// Every queue, class, filter and rule, as the programs of the kernel's own developers print them. Classes of fq_codel are its flows of the moment.
const NETWORK: &str = "for link in /sys/class/net/*; do link=${link##*/}; tc qdisc show dev $link; tc class show dev $link | grep -v 'class fq_codel'; \
                       for side in ingress egress; do tc filter show dev $link $side 2>/dev/null; done; done; nft --stateless list ruleset";
/// The longest that a look may take, in a slow machine.
const LOOKED: Duration = Duration::from_secs(120);

impl Machine {
    /// Everything on the machine that a fault could touch.
    pub fn footprint(&self) -> Result<Footprint> {
        let seen = self.exec(&[&format!("{PACKAGES}/{LOOK}"), "footprint"], b"", LOOKED)?;
        let mut footprint: Footprint =
            serde_json::from_str(&seen.ok()?).with_context(|| format!("read the footprint of {}", self.name()))?;
        footprint.0.retain(|section, _| WATCHED.contains(&section.as_str()));
        // The groups of units come and go by themselves, our own units' too.
        if let Some(groups) = footprint.0.get_mut("groups") {
            groups.retain(|path, _| path.contains("/fracas-") && !path.ends_with(".service"));
        }
        if let Some(mounts) = footprint.0.get_mut("mounts") {
            // An automount says the number of its pipe, which differs from boot to boot.
            mounts.retain(|point, how| !point.starts_with("/run/") && !how.contains(" autofs "));
        }
        Ok(footprint)
    }

    /// An error that names each thing which is not as it was.
    pub fn expect_footprint(&self, before: &Footprint) -> Result<()> {
        let differences = before.differences(&self.footprint()?);
        if differences.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        bail!("{} is not as it was before: {}", self.name(), lines.join("; "))
    }

    /// Every queue, class, filter and rule of the machine.
    pub fn network(&self) -> Result<String> {
        self.sh(NETWORK)?.ok()
    }

    /// An error with both where a letter of them is not as it was.
    pub fn expect_network(&self, before: &str) -> Result<()> {
        let now = self.network()?;
        ensure!(
            now == before,
            "queues or rules of {} are not as they were, but\n{now}\nand were\n{before}",
            self.name()
        );
        Ok(())
    }
}
