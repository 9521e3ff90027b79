//! What every store must answer of finished runs: each slice is what a look at every run finds, in order, page by page.

use std::collections::BTreeSet;

use proto_model::catalogue::FaultKind;
use proto_model::finished::{FinishedRun, RunWorth};
use proto_model::history::{Moment, Places, RunMonth, Slice, Tally};
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
    a_month_holds_its_runs_and_what_was_made_of_it_until_one_changes,
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

fn a_month_holds_its_runs_and_what_was_made_of_it_until_one_changes(make: Make<'_>) {
    let mut store = make();
    let at = |text: &str| Timestamp::parse(text).unwrap();
    let [january, first, last] = ["2026-01-31T23:59:59.999Z", "2026-02-01T00:00:00.000Z", "2026-02-28T23:59:59.999Z"].map(at);
    let keep = |store: &mut dyn Store, run: &RunId, ended_at: Timestamp, seq: u64| {
        let known = kept(a_summary(run, Some(Verdict::Passed), ended_at.0));
        store.keep_finished(run, seq, Some(&known)).unwrap();
        known
    };
    let runs = [january, first, last].map(|ended_at| {
        let run = RunId::generate();
        store.append(&run, vec![accepted("one", None), judged()]).unwrap();
        keep(store.as_mut(), &run, ended_at, 2)
    });
    let months = store.months("shop").unwrap();
    let spans: Vec<_> = months.iter().map(|month| (month.since, month.until)).collect();
    let march = at("2026-03-01T00:00:00.000Z");
    assert_eq!(spans, [(first, march), (at("2026-01-01T00:00:00.000Z"), first)]);
    let end = Moment::end_of(Timestamp(i64::MAX));
    let all = store.runs_of_month("shop", &months[0], &end, 10).unwrap();
    assert_eq!(all.iter().map(|run| &run.known).collect::<Vec<_>>(), [&runs[2], &runs[1]]);
    assert_eq!(all[0].events, 2);
    let before = moment(&runs[2]);
    assert_eq!(store.runs_of_month("shop", &months[0], &before, 10).unwrap(), all[1..]);
    assert_eq!(store.runs_of_month("shop", &months[0], &end, 1).unwrap(), all[..1]);
    assert_eq!(store.months("another").unwrap(), []);

    let made: Vec<RunMonth> = months
        .into_iter()
        .map(|month| RunMonth {
            made: Some("a page".into()),
            ..month
        })
        .collect();
    store.keep_months("shop", &made).unwrap();
    assert_eq!(store.months("shop").unwrap(), made);
    // A late event: the run's row covers more, and says the same.
    keep(store.as_mut(), &runs[1].summary.id, first, 3);
    let changed = store.months("shop").unwrap();
    assert_eq!((&changed[0].made, &changed[1]), (&None, &made[1]));
    store.keep_months("shop", &made).unwrap();
    assert_eq!(
        store.months("shop").unwrap(),
        changed,
        "what was made of what it was before is not kept"
    );
    // It moves to the month before: both have changed.
    store
        .keep_months(
            "shop",
            &[RunMonth {
                made: Some("a page".into()),
                ..changed[0].clone()
            }],
        )
        .unwrap();
    keep(store.as_mut(), &runs[1].summary.id, january, 4);
    assert!(store.months("shop").unwrap().iter().all(|month| month.made.is_none()));
}
