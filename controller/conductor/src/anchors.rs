//! Hosts' times by the controller's clock: what a host's boot clock says is mapped by what was heard of it when.

use std::collections::BTreeMap;

use proto_model::id::HostName;

/// How a host's boot clock stands to the controller's, as far as is known.
#[derive(Debug)]
struct Anchor {
    boot_id: String,
    /// The controller's time minus the host's: everything heard was on its way for a while, so the smallest is the nearest.
    offset_ms: i64,
    heard_ms: i64,
}

/// How far two clocks may drift apart, in parts of a million: an anchor gives way by that much, so that a newer one takes its place.
const DRIFT_PPM: i64 = 200;

/// One anchor for each host and boot.
#[derive(Debug, Default)]
pub(crate) struct Anchors(BTreeMap<HostName, Anchor>);

impl Anchors {
    /// The host's boot clock said `boot_ms` at the latest when this was heard.
    pub fn hear(&mut self, host: &HostName, boot_id: &str, boot_ms: u64, heard_ms: i64) {
        let offset_ms = heard_ms.saturating_sub(i64::try_from(boot_ms).unwrap_or(i64::MAX));
        match self.0.get_mut(host).filter(|anchor| anchor.boot_id == boot_id) {
            Some(anchor) => {
                let drift_ms = (heard_ms - anchor.heard_ms).max(0) * DRIFT_PPM / 1_000_000;
                anchor.offset_ms = offset_ms.min(anchor.offset_ms + drift_ms);
                anchor.heard_ms = heard_ms;
            }
            None => {
                let boot_id = boot_id.to_owned();
                self.0.insert(
                    host.clone(),
                    Anchor {
                        boot_id,
                        offset_ms,
                        heard_ms,
                    },
                );
            }
        }
    }

    /// When it was by the controller's clock, and never later than it was heard. `None` for a boot that is not known.
    pub fn map(&self, host: &HostName, boot_id: &str, boot_ms: u64, heard_ms: i64) -> Option<i64> {
        let anchor = self.0.get(host).filter(|anchor| anchor.boot_id == boot_id)?;
        let at = i64::try_from(boot_ms).unwrap_or(i64::MAX).saturating_add(anchor.offset_ms);
        Some(at.min(heard_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_report_is_mapped_to_when_it_was() {
        let (mut anchors, web) = (Anchors::default(), HostName::parse("web").unwrap());
        assert_eq!(anchors.map(&web, "b", 10, 20), None);
        anchors.hear(&web, "b", 5_000, 1_040);
        anchors.hear(&web, "b", 6_000, 2_010);
        // Heard 40 s after it was.
        anchors.hear(&web, "b", 10_000, 46_010);
        assert_eq!(anchors.map(&web, "b", 10_000, 46_010), Some(6_018));
        assert_eq!(
            anchors.map(&web, "b", 99_000_000, 46_010),
            Some(46_010),
            "no host is ahead of what was heard of it"
        );
        assert_eq!(anchors.map(&web, "another", 10_000, 46_010), None);
        // After a reboot the boot clock begins again.
        anchors.hear(&web, "another", 1_000, 50_000);
        assert_eq!(anchors.map(&web, "another", 2_000, 60_000), Some(51_000));
    }
}
