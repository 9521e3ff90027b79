//! `rescue --watch`: the last guard, which the service manager keeps while there are journals; it undoes them when no agent runs.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent_warden::Rescued;
use anyhow::Context;
use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;

use crate::host_context::need_root;
use crate::instance_lock;
use crate::paths::Paths;
use crate::rescue::undo_under_lock;

/// Between two looks whether there is an agent, and whether there are journals.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An agent that is started again is back sooner, and undoes what its predecessor left.
const WITHOUT_AGENT: Duration = Duration::from_secs(3);
/// Between the first two tries of what cannot be undone yet; the pause doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A process that holds a journal to undo it has ended sooner.
const HELD_TOO_LONG: Duration = Duration::from_secs(30);

/// Ends when there is no journal.
pub fn watch(paths: &Paths) -> anyhow::Result<ExitCode> {
    need_root()?;
    let mut schedule = Schedule::new();
    while has_journals(&paths.journal())? {
        let (now, agent_runs) = (Instant::now(), instance_lock::is_held(&paths.instance_lock()));
        if schedule.should_try(now, agent_runs) {
            let (pause, held) = undo(paths);
            if schedule.is_held_too_long(now, pause) {
                log_alarm(&held);
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(ExitCode::SUCCESS)
}

/// When it is time to undo, by what each look finds: it has no clock and looks at nothing.
struct Schedule {
    /// None while an agent runs.
    next_try: Option<Instant>,
    /// From the next try to the one after it.
    pause: Duration,
    /// Since when tries have met nothing but journals that another process holds.
    held_since: Option<Instant>,
}

impl Schedule {
    fn new() -> Self {
        Self {
            next_try: None,
            pause: FIRST_PAUSE,
            held_since: None,
        }
    }

    /// Whether to undo now. An agent that runs ends the wait for it, and the next wait is a new one.
    fn should_try(&mut self, now: Instant, agent_runs: bool) -> bool {
        if agent_runs {
            *self = Self::new();
            return false;
        }
        if now < *self.next_try.get_or_insert(now + WITHOUT_AGENT) {
            return false;
        }
        self.next_try = Some(now + self.pause);
        true
    }

    /// Takes what a try of now came to. True when another process has held a journal for too long; the pauses grow then as well.
    fn is_held_too_long(&mut self, now: Instant, pause: RetryPause) -> bool {
        let is_too_long = match pause {
            RetryPause::Lengthen => {
                self.held_since = None;
                false
            }
            RetryPause::Keep => now.duration_since(*self.held_since.get_or_insert(now)) >= HELD_TOO_LONG,
        };
        if is_too_long || pause == RetryPause::Lengthen {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        is_too_long
    }
}

/// What becomes of the pause after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryPause {
    /// All that could be done is done: what is left is no better at once.
    Lengthen,
    /// Nothing failed, and another process holds a journal: an agent that has just begun, the guardian, or a rescue by hand.
    Keep,
}

/// Journals that are closed wait for an agent, which reports their end. Returns those that another process holds as well.
fn undo(paths: &Paths) -> (RetryPause, Vec<InjectionId>) {
    match undo_under_lock(paths, EndedBy::Rescue, Duration::ZERO) {
        Ok(rescued) => {
            log(&rescued);
            (retry_pause(&rescued), rescued.held)
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "no agent runs, and nothing can be undone yet");
            (RetryPause::Lengthen, Vec::new())
        }
    }
}

fn retry_pause(rescued: &Rescued) -> RetryPause {
    if rescued.held.is_empty() || rescued.has_failed() {
        RetryPause::Lengthen
    } else {
        RetryPause::Keep
    }
}

fn log_alarm(held: &[InjectionId]) {
    for id in held {
        let why = "another process holds its journal";
        tracing::error!(injection = %id, why, "no agent runs, and this cannot be undone yet");
    }
}

fn log(rescued: &Rescued) {
    let Rescued {
        undone,
        spent,
        left,
        held,
        swept,
    } = rescued;
    if !undone.is_empty() {
        tracing::warn!(undone = undone.len(), "no agent runs: what it held is undone");
    }
    for id in spent {
        tracing::warn!(injection = %id, "no agent runs: the fault has ended, and what it did cannot be undone");
    }
    for (id, why) in left {
        tracing::error!(injection = %id, why, "no agent runs, and this cannot be undone yet");
    }
    for id in held {
        tracing::debug!(injection = %id, "no agent runs, and another process holds this journal");
    }
    // The sweep itself logs each by its name.
    if !swept.removed.is_empty() {
        tracing::warn!(
            removed = swept.removed.len(),
            "no agent runs: what belonged to no injection is removed"
        );
    }
    if !swept.failed.is_empty() {
        tracing::error!(
            failed = swept.failed.len(),
            "no agent runs, and what belongs to no injection cannot be removed yet"
        );
    }
}

fn has_journals(folder: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("read {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// A schedule that is asked once a second.
    struct Watch {
        schedule: Schedule,
        begin: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self {
                schedule: Schedule::new(),
                begin: Instant::now(),
            }
        }

        /// The seconds at which it tries.
        fn tries(&mut self, seconds: Range<u64>, agent_runs: bool) -> Vec<u64> {
            let Self { schedule, begin } = self;
            let mut is_due = |second: u64| {
                let now = *begin + Duration::from_secs(second);
                let due = schedule.should_try(now, agent_runs);
                assert!(!due || !schedule.is_held_too_long(now, RetryPause::Lengthen));
                due
            };
            seconds.filter(|second| is_due(*second)).collect()
        }
    }

    #[test]
    fn tries_begin_three_seconds_after_the_agent_and_their_pauses_grow_to_a_minute() {
        let mut watch = Watch::new();
        assert_eq!(watch.tries(0..10, true).len(), 0);
        assert_eq!(watch.tries(10..260, false), [13, 14, 16, 20, 28, 44, 76, 136, 196, 256]);
    }

    #[test]
    fn a_journal_that_another_process_holds_lengthens_no_pause_unless_something_failed() {
        let id = InjectionId::generate();
        let mut rescued = Rescued {
            held: vec![id.clone()],
            ..Rescued::default()
        };
        assert_eq!(retry_pause(&rescued), RetryPause::Keep);
        rescued.left.push((id, "no space".to_owned()));
        assert_eq!(retry_pause(&rescued), RetryPause::Lengthen);
        assert_eq!(retry_pause(&Rescued::default()), RetryPause::Lengthen);
    }

    #[test]
    fn a_journal_that_is_held_for_half_a_minute_is_an_alarm_at_pauses_that_grow() {
        let Watch { mut schedule, begin } = Watch::new();
        let (mut tries, mut alarms) = (Vec::new(), Vec::new());
        for second in 0..280_u64 {
            let now = begin + Duration::from_secs(second);
            if !schedule.should_try(now, false) {
                continue;
            }
            tries.push(second);
            if schedule.is_held_too_long(now, RetryPause::Keep) {
                alarms.push(second);
            }
        }
        assert_eq!(tries[..31], (3..34).collect::<Vec<u64>>());
        assert_eq!(alarms, [33, 34, 36, 40, 48, 64, 96, 156, 216, 276]);
        // When it is held no longer, the next holder has its time.
        let now = begin + Duration::from_secs(300);
        assert!(!schedule.is_held_too_long(now, RetryPause::Lengthen));
        assert!(!schedule.is_held_too_long(now, RetryPause::Keep));
    }

    #[test]
    fn an_agent_that_comes_back_resets_the_wait_and_the_pauses() {
        let mut watch = Watch::new();
        assert_eq!(watch.tries(0..100, false), [3, 4, 6, 10, 18, 34, 66]);
        // It is noticed at the next look, however long the pause was.
        assert_eq!(watch.tries(100..101, true).len(), 0);
        assert_eq!(watch.tries(101..110, false), [104, 105, 107]);
        // An agent that comes and goes again and again is waited for each time.
        assert_eq!(watch.tries(110..111, true).len(), 0);
        assert_eq!(watch.tries(111..113, false).len(), 0);
        assert_eq!(watch.tries(113..114, true).len(), 0);
        assert_eq!(watch.tries(114..117, false).len(), 0);
    }
}
