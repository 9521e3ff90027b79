//! The store on SQLite: one file, one writer, every commit on disk before it is answered. It never repairs a damaged file.

mod block;
mod cadence;
mod catalogues;
mod codec;
mod compact;
mod evidence;
mod finished;
mod log;
mod months;
mod open;
mod operators;
mod plans;
mod registry;
mod summaries;
mod transaction;

use std::path::Path;

use proto_model::catalogue::Catalogue;
use proto_model::event::{Event, FleetEvent, FleetEventBody, NewEvent};
use proto_model::evidence::Publication;
use proto_model::halt::HaltState;
use proto_model::id::{HostName, PlanDigest, RunId, TokenId};
use proto_model::plan::PlanView;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;

pub use transaction::SqliteStore;

use crate::records::{Actor, HostRecord, OperatorRecord, RunRow, StoreError, TokenRecord};
use crate::store::Store;

impl SqliteStore {
    /// Opens or makes the store, checks it, brings its schema up to date, and counts the opening.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        open::open(path.as_ref())
    }

    /// As `append` for each of many runs, in one transaction: for those who make a history at once.
    pub fn append_all(&mut self, runs: Vec<(RunId, Vec<NewEvent>)>) -> Result<Vec<Vec<Event>>, StoreError> {
        self.deed("append events of many runs", |t| {
            runs.into_iter().map(|(run, events)| log::append(t, &run, events)).collect()
        })
    }
}

impl Store for SqliteStore {
    fn append(&mut self, run: &RunId, events: Vec<NewEvent>) -> Result<Vec<Event>, StoreError> {
        self.deed("append events", |t| log::append(t, run, events))
    }

    fn run_events(&mut self, run: &RunId, from_seq: u64) -> Result<Vec<Event>, StoreError> {
        self.look("read a run's events", |t| log::run_events(t, run, from_seq))
    }

    fn compact(&mut self, text: usize) -> Result<usize, StoreError> {
        self.compact_step(text)
    }

    fn runs(&mut self, limit: u32, unfinished_only: bool) -> Result<Vec<RunRow>, StoreError> {
        self.look("list runs", |t| log::runs(t, limit, unfinished_only))
    }

    fn find_run(&mut self, text: &str) -> Result<RunId, StoreError> {
        self.look("find a run", |t| log::find_run(t, text))
    }

    fn run_by_key(&mut self, idempotency_key: &str) -> Result<Option<RunId>, StoreError> {
        self.look("find a run by its key", |t| log::run_by_key(t, idempotency_key))
    }

    fn save_plan(&mut self, plan: &PlanView) -> Result<(), StoreError> {
        self.deed("save a plan", |t| plans::save_plan(t, plan))
    }

    fn plan(&mut self, digest: &PlanDigest) -> Result<Option<PlanView>, StoreError> {
        self.look("read a plan", |t| plans::plan(t, digest))
    }

    fn forget_plans(&mut self, made_before: Timestamp) -> Result<usize, StoreError> {
        self.deed("forget plans", |t| plans::forget_plans(t, made_before))
    }

    fn hosts(&mut self) -> Result<Vec<HostRecord>, StoreError> {
        self.look("list hosts", registry::hosts)
    }

    fn catalogues(&mut self) -> Result<Vec<Catalogue>, StoreError> {
        self.look("list catalogues", catalogues::all)
    }

    fn put_catalogue(&mut self, catalogue: &Catalogue) -> Result<(), StoreError> {
        self.deed("save a catalogue", |t| catalogues::put(t, catalogue))
    }

    fn host(&mut self, name: &HostName) -> Result<Option<HostRecord>, StoreError> {
        self.look("read a host", |t| registry::host(t, name))
    }

    fn put_host(&mut self, host: &HostRecord, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        self.deed("save a host", |t| {
            registry::put_host(t, host)?;
            log::fleet(t, &event, actor, at)
        })
    }

    fn add_token(&mut self, token: &TokenRecord, actor: &Actor) -> Result<(), StoreError> {
        self.deed("add a token", |t| registry::add_token(t, token, actor))
    }

    fn tokens(&mut self) -> Result<Vec<TokenRecord>, StoreError> {
        self.look("list tokens", registry::tokens)
    }

    fn spend_token(&mut self, id: &TokenId, secret: &str, now: Timestamp) -> Result<TokenRecord, StoreError> {
        self.deed("spend a token", |t| registry::spend_token(t, id, secret, now))
    }

    fn revoke_token(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<TokenRecord, StoreError> {
        self.deed("revoke a token", |t| registry::revoke_token(t, id, actor, now))
    }

    fn add_operator(&mut self, operator: &OperatorRecord, actor: &Actor) -> Result<(), StoreError> {
        self.deed("add an operator's token", |t| operators::add(t, operator, actor))
    }

    fn operators(&mut self) -> Result<Vec<OperatorRecord>, StoreError> {
        self.look("list operators' tokens", operators::all)
    }

    fn revoke_operator(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<OperatorRecord, StoreError> {
        self.deed("revoke an operator's token", |t| operators::revoke(t, id, actor, now))
    }

    fn operator_used(&mut self, id: &TokenId, at: Timestamp) -> Result<(), StoreError> {
        self.deed("note the use of an operator's token", |t| operators::used(t, id, at))
    }

    fn fleet(&mut self, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        self.deed("write the fleet log", |t| log::fleet(t, &event, actor, at))
    }

    fn fleet_events(&mut self, limit: u32) -> Result<Vec<FleetEvent>, StoreError> {
        self.look("read the fleet log", |t| log::fleet_events(t, limit))
    }

    fn services(&mut self) -> Result<Vec<ServiceRecord>, StoreError> {
        self.look("list services", evidence::services)
    }

    fn put_service(&mut self, service: &ServiceRecord, actor: &Actor) -> Result<(), StoreError> {
        self.deed("save a service", |t| evidence::put_service(t, service, actor))
    }

    fn remove_service(&mut self, name: &str, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        self.deed("remove a service", |t| evidence::remove_service(t, name, actor, at))
    }

    fn publications(&mut self) -> Result<Vec<Publication>, StoreError> {
        self.look("list publications", evidence::publications)
    }

    fn add_publication(&mut self, publication: &Publication, actor: &Actor) -> Result<(), StoreError> {
        self.deed("record a publication", |t| evidence::add_publication(t, publication, actor))
    }

    fn halt(&mut self) -> Result<HaltState, StoreError> {
        self.look("read the halt", registry::halt)
    }

    fn set_halt(&mut self, halt: &HaltState, actor: &Actor) -> Result<(), StoreError> {
        self.deed("record the halt", |t| registry::set_halt(t, halt, actor))
    }

    fn epoch(&mut self) -> Result<u64, StoreError> {
        Ok(self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let made = std::cell::Cell::new(0);
        contract::run(|| {
            made.set(made.get() + 1);
            Box::new(SqliteStore::open(root.path().join(format!("{}.db", made.get()))).unwrap())
        });
    }

    #[test]
    fn a_full_disk_is_an_error_and_nothing_of_the_write_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(root.path().join("store.db")).unwrap();
        let run = RunId::generate();
        store.append(&run, contract::notes(1, 10)).unwrap();
        let pages: u32 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.connection.pragma_update(None, "max_page_count", pages).unwrap();
        let error = store.append(&run, contract::notes(2_000, 1_000)).unwrap_err();
        assert!(matches!(error, StoreError::Backend { .. }), "{error}");
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(store.run_events(&run, 1).unwrap().len(), 1);
        store.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        assert_eq!(store.append(&run, contract::notes(1, 10)).unwrap()[0].seq, 2);
    }

    #[test]
    fn a_read_only_file_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(root.path().join("store.db")).unwrap();
        store.connection.pragma_update(None, "query_only", true).unwrap();
        let error = store.append(&RunId::generate(), contract::notes(1, 10)).unwrap_err();
        assert!(error.to_string().starts_with("append events"), "{error}");
    }

    #[test]
    fn commits_are_made_to_last() {
        let root = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(root.path().join("store.db")).unwrap();
        let word: String = store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(word, "wal");
        for (pragma, wanted) in [("synchronous", 2), ("foreign_keys", 1)] {
            let value: u32 = store.connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
            assert_eq!(value, wanted, "{pragma}");
        }
    }
}
