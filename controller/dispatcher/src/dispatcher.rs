//! The dispatcher as a whole: its parts, and the services that agents call.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use controller_conductor::HostEvent;
use controller_store::{Actor, HostRecord, Store, StoreError, StoreHandle};
use proto_model::event::FleetEventBody;
use proto_model::halt::HaltState;
use proto_model::host::Membership;
use proto_model::id::{HostName, InjectionId};
use proto_model::time::Timestamp;
use proto_transport::{Authorities, MAX_MESSAGE};
use proto_wire::v1::agents_server::AgentsServer;
use proto_wire::v1::enrolment_server::EnrolmentServer;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tonic::Status;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use crate::catalogues::{Catalogues, KnownCatalogue};
use crate::fleet::{Entry, Fleet};
use crate::latch::HaltLatch;
use crate::link::Epochs;
use crate::name_locks::NameLocks;
use crate::peer::must_be_host;
use crate::rate::{GuessLimiter, Rate};
use crate::settings::{ANSWERS_AT_ONCE, DispatcherSettings, ENROLMENTS_AT_ONCE, HALT_ANSWERS, MAX_ENROL_REQUEST, SESSIONS};
use crate::tokens::TokenCache;

/// A record that follows the stored one: what hosts cause from the first, what people cause from the second. Joining anew sets everything,
/// and does not open a lock.
fn succeeding(own: HostRecord, theirs: &HostRecord) -> HostRecord {
    if own.enrolled_at != theirs.enrolled_at {
        let locked = theirs.membership == Membership::Locked;
        return HostRecord {
            membership: if locked { theirs.membership } else { own.membership },
            locked: theirs.locked.clone().filter(|_| locked),
            ..own
        };
    }
    HostRecord {
        labels: theirs.labels.clone(),
        operator_labels: theirs.operator_labels.clone(),
        membership: theirs.membership,
        cordoned: theirs.cordoned.clone(),
        locked: theirs.locked.clone(),
        cleanliness: theirs.cleanliness,
        residue: theirs.residue.clone(),
        ..own
    }
}

/// Why a host that is locked or removed gets nothing.
pub(crate) fn barred(record: &HostRecord) -> Status {
    Status::permission_denied(match &record.locked {
        Some(reason) => format!("host {} is locked: {reason}", record.name),
        None => format!("host {} is {:?}", record.name, record.membership).to_lowercase(),
    })
}

pub(crate) fn described(record: &HostRecord) -> FleetEventBody {
    FleetEventBody::HostDescribed {
        host: record.name.clone(),
        agent_version: record.facts.agent_version.clone(),
        boot_id: record.last_boot_id.clone(),
        catalogue_digest: record.catalogue_digest.clone(),
    }
}

/// What a dispatcher is made of.
pub struct DispatcherParts {
    pub store: StoreHandle,
    pub authorities: Arc<Authorities>,
    pub latch: Arc<HaltLatch>,
    /// Everything hosts say without being asked. Ends of injections wait for room; observations do not.
    pub said: mpsc::Sender<HostEvent>,
    /// Injections that a run of this controller answers for; others are stopped where they are found.
    pub known: Arc<Mutex<BTreeSet<InjectionId>>>,
    pub settings: DispatcherSettings,
    pub now: fn() -> Timestamp,
}

#[derive(Clone)]
pub struct Dispatcher(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub parts: DispatcherParts,
    pub fleet: Mutex<Fleet>,
    pub catalogues: Catalogues,
    pub epochs: Arc<Epochs>,
    pub guesses: GuessLimiter,
    pub tokens: TokenCache,
    pub sessions: Rate,
    /// Observations and samples that found no room.
    pub dropped: AtomicU64,
    /// Who has answered a halt or a release of which epoch.
    pub halt_heard: broadcast::Sender<(HostName, u64)>,
    /// Held from reading or writing a record until memory has it, so that memory never goes back.
    pub refreshing: tokio::sync::Mutex<()>,
    /// Enrolments that are being carried out; others wait.
    pub enrolling: Semaphore,
    /// Preflights that are awaited; others are not asked yet.
    pub preflights: Semaphore,
    /// Proofs that are awaited, likewise, so that no preflight keeps a run from its proof.
    pub proofs: Semaphore,
    /// Names that are being enrolled: one at a time each, so that a name is never given twice.
    pub names: NameLocks,
}

impl Dispatcher {
    /// With the hosts that the store knows, none of them connected yet.
    pub async fn new(parts: DispatcherParts) -> Result<Self, StoreError> {
        let epochs = Arc::new(Epochs::default());
        epochs.store.store(parts.store.call(|store| store.epoch()).await?, Ordering::SeqCst);
        epochs.halt.store(parts.latch.get().epoch, Ordering::SeqCst);
        let catalogues = Catalogues::default();
        let stored = parts.store.call(|store| store.catalogues()).await?;
        let known: Vec<_> = stored.into_iter().map(|catalogue| catalogues.stored(catalogue)).collect();
        let hosts = parts.store.call(|store| store.hosts()).await?.into_iter().map(|record| {
            let catalogue = known.iter().find(|one| one.digest == record.catalogue_digest).cloned();
            Entry::with_catalogue(record, catalogue)
        });
        let fleet = Mutex::new(Fleet::of(hosts));
        Ok(Self(Arc::new(Inner {
            parts,
            fleet,
            catalogues,
            epochs,
            guesses: GuessLimiter::default(),
            tokens: TokenCache::default(),
            sessions: Rate::of(SESSIONS),
            dropped: AtomicU64::new(0),
            halt_heard: broadcast::Sender::new(HALT_ANSWERS),
            refreshing: tokio::sync::Mutex::default(),
            enrolling: Semaphore::new(ENROLMENTS_AT_ONCE),
            preflights: Semaphore::new(ANSWERS_AT_ONCE),
            proofs: Semaphore::new(ANSWERS_AT_ONCE),
            names: NameLocks::default(),
        })))
    }

    /// What agents call.
    pub fn routes(&self) -> Routes {
        let agents = AgentsServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let enrolment = EnrolmentServer::new(self.clone()).max_decoding_message_size(MAX_ENROL_REQUEST);
        // Before a byte of the message is read.
        Routes::new(InterceptedService::new(agents, must_be_host)).add_service(enrolment)
    }

    /// Observations and samples dropped so far because nobody took them in time. Ends are never among them.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.0.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0.parts.now)()
    }

    pub(crate) fn halt_state(&self) -> HaltState {
        self.0.parts.latch.get()
    }

    pub(crate) fn knows(&self, injection: &InjectionId) -> bool {
        self.0
            .parts
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(injection)
    }

    pub(crate) fn record_of(&self, host: &HostName) -> Option<HostRecord> {
        self.fleet().get(host).map(|entry| entry.record.clone())
    }

    /// Takes a host in that joins: to the store first, then into memory.
    pub(crate) async fn put(&self, record: HostRecord, event: FleetEventBody, address: &str) -> Result<(), StoreError> {
        self.store_host(record, None, event, address, true).await
    }

    /// Stores what a host says of itself, and the catalogue that it names. Only what hosts themselves cause is taken: labels, cordon and
    /// cleanliness may have been changed by people in the meantime; and nothing where another machine has joined by this name.
    pub(crate) async fn update(
        &self,
        record: HostRecord,
        catalogue: Option<Arc<KnownCatalogue>>,
        event: FleetEventBody,
        address: &str,
    ) -> Result<(), StoreError> {
        self.store_host(record, catalogue, event, address, false).await
    }

    async fn store_host(
        &self,
        record: HostRecord,
        catalogue: Option<Arc<KnownCatalogue>>,
        event: FleetEventBody,
        address: &str,
        joins: bool,
    ) -> Result<(), StoreError> {
        let actor = Actor {
            by: record.name.to_string(),
            address: address.to_owned(),
        };
        let now = self.now();
        // Read and written in one call, so that no change of an operator's comes between.
        let put = move |store: &mut dyn Store| -> Result<HostRecord, StoreError> {
            let record = match store.host(&record.name)? {
                Some(stored) if !joins && stored.enrolled_at != record.enrolled_at => return Ok(stored),
                Some(stored) => succeeding(record, &stored),
                None => record,
            };
            if let Some(catalogue) = catalogue {
                store.put_catalogue(&catalogue.catalogue)?;
            }
            store.put_host(&record, event, &actor, now)?;
            Ok(record)
        };
        let _turn = self.0.refreshing.lock().await;
        let stored = self.0.parts.store.call(put).await?;
        self.take(stored);
        Ok(())
    }

    /// Reads what is stored of a host again, because others have changed it. A locked or removed host is cut off at once.
    pub(crate) async fn reread(&self, host: &HostName) {
        let _turn = self.0.refreshing.lock().await;
        let name = host.clone();
        match self.0.parts.store.call(move |store| store.host(&name)).await {
            Ok(Some(record)) => self.take(record),
            Ok(None) => tracing::warn!(%host, "a host that is not stored cannot be read again"),
            Err(error) => tracing::error!(%host, %error, "what is stored about a host could not be read again"),
        }
    }

    /// Takes a stored record into memory; sessions that it no longer allows end.
    pub(crate) fn take(&self, record: HostRecord) {
        let mut fleet = self.fleet();
        let Some(entry) = fleet.get_mut(&record.name) else {
            return fleet.insert(Entry::new(record));
        };
        let over = match record.membership {
            Membership::Enrolled if entry.record.key_fingerprint == record.key_fingerprint => None,
            Membership::Enrolled => Some(format!("another machine has taken the place of host {}", record.name)),
            _ => Some(barred(&record).message().to_owned()),
        };
        entry.record = record;
        if let Some(why) = over {
            entry.sessions().for_each(|live| live.link.end(Status::permission_denied(&why)));
        }
    }
}

#[cfg(test)]
mod tests {
    use controller_store::SqliteStore;
    use proto_transport::AUTHORITY_LIFE_MS;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    async fn dispatcher(folder: &std::path::Path) -> Dispatcher {
        let store = StoreHandle::spawn(Box::new(SqliteStore::open(folder.join("store.db")).unwrap()));
        let authorities = Authorities::open_or_create(&folder.join("authority"), AUTHORITY_LIFE_MS, NOW).unwrap();
        let parts = DispatcherParts {
            authorities: Arc::new(authorities),
            latch: Arc::new(HaltLatch::open(&folder.join("halted"), HaltState::released())),
            said: mpsc::channel(1).0,
            known: Arc::default(),
            settings: DispatcherSettings::default(),
            now: || NOW,
            store,
        };
        Dispatcher::new(parts).await.unwrap()
    }

    fn record(key: &str, enrolled_at: Timestamp) -> HostRecord {
        HostRecord {
            name: HostName::parse("web").unwrap(),
            labels: Default::default(),
            operator_labels: Default::default(),
            facts: Default::default(),
            catalogue_digest: String::new(),
            membership: Membership::Enrolled,
            cordoned: None,
            locked: None,
            cleanliness: proto_model::injection::Cleanliness::Clean,
            residue: Vec::new(),
            key_fingerprint: key.to_owned(),
            certificate_not_after: NOW,
            authority: Default::default(),
            enrolled_at,
            machine_since: enrolled_at,
            last_boot_id: String::new(),
        }
    }

    #[tokio::test]
    async fn what_a_replaced_machine_says_late_does_not_bring_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let dispatcher = dispatcher(folder.path()).await;
        let (old, new) = (record("old", NOW), record("new", NOW.plus_ms(1)));
        for joins in [&old, &new] {
            dispatcher.put(joins.clone(), described(joins), "10.0.0.1:1").await.unwrap();
        }
        // Copied before the other machine joined, and stored only now.
        let late = HostRecord {
            last_boot_id: "boot-2".to_owned(),
            ..old
        };
        dispatcher.update(late.clone(), None, described(&late), "10.0.0.1:1").await.unwrap();
        let name = late.name;
        let known = dispatcher.record_of(&name).unwrap();
        let stored = dispatcher.0.parts.store.call(move |store| store.host(&name)).await.unwrap();
        assert_eq!((known.key_fingerprint.as_str(), stored.as_ref()), ("new", Some(&known)));
    }
}
