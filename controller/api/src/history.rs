//! The finished runs of services, however many there are: read page by page, and of one run's events at a time. It keeps nothing.

use std::collections::BTreeSet;

use controller_report::fold;
use controller_store::{RunPage, StoreError, StoreHandle};
use proto_model::document::RunDocument;

/// Runs that one look at the store passes: others wait for it.
pub(crate) const PAGE: u32 = 500;

/// What was found, newest first.
#[derive(Default)]
pub(crate) struct History {
    pub runs: Vec<RunDocument>,
    /// Judged runs of no such service: counted and not read.
    pub others: usize,
}

/// All finished runs of these services, `page` of them at a look.
pub(crate) async fn of_services(store: &StoreHandle, services: &BTreeSet<&str>, page: u32) -> Result<History, StoreError> {
    let (mut found, mut last) = (History::default(), None);
    loop {
        let rows = store.call(move |store| store.finished_before(last.as_ref(), page)).await?;
        let Some(end) = rows.last() else { return Ok(found) };
        last = Some(end.row.id.clone());
        for row in rows {
            found.take(store, services, row).await?;
        }
    }
}

impl History {
    /// A run whose summary names another service needs no look at its events.
    async fn take(&mut self, store: &StoreHandle, services: &BTreeSet<&str>, page: RunPage) -> Result<(), StoreError> {
        let of_one = |service: &Option<String>| service.as_deref().is_some_and(|name| services.contains(name));
        if let Some(summary) = page.summary.filter(|summary| !of_one(&summary.service)) {
            self.others += usize::from(summary.verdict.is_some());
            return Ok(());
        }
        let id = page.row.id.clone();
        let Some(run) = fold(&store.call(move |store| store.run_events(&id, 1)).await?) else {
            return Ok(());
        };
        if of_one(&run.service) {
            self.runs.push(run);
        } else {
            self.others += usize::from(run.verdict.is_some());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use controller_store::MemoryStore;
    use proto_model::event::{EventBody, NewEvent};
    use proto_model::id::RunId;
    use proto_model::plan::{Limits, Origin, Plan};
    use proto_model::summary::RunSummary;
    use proto_model::time::Timestamp;
    use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

    use super::*;

    fn accepted(service: Option<&str>) -> EventBody {
        let plan = Plan {
            name: "lost-cache".into(),
            origin: Origin::Experiment,
            service: service.map(str::to_owned),
            environment: "staging".into(),
            hypothesis: None,
            guards: Vec::new(),
            limits: Limits::default(),
            steps: Vec::new(),
            hosts: Vec::new(),
            seed: 7,
            notes: Vec::new(),
            source: String::new(),
            variables: Default::default(),
            production: false,
        };
        EventBody::RunAccepted {
            digest: plan.digest(),
            plan: Box::new(plan),
            injections: Vec::new(),
            idempotency_key: None,
            halt_epoch: 0,
        }
    }

    fn judged() -> EventBody {
        EventBody::RunJudged {
            verdict: Verdict::Passed,
            cleanup: Cleanup::Proven,
            exit_code: 0,
            ended_by: RunEndedBy::Completed,
            reasons: Vec::new(),
            detection_ms: None,
            recovery_ms: None,
            judge_version: 1,
        }
    }

    /// A run with its summary or, as after a crash, without.
    async fn run(store: &StoreHandle, service: Option<&str>, summary: bool, bodies: Vec<EventBody>) -> RunId {
        let run = RunId::generate();
        let event = |body| NewEvent {
            at: Timestamp(1_000),
            by: "root@local".into(),
            source: None,
            body,
        };
        let events = std::iter::once(accepted(service)).chain(bodies).map(event).collect();
        let id = run.clone();
        let stored = store.call(move |store| store.append(&id, events)).await.unwrap();
        if summary {
            let document = fold(&stored).unwrap();
            let id = run.clone();
            store
                .call(move |store| store.keep_summary(&id, stored.len() as u64, &RunSummary::from(&document)))
                .await
                .unwrap();
        }
        run
    }

    #[tokio::test]
    async fn nothing_is_lost_however_many_pages_there_are() {
        let store = StoreHandle::spawn(Box::new(MemoryStore::new()));
        let mut expected = Vec::new();
        for number in 0..23 {
            let summary = number % 2 == 0;
            if number % 5 == 0 {
                expected.insert(0, run(&store, Some("web"), summary, vec![judged()]).await);
            } else {
                let other = [None, Some("mail")][number % 2];
                run(&store, other, number % 3 == 0, vec![judged()]).await;
            }
        }
        run(&store, Some("web"), false, Vec::new()).await;
        let services = BTreeSet::from(["web"]);
        for page in [1, 2, 5, 22, 23, PAGE] {
            let found = of_services(&store, &services, page).await.unwrap();
            let ids: Vec<RunId> = found.runs.iter().map(|run| run.id.clone()).collect();
            assert_eq!((ids, found.others), (expected.clone(), 18), "{page} at a time");
        }
    }

    #[tokio::test]
    async fn a_run_of_another_service_is_not_read() {
        let store = StoreHandle::spawn(Box::new(MemoryStore::new()));
        let other = run(&store, Some("mail"), true, vec![judged()]).await;
        let id = other.clone();
        let moved = store
            .call(move |store| store.summary_of(&id))
            .await
            .unwrap()
            .map(|summary| RunSummary {
                service: Some("shop".into()),
                ..summary
            });
        // Told apart by a summary that says something else than the events.
        store
            .call(move |store| store.keep_summary(&other, 2, &moved.unwrap()))
            .await
            .unwrap();
        let found = of_services(&store, &BTreeSet::from(["mail"]), PAGE).await.unwrap();
        assert_eq!((found.runs.len(), found.others), (0, 1));
    }
}
