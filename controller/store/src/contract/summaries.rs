//! What every store must keep of summaries: they are shown only while they cover all of a run.

use std::collections::BTreeSet;

use proto_model::document::PlanRef;
use proto_model::event::RunPhase;
use proto_model::finished::{FinishedRun, RunWorth};
use proto_model::id::RunId;
use proto_model::plan::Origin;
use proto_model::schedule::Decided;
use proto_model::summary::RunSummary;
use proto_model::time::Timestamp;
use proto_model::verdict::{Cleanup, Verdict};

use super::given::{Make, accepted, judged, note};
use crate::records::StoreError;
use crate::store::Store;
use crate::summaries::DecidedTest;

pub(super) const CHECKS: &[fn(Make<'_>)] = &[
    a_summary_is_good_until_the_next_event,
    an_older_summary_never_replaces_a_newer,
    the_newest_decision_of_each_test_is_found,
    pages_pass_every_finished_run_once,
    runs_that_lack_a_proof_are_found,
];

pub(super) fn kept(summary: RunSummary) -> FinishedRun {
    FinishedRun {
        summary,
        worth: RunWorth::default(),
    }
}

pub(super) fn a_summary(run: &RunId, verdict: Option<Verdict>, finished_at: i64) -> RunSummary {
    RunSummary {
        id: run.clone(),
        name: "checkout".into(),
        origin: Origin::Schedule,
        service: Some("shop".into()),
        environment: "staging".into(),
        state: RunPhase::Finished,
        verdict,
        exit_code: None,
        ended_by: None,
        cleanup: Cleanup::Proven,
        reason: None,
        plan: PlanRef {
            digest: "sha256:0".into(),
            seed: u64::MAX,
            experiment: String::new(),
            variables: Default::default(),
        },
        by: "schedule:weekly".into(),
        created_at: Timestamp(1),
        started_at: None,
        finished_at: Some(Timestamp(finished_at)),
        hosts_total: 1_000,
        hosts_unclean: 0,
        injections_total: 1_000,
        detection_ms: None,
        recovery_ms: None,
    }
}

fn a_run(store: &mut dyn Store) -> RunId {
    let run = RunId::generate();
    store.append(&run, vec![accepted("one", None), judged()]).unwrap();
    run
}

fn a_summary_is_good_until_the_next_event(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.run_pages(10, false).unwrap(), []);
    let (run, other) = (a_run(store.as_mut()), RunId::generate());
    store.append(&other, vec![accepted("two", None)]).unwrap();
    let pages = store.run_pages(10, false).unwrap();
    let rows: Vec<_> = pages.iter().map(|page| page.row.clone()).collect();
    assert_eq!(rows, store.runs(10, false).unwrap());
    assert_eq!((pages[0].last_seq, pages[1].last_seq, &pages[1].summary), (1, 2, &None));
    let summary = a_summary(&run, Some(Verdict::Passed), 50);
    store.keep_finished(&run, 2, Some(&kept(summary.clone()))).unwrap();
    assert_eq!(store.run_pages(10, false).unwrap()[1].summary, Some(summary.clone()));
    assert_eq!(store.run_pages(10, true).unwrap().len(), 1);
    store.append(&run, vec![note("a proof that came later")]).unwrap();
    let page = store.run_pages(10, false).unwrap().remove(1);
    assert_eq!((page.last_seq, page.summary), (3, None));
    assert_eq!(store.summary_of(&run).unwrap(), Some(summary.clone()));
    assert_eq!(store.summary_of(&other).unwrap(), None);
    store.keep_finished(&run, 3, Some(&kept(summary.clone()))).unwrap();
    assert_eq!(store.run_pages(10, false).unwrap()[1].summary, Some(summary));
}

fn an_older_summary_never_replaces_a_newer(make: Make<'_>) {
    let mut store = make();
    let run = a_run(store.as_mut());
    let (old, new) = (a_summary(&run, None, 1), a_summary(&run, Some(Verdict::Failed), 2));
    store.keep_finished(&run, 2, Some(&kept(new.clone()))).unwrap();
    store.keep_finished(&run, 1, Some(&kept(old.clone()))).unwrap();
    assert_eq!(store.run_pages(1, false).unwrap()[0].summary, Some(new));
    let nobody = RunId::generate();
    assert!(matches!(
        store.keep_finished(&nobody, 1, Some(&kept(old))),
        Err(StoreError::NotFound { what: "run", .. })
    ));
}

fn the_newest_decision_of_each_test_is_found(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.last_decided().unwrap(), []);
    let mut keep = |service: Option<&str>, name: &str, verdict: Verdict, at: i64| {
        let run = a_run(store.as_mut());
        let summary = RunSummary {
            service: service.map(str::to_owned),
            name: name.to_owned(),
            ..a_summary(&run, Some(verdict), at)
        };
        store.keep_finished(&run, 2, Some(&kept(summary.clone()))).unwrap();
        let of = (service.map(str::to_owned), name.to_owned());
        DecidedTest {
            service: of.0,
            experiment: of.1,
            decided: Decided {
                run,
                verdict,
                at: Timestamp(at),
            },
        }
    };
    keep(Some("shop"), "checkout", Verdict::Passed, 10);
    let newest = keep(Some("shop"), "checkout", Verdict::Failed, 30);
    keep(Some("shop"), "checkout", Verdict::Passed, 20);
    let other = keep(Some("shop"), "returns", Verdict::Passed, 15);
    let of_bank = keep(Some("bank"), "returns", Verdict::Passed, 5);
    // What was not decided is no evidence, however new.
    keep(Some("shop"), "checkout", Verdict::Inconclusive, 90);
    keep(Some("shop"), "checkout", Verdict::Error, 91);
    keep(Some("mail"), "checkout", Verdict::Aborted, 92);
    let alone = keep(None, "checkout", Verdict::Passed, 40);
    let other_alone = keep(None, "returns", Verdict::Passed, 39);
    let expected = [alone, other_alone, of_bank, newest, other];
    assert_eq!(store.last_decided().unwrap(), expected);
}

fn pages_pass_every_finished_run_once(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.finished_before(None, 10).unwrap(), []);
    let mut made: Vec<RunId> = (0..5).map(|_| a_run(store.as_mut())).collect();
    let going = RunId::generate();
    store.append(&going, vec![accepted("going", None)]).unwrap();
    made.extend((0..2).map(|_| a_run(store.as_mut())));
    let summary = a_summary(&made[0], Some(Verdict::Passed), 50);
    store.keep_finished(&made[0], 2, Some(&kept(summary.clone()))).unwrap();
    made.reverse();
    for limit in [1, 2, 3, 7, 100] {
        let (mut passed, mut last) = (Vec::new(), None);
        loop {
            let page = store.finished_before(last.as_ref(), limit).unwrap();
            // What comes meanwhile is newer than any page that is still to be read.
            a_run(store.as_mut());
            let Some(end) = page.last() else { break };
            assert!(page.len() <= limit as usize);
            last = Some(end.row.id.clone());
            passed.extend(page);
        }
        let ids: Vec<RunId> = passed.iter().map(|page| page.row.id.clone()).collect();
        assert!(ids.ends_with(&made), "{limit} at a time: {ids:?} instead of {made:?}");
        assert_eq!(
            BTreeSet::from_iter(&ids).len(),
            ids.len(),
            "{limit} at a time, and a run came twice"
        );
        assert!(!ids.contains(&going));
        assert_eq!(passed.last().and_then(|page| page.summary.clone()), Some(summary.clone()));
    }
    let nobody = store.finished_before(Some(&RunId::generate()), 10);
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "run", .. })));
}

fn runs_that_lack_a_proof_are_found(make: Make<'_>) {
    let mut store = make();
    let [proven, unproven, older, newer] = [(); 4].map(|()| a_run(store.as_mut()));
    for (run, hosts_unclean) in [(&proven, 0), (&unproven, 2)] {
        let summary = RunSummary {
            hosts_unclean,
            ..a_summary(run, None, 1)
        };
        store.keep_finished(run, 2, Some(&kept(summary))).unwrap();
    }
    assert_eq!(store.runs_owing_proof(1).unwrap(), [unproven.clone(), newer.clone()]);
    assert_eq!(store.runs_owing_proof(9).unwrap(), [unproven.clone(), newer, older]);
    let proven = kept(a_summary(&unproven, None, 1));
    store.keep_finished(&unproven, 3, Some(&proven)).unwrap();
    assert_eq!(store.runs_owing_proof(0).unwrap(), Vec::<RunId>::new());
}
