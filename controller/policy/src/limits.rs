//! How much may be hit at once: the experiment's own limits and what a quorum can lose; the owner's policy is not here.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::host::Host;
use proto_model::id::HostName;
use proto_model::plan::{Limits, Plan};
use proto_model::quantity::Millis;
use proto_model::steps::Moment;

use crate::denial::{Denial, hosts_in_words};
use crate::fitness::state;
use crate::occupancy::Occupancy;
use crate::stage::Stage;

/// The label by which a host says which quorum it is a member of, and how many members there are: `etcd/3`.
const QUORUM_LABEL: &str = "quorum";

fn limit(path: impl Into<String>, message: String, allowed: String) -> Denial {
    Denial::new("limit", path, message, allowed)
}

/// What acts at the same time against the experiment's limits and the quorums of its hosts.
pub(crate) fn check_moment(moment: &Moment<'_>, limits: &Limits, stage: Stage<'_>, occupancy: &Occupancy<'_>) -> Result<(), Denial> {
    check_numbers(moment, limits, stage, occupancy)?;
    quorums(moment, stage, occupancy)
}

fn check_numbers(moment: &Moment<'_>, limits: &Limits, stage: Stage<'_>, occupancy: &Occupancy<'_>) -> Result<(), Denial> {
    let (path, hosts) = (moment.path, moment.hosts());
    let chosen = hosts.len();
    if let Some(most) = limits.hosts
        && chosen > most as usize
    {
        let message = format!("{path} injects {} at the same time", hosts_in_words(chosen));
        return Err(limit("limits.hosts", message, format!("..{most}")));
    }
    // Named in the plan only where a limit counts them.
    let matching: BTreeSet<&HostName> = moment.faults.iter().flat_map(|(_, step)| &step.among).collect();
    if matching.is_empty() {
        return Ok(());
    }
    let of = hosts_in_words(matching.len());
    let share = chosen as f64 * 100.0 / matching.len() as f64;
    if let Some(most) = limits.share_percent
        && share > most
    {
        let message = format!("{path} injects {chosen} of {of} that match, {share:.0}%");
        return Err(limit("limits.share", message, format!("..{most}%")));
    }
    let Some(least) = limits.keep_healthy else { return Ok(()) };
    let left = matching.len().saturating_sub(unhealthy(&matching, &hosts, stage, occupancy));
    if left >= least as usize {
        return Ok(());
    }
    let message = format!("{path} leaves {left} of {of} that match healthy");
    Err(limit("limits.keep_healthy", message, format!("{least}..")))
}

/// How many of some hosts are injected, may be by another run, or are in no state to do their work.
fn unhealthy<'b>(
    among: &BTreeSet<&'b HostName>,
    injected: &BTreeSet<&'b HostName>,
    stage: Stage<'b>,
    occupancy: &'b Occupancy<'_>,
) -> usize {
    let down = |name: &HostName| occupancy.host(name).is_none_or(|host| state(host).is_some());
    let taken = among.iter().copied().filter(|name| injected.contains(name) || down(name));
    let all = occupancy.most_taken(occupancy.others(stage.own()), taken.collect(), |name| among.contains(name));
    all.min(among.len())
}

/// A quorum of n members survives the loss of fewer than half: (n - 1) / 2.
fn quorums(moment: &Moment<'_>, stage: Stage<'_>, occupancy: &Occupancy<'_>) -> Result<(), Denial> {
    let hosts = moment.hosts();
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for host in hosts.iter().filter_map(|name| occupancy.host(name)) {
        if let Some(quorum) = host.labels.get(QUORUM_LABEL) {
            *taken.entry(quorum).or_default() += 1;
        }
    }
    let on = format!("{}.on", moment.path);
    for (quorum, taken) in taken {
        let Some(members) = quorum.rsplit_once('/').and_then(|(_, n)| n.parse::<usize>().ok()) else {
            let message = format!("label {QUORUM_LABEL}={quorum} is not NAME/MEMBERS");
            return Err(limit(on, message, "such as etcd/3".to_owned()));
        };
        let same = |host: &&Host| host.labels.get(QUORUM_LABEL).is_some_and(|q| q == quorum);
        let known: BTreeSet<&HostName> = occupancy.hosts().filter(same).map(|host| &host.name).collect();
        let down = unhealthy(&known, &hosts, stage, occupancy) - taken;
        let can_lose = members.saturating_sub(1) / 2;
        if taken + down > can_lose {
            let message = format!(
                "{} takes {taken} of the quorum {quorum}, of which {down} are down already",
                moment.path
            );
            return Err(limit(on, message, format!("..{}", can_lose.saturating_sub(down))));
        }
    }
    Ok(())
}

/// The whole plan against its own time limit.
pub(crate) fn check_length(plan: &Plan) -> Result<(), Denial> {
    let Some(most) = plan.limits.duration_ms else { return Ok(()) };
    let steps = plan.steps_ms();
    let before = plan.hypothesis.as_ref().map_or(0, |h| h.before_ms);
    if before + steps <= most {
        return Ok(());
    }
    let message = format!("the run takes {} from its start to the last undo", Millis(before + steps));
    Err(limit("limits.duration", message, format!("..{}", Millis(most))))
}
