//! The steps of a run as a tree: one after the other, or side by side. What becomes of an order is for others to say.

use controller_report::InjectionStatus;
use proto_model::event::{EventBody, RunPhase, StepOutcome, StopCause};
use proto_model::injection::{EndedBy, InjectionState};
use proto_model::plan::{FaultStep, OnFailure, PlannedStep, StepBody};
use proto_model::time::Timestamp;

use crate::machine::{Action, Conductor};
use crate::track::Room;

impl Conductor {
    pub(crate) fn advance_steps(&mut self, now: Timestamp) {
        let plan = self.state.plan.clone();
        if !self.advance_in_order(now, &plan.steps) {
            return;
        }
        match &plan.hypothesis {
            Some(_) => self.enter(now, RunPhase::After),
            None => self.begin_verifying(now),
        }
    }

    /// Each after the one before it; true when the last one is over.
    fn advance_in_order(&mut self, now: Timestamp, steps: &[PlannedStep]) -> bool {
        steps.iter().all(|step| self.advance_step(now, step))
    }

    /// Begins or goes on with one step; true when it is over.
    fn advance_step(&mut self, now: Timestamp, step: &PlannedStep) -> bool {
        if self.outcome(&step.path).is_some() {
            return true;
        }
        // Once something asked for a stop, nothing more is begun.
        if self.state.stop.is_some() {
            return false;
        }
        let started = match self.state.steps.get(&step.path) {
            Some(status) => status.started_at,
            None => self.start_step(now, &step.path),
        };
        let over = match &step.body {
            StepBody::Wait { ms } => {
                self.wake_at(now, started.plus_ms(*ms));
                now.since(started) >= *ms
            }
            StepBody::Fault(fault) => self.advance_fault(now, &step.path, fault),
            StepBody::Sequence(steps) => self.advance_in_order(now, steps),
            // Every branch is looked at, whatever the others are at.
            StepBody::Parallel(branches) => branches.iter().filter(|branch| !self.advance_step(now, branch)).count() == 0,
        };
        if over {
            let outcome = self.outcome_of(step);
            self.end_step(now, &step.path, outcome);
        }
        over
    }

    fn start_step(&mut self, now: Timestamp, path: &str) -> Timestamp {
        let path = path.to_owned();
        self.record(now, EventBody::StepStarted { path, planned_at: now });
        now
    }

    fn end_step(&mut self, now: Timestamp, path: &str, outcome: StepOutcome) {
        let path = path.to_owned();
        self.record(now, EventBody::StepEnded { path, outcome });
    }

    fn outcome(&self, path: &str) -> Option<StepOutcome> {
        self.state.steps.get(path)?.outcome()
    }

    /// Of a step that is over: its worst child's, or what its injections came to.
    fn outcome_of(&self, step: &PlannedStep) -> StepOutcome {
        let below = step.children().iter().filter_map(|child| self.outcome(&child.path));
        let failed = self.state.counts_of_step(&step.path).failed > 0;
        let own = if failed { StepOutcome::Failed } else { StepOutcome::Done };
        below.chain([own]).max_by_key(|outcome| badness(*outcome)).unwrap_or(own)
    }

    /// Asks for room, orders, and is over when every one of its injections is.
    fn advance_fault(&mut self, now: Timestamp, path: &str, fault: &FaultStep) -> bool {
        match self.rooms.get(path) {
            None => {
                self.rooms.insert(path.to_owned(), Room::Asked(now));
                self.act(Action::Room { step: path.to_owned() });
                return false;
            }
            Some(Room::Asked(since)) if now.since(*since) > self.settings.room_within_ms => {
                let text = format!(
                    "whether there is room for {path} was not known within {} ms",
                    self.settings.room_within_ms
                );
                self.request_stop(now, StopCause::Failure, text, None);
                return false;
            }
            Some(Room::Asked(since)) => {
                let at = since.plus_ms(self.settings.room_within_ms + 1);
                self.wake_at(now, at);
                return false;
            }
            Some(Room::Given) => {}
        }
        if let Some((cause, text)) = self.trouble(now, path, fault.on_failure) {
            self.request_stop(now, cause, text, None);
            return false;
        }
        self.state.counts_of_step(path).are_over()
    }

    /// The answer is taken once, and only while the run still wants it.
    pub(crate) fn take_room(&mut self, now: Timestamp, path: &str, answer: Result<(), String>) {
        let waiting = self.outcome(path).is_none() && matches!(self.rooms.get(path), Some(Room::Asked(_)));
        if !waiting {
            return;
        }
        if self.state.stop.is_some() || self.phase() != RunPhase::During {
            return;
        }
        match answer {
            Ok(()) => {
                self.rooms.insert(path.to_owned(), Room::Given);
                self.order_step(now, path);
            }
            Err(why) => self.request_stop(now, StopCause::Limit, format!("{path}: {why}"), None),
        }
    }

    fn order_step(&mut self, now: Timestamp, path: &str) {
        let lease_ms = self.settings.lease_ms;
        let due: Vec<_> = self
            .state
            .injections_of_step(path)
            .filter(|i| i.is_planned())
            .map(|i| i.injection.clone())
            .collect();
        for injection in due {
            self.record(
                now,
                EventBody::InjectionOrdered {
                    id: injection.id.clone(),
                    step: path.to_owned(),
                    host: injection.host.clone(),
                    duration_ms: injection.wish.duration_ms,
                    lease_ms,
                },
            );
            self.act(Action::Order { injection });
        }
    }

    /// The first thing that makes the step not what was planned, and that the run is stopped for. Between two looks at the time
    /// only what has changed is looked at: a run over many hosts hears of each of them.
    fn trouble(&self, now: Timestamp, path: &str, on_failure: OnFailure) -> Option<(StopCause, String)> {
        let all = self.thorough.then(|| self.state.injections_of_step(path)).into_iter().flatten();
        let changed = self.changed.iter().map(|at| &self.state.injections[*at]);
        let changed = changed.filter(|i| !self.thorough && i.injection.step == path);
        all.chain(changed).find_map(|i| {
            let tolerated = on_failure == OnFailure::Continue && i.has_failed() && !is_halted(i);
            let ended = (!tolerated).then(|| wrong_end(i)).flatten();
            ended.or_else(|| self.too_late(now, i))
        })
    }

    fn too_late(&self, now: Timestamp, i: &InjectionStatus) -> Option<(StopCause, String)> {
        if !self.hosts.get(&i.injection.host).is_some_and(|h| h.connected) {
            return None;
        }
        let name = name(i);
        let since_order = i.ordered_at.map_or(0, |at| now.since(at));
        if i.state == InjectionState::Ordered && since_order > self.settings.apply_within_ms {
            let text = format!("{name} did not act within {} ms of its order", self.settings.apply_within_ms);
            return Some((StopCause::Failure, text));
        }
        let overdue = i.deadline().map_or(0, |deadline| now.since(deadline));
        let stuck = i.is_out() && overdue > self.settings.undo_within_ms;
        stuck.then(|| (StopCause::Failure, format!("{name} is not undone {overdue} ms after its end")))
    }

    /// Ends what has begun when the run is stopped, children before their parents.
    pub(crate) fn close_steps(&mut self, now: Timestamp) {
        let plan = self.state.plan.clone();
        let open = |this: &Self, path: &str| this.state.steps.get(path).is_some_and(|status| status.ended.is_none());
        for step in plan
            .all_steps()
            .into_iter()
            .rev()
            .filter(|step| open(self, &step.path))
            .collect::<Vec<_>>()
        {
            let cancelled = match &step.body {
                StepBody::Fault(fault) => self.cancelled(now, &step.path, fault),
                _ => StepOutcome::Cancelled,
            };
            let outcome = [cancelled, self.outcome_of(step)];
            let worst = outcome.into_iter().max_by_key(|outcome| badness(*outcome)).unwrap_or(cancelled);
            self.end_step(now, &step.path, worst);
        }
    }

    /// A branch that went well is cancelled when another one fails.
    fn cancelled(&self, now: Timestamp, path: &str, fault: &FaultStep) -> StepOutcome {
        let failed = matches!(self.trouble(now, path, fault.on_failure), Some((StopCause::Failure, _)));
        if self.state.cause_of_stop() == Some(StopCause::Failure) && failed {
            StepOutcome::Failed
        } else {
            StepOutcome::Cancelled
        }
    }
}

/// Which of two outcomes their parent takes over.
fn badness(outcome: StepOutcome) -> u8 {
    match outcome {
        StepOutcome::Done => 0,
        StepOutcome::Skipped => 1,
        StepOutcome::Cancelled => 2,
        StepOutcome::Failed => 3,
    }
}

fn name(i: &InjectionStatus) -> String {
    format!("{} on {}", i.injection.wish.fault, i.injection.host)
}

fn is_halted(i: &InjectionStatus) -> bool {
    i.refusal.as_ref().is_some_and(|refusal| refusal.code == "halted")
}

/// An end that was not the plan's.
fn wrong_end(i: &InjectionStatus) -> Option<(StopCause, String)> {
    let name = name(i);
    match (i.state, i.ended_by) {
        (InjectionState::Refused, _) if is_halted(i) => Some((StopCause::Halt, format!("{} is halted", i.injection.host))),
        (InjectionState::Withdrawn, _) => Some((StopCause::HostLost, format!("the order of {name} never arrived"))),
        (InjectionState::Refused, _) => Some((StopCause::Failure, format!("{name} was refused"))),
        (_, Some(EndedBy::ApplyFailed)) => Some((StopCause::Failure, format!("{name} could not be applied"))),
        (_, Some(EndedBy::EndedEarly)) => Some((StopCause::Failure, format!("{name} ended before its time"))),
        (_, Some(EndedBy::LocalHalt | EndedBy::Halt)) => Some((StopCause::Halt, format!("{} was halted", i.injection.host))),
        (_, Some(EndedBy::Stop)) => Some((StopCause::Operator, format!("{name} was stopped"))),
        (_, None | Some(EndedBy::DurationElapsed)) => None,
        (_, Some(other)) => Some((StopCause::HostLost, format!("{name} ended by {}", other.as_str()))),
    }
}
