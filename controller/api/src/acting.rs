//! What acts at this moment: every ordered injection with the time that is left to it and the age of its lease. It changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller_conductor::Leased;
use proto_model::document::{ActiveInjection, InjectionDocument};
use proto_model::host::{Connection, Host};
use proto_model::id::InjectionId;
use proto_model::time::Timestamp;

use crate::error::ApiResult;
use crate::service::Api;

/// Runs that are looked through: more than may be active.
const RUNS: u32 = 256;
/// Injections that a status lists; of more, those that end last.
const LISTED: usize = 1_000;

impl Api {
    /// Those that end last first.
    pub(crate) async fn acting(&self, hosts: &[Arc<Host>]) -> ApiResult<Vec<ActiveInjection>> {
        let leased: BTreeMap<InjectionId, Leased> = self.0.runs.leased().into_iter().map(|l| (l.injection.id.clone(), l)).collect();
        let mut acting = Vec::new();
        for page in self.0.store.call(|store| store.run_pages(RUNS, true)).await? {
            let injections = self.glance(&page).await?.injections;
            let known = injections.iter().filter_map(|document| Some((document, leased.get(&document.id)?)));
            acting.extend(known.map(|(document, leased)| active(document, leased, hosts, self.0.runs.now())));
        }
        acting.sort_by_key(|injection| std::cmp::Reverse(injection.left_ms));
        acting.truncate(LISTED);
        Ok(acting)
    }
}

/// The lease of a host that is away ages from the last sign of it: what was renewed since did not reach it.
fn active(document: &InjectionDocument, leased: &Leased, hosts: &[Arc<Host>], now: Timestamp) -> ActiveInjection {
    let since = leased.renewed_at.or(document.ordered_at);
    let host = hosts.iter().find(|host| host.name == document.host);
    let lost = host.is_none_or(|host| host.connection == Connection::Lost);
    let seen = host.filter(|_| lost).and_then(|host| host.last_seen);
    let since = match (since, seen) {
        (Some(since), Some(seen)) => Some(since.min(seen)),
        (since, _) => since,
    };
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let ends_at = document.applied_at.map(|at| at.plus_ms(leased.injection.wish.duration_ms));
    ActiveInjection {
        id: document.id.clone(),
        run: leased.run.clone(),
        host: document.host.clone(),
        fault: document.fault.clone(),
        state: document.state,
        host_lost: lost,
        left_ms: ends_at.map(|at| signed(at.since(now)) - signed(now.since(at))),
        lease_age_ms: since.map(|at| now.since(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::catalogue::FaultKind;
    use proto_model::document::EffectDocument;
    use proto_model::host::{Availability, Membership};
    use proto_model::id::{HostName, RunId};
    use proto_model::injection::{Cleanliness, EffectState, Injection, InjectionState, Wish};

    fn host(connection: Connection, last_seen: i64) -> Host {
        Host {
            name: HostName::parse("web").unwrap(),
            labels: BTreeMap::new(),
            facts: Default::default(),
            connection,
            cleanliness: Cleanliness::Faulted,
            availability: Availability::Open,
            membership: Membership::Enrolled,
            note: None,
            catalogue_digest: String::new(),
            active_injections: 1,
            enrolled_at: Timestamp(0),
            last_seen: Some(Timestamp(last_seen)),
            certificate_not_after: None,
            source_address: None,
            clock_offset_ms: None,
            authority: Default::default(),
        }
    }

    fn of(renewed_at: Option<i64>, hosts: &[Arc<Host>], now: i64) -> (Option<i64>, Option<u64>) {
        let injection = Injection {
            id: InjectionId::generate(),
            step: "steps[0]".into(),
            host: HostName::parse("web").unwrap(),
            wish: Wish {
                fault: FaultKind::parse("cpu.burn").unwrap(),
                params: serde_json::Value::Null,
                duration_ms: 20_000,
                seed: 1,
                beside: vec![],
                unattended: false,
            },
        };
        let document = InjectionDocument {
            id: injection.id.clone(),
            step: injection.step.clone(),
            host: injection.host.clone(),
            fault: injection.wish.fault.clone(),
            params: serde_json::Value::Null,
            state: InjectionState::Holding,
            ordered_at: Some(Timestamp(900)),
            applied_at: Some(Timestamp(1_000)),
            ended_at: None,
            ended_by: None,
            undo_ms: None,
            effect: EffectDocument {
                state: EffectState::Unknown,
                asked: None,
                measured: None,
                unit: None,
                noop: false,
                note: None,
            },
            error: None,
        };
        let leased = Leased {
            run: RunId::generate(),
            injection,
            renewed_at: renewed_at.map(Timestamp),
        };
        let active = active(&document, &leased, hosts, Timestamp(now));
        (active.left_ms, active.lease_age_ms)
    }

    #[test]
    fn time_runs_out_and_over_and_a_lease_ages_from_what_reached_its_host() {
        let here = [Arc::new(host(Connection::Connected, 5_000))];
        assert_eq!(of(None, &here, 1_000), (Some(20_000), Some(100)));
        assert_eq!(of(Some(6_000), &here, 7_000), (Some(14_000), Some(1_000)));
        assert_eq!(of(Some(22_000), &here, 23_000), (Some(-2_000), Some(1_000)));
        let lost = [Arc::new(host(Connection::Lost, 5_000))];
        assert_eq!(of(Some(9_000), &lost, 10_000), (Some(11_000), Some(5_000)));
    }
}
