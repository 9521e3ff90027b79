//! Bounded looks, with looks that hang until a test lets them go.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;

/// No look of these tests takes so long, on a busy machine either.
const PATIENT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(40);

fn at(sort: &str) -> Subject {
    let what = sort.to_owned();
    Subject::new(sort, move || Words {
        what: what.clone(),
        fix: "unmount it".to_owned(),
    })
}

fn ends_with(end: Receiver<()>) -> impl FnOnce() -> Result<u8, ViewError> {
    move || {
        end.recv().ok();
        Ok(1)
    }
}

fn sizes(looks: &Bounded) -> (usize, usize) {
    let helpers = looks.locked();
    (helpers.idle.len(), helpers.overdue.len())
}

/// Until what hung has returned, and a look of its sort is possible again.
fn recovers(looks: &Bounded, sort: &str) {
    let began = Instant::now();
    while looks.look(at(sort), || Ok(7)).is_err() {
        assert!(began.elapsed() < PATIENT, "looks do not work again");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_seen_comes_back_from_the_one_helper_that_is_kept() {
    let looks = Bounded::new(PATIENT);
    let caller = std::thread::current().id();
    let thread = || Ok(std::thread::current().id());
    let first = looks.look(at("a"), thread).unwrap();
    assert_eq!(looks.look(at("b"), thread).unwrap(), first);
    assert_ne!(first, caller);
    let failed = looks.look(at("a"), || Err::<(), _>(ViewError::new("x", io::ErrorKind::NotFound.into())));
    let failed = failed.unwrap_err();
    assert_eq!((failed.what.as_str(), failed.source.kind()), ("x", io::ErrorKind::NotFound));
    assert_eq!(sizes(&looks), (1, 0));
}

#[test]
fn a_look_that_hangs_fails_in_time_and_the_next_of_its_sort_at_once_until_it_returns() {
    let looks = Bounded::new(SHORT);
    let (end, hangs) = channel();
    let began = Instant::now();
    let error = looks.look(at("/mnt/dead"), ends_with(hangs)).unwrap_err();
    assert!(began.elapsed() >= SHORT && began.elapsed() < PATIENT);
    assert_eq!((error.what.as_str(), error.source.kind()), ("/mnt/dead", io::ErrorKind::TimedOut));
    let text = error.source.to_string();
    assert!(text.starts_with("no answer within ") && text.ends_with(": unmount it"), "{text}");

    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..50 {
        let ran = ran.clone();
        let see = move || Ok(ran.fetch_add(1, Ordering::SeqCst));
        let error = looks.look(at("/mnt/dead"), see).unwrap_err();
        assert_eq!((error.what.as_str(), error.source.kind()), ("/mnt/dead", io::ErrorKind::TimedOut));
    }
    assert_eq!(ran.load(Ordering::SeqCst), 0, "a look was begun behind one that hangs");
    assert_eq!(sizes(&looks).1, 1, "one thread is stuck, and no more");

    end.send(()).unwrap();
    recovers(&looks, "/mnt/dead");
    assert_eq!(sizes(&looks).1, 0);
}

#[test]
fn looks_of_other_sorts_go_on_until_too_many_hang() {
    let looks = Bounded::new(SHORT);
    let ends: Vec<Sender<()>> = (0..MOST_OVERDUE)
        .map(|n| {
            if n > 0 {
                recovers(&looks, "healthy");
            }
            let (end, hangs) = channel();
            looks.look(at(&format!("dead {n}")), ends_with(hangs)).unwrap_err();
            end
        })
        .collect();
    let error = looks.look(at("healthy"), || Ok(7)).unwrap_err();
    let text = error.source.to_string();
    assert!(
        error.what == "healthy" && text.contains("8 other looks") && text.contains("dead 0: unmount it"),
        "{text}"
    );
    drop(ends);
    recovers(&looks, "healthy");
}

#[test]
fn a_panic_is_an_error_and_looks_work_again() {
    let looks = Bounded::new(PATIENT);
    let panics = || -> Result<u8, ViewError> { panic!("as it was planned") };
    let error = looks.look(at("a"), panics).unwrap_err();
    assert!(
        error.what == "a" && error.source.to_string().contains("as it was planned"),
        "{error:?}"
    );
    assert_eq!(looks.look(at("a"), || Ok(7)).unwrap(), 7);
    assert_eq!(sizes(&looks), (1, 0));
}

#[test]
fn without_a_thread_the_caller_looks_itself() {
    let looks = Bounded {
        start: |_| None,
        ..Bounded::new(SHORT)
    };
    looks.prepare();
    let seen = looks.look(at("a"), || Ok(std::thread::current().id()));
    assert_eq!(seen.unwrap(), std::thread::current().id());
    assert!(looks.look(at("a"), || -> Result<u8, ViewError> { panic!("planned") }).is_err());
}

#[test]
fn a_helper_that_was_prepared_is_the_one_that_looks() {
    let looks = Bounded::new(PATIENT);
    looks.prepare();
    looks.prepare();
    assert_eq!(sizes(&looks), (1, 0));
    let none_left = Bounded { start: |_| None, ..looks };
    let seen = none_left.look(at("a"), || Ok(std::thread::current().id()));
    assert_ne!(seen.unwrap(), std::thread::current().id());
}

#[test]
fn threads_of_another_process_or_mount_namespace_are_not_asked() {
    let looks = Bounded::new(PATIENT);
    looks.prepare();
    let here = Home::here();
    assert!(here.mounts.is_some());
    let elsewhere = Home { mounts: None, ..here };
    let parent = Home { pid: here.pid + 1, ..here };
    let mut helpers = looks.locked();
    assert!(helpers.take(elsewhere).is_none() && helpers.take(parent).is_none());
    helpers.sweep(parent.pid);
    assert!(helpers.take(here).is_none());
}

#[test]
fn slow_looks_leave_the_next_ones_a_part_of_the_limit() {
    let limit = Duration::from_secs(2);
    let looks = Bounded::new(limit);
    let mut helpers = looks.locked();
    assert_eq!(helpers.allows(limit), limit);
    for _ in 0..100 {
        helpers.spend(limit / ALWAYS, limit);
    }
    assert_eq!(helpers.spent, Duration::ZERO, "ordinary looks cost nothing");
    helpers.spend(limit, limit);
    assert!(helpers.allows(limit) < limit / 2);
    helpers.since = Instant::now().checked_sub(Duration::from_secs(20));
    assert_eq!(helpers.allows(limit), limit);
}

/// A look at many things, whose numbers `go_on` sets.
fn at_many(go_on: impl FnOnce(&AtomicU32) + Send + 'static) -> (Subject, impl FnOnce() -> Result<u8, ViewError> + Send + 'static) {
    let reached = Arc::new(AtomicU32::new(0));
    let subject = at("many").with_progress(reached.clone(), |number| at(&format!("one {number}")));
    let see = move || {
        go_on(&reached);
        Ok(7)
    };
    (subject, see)
}

fn total(total: Duration) -> Patience {
    Patience {
        since: Instant::now(),
        total,
    }
}

#[test]
fn a_look_that_goes_on_outlives_several_limits_and_costs_the_next_ones_nothing() {
    let limit = Duration::from_millis(500);
    let looks = Bounded::new(limit);
    let began = Instant::now();
    let (subject, see) = at_many(|reached| {
        for number in 1..=30 {
            reached.store(number, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(looks.look_for(subject, total(PATIENT), see).unwrap(), 7);
    assert!(began.elapsed() >= 3 * limit);
    assert_eq!(sizes(&looks), (1, 0));
    assert!(looks.locked().spent < limit / 2);
}

#[test]
fn a_look_that_stands_still_is_late_at_that_one_and_others_go_on() {
    let looks = Bounded::new(Duration::from_millis(400));
    let (end, hangs) = channel::<()>();
    let (subject, see) = at_many(move |reached| {
        reached.store(5, Ordering::Relaxed);
        hangs.recv().ok();
    });
    let error = match looks.look_for(subject, total(PATIENT), see) {
        Err(Failure::StandsStill(5, error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!((error.what.as_str(), error.source.kind()), ("one 5", io::ErrorKind::TimedOut));
    assert_eq!(looks.look(at("one 5"), || Ok(7)).unwrap_err().what, "one 5");
    assert!(looks.overdue("one 5").is_some() && looks.overdue("one 6").is_none());
    recovers(&looks, "many");
    drop(end);
    recovers(&looks, "one 5");
    assert!(looks.overdue("one 5").is_none());
}

#[test]
fn a_look_that_goes_on_for_too_long_is_late_as_a_whole_and_leaves_the_next_one_little() {
    let limit = Duration::from_secs(2);
    let looks = Bounded::new(limit);
    assert_eq!(looks.patience().total, limit * LIMITS_IN_ALL);
    let over = Arc::new(AtomicBool::new(false));
    let ends = over.clone();
    let (subject, see) = at_many(move |reached| {
        while !ends.load(Ordering::Relaxed) {
            reached.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let looked = looks.look_for(subject, total(SHORT), see);
    over.store(true, Ordering::Relaxed);
    let error = match looked {
        Err(Failure::Other(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!((error.what.as_str(), error.source.kind()), ("many", io::ErrorKind::TimedOut));
    assert_eq!(looks.patience().total, limit / ALWAYS);
    looks.locked().exhausted = Instant::now().checked_sub(Duration::from_secs(20));
    assert_eq!(looks.patience().total, limit * LIMITS_IN_ALL);
}
