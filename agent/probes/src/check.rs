//! One sample as a host takes it: over the network as anyone would, or by what only this host has.

use std::time::Duration;

use proto_model::probe::{ProbeSpec, Sample, SampledBy};
use proto_model::time::Timestamp;
use proto_probes::timed;

use crate::command;
use crate::host_rules::HostRules;
use crate::kind::{AnyHostProbe, Kind};

/// How the kinds that only hosts can ask are asked: the only list of them.
const KINDS: &[&dyn AnyHostProbe] = &[&Kind::<command::Run>::new()];

/// Asks once, never longer than the probe's timeout. `now` is the wall clock at the start.
pub async fn check(spec: &ProbeSpec, rules: &HostRules, prober: &SampledBy, now: Timestamp) -> Sample {
    let within = Duration::from_millis(spec.timeout_ms);
    match KINDS.iter().find(|kind| kind.kind() == spec.check.kind) {
        Some(kind) => timed(spec, prober, now, kind.ask(&spec.check.params, &rules.commands, within)).await,
        None => proto_probes::check(spec, &rules.addresses, prober, now).await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proto_probes::AskedBy;

    use super::*;

    #[test]
    fn every_kind_that_only_hosts_ask_is_asked_here() {
        let declared = proto_probes::descriptions().into_iter();
        let declared: BTreeSet<&str> = declared
            .filter(|kind| kind.asked_by == AskedBy::Hosts)
            .map(|kind| kind.kind)
            .collect();
        let asked: BTreeSet<&str> = KINDS.iter().map(|kind| kind.kind()).collect();
        assert_eq!(asked, declared);
    }
}
