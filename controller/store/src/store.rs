//! What any store of Fracas must do; one contract suite tests every implementation. Events are the truth.

use proto_model::catalogue::Catalogue;
use proto_model::event::{Event, FleetEvent, FleetEventBody, NewEvent};
use proto_model::evidence::Publication;
use proto_model::halt::HaltState;
use proto_model::id::{HostName, PlanDigest, RunId, TokenId};
use proto_model::plan::PlanView;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;

use crate::cadence::Cadence;
use crate::finished::Finished;
use crate::records::{Actor, HostRecord, OperatorRecord, RunRow, StoreError, TokenRecord};
use crate::summaries::Summaries;

/// Every method is one transaction: on disk when it returns, or nothing.
pub trait Store: Send + Cadence + Finished + Summaries {
    /// Appends with dense numbers; the first append of a run makes it. A fact already stored for the same
    /// (injection, boot, agent_seq) is left out of the answer and not stored twice.
    fn append(&mut self, run: &RunId, events: Vec<NewEvent>) -> Result<Vec<Event>, StoreError>;
    /// Events with seq >= `from_seq`, in order.
    fn run_events(&mut self, run: &RunId, from_seq: u64) -> Result<Vec<Event>, StoreError>;
    /// Makes the store smaller and changes no answer: packs about so many bytes of the events of finished runs that are not outdated.
    /// Returns of how many runs; 0 when nothing is left to do for now.
    fn compact(&mut self, text: usize) -> Result<usize, StoreError>;
    /// Newest first.
    fn runs(&mut self, limit: u32, unfinished_only: bool) -> Result<Vec<RunRow>, StoreError>;
    /// An id, a unique prefix of 6 or more, or `@last`.
    fn find_run(&mut self, text: &str) -> Result<RunId, StoreError>;
    /// The run accepted under this key, if any.
    fn run_by_key(&mut self, idempotency_key: &str) -> Result<Option<RunId>, StoreError>;

    fn save_plan(&mut self, plan: &PlanView) -> Result<(), StoreError>;
    fn plan(&mut self, digest: &PlanDigest) -> Result<Option<PlanView>, StoreError>;
    /// Forgets the plans that were made before then and that no run used; what a run used stays. Returns how many.
    fn forget_plans(&mut self, made_before: Timestamp) -> Result<usize, StoreError>;

    fn hosts(&mut self) -> Result<Vec<HostRecord>, StoreError>;
    /// Those that hosts have, by their digests.
    fn catalogues(&mut self) -> Result<Vec<Catalogue>, StoreError>;
    /// Kept until the last host that has it has another one; store the host next.
    fn put_catalogue(&mut self, catalogue: &Catalogue) -> Result<(), StoreError>;
    fn host(&mut self, name: &HostName) -> Result<Option<HostRecord>, StoreError>;
    /// Inserts or replaces, together with its fleet event.
    fn put_host(&mut self, host: &HostRecord, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError>;

    fn add_token(&mut self, token: &TokenRecord, actor: &Actor) -> Result<(), StoreError>;
    fn tokens(&mut self) -> Result<Vec<TokenRecord>, StoreError>;
    /// Checks the secret in constant time, the expiry, the revocation and the count, and takes one use.
    fn spend_token(&mut self, id: &TokenId, secret: &str, now: Timestamp) -> Result<TokenRecord, StoreError>;
    fn revoke_token(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<TokenRecord, StoreError>;

    fn add_operator(&mut self, operator: &OperatorRecord, actor: &Actor) -> Result<(), StoreError>;
    fn operators(&mut self) -> Result<Vec<OperatorRecord>, StoreError>;
    fn revoke_operator(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<OperatorRecord, StoreError>;
    /// Remembers that the token was used; an unknown one changes nothing.
    fn operator_used(&mut self, id: &TokenId, at: Timestamp) -> Result<(), StoreError>;

    fn fleet(&mut self, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError>;
    /// Newest last, at most `limit` from the end.
    fn fleet_events(&mut self, limit: u32) -> Result<Vec<FleetEvent>, StoreError>;

    /// In the order of their names.
    fn services(&mut self) -> Result<Vec<ServiceRecord>, StoreError>;
    /// Inserts or replaces.
    fn put_service(&mut self, service: &ServiceRecord, actor: &Actor) -> Result<(), StoreError>;
    /// Its runs and publications stay.
    fn remove_service(&mut self, name: &str, actor: &Actor, at: Timestamp) -> Result<(), StoreError>;
    /// In the order they were made.
    fn publications(&mut self) -> Result<Vec<Publication>, StoreError>;
    fn add_publication(&mut self, publication: &Publication, actor: &Actor) -> Result<(), StoreError>;

    fn halt(&mut self) -> Result<HaltState, StoreError>;
    fn set_halt(&mut self, halt: &HaltState, actor: &Actor) -> Result<(), StoreError>;

    /// The time of this opening, and later than every one before: hosts refuse what an earlier opening orders. A restored copy
    /// cannot repeat one that was given out after it was made.
    fn epoch(&mut self) -> Result<u64, StoreError>;
}
