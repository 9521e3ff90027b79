//! A store that forgets everything when it is dropped: for tests, held to the same contract as the real ones.

mod cadence;
mod finished;
mod held;
mod summaries;

use std::collections::BTreeSet;

use proto_model::catalogue::Catalogue;
use proto_model::event::{Event, FleetEvent, FleetEventBody, NewEvent};
use proto_model::evidence::Publication;
use proto_model::halt::HaltState;
use proto_model::id::{HostName, PlanDigest, RunId, TokenId};
use proto_model::plan::PlanView;
use proto_model::reading::Milestone;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;

pub use held::MemoryStore;

use crate::fact::{
    FactKey, LAST, created, halt_moves, judged_twice, no_operator, no_run, numbered, plan_of, revoked, run_prefix, the_only_run,
};
use crate::records::{Actor, HostRecord, OperatorRecord, RunRow, StoreError, TokenRecord, no_service};
use crate::secret::spend;
use crate::store::Store;

impl Store for MemoryStore {
    fn append(&mut self, run: &RunId, events: Vec<NewEvent>) -> Result<Vec<Event>, StoreError> {
        let Some(first) = events.first() else {
            return Ok(Vec::new());
        };
        let mut changed = self.opened(run, first)?;
        let (mut facts, mut stored) = (BTreeSet::new(), Vec::new());
        for event in events {
            if let Some(key) = FactKey::of(run, &event)
                && (self.facts.contains(&key) || !facts.insert(key))
            {
                continue;
            }
            if event.body.milestone() == Some(Milestone::Judged) && std::mem::replace(&mut changed.row.finished, true) {
                return Err(judged_twice(run));
            }
            let event = numbered(run, changed.events.len() as u64 + 1, event);
            changed.events.push(event.clone());
            stored.push(event);
        }
        self.facts.append(&mut facts);
        match self.run_at(run) {
            Some(at) => self.runs[at] = changed,
            None => self.runs.push(changed),
        }
        Ok(stored)
    }

    fn run_events(&mut self, run: &RunId, from_seq: u64) -> Result<Vec<Event>, StoreError> {
        let at = self.run_at(run).ok_or_else(|| no_run(run.as_str()))?;
        Ok(self.runs[at].events.iter().filter(|e| e.seq >= from_seq).cloned().collect())
    }

    fn compact(&mut self, _text: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn runs(&mut self, limit: u32, unfinished_only: bool) -> Result<Vec<RunRow>, StoreError> {
        let wanted = self.runs.iter().rev().filter(|run| !(unfinished_only && run.row.finished));
        Ok(wanted.take(limit as usize).map(|run| run.row.clone()).collect())
    }

    fn find_run(&mut self, text: &str) -> Result<RunId, StoreError> {
        if text.trim() == LAST {
            return self.runs.last().map(|run| run.row.id.clone()).ok_or_else(|| no_run(LAST));
        }
        let prefix = run_prefix(text)?;
        let ids = self.runs.iter().rev().map(|run| run.row.id.clone());
        the_only_run(prefix, ids.filter(|id| id.as_str().starts_with(prefix)).collect())
    }

    fn run_by_key(&mut self, idempotency_key: &str) -> Result<Option<RunId>, StoreError> {
        let run = self.runs.iter().find(|run| run.key.as_deref() == Some(idempotency_key));
        Ok(run.map(|run| run.row.id.clone()))
    }

    fn save_plan(&mut self, plan: &PlanView) -> Result<(), StoreError> {
        self.plans.insert(plan.digest.clone(), plan.clone());
        Ok(())
    }

    fn plan(&mut self, digest: &PlanDigest) -> Result<Option<PlanView>, StoreError> {
        Ok(self.plans.get(digest).cloned())
    }

    fn forget_plans(&mut self, made_before: Timestamp) -> Result<usize, StoreError> {
        let events = self.runs.iter().flat_map(|run| &run.events);
        let used: BTreeSet<&PlanDigest> = events.filter_map(|event| plan_of(&event.body)).collect();
        let before = self.plans.len();
        self.plans
            .retain(|digest, plan| plan.created_at >= made_before || used.contains(digest));
        Ok(before - self.plans.len())
    }

    fn hosts(&mut self) -> Result<Vec<HostRecord>, StoreError> {
        Ok(self.hosts.values().cloned().collect())
    }

    fn catalogues(&mut self) -> Result<Vec<Catalogue>, StoreError> {
        Ok(self.catalogues.values().cloned().collect())
    }

    fn put_catalogue(&mut self, catalogue: &Catalogue) -> Result<(), StoreError> {
        self.catalogues.insert(catalogue.digest(), catalogue.clone());
        Ok(())
    }

    fn host(&mut self, name: &HostName) -> Result<Option<HostRecord>, StoreError> {
        Ok(self.hosts.get(name).cloned())
    }

    fn put_host(&mut self, host: &HostRecord, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        self.hosts.insert(host.name.clone(), host.clone());
        let used: BTreeSet<&String> = self.hosts.values().map(|host| &host.catalogue_digest).collect();
        self.catalogues.retain(|digest, _| used.contains(digest));
        self.log(event, actor, at);
        Ok(())
    }

    fn add_token(&mut self, token: &TokenRecord, actor: &Actor) -> Result<(), StoreError> {
        if self.tokens.iter().any(|t| t.id == token.id) {
            return Err(StoreError::Refused(format!("add token {}: the id is taken", token.id)));
        }
        self.tokens.push(token.clone());
        let event = FleetEventBody::TokenCreated {
            id: token.id.to_string(),
            uses: token.uses,
            expires_at: token.expires_at,
        };
        self.log(event, actor, token.created_at);
        Ok(())
    }

    fn tokens(&mut self) -> Result<Vec<TokenRecord>, StoreError> {
        Ok(self.tokens.clone())
    }

    fn spend_token(&mut self, id: &TokenId, secret: &str, now: Timestamp) -> Result<TokenRecord, StoreError> {
        let at = self.tokens.iter().position(|t| &t.id == id);
        let spent = spend(at.map(|at| self.tokens[at].clone()), secret, now)?;
        if let Some(at) = at {
            self.tokens[at] = spent.clone();
        }
        Ok(spent)
    }

    fn revoke_token(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<TokenRecord, StoreError> {
        let token = self.tokens.iter_mut().find(|t| &t.id == id).ok_or_else(|| StoreError::NotFound {
            what: "token",
            name: id.to_string(),
        })?;
        let first = !std::mem::replace(&mut token.revoked, true);
        let revoked = token.clone();
        if first {
            self.log(FleetEventBody::TokenRevoked { id: id.to_string() }, actor, now);
        }
        Ok(revoked)
    }

    fn add_operator(&mut self, operator: &OperatorRecord, actor: &Actor) -> Result<(), StoreError> {
        if self.operators.iter().any(|o| o.id == operator.id) {
            return Err(StoreError::Refused(format!("add operator token {}: the id is taken", operator.id)));
        }
        self.operators.push(operator.clone());
        self.log(created(operator), actor, operator.created_at);
        Ok(())
    }

    fn operators(&mut self) -> Result<Vec<OperatorRecord>, StoreError> {
        Ok(self.operators.clone())
    }

    fn revoke_operator(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<OperatorRecord, StoreError> {
        let operator = self.operators.iter_mut().find(|o| &o.id == id).ok_or_else(|| no_operator(id))?;
        let first = !std::mem::replace(&mut operator.revoked, true);
        let operator = operator.clone();
        if first {
            self.log(revoked(&operator), actor, now);
        }
        Ok(operator)
    }

    fn operator_used(&mut self, id: &TokenId, at: Timestamp) -> Result<(), StoreError> {
        if let Some(operator) = self.operators.iter_mut().find(|o| &o.id == id) {
            operator.last_used = Some(at);
        }
        Ok(())
    }

    fn fleet(&mut self, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        self.log(event, actor, at);
        Ok(())
    }

    fn fleet_events(&mut self, limit: u32) -> Result<Vec<FleetEvent>, StoreError> {
        let from = self.fleet.len().saturating_sub(limit as usize);
        Ok(self.fleet[from..].to_vec())
    }

    fn services(&mut self) -> Result<Vec<ServiceRecord>, StoreError> {
        Ok(self.services.values().cloned().collect())
    }

    fn put_service(&mut self, service: &ServiceRecord, actor: &Actor) -> Result<(), StoreError> {
        self.services.insert(service.name.clone(), service.clone());
        let event = FleetEventBody::ServiceApplied {
            service: service.name.clone(),
            digest: service.digest.clone(),
        };
        self.log(event, actor, service.applied_at);
        Ok(())
    }

    fn remove_service(&mut self, name: &str, actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        self.services.remove(name).ok_or_else(|| no_service(name))?;
        self.log(FleetEventBody::ServiceRemoved { service: name.to_owned() }, actor, at);
        Ok(())
    }

    fn publications(&mut self) -> Result<Vec<Publication>, StoreError> {
        Ok(self.publications.clone())
    }

    fn add_publication(&mut self, publication: &Publication, actor: &Actor) -> Result<(), StoreError> {
        self.publications.push(publication.clone());
        let event = FleetEventBody::Published {
            place: publication.place.clone(),
            digest: publication.digest.clone(),
        };
        self.log(event, actor, publication.at);
        Ok(())
    }

    fn halt(&mut self) -> Result<HaltState, StoreError> {
        Ok(self.halt.clone().unwrap_or_else(HaltState::released))
    }

    fn set_halt(&mut self, halt: &HaltState, actor: &Actor) -> Result<(), StoreError> {
        if halt_moves(&self.halt()?, halt)? {
            self.halt = Some(halt.clone());
            let event = FleetEventBody::HaltChanged {
                epoch: halt.epoch,
                engaged: halt.engaged,
                reason: halt.reason.clone(),
            };
            self.log(event, actor, halt.at);
        }
        Ok(())
    }

    fn epoch(&mut self) -> Result<u64, StoreError> {
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn keeps_the_contract() {
        crate::contract::run(|| Box::new(super::MemoryStore::new()));
    }
}
