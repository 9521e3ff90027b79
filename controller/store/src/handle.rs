//! A clonable, asynchronous face of a store that lives on one thread of its own. It keeps nothing and retries nothing.
//!
//! A call that was accepted is carried out even when its caller stops waiting. There is no time limit in here: a write
//! whose fate is unknown must not be called failed, and a caller that is stuck lets its leases run out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proto_model::event::{Event, FleetEvent, FleetEventBody, NewEvent};
use proto_model::evidence::Publication;
use proto_model::halt::HaltState;
use proto_model::id::{HostName, PlanDigest, RunId, TokenId};
use proto_model::plan::PlanView;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Actor, HostRecord, OperatorRecord, RunRow, Store, StoreError, TokenRecord};

/// Calls that may wait for the store's thread before callers are held back.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut dyn Store) + Send>;
/// A look at the store at a moment: what forbids a deed then, if anything does.
pub type LastLook<E> = Box<dyn FnOnce(&mut dyn Store, Timestamp) -> Result<Option<E>, StoreError> + Send>;

/// `Store`, method by method, as `async fn`. The store is dropped, and its thread ends, with the last handle.
#[derive(Clone)]
pub struct StoreHandle {
    jobs: mpsc::Sender<Job>,
}

impl StoreHandle {
    /// Moves the store to a thread of its own.
    pub fn spawn(store: Box<dyn Store>) -> Self {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("store".into());
        if let Err(error) = thread.spawn(move || serve(store, inbox)) {
            // The inbox is gone with the failed thread: every call answers `Stopped`.
            tracing::error!(%error, "could not start the store's thread");
        }
        Self { jobs }
    }

    /// Calls the store on its thread. Nothing else comes between what one call does, so that what it reads is still so when it writes.
    pub async fn call<T, E>(&self, work: impl FnOnce(&mut dyn Store) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let _ = answer.send(work(store));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    pub async fn append(&self, run: &RunId, events: Vec<NewEvent>) -> Result<Vec<Event>, StoreError> {
        let run = run.clone();
        self.call(move |store| store.append(&run, events)).await
    }

    /// Looks, and appends what nothing forbids: nobody's change comes between the two.
    pub async fn append_unless<E: Send + 'static>(
        &self,
        run: &RunId,
        events: Vec<NewEvent>,
        at: Timestamp,
        look: LastLook<E>,
    ) -> Result<Result<Vec<Event>, E>, StoreError> {
        let run = run.clone();
        self.call(move |store| match look(store, at)? {
            Some(forbids) => Ok(Err(forbids)),
            None => store.append(&run, events).map(Ok),
        })
        .await
    }

    pub async fn run_events(&self, run: &RunId, from_seq: u64) -> Result<Vec<Event>, StoreError> {
        let run = run.clone();
        self.call(move |store| store.run_events(&run, from_seq)).await
    }

    pub async fn runs(&self, limit: u32, unfinished_only: bool) -> Result<Vec<RunRow>, StoreError> {
        self.call(move |store| store.runs(limit, unfinished_only)).await
    }

    pub async fn find_run(&self, text: &str) -> Result<RunId, StoreError> {
        let text = text.to_owned();
        self.call(move |store| store.find_run(&text)).await
    }

    pub async fn run_by_key(&self, idempotency_key: &str) -> Result<Option<RunId>, StoreError> {
        let key = idempotency_key.to_owned();
        self.call(move |store| store.run_by_key(&key)).await
    }

    pub async fn save_plan(&self, plan: &PlanView) -> Result<(), StoreError> {
        let plan = plan.clone();
        self.call(move |store| store.save_plan(&plan)).await
    }

    pub async fn plan(&self, digest: &PlanDigest) -> Result<Option<PlanView>, StoreError> {
        let digest = digest.clone();
        self.call(move |store| store.plan(&digest)).await
    }

    pub async fn forget_plans(&self, made_before: Timestamp) -> Result<usize, StoreError> {
        self.call(move |store| store.forget_plans(made_before)).await
    }

    pub async fn hosts(&self) -> Result<Vec<HostRecord>, StoreError> {
        self.call(|store| store.hosts()).await
    }

    pub async fn host(&self, name: &HostName) -> Result<Option<HostRecord>, StoreError> {
        let name = name.clone();
        self.call(move |store| store.host(&name)).await
    }

    pub async fn put_host(&self, host: &HostRecord, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        let (host, actor) = (host.clone(), actor.clone());
        self.call(move |store| store.put_host(&host, event, &actor, at)).await
    }

    pub async fn add_token(&self, token: &TokenRecord, actor: &Actor) -> Result<(), StoreError> {
        let (token, actor) = (token.clone(), actor.clone());
        self.call(move |store| store.add_token(&token, &actor)).await
    }

    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.call(|store| store.tokens()).await
    }

    pub async fn spend_token(&self, id: &TokenId, secret: &str, now: Timestamp) -> Result<TokenRecord, StoreError> {
        let (id, secret) = (id.clone(), secret.to_owned());
        self.call(move |store| store.spend_token(&id, &secret, now)).await
    }

    pub async fn revoke_token(&self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<TokenRecord, StoreError> {
        let (id, actor) = (id.clone(), actor.clone());
        self.call(move |store| store.revoke_token(&id, &actor, now)).await
    }

    pub async fn add_operator(&self, operator: &OperatorRecord, actor: &Actor) -> Result<(), StoreError> {
        let (operator, actor) = (operator.clone(), actor.clone());
        self.call(move |store| store.add_operator(&operator, &actor)).await
    }

    pub async fn operators(&self) -> Result<Vec<OperatorRecord>, StoreError> {
        self.call(|store| store.operators()).await
    }

    pub async fn revoke_operator(&self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<OperatorRecord, StoreError> {
        let (id, actor) = (id.clone(), actor.clone());
        self.call(move |store| store.revoke_operator(&id, &actor, now)).await
    }

    pub async fn operator_used(&self, id: &TokenId, at: Timestamp) -> Result<(), StoreError> {
        let id = id.clone();
        self.call(move |store| store.operator_used(&id, at)).await
    }

    pub async fn fleet(&self, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        let actor = actor.clone();
        self.call(move |store| store.fleet(event, &actor, at)).await
    }

    pub async fn fleet_events(&self, limit: u32) -> Result<Vec<FleetEvent>, StoreError> {
        self.call(move |store| store.fleet_events(limit)).await
    }

    pub async fn services(&self) -> Result<Vec<ServiceRecord>, StoreError> {
        self.call(|store| store.services()).await
    }

    pub async fn put_service(&self, service: &ServiceRecord, actor: &Actor) -> Result<(), StoreError> {
        let (service, actor) = (service.clone(), actor.clone());
        self.call(move |store| store.put_service(&service, &actor)).await
    }

    pub async fn remove_service(&self, name: &str, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        let (name, actor) = (name.to_owned(), actor.clone());
        self.call(move |store| store.remove_service(&name, &actor, at)).await
    }

    pub async fn publications(&self) -> Result<Vec<Publication>, StoreError> {
        self.call(|store| store.publications()).await
    }

    pub async fn add_publication(&self, publication: &Publication, actor: &Actor) -> Result<(), StoreError> {
        let (publication, actor) = (publication.clone(), actor.clone());
        self.call(move |store| store.add_publication(&publication, &actor)).await
    }

    pub async fn halt(&self) -> Result<HaltState, StoreError> {
        self.call(|store| store.halt()).await
    }

    pub async fn set_halt(&self, halt: &HaltState, actor: &Actor) -> Result<(), StoreError> {
        let (halt, actor) = (halt.clone(), actor.clone());
        self.call(move |store| store.set_halt(&halt, &actor)).await
    }

    pub async fn epoch(&self) -> Result<u64, StoreError> {
        self.call(|store| store.epoch()).await
    }
}

/// Carries out calls in their order until the last handle is gone, or until one panics: what a panic left behind is
/// not to be trusted, so the store stops and says so to everybody.
fn serve(mut store: Box<dyn Store>, mut inbox: mpsc::Receiver<Job>) {
    while let Some(job) = inbox.blocking_recv() {
        if catch_unwind(AssertUnwindSafe(|| job(store.as_mut()))).is_err() {
            tracing::error!("the store panicked and has stopped");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn calls_reach_the_store_from_any_clone() {
        let handle = StoreHandle::spawn(Box::new(MemoryStore::new()));
        let other = handle.clone();
        let halt = HaltState::released().engage("root@local", "test", Timestamp(1));
        let actor = Actor {
            by: "root@local".into(),
            address: "local".into(),
        };
        handle.set_halt(&halt, &actor).await.unwrap();
        assert_eq!(other.halt().await.unwrap(), halt);
    }

    #[tokio::test]
    async fn a_panic_stops_the_store_for_everybody() {
        let handle = StoreHandle::spawn(Box::new(MemoryStore::new()));
        let broken = handle.call::<(), StoreError>(|_| panic!("a bug in the store")).await;
        assert!(matches!(broken, Err(StoreError::Stopped)));
        assert!(matches!(handle.clone().epoch().await, Err(StoreError::Stopped)));
    }
}
