//! The dispatcher as a whole: its parts, and the services that agents call.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use controller_conductor::HostEvent;
use controller_store::{Actor, HostRecord, StoreError, StoreHandle};
use proto_model::event::FleetEventBody;
use proto_model::halt::HaltState;
use proto_model::host::Membership;
use proto_model::id::{HostName, InjectionId};
use proto_model::time::Timestamp;
use proto_transport::{Authority, MAX_MESSAGE};
use proto_wire::v1::agents_server::AgentsServer;
use proto_wire::v1::enrolment_server::EnrolmentServer;
use tokio::sync::{Notify, Semaphore, mpsc};
use tonic::Status;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use crate::catalogues::Catalogues;
use crate::enrolment::{NameLocks, must_be_host};
use crate::fleet::{Entry, Fleet};
use crate::latch::HaltLatch;
use crate::link::Epochs;
use crate::rate::{GuessLimiter, Rate};
use crate::settings::{DispatcherSettings, ENROLMENTS_AT_ONCE, MAX_ENROL_REQUEST, SESSIONS};
use crate::tokens::TokenCache;

/// How often a record is stored again because somebody changed it meanwhile.
const STORED_AGAIN: usize = 5;

/// How long after a write of ours somebody else's may have missed it.
const OVERTAKEN_MS: u64 = 10_000;

/// What hosts cause from the first, what people cause from the second.
fn merged(own: HostRecord, theirs: &HostRecord) -> HostRecord {
    HostRecord {
        labels: theirs.labels.clone(),
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
        catalogue_digest: record.catalogue.digest(),
    }
}

/// What a dispatcher is made of.
pub struct DispatcherParts {
    pub store: StoreHandle,
    pub authority: Arc<Authority>,
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
    /// Rung when a host has answered a halt.
    pub halt_heard: Notify,
    /// Enrolments that are being carried out; others wait.
    pub enrolling: Semaphore,
    /// Names that are being enrolled: one at a time each, so that a name is never given twice.
    pub names: NameLocks,
}

impl Dispatcher {
    /// With the hosts that the store knows, none of them connected yet.
    pub async fn new(parts: DispatcherParts) -> Result<Self, StoreError> {
        let epochs = Arc::new(Epochs::default());
        epochs.store.store(parts.store.epoch().await?, Ordering::SeqCst);
        epochs.halt.store(parts.latch.get().epoch, Ordering::SeqCst);
        let hosts = parts
            .store
            .hosts()
            .await?
            .into_iter()
            .map(|record| (record.name.clone(), Entry::new(record)))
            .collect();
        Ok(Self(Arc::new(Inner {
            parts,
            fleet: Mutex::new(Fleet(hosts)),
            catalogues: Catalogues::default(),
            epochs,
            guesses: GuessLimiter::default(),
            tokens: TokenCache::default(),
            sessions: Rate::of(SESSIONS),
            dropped: AtomicU64::new(0),
            halt_heard: Notify::new(),
            enrolling: Semaphore::new(ENROLMENTS_AT_ONCE),
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
        self.fleet().0.get(host).map(|entry| entry.record.clone())
    }

    /// To the store first, then into memory. Of a host that is known, only what hosts themselves cause is taken: labels, cordon and
    /// cleanliness may have been changed by people in the meantime.
    pub(crate) async fn put(&self, record: HostRecord, event: FleetEventBody, by: &str, address: &str) -> Result<(), StoreError> {
        let actor = Actor {
            by: by.to_owned(),
            address: address.to_owned(),
        };
        let mut record = record;
        for _ in 0..STORED_AGAIN {
            self.0.parts.store.put_host(&record, event.clone(), &actor, self.now()).await?;
            let kept = self.kept(record.clone());
            if kept == record {
                return Ok(());
            }
            // What people set meanwhile must not be lost to this write.
            record = kept;
        }
        Err(StoreError::Refused(format!("save host {}: it changes all the time", record.name)))
    }

    /// Takes a stored record into memory; returns what is in memory then.
    fn kept(&self, record: HostRecord) -> HostRecord {
        let (mut fleet, now) = (self.fleet(), self.now());
        let Some(entry) = fleet.0.get_mut(&record.name) else {
            fleet.0.insert(record.name.clone(), Entry::new(record.clone()));
            return record;
        };
        if entry.record.enrolled_at == record.enrolled_at {
            entry.record = merged(record, &entry.record);
            entry.stored_at = Some(now);
        } else {
            let (membership, locked) = (entry.record.membership, entry.record.locked.clone());
            entry.record = record;
            // Joining again does not open a lock that came in the midst of it.
            if membership == Membership::Locked {
                (entry.record.membership, entry.record.locked) = (membership, locked);
            }
        }
        entry.record.clone()
    }

    /// Somebody else has stored this record. A locked or removed host is cut off at once.
    pub(crate) fn refreshed(&self, record: HostRecord) {
        let (name, now) = (record.name.clone(), self.now());
        let mut fleet = self.fleet();
        let Some(entry) = fleet.0.get_mut(&name) else { return };
        let kept = merged(entry.record.clone(), &record);
        // Our own write may have been overtaken by theirs, or theirs by ours.
        let overtaken = entry.stored_at.is_some_and(|at| now.since(at) < OVERTAKEN_MS);
        entry.record = kept.clone();
        if kept.membership != Membership::Enrolled {
            let why = barred(&kept).message().to_owned();
            entry.sessions().for_each(|live| live.link.end(Status::permission_denied(&why)));
        }
        drop(fleet);
        if overtaken {
            let this = self.clone();
            tokio::spawn(async move { this.store_again(kept).await });
        }
    }

    async fn store_again(&self, record: HostRecord) {
        let event = described(&record);
        if let Err(error) = self.put(record, event, "controller", "").await {
            tracing::error!(error = %error, "a host's record could not be stored again");
        }
    }
}
