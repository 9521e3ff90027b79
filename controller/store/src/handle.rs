//! A clonable, asynchronous face of a store that lives on one thread of its own. It keeps nothing and retries nothing.
//!
//! A call that was accepted is carried out even when its caller stops waiting. There is no time limit in here: a write
//! whose fate is unknown must not be called failed, and a caller that is stuck lets its leases run out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proto_model::event::{Event, NewEvent};
use proto_model::id::RunId;
use proto_model::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::records::StoreError;
use crate::store::Store;

/// Calls that may wait for the store's thread before callers are held back.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut dyn Store) + Send>;
/// A look at the store at a moment: what forbids a deed then, if anything does.
pub type LastLook<E> = Box<dyn FnOnce(&mut dyn Store, Timestamp) -> Result<Option<E>, StoreError> + Send>;

/// The way to a store from asynchronous code: `call`, and nothing else. The store is dropped, and its thread ends, with the last handle.
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
}

/// Looks, and appends what nothing forbids: inside one call nobody's change comes between the two.
pub fn append_unless<E>(
    store: &mut dyn Store,
    run: &RunId,
    events: Vec<NewEvent>,
    at: Timestamp,
    look: LastLook<E>,
) -> Result<Result<Vec<Event>, E>, StoreError> {
    match look(store, at)? {
        Some(forbids) => Ok(Err(forbids)),
        None => store.append(run, events).map(Ok),
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
    use proto_model::halt::HaltState;

    use crate::MemoryStore;
    use crate::records::Actor;

    #[tokio::test]
    async fn calls_reach_the_store_from_any_clone() {
        let handle = StoreHandle::spawn(Box::new(MemoryStore::new()));
        let other = handle.clone();
        let halt = HaltState::released().engage("root@local", "test", Timestamp(1));
        let engaged = halt.clone();
        let actor = Actor {
            by: "root@local".into(),
            address: "local".into(),
        };
        handle.call(move |store| store.set_halt(&engaged, &actor)).await.unwrap();
        assert_eq!(other.call(|store| store.halt()).await.unwrap(), halt);
    }

    #[tokio::test]
    async fn a_panic_stops_the_store_for_everybody() {
        let handle = StoreHandle::spawn(Box::new(MemoryStore::new()));
        let broken = handle.call::<(), StoreError>(|_| panic!("a bug in the store")).await;
        assert!(matches!(broken, Err(StoreError::Stopped)));
        assert!(matches!(handle.clone().call(|store| store.epoch()).await, Err(StoreError::Stopped)));
    }
}
