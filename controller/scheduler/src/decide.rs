//! Which planned times have become ticks, and what stands in the way of a due one. Pure: schedules, the time and what happened go in.

use controller_store::{FreezeRecord, ScheduleRecord, TickRecord};
use proto_model::document::ErrorBody;
use proto_model::schedule::{MissedRule, SkipReason, TickState};
use proto_model::time::Timestamp;

use crate::cadence::Cadence;

/// A tick may start this long after its time; later it was missed.
pub const GRACE_MS: u64 = 60_000;
/// A moment considered further ahead than this comes from a clock that was wrong.
pub const AHEAD_MS: u64 = 3_600_000;

/// What is to be recorded before anything is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub from: Timestamp,
    pub until: Timestamp,
    pub ticks: Vec<TickRecord>,
}

/// The planned times since the last look, as ticks; `None` when there is nothing to record.
pub fn consider(schedule: &ScheduleRecord, cadence: &Cadence, now: Timestamp) -> Option<Step> {
    let from = schedule.considered_until;
    if schedule.paused {
        return None;
    }
    let step = |until: Timestamp, ticks: Vec<TickRecord>| Some(Step { from, until, ticks });
    if from > now {
        return if from.since(now) > AHEAD_MS { step(now, Vec::new()) } else { None };
    }
    let found = cadence.between(from, now)?;
    let tick = |planned_at: Timestamp, count: u32, state: TickState| TickRecord {
        schedule: schedule.id.clone(),
        name: schedule.name.clone(),
        planned_at,
        count,
        manual: false,
        by: by(schedule),
        state,
        reason: None,
        message: None,
        run: None,
        decided_at: now,
    };
    let late = now.since(found.last) > GRACE_MS;
    if late && schedule.missed == MissedRule::Skip {
        return step(found.last, vec![tick(found.last, found.count, TickState::Missed)]);
    }
    let mut ticks: Vec<TickRecord> = found
        .earlier
        .map(|at| tick(at, found.count - 1, TickState::Missed))
        .into_iter()
        .collect();
    ticks.push(tick(found.last, 1, TickState::Due));
    step(found.last, ticks)
}

/// In whose name a schedule's runs are.
pub fn by(schedule: &ScheduleRecord) -> String {
    format!("schedule:{}", schedule.name)
}

/// What is known at a moment: before the experiment is planned, and again as its run is recorded.
pub struct Moment<'a> {
    pub now: Timestamp,
    /// Of the file, or of the plan as soon as there is one.
    pub environment: Option<&'a str>,
    pub freezes: &'a [FreezeRecord],
    pub halted: Option<String>,
    /// The run of an earlier tick that is not finished.
    pub previous: Option<String>,
}

/// Why a due tick is not to be started, if anything stands in the way. A person who asks for it now may do so outside of its
/// windows and while it is paused, never in a freeze.
pub fn obstacle(tick: &TickRecord, schedule: &ScheduleRecord, cadence: &Cadence, moment: &Moment<'_>) -> Option<(SkipReason, String)> {
    if let Some(halt) = &moment.halted {
        return Some((SkipReason::Halted, halt.clone()));
    }
    if !tick.manual && schedule.paused {
        return Some((SkipReason::Refused, "the schedule was paused".to_owned()));
    }
    if !tick.manual && !cadence.may_start(moment.now) {
        let window = schedule.window.as_deref().unwrap_or_default();
        return Some((SkipReason::Window, format!("outside of {window} in {}", schedule.timezone)));
    }
    if let Some(freeze) = frozen(moment.freezes, moment.environment, moment.now) {
        return Some((SkipReason::Freeze, in_words(freeze)));
    }
    let previous = moment.previous.as_ref()?;
    Some((SkipReason::PreviousRunning, format!("run {previous} is not finished")))
}

/// A due tick that was found after its time, by a controller that came back: whether it may still start.
pub fn too_late(tick: &TickRecord, rule: MissedRule, now: Timestamp) -> bool {
    rule == MissedRule::Skip && now.since(tick.planned_at) > GRACE_MS
}

/// The freeze that holds in this environment now. Without an environment only a freeze of all holds; the plan's own is asked again.
pub fn frozen<'a>(freezes: &'a [FreezeRecord], environment: Option<&str>, now: Timestamp) -> Option<&'a FreezeRecord> {
    let holds = |freeze: &&FreezeRecord| {
        let here = freeze.environment.is_none() || freeze.environment.as_deref() == environment;
        here && freeze.from <= now && now < freeze.until
    };
    freezes.iter().find(holds)
}

pub fn in_words(freeze: &FreezeRecord) -> String {
    let of = freeze.environment.as_deref().unwrap_or("every environment");
    format!("{of} is frozen until {}: {}", freeze.until, freeze.reason)
}

/// What stands in the way, as whoever starts runs refuses them: `skip_reason` finds the same reason in it.
pub fn refusal((reason, message): (SkipReason, String)) -> ErrorBody {
    ErrorBody::new(if reason == SkipReason::Freeze { "frozen" } else { reason.as_str() }, message)
}

/// A refused start as a reason; what is no reason of its own is `refused`, with the refusal's words.
pub fn skip_reason(refusal: &ErrorBody) -> SkipReason {
    let busy = |code: &str| matches!(code, "conflict" | "injected" | "claim_taken" | "claimed" | "claim_busy");
    match refusal.code.as_str() {
        "halted" => SkipReason::Halted,
        "frozen" => SkipReason::Freeze,
        "window" => SkipReason::Window,
        "previous_running" => SkipReason::PreviousRunning,
        "unattended" => SkipReason::Unattended,
        code if busy(code) => SkipReason::ClaimBusy,
        _ if !refusal.hosts.is_empty() && refusal.hosts.iter().all(|host| busy(&host.code)) => SkipReason::ClaimBusy,
        _ => SkipReason::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_the_same_reason_as_a_refusal() {
        let all = [
            SkipReason::Freeze,
            SkipReason::Window,
            SkipReason::Halted,
            SkipReason::ClaimBusy,
            SkipReason::PreviousRunning,
            SkipReason::Unattended,
            SkipReason::Refused,
        ];
        for reason in all {
            let refused = refusal((reason, "why".to_owned()));
            assert_eq!((skip_reason(&refused), refused.message.as_str()), (reason, "why"));
        }
    }
}
