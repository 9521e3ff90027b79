//! The cases that a machine is put through, in this order on one boot; each can be run alone.

mod ansible;
mod clock;
mod controller;
mod crash;
mod deadline;
mod ended;
mod exhausted;
mod faults;
mod held;
mod higher;
mod install;
mod kinds;
mod neighbours;
mod packages;
mod purge;
mod refusal;
mod service;
mod shell;
mod trial;
mod two_hosts;
mod unwritable;
mod volumes;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tests_harness::interrupt;

use crate::kit::Kit;
use crate::site::{self, Site};
use crate::suite::Suite;
use crate::table::{NOT_STARTED, Row, Table};

/// One case; `run` adds the figures that it measured.
pub struct Case {
    pub name: &'static str,
    pub what: &'static str,
    pub extent: Extent,
    run: fn(&mut Site, &mut Figures<'_>) -> Result<()>,
}

/// In which runs of the suite a case has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// In every run.
    Short,
    /// Only in a long run, or where it is named.
    Long,
}

/// Each file registers its own; what takes everything off the machine is last.
const REGISTERED: [&[Case]; 17] = [
    &install::CASES,
    &faults::CASES,
    &kinds::CASES,
    &volumes::CASES,
    &neighbours::CASES,
    &unwritable::CASES,
    &exhausted::CASES,
    &crash::CASES,
    &ended::CASES,
    &deadline::CASES,
    &service::CASES,
    &controller::CASES,
    &clock::CASES,
    &two_hosts::CASES,
    &packages::CASES,
    &ansible::CASES,
    &purge::CASES,
];

/// All cases, in the order in which they run.
pub fn all() -> impl Iterator<Item = &'static Case> {
    REGISTERED.into_iter().flatten()
}

/// Which cases are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All cases of this extent, and of smaller ones.
    UpTo(Extent),
    /// These, whatever extent they have; one of these at least.
    Named(Vec<String>),
}

impl Selection {
    /// The cases of these names.
    pub fn named(names: &[String]) -> Result<Self> {
        if let Some(unknown) = names.iter().find(|name| !all().any(|case| case.name == name.as_str())) {
            let known: Vec<&str> = all().map(|case| case.name).collect();
            bail!("no case {unknown} (there are: {})", known.join(", "));
        }
        Ok(Self::Named(names.to_vec()))
    }

    pub fn cases(&self) -> impl Iterator<Item = &'static Case> {
        all().filter(move |case| match self {
            Self::UpTo(extent) => case.extent <= *extent,
            Self::Named(names) => names.iter().any(|name| name == case.name),
        })
    }

    /// What the cases need to be installed.
    pub fn kit(&self) -> Kit {
        match self.cases().map(|case| case.extent).max() {
            Some(Extent::Long) => Kit::Large,
            Some(Extent::Short) | None => Kit::Small,
        }
    }
}

/// The figures of one case.
pub struct Figures<'a> {
    case: &'static str,
    slack: u32,
    table: &'a mut Table,
}

impl Figures<'_> {
    pub fn add(&mut self, what: impl Into<String>, took: Duration, limit: Duration) {
        self.row(what.into(), took, Some(limit * self.slack), None);
    }

    /// A figure that nothing is promised of.
    pub fn note(&mut self, what: impl Into<String>, took: Duration) {
        self.row(what.into(), took, None, None);
    }

    /// How long to wait for what has this limit: so long that a figure says by how much it was late.
    fn patience(&self, limit: Duration) -> Duration {
        limit * self.slack + MARGIN
    }

    /// Whether no figure of this case is over its limit.
    fn in_time(&self) -> bool {
        self.table.of(self.case).all(Row::passed)
    }

    fn fail(&mut self, begin: Instant, why: String) {
        self.fail_as(WHOLE, begin, why);
    }

    /// There is no machine to run the case on, so that nothing is known of what it tests.
    fn not_started(&mut self, begin: Instant, why: String) {
        self.fail_as(NOT_STARTED, begin, why);
    }

    fn fail_as(&mut self, what: &str, begin: Instant, why: String) {
        eprintln!("   {}: failed: {why}", self.case);
        self.row(what.to_owned(), begin.elapsed(), None, Some(why));
    }

    fn row(&mut self, what: String, took: Duration, limit: Option<Duration>, failed: Option<String>) {
        let limit_text = limit.map_or_else(String::new, |limit| format!(" (limit {:.0} s)", limit.as_secs_f64()));
        eprintln!("   {}: {what}: {:.1} s{limit_text}", self.case, took.as_secs_f64());
        self.table.add(Row {
            case: self.case,
            what,
            took,
            limit,
            failed,
        });
    }
}

/// After this number of machines in a row that did not start, no other is tried: each takes minutes to give up.
const MOST_FAILED_STARTS: u32 = 2;
/// How much longer than its limit something is waited for.
const MARGIN: Duration = Duration::from_secs(180);
/// The row of a case that has the time from its machine's start, or from the case before, to its end.
const WHOLE: &str = "the whole case";

/// Runs the chosen cases on one machine; each has a row in the table at least, also where no machine starts. A case that fails takes the next
/// to a machine of its own. Limits are those of a release; they are multiplied by `slack`.
pub fn run(suite: Suite, debs: &Path, selection: &Selection, slack: u32) -> Result<Table> {
    let logs = site::logs(suite)?;
    if logs.exists() {
        std::fs::remove_dir_all(&logs)?;
    }
    let mut table = Table::default();
    let (mut site, mut failed_starts) = (None, 0);
    for case in selection.cases() {
        interrupt::check()?;
        eprintln!("== {suite} {}: {}", case.name, case.what);
        let begin = Instant::now();
        let mut figures = Figures {
            case: case.name,
            slack,
            table: &mut table,
        };
        if failed_starts == MOST_FAILED_STARTS {
            figures.not_started(begin, format!("not run: {failed_starts} machines in a row did not start"));
            continue;
        }
        let at = match site.take() {
            Some(site) => Ok(site),
            None => Site::start(suite, selection.kit(), Some(debs)).inspect(|_| figures.note("the machine answers", begin.elapsed())),
        };
        match at {
            Ok(at) => {
                failed_starts = 0;
                site = case.put(at, &mut figures, begin)?;
            }
            Err(error) => {
                interrupt::check()?;
                failed_starts += 1;
                figures.not_started(begin, format!("{error:#}"));
            }
        }
    }
    Ok(table)
}

impl Case {
    /// Runs the case, and returns the machine where the next case can go on there.
    fn put(&self, mut at: Site, figures: &mut Figures<'_>, begin: Instant) -> Result<Option<Site>> {
        let done = (self.run)(&mut at, figures);
        if done.is_ok() {
            figures.note(WHOLE, begin.elapsed());
            if figures.in_time() {
                return Ok(Some(at));
            }
        }
        interrupt::check()?;
        let kept = at.keep_logs(self.name);
        let kept = kept.map_or_else(|error| format!("none: {error:#}"), |folder| folder.display().to_string());
        match done {
            Ok(()) => {
                eprintln!("   {}: too slow (logs: {kept})", self.name);
                // Late, and as it was.
                Ok(Some(at))
            }
            Err(error) => {
                figures.fail(begin, format!("{error:#} (logs: {kept})"));
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_short_run_is_a_part_of_a_long_one_and_a_name_is_enough() -> Result<()> {
        let names = |selection: &Selection| selection.cases().map(|case| case.name).collect::<BTreeSet<_>>();
        let (short, long) = (Selection::UpTo(Extent::Short), Selection::UpTo(Extent::Long));
        assert!(names(&short).is_subset(&names(&long)));
        assert_eq!(names(&long).len(), all().count());
        assert_eq!(short.kit(), Kit::Small);
        for case in all() {
            let named = Selection::named(&[case.name.to_owned()])?;
            assert_eq!(names(&named), BTreeSet::from([case.name]));
            assert_eq!(named.kit() == Kit::Large, case.extent == Extent::Long, "{}", case.name);
        }
        let unknown = Selection::named(&["no-such-case".to_owned()]);
        assert!(unknown.is_err_and(|error| error.to_string().contains("install, faults")));
        Ok(())
    }
}
