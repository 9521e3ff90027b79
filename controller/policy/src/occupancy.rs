//! What is injected now, or may be while its runs last: by run and by host.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::host::{Host, Membership};
use proto_model::id::{HostName, RunId};
use proto_model::injection::Cleanliness;
use proto_model::plan::{Origin, Plan};

/// A run that is not finished, as it counts against every other one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRun {
    pub id: RunId,
    pub origin: Origin,
    pub environment: String,
    pub service: Option<String>,
    /// Hosts that it injects at some time.
    pub hosts: BTreeSet<HostName>,
    /// Hosts that it may inject at the same time, at most.
    pub widest: usize,
}

impl ActiveRun {
    pub fn new(id: RunId, plan: &Plan) -> Self {
        let steps = plan.fault_steps();
        Self {
            id,
            origin: plan.origin,
            environment: plan.environment.clone(),
            service: plan.service.clone(),
            hosts: steps.flat_map(|(_, step)| step.injections.iter().map(|i| i.host.clone())).collect(),
            widest: plan.moments().iter().map(|moment| moment.hosts().len()).max().unwrap_or(0),
        }
    }

    /// It injects all of its hosts at once, so that each of them is known to be taken.
    fn takes_all(&self) -> bool {
        self.widest >= self.hosts.len()
    }
}

/// The hosts as they are at this moment, and the runs that are not finished.
#[derive(Debug, Default)]
pub struct Occupancy<'a> {
    hosts: BTreeMap<&'a HostName, &'a Host>,
    runs: Vec<&'a ActiveRun>,
    /// Hosts under an injection that no run answers for.
    unclaimed: BTreeSet<&'a HostName>,
}

impl<'a> Occupancy<'a> {
    /// Hosts that are removed are left out.
    pub fn new(hosts: impl IntoIterator<Item = &'a Host>, runs: impl IntoIterator<Item = &'a ActiveRun>) -> Self {
        let hosts = hosts.into_iter().filter(|host| host.membership != Membership::Removed);
        let hosts: BTreeMap<&HostName, &Host> = hosts.map(|host| (&host.name, host)).collect();
        let runs: Vec<&ActiveRun> = runs.into_iter().collect();
        let injected = hosts.values().filter(|host| Self::shows_injection(host)).map(|host| &host.name);
        let unclaimed = injected.filter(|name| !runs.iter().any(|run| run.hosts.contains(*name))).collect();
        Self { hosts, runs, unclaimed }
    }

    /// The host itself says that it is under an injection.
    pub(crate) fn shows_injection(host: &Host) -> bool {
        host.active_injections > 0 || host.cleanliness == Cleanliness::Faulted
    }

    pub(crate) fn host(&self, name: &HostName) -> Option<&'a Host> {
        self.hosts.get(name).copied()
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &'a Host> {
        self.hosts.values().copied()
    }

    pub(crate) fn is_unclaimed(&self, name: &HostName) -> bool {
        self.unclaimed.contains(name)
    }

    /// The runs other than the one that asks.
    pub(crate) fn others<'b>(&'b self, own: Option<&'b RunId>) -> impl Iterator<Item = &'a ActiveRun> + 'b {
        self.runs.iter().copied().filter(move |run| Some(&run.id) != own)
    }

    /// The most hosts for which `counts` holds that may be taken at the same time: `taken` already are, the runs may take theirs,
    /// and what no run answers for is taken as well. A host that two runs share counts once.
    pub(crate) fn most_taken<'b>(
        &'b self,
        runs: impl Iterator<Item = &'b ActiveRun>,
        mut taken: BTreeSet<&'b HostName>,
        counts: impl Fn(&HostName) -> bool,
    ) -> usize {
        taken.extend(self.unclaimed.iter().filter(|name| counts(name)));
        let (whole, partial): (Vec<&ActiveRun>, Vec<&ActiveRun>) = runs.partition(|run| run.takes_all());
        taken.extend(whole.iter().flat_map(|run| &run.hosts).filter(|name| counts(name)));
        let more = partial.iter().map(|run| {
            let free = run.hosts.iter().filter(|name| counts(name) && !taken.contains(name));
            free.count().min(run.widest)
        });
        taken.len() + more.sum::<usize>()
    }
}
