//! What is known of every enrolled host: what is stored, and what its session says now. Memory only; the store is asked elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_store::HostRecord;
use proto_model::host::{Availability, Connection, Host, HostAuthority, HostFacts, Membership};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{AgentFact, Cleanliness};
use proto_model::probe::ProbeSpec;
use proto_model::time::Timestamp;
use tonic::Status;

use crate::catalogues::KnownCatalogue;
use crate::link::Link;
use crate::rate::Writes;

/// A session that is up.
#[derive(Clone)]
pub(crate) struct Live {
    pub link: Link,
    pub instance: String,
    pub boot_id: String,
    pub agent_version: String,
    pub facts: Arc<HostFacts>,
    pub catalogue: Arc<KnownCatalogue>,
    pub source_address: String,
    pub cleanliness: Cleanliness,
    pub halted: bool,
    /// Injections that act here, by what the host reported: heartbeats are a look at a moment that may be over.
    pub acting: BTreeSet<InjectionId>,
    pub heard_at: Timestamp,
    /// The newest store epoch this host has seen; newer than ours when our store came from a backup.
    pub store_epoch: u64,
    /// How far the host's wall clock was ahead of ours as the session began, where it said so.
    pub clock_offset_ms: Option<i64>,
    pub authority: HostAuthority,
}

impl Live {
    /// Residue is the host's own word; whether something acts follows from its reports.
    fn cleanliness(&self) -> Cleanliness {
        match self.cleanliness {
            Cleanliness::Dirty | Cleanliness::Unproven => self.cleanliness,
            Cleanliness::Clean | Cleanliness::Faulted if self.acting.is_empty() => Cleanliness::Clean,
            Cleanliness::Clean | Cleanliness::Faulted => Cleanliness::Faulted,
        }
    }

    /// Takes a report into account: from applied until its end an injection acts.
    pub fn take(&mut self, injection: &InjectionId, fact: &AgentFact) {
        if fact.is_terminal() {
            self.acting.remove(injection);
        } else {
            self.acting.insert(injection.clone());
        }
    }
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub record: HostRecord,
    pub live: Option<Live>,
    pub last_seen: Option<Timestamp>,
    /// What acted as its last session ended.
    left_acting: BTreeSet<InjectionId>,
    /// Sessions of other machines with this host's identity: halts and stops go to them too, and nothing is started on any.
    pub clones: Vec<Live>,
    /// Why, while there are clones.
    pub cloned: Option<String>,
    /// Probes that this host is to run, sent again when it returns.
    pub probes: Vec<(RunId, ProbeSpec)>,
    /// The newest answer to a halt or release: epoch, undone.
    pub halt_answer: Option<(u64, u32)>,
    /// What it could do when it was heard of last.
    pub catalogue: Option<Arc<KnownCatalogue>>,
    /// What of it may still be written on its own word.
    pub writes: Writes,
    /// The host as others see it, until something of it changes.
    seen: Option<Arc<Host>>,
}

impl Entry {
    pub fn new(record: HostRecord) -> Self {
        Self {
            record,
            live: None,
            last_seen: None,
            left_acting: BTreeSet::new(),
            clones: Vec::new(),
            cloned: None,
            probes: Vec::new(),
            halt_answer: None,
            catalogue: None,
            writes: Writes::default(),
            seen: None,
        }
    }

    pub fn with_catalogue(record: HostRecord, catalogue: Option<Arc<KnownCatalogue>>) -> Self {
        Self {
            catalogue,
            ..Self::new(record)
        }
    }

    /// What it can do, by its session or by what is stored.
    pub fn catalogue(&self) -> Option<&Arc<KnownCatalogue>> {
        self.live.as_ref().map(|live| &live.catalogue).or(self.catalogue.as_ref())
    }

    fn seen(&mut self) -> Arc<Host> {
        match &self.seen {
            Some(host) => host.clone(),
            None => self.seen.insert(Arc::new(self.host())).clone(),
        }
    }

    /// Every session that shows this identity, the first one first.
    pub fn sessions(&self) -> impl Iterator<Item = &Live> {
        self.live.iter().chain(&self.clones)
    }

    pub fn session(&mut self, nonce: &str) -> Option<&mut Live> {
        self.live.iter_mut().chain(&mut self.clones).find(|live| live.link.nonce == nonce)
    }

    /// Takes a session out that is over; true when it was the first one. Its clones are asked to dial again: one of them is then the first.
    pub fn over(&mut self, nonce: &str) -> Option<(Live, bool)> {
        if let Some(first) = self.live.take_if(|live| live.link.nonce == nonce) {
            for clone in self.clones.drain(..) {
                clone
                    .link
                    .end(Status::aborted("the other machine with this identity is gone; dial again"));
            }
            self.cloned = None;
            self.left_acting.clone_from(&first.acting);
            return Some((first, true));
        }
        let at = self.clones.iter().position(|live| live.link.nonce == nonce)?;
        let ended = self.clones.remove(at);
        if self.clones.is_empty() {
            self.cloned = None;
        }
        Some((ended, false))
    }

    pub fn is_first(&self, nonce: &str) -> bool {
        self.live.as_ref().is_some_and(|live| live.link.nonce == nonce)
    }

    fn host(&self) -> Host {
        let live = self.live.as_ref();
        let acting = live.map_or(&self.left_acting, |live| &live.acting);
        Host {
            name: self.record.name.clone(),
            labels: self.record.labels.clone(),
            facts: live.map_or_else(|| self.record.facts.clone(), |l| l.facts.clone()),
            connection: if live.is_some() { Connection::Connected } else { Connection::Lost },
            cleanliness: self.cleanliness(),
            availability: self.availability(),
            membership: self.record.membership,
            note: self.note(),
            catalogue_digest: live.map_or_else(|| self.record.catalogue_digest.clone(), |l| l.catalogue.digest.clone()),
            active_injections: u32::try_from(acting.len()).unwrap_or(u32::MAX),
            enrolled_at: self.record.enrolled_at,
            last_seen: live.map(|l| l.heard_at).or(self.last_seen),
            certificate_not_after: Some(self.record.certificate_not_after),
            source_address: live.map(|l| l.source_address.clone()),
            clock_offset_ms: live.and_then(|l| l.clock_offset_ms),
            authority: live.map_or_else(|| self.record.authority.clone(), |l| l.authority.clone()),
        }
    }

    /// A host that cannot be asked is never clean: what acted there may act still, and nobody knows what is left.
    fn cleanliness(&self) -> Cleanliness {
        match (self.record.cleanliness, &self.live) {
            (stored @ (Cleanliness::Dirty | Cleanliness::Unproven), _) => stored,
            (_, Some(live)) => live.cleanliness(),
            (_, None) if self.left_acting.is_empty() => Cleanliness::Unproven,
            (_, None) => Cleanliness::Faulted,
        }
    }

    fn availability(&self) -> Availability {
        if self.live.as_ref().is_some_and(|l| l.halted) {
            return Availability::Halted;
        }
        if self.record.cordoned.is_some() {
            Availability::Cordoned
        } else {
            Availability::Open
        }
    }

    fn note(&self) -> Option<String> {
        let residue = Some(self.record.residue.join("; ")).filter(|r| !r.is_empty());
        let locked = self.record.locked.as_ref().map(|reason| format!("locked: {reason}"));
        locked
            .or_else(|| self.cloned.clone())
            .or(residue)
            .or_else(|| self.record.cordoned.clone())
    }
}

/// Hosts by name. In boxes: a tree keeps room for entries that are not there.
#[derive(Default)]
pub(crate) struct Fleet(BTreeMap<HostName, Box<Entry>>);

impl Fleet {
    pub fn of(entries: impl Iterator<Item = Entry>) -> Self {
        Self(entries.map(|entry| (entry.record.name.clone(), Box::new(entry))).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, host: &HostName) -> Option<&Entry> {
        self.0.get(host).map(Box::as_ref)
    }

    /// For a change: what others see of the host is made anew.
    pub fn get_mut(&mut self, host: &HostName) -> Option<&mut Entry> {
        let entry = self.0.get_mut(host)?;
        entry.seen = None;
        Some(entry)
    }

    pub fn insert(&mut self, entry: Entry) {
        self.0.insert(entry.record.name.clone(), Box::new(entry));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HostName, &Entry)> {
        self.0.iter().map(|(name, entry)| (name, entry.as_ref()))
    }

    /// Every host that is not removed, as it is now. What has not changed since the last look is shared, not made again.
    pub fn hosts(&mut self) -> Vec<Arc<Host>> {
        let all = self.0.values_mut();
        all.filter(|entry| entry.record.membership != Membership::Removed)
            .map(|entry| entry.seen())
            .collect()
    }

    pub fn host(&mut self, host: &HostName) -> Option<Arc<Host>> {
        let entry = self.0.get_mut(host)?;
        (entry.record.membership != Membership::Removed).then(|| entry.seen())
    }

    pub fn link(&self, host: &HostName) -> Option<Link> {
        self.0.get(host).and_then(|e| e.live.as_ref()).map(|l| l.link.clone())
    }

    /// Every session of this name, clones included.
    pub fn links(&self, host: &HostName) -> Vec<Link> {
        let entry = self.get(host);
        entry.into_iter().flat_map(Entry::sessions).map(|live| live.link.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proto_model::catalogue::Catalogue;

    use super::*;
    use crate::catalogues::Catalogues;

    fn entry(name: &str) -> Entry {
        Entry::new(HostRecord {
            name: HostName::parse(name).unwrap(),
            labels: BTreeMap::new(),
            operator_labels: BTreeSet::new(),
            facts: Arc::default(),
            catalogue_digest: String::new(),
            membership: Membership::Enrolled,
            cordoned: None,
            locked: None,
            cleanliness: Cleanliness::Clean,
            residue: Vec::new(),
            key_fingerprint: String::new(),
            certificate_not_after: Timestamp(0),
            authority: Default::default(),
            enrolled_at: Timestamp(0),
            machine_since: Timestamp(0),
            last_boot_id: String::new(),
        })
    }

    fn live(acting: &[&InjectionId]) -> Live {
        Live {
            link: Link::new("n".into(), Arc::default()).0,
            instance: String::new(),
            boot_id: String::new(),
            agent_version: String::new(),
            facts: Arc::default(),
            catalogue: Catalogues::default().stored(Catalogue(Vec::new())),
            source_address: String::new(),
            cleanliness: Cleanliness::Clean,
            halted: false,
            acting: acting.iter().map(|id| (*id).clone()).collect(),
            heard_at: Timestamp(7),
            store_epoch: 1,
            clock_offset_ms: None,
            authority: HostAuthority::default(),
        }
    }

    #[test]
    fn a_lost_host_is_never_clean_and_keeps_what_acted_there() {
        let shown = |entry: &Entry| {
            let host = entry.host();
            (host.connection, host.cleanliness, host.active_injections)
        };
        let mut entry = entry("web");
        assert_eq!(
            shown(&entry),
            (Connection::Lost, Cleanliness::Unproven, 0),
            "nobody has asked it yet"
        );
        let [first, second] = [InjectionId::generate(), InjectionId::generate()];
        entry.live = Some(live(&[&first, &second]));
        assert_eq!(shown(&entry), (Connection::Connected, Cleanliness::Faulted, 2));
        entry.over("n").unwrap();
        assert_eq!(shown(&entry), (Connection::Lost, Cleanliness::Faulted, 2));
        entry.live = Some(live(&[]));
        assert_eq!(shown(&entry), (Connection::Connected, Cleanliness::Clean, 0));
        entry.over("n").unwrap();
        assert_eq!(shown(&entry), (Connection::Lost, Cleanliness::Unproven, 0));
        entry.record.cleanliness = Cleanliness::Dirty;
        assert_eq!(entry.host().cleanliness, Cleanliness::Dirty, "what is stored is worse");
    }

    #[test]
    fn two_looks_share_what_did_not_change_between_them() {
        let mut fleet = Fleet::of(["cache", "web"].map(entry).into_iter());
        let first = fleet.hosts();
        let web = first[1].name.clone();
        fleet.get_mut(&web).unwrap().record.cordoned = Some("disk swap".into());
        let second = fleet.hosts();
        assert!(Arc::ptr_eq(&first[0], &second[0]), "nothing of cache changed");
        assert_eq!(
            (first[1].availability, second[1].availability),
            (Availability::Open, Availability::Cordoned)
        );
        assert!(Arc::ptr_eq(&second[1], &fleet.host(&web).unwrap()));
        fleet.get_mut(&web).unwrap().record.membership = Membership::Removed;
        assert!(fleet.host(&web).is_none() && fleet.hosts().len() == 1);
    }
}
