//! What every store must answer of finished runs: each slice is what a look at every run finds, in order, page by page.

use std::collections::BTreeSet;

use proto_model::catalogue::FaultKind;
use proto_model::finished::{FinishedRun, RunWorth};
use proto_model::history::{Moment, Places, Slice, Tally};
use proto_model::id::{HostName, RunId};
use proto_model::plan::Origin;
use proto_model::summary::RunSummary;
use proto_model::time::Timestamp;
use proto_model::verdict::{Cleanup, Verdict};

use super::given::{Make, accepted, judged, note};
use super::summaries::{a_summary, kept};
use crate::store::Store;

pub(super) const CHECKS: &[fn(Make<'_>)] = &[
    what_is_not_read_yet_is_found_until_it_is,
    slices_are_what_a_look_at_every_run_finds,
    runs_are_counted_by_how_they_ended,
];

fn what_is_not_read_yet_is_found_until_it_is(make: Make<'_>) {
    let mut store = make();
    let [first, second, headless] = [(); 3].map(|()| RunId::generate());
    for run in [&first, &second] {
        store.append(run, vec![accepted("one", None), judged()]).unwrap();
    }
    store.append(&headless, vec![note("no beginning"), judged()]).unwrap();
    store.append(&RunId::generate(), vec![accepted("going", None)]).unwrap();
    assert_eq!(store.outdated(10).unwrap(), [first.clone(), second.clone(), headless.clone()]);
    assert_eq!(store.outdated(1).unwrap(), std::slice::from_ref(&first));
    let known = kept(a_summary(&first, Some(Verdict::Passed), 1));
    store.keep_finished(&first, 1, Some(&known)).unwrap();
    assert_eq!(store.outdated(1).unwrap(), std::slice::from_ref(&first), "it covers not all of it");
    store.keep_finished(&first, 2, Some(&known)).unwrap();
    store.keep_finished(&headless, 2, None).unwrap();
    assert_eq!(store.outdated(10).unwrap(), std::slice::from_ref(&second));
    for run in [&headless, &first] {
        store.append(run, vec![note("a proof that came later")]).unwrap();
    }
    assert_eq!(store.outdated(10).unwrap(), [first.clone(), second.clone(), headless]);
    store.keep_finished(&first, 2, Some(&known)).unwrap();
    assert_eq!(
        store.outdated(1).unwrap(),
        std::slice::from_ref(&first),
        "the late event is not in it"
    );
    store.keep_finished(&first, 3, Some(&known)).unwrap();
    assert_eq!(store.outdated(1).unwrap(), [second]);
}

/// Runs of every sort, the same each time: the sorts are the digits of their numbers.
fn all_sorts(store: &mut dyn Store) -> Vec<FinishedRun> {
    let sorts = (0..288_usize).map(|number| {
        let run = RunId::generate();
        store.append(&run, vec![accepted("one", None), judged()]).unwrap();
        let (number, environment) = (number / 3, ["demo", "prod", "staging"][number % 3]);
        let (number, test) = (number / 2, ["cache", "db"][number % 2]);
        let (number, service) = (number / 3, [Some("web"), Some("mail"), None][number % 3]);
        let verdict = [Verdict::Passed, Verdict::Failed, Verdict::Error, Verdict::Passed][number % 4];
        // Several end at the same moment.
        let ended_at = 100 + (number * 7 % 5) as i64;
        let summary = RunSummary {
            name: test.to_owned(),
            service: service.map(str::to_owned),
            environment: environment.to_owned(),
            origin: if number % 8 == 7 { Origin::Attack } else { Origin::Schedule },
            cleanup: if number % 5 == 4 { Cleanup::Unproven } else { Cleanup::Proven },
            ..a_summary(&run, Some(verdict), ended_at)
        };
        let acted = (number % 4 != 3).then(|| FaultKind::parse("cpu.burn").unwrap());
        let worth = RunWorth {
            production: environment == "prod" || number % 7 == 6,
            acted: acted.into_iter().collect(),
            unlabelled: (number % 6 == 5).then(|| HostName::parse("web-1").unwrap()),
            ..RunWorth::default()
        };
        let known = FinishedRun { summary, worth };
        store.keep_finished(&run, 2, Some(&known)).unwrap();
        known
    });
    sorts.collect()
}

type Belongs = fn(&FinishedRun) -> bool;

/// Each sort of slice with the rule for a single run.
fn slices() -> Vec<(Slice, Belongs)> {
    let (test, environment) = ("cache".to_owned(), "demo".to_owned());
    let (in_test, in_place) = (test.clone(), environment.clone());
    vec![
        (Slice::All, |_| true),
        (
            Slice::In {
                environment: in_place.clone(),
            },
            |run| run.summary.environment == "demo",
        ),
        (Slice::Passed { test: in_test.clone() }, |run| {
            run.summary.name == "cache" && run.is_no_pass().is_none()
        }),
        (Slice::NotPassed { test: in_test.clone() }, |run| {
            run.summary.name == "cache" && run.is_no_pass().is_some()
        }),
        (Slice::Decided { test: in_test }, |run| run.summary.name == "cache" && run.decided()),
        (Slice::PassedElsewhere { test, environment }, |run| {
            let (name, place) = (run.summary.name.as_str(), run.summary.environment.as_str());
            (name, place) == ("cache", "demo") && run.is_no_pass().is_none() && !run.worth.production
        }),
        (
            Slice::Production {
                environment: in_place.clone(),
            },
            |run| run.summary.environment == "demo" && run.worth.production,
        ),
        (Slice::ShownInProduction { environment: in_place }, |run| {
            run.summary.environment == "demo" && run.worth.production && run.shows_no_production().is_none()
        }),
    ]
}

fn moment(run: &FinishedRun) -> Moment {
    Moment::of(&run.summary.id, run.summary.finished_at.unwrap())
}

fn slices_are_what_a_look_at_every_run_finds(make: Make<'_>) {
    let mut store = make();
    let all = all_sorts(store.as_mut());
    let of_web = || all.iter().filter(|run| run.speaks().is_some_and(|(service, ..)| service == "web"));
    for (slice, belongs) in slices() {
        let mut expected: Vec<FinishedRun> = of_web().filter(|run| belongs(run)).cloned().collect();
        expected.sort_by_key(|run| std::cmp::Reverse(moment(run)));
        assert!(expected.len() > 1, "{slice:?} holds {}", expected.len());
        for limit in [1, 3, 1_000] {
            let (mut found, mut before) = (Vec::new(), Moment::end_of(Timestamp(104)));
            loop {
                let page = store.newest("web", &slice, &before, limit).unwrap();
                let Some(last) = page.last() else { break };
                before = moment(last);
                found.extend(page);
            }
            assert_eq!(found, expected, "{slice:?}, {limit} at a time");
        }
        let middle = &expected[expected.len() / 2];
        let mut after: Vec<FinishedRun> = expected.iter().filter(|run| moment(run) > moment(middle)).cloned().collect();
        after.reverse();
        assert_eq!(store.oldest("web", &slice, &moment(middle), 1_000).unwrap(), after, "{slice:?}");
        let by_101: Vec<FinishedRun> = expected.into_iter().filter(|run| moment(run).ended_at.0 <= 101).collect();
        let end = Moment::end_of(Timestamp(101));
        assert_eq!(store.newest("web", &slice, &end, 1_000).unwrap(), by_101, "{slice:?}");
    }
    let places: [(Places, Belongs); 3] = [
        (Places::All, |_| true),
        (Places::Production, |run| run.worth.production),
        (Places::PassedElsewhere { test: "cache".to_owned() }, |run| {
            run.summary.name == "cache" && run.is_no_pass().is_none() && !run.worth.production
        }),
    ];
    for (places, belongs) in places {
        let names: BTreeSet<String> = of_web()
            .filter(|run| belongs(run))
            .map(|run| run.summary.environment.clone())
            .collect();
        assert_eq!(store.environments("web", &places).unwrap(), Vec::from_iter(names), "{places:?}");
        assert_eq!(store.environments("nothing", &places).unwrap(), Vec::<String>::new());
    }
}

fn runs_are_counted_by_how_they_ended(make: Make<'_>) {
    let mut store = make();
    let all = all_sorts(store.as_mut());
    for until in [99, 101, 104] {
        let until = Timestamp(until);
        let mut counted: Vec<Tally> = Vec::new();
        for run in &all {
            let Some(("web", verdict, ended_at)) = run.speaks() else { continue };
            let sort = Tally {
                environment: run.summary.environment.clone(),
                verdict: verdict.as_str().to_owned(),
                decided: run.decided(),
                runs: 1,
            };
            let same = |known: &&mut Tally| {
                Tally {
                    runs: 1,
                    ..(**known).clone()
                } == sort
            };
            match (ended_at <= until, counted.iter_mut().find(same)) {
                (true, Some(known)) => known.runs += 1,
                (true, None) => counted.push(sort),
                (false, _) => {}
            }
        }
        counted.sort();
        assert_eq!(store.tally("web", until).unwrap(), counted, "by {until}");
    }
    assert_eq!(store.judged().unwrap(), all.len() as u64);
}
