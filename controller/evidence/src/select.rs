//! Which of a service's finished runs its level is computed from: a few for each required test and each environment, found by asking
//! for them, so that it costs the same however many runs there were. What `weigh` says of these it says of all of them.

use std::collections::BTreeMap;

use proto_model::finished::FinishedRun;
use proto_model::history::{Moment, Places, Slice};
use proto_model::id::RunId;
use proto_model::required_test::RequiredTest;
use proto_model::service::Service;
use proto_model::time::Timestamp;

use crate::cadence::{CADENCE_DAYS, DAY_MS, MOST_COUNTED, MOST_EXCLUDED, MOST_NEAR};
use crate::coverage::MOST_COVERED;
use crate::site::NEWEST;

/// Runs that are read at a time while one is looked for.
const PAGE: u32 = 50;
/// The longest gap between two passes.
const LONGEST_MS: u64 = CADENCE_DAYS * DAY_MS;

/// Finished runs that can be asked for by what they are.
pub trait History {
    type Error;

    /// Those of the slice that come before the moment, newest first.
    fn newest(&mut self, service: &str, slice: &Slice, before: &Moment, limit: u32) -> Result<Vec<FinishedRun>, Self::Error>;
    /// Those that come after the moment, oldest first.
    fn oldest(&mut self, service: &str, slice: &Slice, after: &Moment, limit: u32) -> Result<Vec<FinishedRun>, Self::Error>;
    fn environments(&mut self, service: &str, of: &Places) -> Result<Vec<String>, Self::Error>;
}

/// The runs that a level is computed from, of those that are over by `now`.
pub fn select<H: History>(service: &Service, history: &mut H, now: Timestamp) -> Result<Vec<FinishedRun>, H::Error> {
    Ok(selection(service, history, now)?.found.into_values().collect())
}

/// The runs that a service's own page names: those of its level, the newest of each environment, and those that coverage is of.
pub fn select_shown<H: History>(service: &Service, history: &mut H, now: Timestamp) -> Result<Vec<FinishedRun>, H::Error> {
    let mut selection = selection(service, history, now)?;
    for test in service.required_tests().into_keys() {
        let decided = Slice::Decided { test: test.to_owned() };
        selection.take_newest(&decided, count(MOST_COVERED))?;
    }
    for environment in selection.history.environments(&service.name, &Places::All)? {
        selection.take_newest(&Slice::In { environment }, count(NEWEST))?;
    }
    Ok(selection.found.into_values().collect())
}

fn selection<'a, H: History>(service: &'a Service, history: &'a mut H, now: Timestamp) -> Result<Selection<'a, H>, H::Error> {
    let mut selection = Selection {
        service: &service.name,
        history,
        now: Moment::end_of(now),
        found: BTreeMap::new(),
    };
    for test in service.required_tests().into_values() {
        selection.of_test(test)?;
    }
    for environment in selection.history.environments(&service.name, &Places::Production)? {
        let there = Slice::Production {
            environment: environment.clone(),
        };
        selection.take_newest(&there, count(MOST_EXCLUDED))?;
        selection.take_newest(&Slice::ShownInProduction { environment }, 1)?;
    }
    Ok(selection)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

struct Selection<'a, H> {
    service: &'a str,
    history: &'a mut H,
    /// The end of what is looked at.
    now: Moment,
    found: BTreeMap<RunId, FinishedRun>,
}

impl<H: History> Selection<'_, H> {
    fn of_test(&mut self, test: &RequiredTest) -> Result<(), H::Error> {
        let name = || test.name.clone();
        self.take_newest(&Slice::NotPassed { test: name() }, count(MOST_EXCLUDED))?;
        let near = self
            .history
            .newest(self.service, &Slice::Passed { test: name() }, &self.now, count(MOST_NEAR))?;
        self.chain(test, &near)?;
        self.found.extend(near.into_iter().map(|run| (run.summary.id.clone(), run)));
        for environment in self.history.environments(self.service, &Places::PassedElsewhere { test: name() })? {
            let there = Slice::PassedElsewhere { test: name(), environment };
            let newest = self.first(&there, self.now.clone(), test)?;
            self.take(newest);
        }
        Ok(())
    }

    /// The passes that a cadence counts, up to the first gap between passes that is too long; where two that count are further apart
    /// than that, also the pass next to the older one. `near` are the newest passes.
    fn chain(&mut self, test: &RequiredTest, near: &[FinishedRun]) -> Result<(), H::Error> {
        let passed = Slice::Passed { test: test.name.clone() };
        // Over a longer interval a gap could hide between two passes that count.
        let apart = if test.min_interval_ms <= LONGEST_MS {
            test.min_interval_ms
        } else {
            0
        };
        let (mut before, mut last, mut counted) = (self.now.clone(), None, 0);
        let mut newer: Option<Timestamp> = None;
        while counted < MOST_COUNTED {
            let Some(run) = self.pass_before(near, &passed, before, test)? else {
                break;
            };
            let Some(at) = moment(&run) else { break };
            self.take(Some(run));
            if newer.is_some_and(|newer| newer.since(at.ended_at) > LONGEST_MS) {
                let next = self.first_after(&passed, at.clone(), test)?;
                let ended = next.as_ref().and_then(moment).map(|next| next.ended_at);
                self.take(next);
                if ended.is_none_or(|next| next.since(at.ended_at) > LONGEST_MS) {
                    break;
                }
            }
            newer = Some(at.ended_at);
            let counts = last.is_none_or(|last: Timestamp| last.since(at.ended_at) >= test.min_interval_ms);
            if counts {
                (last, counted) = (Some(at.ended_at), counted + 1);
            }
            let far_enough = Moment::end_of(Timestamp(at.ended_at.0.saturating_sub_unsigned(apart)));
            before = far_enough.min(at);
        }
        Ok(())
    }

    /// The newest pass of the test before a moment: asked for only when it is none of the newest, which are read already.
    fn pass_before(
        &mut self,
        near: &[FinishedRun],
        passed: &Slice,
        before: Moment,
        test: &RequiredTest,
    ) -> Result<Option<FinishedRun>, H::Error> {
        let is_before = |run: &&FinishedRun| moment(run).is_some_and(|at| at < before) && is_of(test, run);
        if let Some(found) = near.iter().find(is_before) {
            return Ok(Some(found.clone()));
        }
        match near.last().filter(|_| near.len() == MOST_NEAR).and_then(moment) {
            Some(oldest) => self.first(passed, oldest.min(before), test),
            None => Ok(None),
        }
    }

    /// The newest of the slice that is a run of the test.
    fn first(&mut self, slice: &Slice, mut before: Moment, test: &RequiredTest) -> Result<Option<FinishedRun>, H::Error> {
        let mut limit = 1;
        loop {
            let page = self.history.newest(self.service, slice, &before, limit)?;
            let Some(last) = page.last().and_then(moment) else {
                return Ok(None);
            };
            if let Some(found) = page.into_iter().find(|run| is_of(test, run)) {
                return Ok(Some(found));
            }
            (before, limit) = (last, PAGE);
        }
    }

    /// The oldest after a moment that is a run of the test and over by now.
    fn first_after(&mut self, slice: &Slice, mut after: Moment, test: &RequiredTest) -> Result<Option<FinishedRun>, H::Error> {
        let mut limit = 1;
        loop {
            let page = self.history.oldest(self.service, slice, &after, limit)?;
            let Some(last) = page.last().and_then(moment) else {
                return Ok(None);
            };
            if let Some(found) = page.into_iter().find(|run| is_of(test, run)) {
                return Ok(Some(found).filter(|run| moment(run).is_some_and(|at| at < self.now)));
            }
            (after, limit) = (last, PAGE);
        }
    }

    fn take_newest(&mut self, slice: &Slice, limit: u32) -> Result<(), H::Error> {
        let newest = self.history.newest(self.service, slice, &self.now, limit)?;
        self.found.extend(newest.into_iter().map(|run| (run.summary.id.clone(), run)));
        Ok(())
    }

    fn take(&mut self, run: Option<FinishedRun>) {
        self.found.extend(run.map(|run| (run.summary.id.clone(), run)));
    }
}

fn moment(run: &FinishedRun) -> Option<Moment> {
    run.speaks().map(|(_, _, ended_at)| Moment::of(&run.summary.id, ended_at))
}

fn is_of(test: &RequiredTest, run: &FinishedRun) -> bool {
    let plan = &run.summary.plan;
    test.differs_from(&plan.experiment, &plan.variables).is_none()
}
