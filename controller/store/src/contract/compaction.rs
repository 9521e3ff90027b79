//! What every store must keep when it is made smaller: no answer changes, and what comes later is as welcome as before.

use proto_model::event::{Event, NewEvent};
use proto_model::id::{InjectionId, RunId};
use proto_model::verdict::Verdict;

use super::given::{Make, accepted, is_refused, judged, note, notes, seqs, undone};
use super::summaries::{a_summary, kept};
use crate::store::Store;

pub(super) const CHECKS: &[fn(Make<'_>)] = &[
    no_answer_changes_step_by_step,
    a_reader_that_stopped_in_the_middle_goes_on,
    what_comes_later_is_behind_it,
    a_compacted_fact_is_recognised,
    a_run_that_goes_on_or_is_not_read_yet_is_left_alone,
];

/// Text of one step: some events of it.
const STEP: usize = 500;

pub(super) fn compact(store: &mut dyn Store) {
    while store.compact(STEP).unwrap() > 0 {}
}

/// Notes of several lengths and facts, and the verdict among the last of them.
fn history(injection: &InjectionId) -> Vec<NewEvent> {
    let mut events = vec![accepted("one", None), undone(injection, "boot", 1), note("ünï\u{0}code\n'quoted'")];
    events.extend((0..12).flat_map(|length| notes(1, length * 60)));
    events.extend([undone(injection, "boot", 2), judged(), note("the end")]);
    events
}

/// A run that has its verdict and is known in short.
fn finished(store: &mut dyn Store, injection: &InjectionId) -> (RunId, Vec<Event>) {
    let run = RunId::generate();
    let events = store.append(&run, history(injection)).unwrap();
    keep(store, &run, &events);
    (run, events)
}

fn keep(store: &mut dyn Store, run: &RunId, events: &[Event]) {
    let known = kept(a_summary(run, Some(Verdict::Passed), 1));
    store.keep_finished(run, events.len() as u64, Some(&known)).unwrap();
}

/// Each answer that is about these runs or their events.
fn answers(store: &mut dyn Store, runs: &[RunId]) -> Vec<String> {
    let mut answers = vec![
        format!("{:?}", store.runs(9, false).unwrap()),
        format!("{:?}", store.run_pages(9, false).unwrap()),
        format!("{:?}", store.run_pages(9, true).unwrap()),
        format!("{:?}", store.finished_before(None, 9).unwrap()),
        format!("{:?}", store.outdated(9).unwrap()),
        format!("{:?}", store.runs_owing_proof(9).unwrap()),
        format!("{:?}", store.last_decided().unwrap()),
        format!("{:?}", store.find_run("@last").unwrap()),
    ];
    for run in runs {
        answers.push(format!("{:?}", store.find_run(run.as_str()).unwrap()));
        answers.push(format!("{:?}", store.finished_before(Some(run), 9).unwrap()));
        answers.push(format!("{:?}", store.summary_of(run).unwrap()));
        answers.extend((0..25).map(|from| format!("{:?}", store.run_events(run, from).unwrap())));
        answers.push(format!("{:?}", store.run_events(run, u64::MAX).unwrap()));
    }
    answers
}

fn no_answer_changes_step_by_step(make: Make<'_>) {
    let mut store = make();
    let injection = InjectionId::generate();
    let (first, second) = (finished(store.as_mut(), &injection).0, finished(store.as_mut(), &injection).0);
    let going = RunId::generate();
    store.append(&going, notes(3, 100)).unwrap();
    let runs = [first, second, going];
    let before = answers(store.as_mut(), &runs);
    loop {
        let worked_on = store.compact(STEP).unwrap();
        for (answer, before) in answers(store.as_mut(), &runs).iter().zip(&before) {
            assert_eq!(answer, before);
        }
        if worked_on == 0 {
            return;
        }
    }
}

fn a_reader_that_stopped_in_the_middle_goes_on(make: Make<'_>) {
    let mut store = make();
    let (run, events) = finished(store.as_mut(), &InjectionId::generate());
    for page in [1, 4, 7] {
        let mut read: Vec<Event> = Vec::new();
        loop {
            let next = read.last().map_or(1, |event| event.seq + 1);
            let found = store.run_events(&run, next).unwrap();
            if found.is_empty() {
                break;
            }
            read.extend(found.into_iter().take(page));
            store.compact(STEP).unwrap();
        }
        assert_eq!(read, events, "{page} at a time");
    }
}

fn what_comes_later_is_behind_it(make: Make<'_>) {
    let mut store = make();
    let (run, mut events) = finished(store.as_mut(), &InjectionId::generate());
    for round in 0..3 {
        compact(store.as_mut());
        let last = events.len() as u64;
        assert_eq!(store.outdated(1).unwrap(), [], "round {round}");
        let late = store.append(&run, vec![note("a proof"), note("that came later")]).unwrap();
        assert_eq!(seqs(&late), [last + 1, last + 2]);
        events.extend(late);
        assert_eq!(store.run_events(&run, 1).unwrap(), events);
        assert_eq!(store.run_events(&run, last).unwrap(), events[last as usize - 1..]);
        assert_eq!(store.run_pages(1, false).unwrap()[0].last_seq, last + 2);
        assert_eq!(store.outdated(1).unwrap(), std::slice::from_ref(&run));
        keep(store.as_mut(), &run, &events[..last as usize]);
        assert_eq!(store.outdated(1).unwrap(), std::slice::from_ref(&run), "it covers not all of it");
        keep(store.as_mut(), &run, &events);
    }
    is_refused(store.append(&run, vec![judged()]), "final");
    assert_eq!(store.run_events(&run, 1).unwrap(), events);
}

fn a_compacted_fact_is_recognised(make: Make<'_>) {
    let mut store = make();
    let injection = InjectionId::generate();
    let (run, events) = finished(store.as_mut(), &injection);
    let last = events.len() as u64;
    compact(store.as_mut());
    for seq in [1, 2] {
        assert_eq!(store.append(&run, vec![undone(&injection, "boot", seq)]).unwrap(), []);
    }
    assert_eq!(store.run_events(&run, 1).unwrap(), events);
    let mut of_another_host = undone(&injection, "boot", 1);
    of_another_host.by = "mallory".into();
    let new = vec![
        undone(&injection, "boot", 2),
        of_another_host,
        undone(&injection, "boot", 3),
        undone(&injection, "another boot", 1),
        undone(&InjectionId::generate(), "boot", 1),
    ];
    let numbers: Vec<u64> = (last + 1..=last + 4).collect();
    assert_eq!(seqs(&store.append(&run, new).unwrap()), numbers);
    let other = RunId::generate();
    assert_eq!(seqs(&store.append(&other, vec![undone(&injection, "boot", 1)]).unwrap()), [1]);
    compact(store.as_mut());
    assert_eq!(store.append(&run, vec![undone(&injection, "boot", 3)]).unwrap(), []);
}

fn a_run_that_goes_on_or_is_not_read_yet_is_left_alone(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.compact(STEP).unwrap(), 0);
    store.append(&RunId::generate(), notes(3, 100)).unwrap();
    store.append(&RunId::generate(), vec![accepted("one", None), judged()]).unwrap();
    assert_eq!(store.compact(STEP).unwrap(), 0);
}
