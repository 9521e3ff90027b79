//! Whether each required test runs often enough: at least two passes, and no gap over 35 days from one to the next and to now.

use proto_model::evidence::{Standing, Witness};
use proto_model::finished::FinishedRun;
use proto_model::quantity::Millis;
use proto_model::required_test::RequiredTest;
use proto_model::service::Service;
use proto_model::time::Timestamp;
use proto_model::verdict::Verdict;

use crate::past::{Past, of_service};

/// The longest gap between two passes of a required test, and the age at which evidence of a level above 2 is too old.
pub const CADENCE_DAYS: u64 = 35;
/// From this age on the next run is asked for.
pub const WARN_DAYS: u64 = 28;
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Passes without which there is no cadence.
const LEAST: usize = 2;
/// Runs that do not count and are named, for one test.
pub(crate) const MOST_EXCLUDED: usize = 20;
/// Passes that are counted and named, for one test: more show nothing that these do not.
pub(crate) const MOST_COUNTED: usize = 20;
/// Passes that are looked at for being named as not counted.
pub(crate) const MOST_NEAR: usize = MOST_EXCLUDED + MOST_COUNTED;

/// One required test's rhythm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCadence {
    pub test: String,
    pub standing: Standing,
    pub says: String,
    /// The passes that count of the chain that reaches to now, newest first; with a chain that is broken, the last pass.
    pub passes: Vec<Witness>,
    /// The newest runs that do not count, each with the reason.
    pub excluded: Vec<Witness>,
    /// When the chain breaks without another pass.
    pub due_at: Option<Timestamp>,
    pub warning: Option<String>,
}

/// Each required test of the service, by name.
pub fn cadence(service: &Service, runs: &[FinishedRun], now: Timestamp) -> Vec<TestCadence> {
    let past = of_service(&service.name, runs, now);
    service
        .required_tests()
        .into_values()
        .map(|test| of_test(test, &past, now))
        .collect()
}

fn of_test(required: &RequiredTest, past: &[Past<'_>], now: Timestamp) -> TestCadence {
    let test = required.name.as_str();
    let of_it: Vec<&Past<'_>> = past.iter().filter(|p| p.run.name == test).collect();
    let (passed, not): (Vec<&Past<'_>>, Vec<&Past<'_>>) = of_it.iter().partition(|p| p.known.is_no_pass().is_none());
    let passes: Vec<&Past<'_>> = passed.iter().copied().filter(|p| p.differs_from(required).is_none()).collect();
    let chain = chain(&passes, now);
    let (counted, near) = spaced(chain, required.min_interval_ms);
    let oldest_near = passed.get(MOST_NEAR - 1).map(|p| place(p));
    let differs = passed.iter().filter_map(|p| Some((*p, p.differs_from(required)?)));
    let mut excluded: Vec<(&Past<'_>, String)> = not.into_iter().filter_map(|p| Some((p, p.known.is_no_pass()?))).collect();
    excluded.extend(differs.chain(near).filter(|(p, _)| Some(place(p)) >= oldest_near));
    excluded.sort_by_key(|(past, _)| std::cmp::Reverse(past.ended_at));
    let witnesses = |from: &[&Past<'_>]| from.iter().map(|p| p.witness(now)).collect::<Vec<_>>();
    let apart = match required.min_interval_ms {
        0 => String::new(),
        ms => format!("at least {} and ", Millis(ms)),
    };
    let (standing, says, shown) = match (passes.first(), counted.len()) {
        (None, _) => (Standing::Missing, never(test, &of_it), Vec::new()),
        (Some(last), 0) => {
            let says = format!(
                "{test} passed last {}, over {CADENCE_DAYS} days ago",
                days(now.since(last.ended_at))
            );
            (Standing::Missing, says, witnesses(&passes[..1]))
        }
        (Some(_), 1) => {
            let why = if chain.len() == passes.len() { "once" } else { "once since a gap" };
            let says = format!("{test} has passed {why}: {LEAST} passes {apart}at most {CADENCE_DAYS} days apart are needed");
            (Standing::Missing, says, witnesses(&counted))
        }
        (Some(last), n) => {
            let more = if n == MOST_COUNTED { "at least " } else { "" };
            let says = format!(
                "{test} has passed {more}{n} times without a gap, last {}",
                days(now.since(last.ended_at))
            );
            (Standing::Holds, says, witnesses(&counted))
        }
    };
    let due_at = chain.first().map(|last| last.ended_at.plus_ms(CADENCE_DAYS * DAY_MS));
    let old = chain.first().is_some_and(|last| now.since(last.ended_at) > WARN_DAYS * DAY_MS);
    let warning = due_at.filter(|_| old).map(|due| format!("{test} must pass again by {due}"));
    let excluded = excluded.into_iter().take(MOST_EXCLUDED);
    TestCadence {
        test: test.to_owned(),
        excluded: excluded.map(|(past, reason)| past.excluded(now, reason)).collect(),
        standing,
        says,
        passes: shown,
        due_at,
        warning,
    }
}

/// The newest passes, as far back as each is at most the longest gap before the next, the first before now.
fn chain<'p, 'a>(passes: &'p [&'a Past<'a>], now: Timestamp) -> &'p [&'a Past<'a>] {
    let mut next = now;
    let reaches = passes.iter().take_while(|past| {
        let near = next.since(past.ended_at) <= CADENCE_DAYS * DAY_MS;
        next = past.ended_at;
        near
    });
    &passes[..reaches.count()]
}

/// As many of the passes as are so far apart and counted, the newest first; and the others of that time, each with its reason.
fn spaced<'a>(passes: &[&'a Past<'a>], min_interval_ms: u64) -> (Vec<&'a Past<'a>>, Vec<(&'a Past<'a>, String)>) {
    let (mut counted, mut near): (Vec<&Past<'_>>, Vec<_>) = (Vec::new(), Vec::new());
    for past in passes {
        if counted.len() == MOST_COUNTED {
            break;
        }
        match counted.last() {
            Some(next) if next.ended_at.since(past.ended_at) < min_interval_ms => {
                near.push((
                    *past,
                    format!("it ended less than {} before run {}", Millis(min_interval_ms), next.run.id),
                ));
            }
            _ => counted.push(past),
        }
    }
    (counted, near)
}

fn place<'a>(past: &Past<'a>) -> (Timestamp, &'a str) {
    (past.ended_at, past.run.id.as_str())
}

fn never(test: &str, of_it: &[&Past<'_>]) -> String {
    match of_it.first() {
        None => format!("{test} has never run"),
        Some(last) if last.verdict == Verdict::Passed => format!("{test} has passed in no run that counts"),
        Some(last) => format!("{test} has never passed; its last run ended as {}", last.verdict.as_str()),
    }
}

pub(crate) fn days(ms: u64) -> String {
    match ms / DAY_MS {
        0 => "less than a day ago".to_owned(),
        1 => "1 day ago".to_owned(),
        n => format!("{n} days ago"),
    }
}
