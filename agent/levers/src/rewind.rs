//! The only way back: every recorded undo, last first, each on its own. It needs no fault, no network and no controller.

use std::time::Duration;

use agent_journal::{Ballast, History, Journal, ScaffoldPlace, Undo, UndoOutcome, Victim, may_set_knob};
use agent_view::tc::names;
use agent_view::{GroupId, HostView, Process, ProcessState};
use proto_model::id::InjectionId;

use crate::ballast::{BallastState, Moved, as_known, hidden};
use crate::hands::{Hands, HandsError, ScaffoldLeft};
use crate::path::DRAIN_AT_MOST_MS;
use crate::work::packets::PacketNote;

/// How long the processes of a group may take to be gone after they were killed.
pub const END_GROUP_WITHIN_MS: u64 = 2_000;
/// The longest that a worker may take to let go of what it holds.
pub const DRAIN_WITHIN_MS: u64 = 1_000;
/// How often a continued process is looked at, and how long apart, before it counts as still stopped.
const RESUME_LOOKS: u32 = 20;
const RESUME_PAUSE: Duration = Duration::from_millis(5);
/// How many names that others gave to a ballast file one undo removes.
const MOST_NAMES: usize = 16;

/// One undo that went wrong; it stays due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoFailure {
    pub undo: Undo,
    /// With its causes.
    pub error: String,
}

/// What a rewind did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewound {
    pub outcomes: Vec<UndoOutcome>,
    pub failures: Vec<UndoFailure>,
    /// Things that somebody else had changed, left as they are.
    pub drift: Vec<String>,
}

impl Rewound {
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Why one undo did not succeed.
#[derive(Debug, thiserror::Error)]
enum UndoError {
    #[error(transparent)]
    Deed(#[from] HandsError),
    #[error(transparent)]
    Look(#[from] agent_view::ViewError),
    #[error("{0}")]
    NoEffect(String),
}

/// Carries out every undo that is due, last first. One that fails stops no other and stays due; from any prefix of a
/// journal the result is the same. When none is due in a journal that is still open, all are done once more.
///
/// Whoever calls it has recorded the end before.
pub fn rewind(journal: &mut Journal, hands: &mut dyn Hands, view: &dyn HostView) -> Rewound {
    let may_blame = journal.first_rewind() && journal.history().applied.is_some();
    let same_boot = is_of_this_boot(journal.history(), view);
    let had_traffic = journal
        .history()
        .intents
        .iter()
        .any(|(_, undo)| matches!(undo, Undo::RemoveTraffic { .. }));
    let mut rewound = Rewound::default();
    for (seq, undo) in due(journal) {
        let mut back = Back {
            hands,
            view,
            may_blame,
            same_boot,
            had_traffic,
        };
        match back.carry_out(&undo) {
            Ok(outcome) => {
                if let UndoOutcome::Drift { what } = &outcome {
                    let untold: Vec<String> = what.iter().filter(|words| !rewound.drift.contains(words)).cloned().collect();
                    rewound.drift.extend(untold);
                }
                // Undoing goes on without paper: done twice, it finds nothing to do.
                if let Err(error) = journal.undone(seq, outcome.clone()) {
                    tracing::warn!(%error, injection = %journal.injection(), seq, "an undo that was carried out could not be recorded");
                }
                rewound.outcomes.push(outcome);
            }
            Err(error) => rewound.failures.push(UndoFailure {
                undo,
                error: with_causes(&error),
            }),
        }
    }
    rewound
}

fn due(journal: &Journal) -> Vec<(u32, Undo)> {
    let history = journal.history();
    let known = |undo: &Undo| match undo {
        Undo::RemoveBallast { ballast } => Undo::RemoveBallast {
            ballast: as_known(ballast, history).clone(),
        },
        other => other.clone(),
    };
    let pending: Vec<(u32, Undo)> = history.pending().map(|(seq, undo)| (seq, known(undo))).collect();
    if pending.is_empty() && history.is_open() {
        return history.intents.iter().rev().map(|(seq, undo)| (*seq, known(undo))).collect();
    }
    pending
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

/// One step back.
struct Back<'a> {
    hands: &'a mut dyn Hands,
    view: &'a dyn HostView,
    /// Everything had been pulled and nobody has tried to undo it: what reads otherwise was changed by others.
    may_blame: bool,
    same_boot: bool,
    /// There were packet rules, whose table must go last: not before the last worker that reads a queue.
    had_traffic: bool,
}

impl Back<'_> {
    fn carry_out(&mut self, undo: &Undo) -> Result<UndoOutcome, UndoError> {
        match undo {
            Undo::EmptyGroup { group } => self.empty_group(&ours(group)?),
            Undo::DrainGroup { group, within_ms } => self.drain_group(&ours(group)?, *within_ms),
            Undo::ResumeProcesses { victims } => self.resume(victims),
            Undo::RestoreKnob { path, ours, before } => self.restore_knob(path, ours, before),
            Undo::RemoveTraffic { injection } => self.remove_traffic(injection),
            Undo::RemoveBallast { ballast } => self.remove_ballast(ballast),
            Undo::RemovePath {
                injection,
                link,
                drain_ms,
                scaffolds,
                ..
            } => self.remove_path(injection, link, *drain_ms, scaffolds),
        }
    }

    fn empty_group(&mut self, group: &GroupId) -> Result<UndoOutcome, UndoError> {
        let found = self.hands.end_group(group, END_GROUP_WITHIN_MS)?;
        self.hands.remove_group(group)?;
        if self.had_traffic {
            self.tidy_table();
        }
        Ok(if found { UndoOutcome::Restored } else { UndoOutcome::AlreadyGone })
    }

    /// Ending by itself is a courtesy to what the worker holds; that it did not is no failure of this undo.
    fn drain_group(&mut self, group: &GroupId, within_ms: u64) -> Result<UndoOutcome, UndoError> {
        let members = self.view.group_members(group).unwrap_or_default();
        let left = self.hands.drain_group(group, within_ms.min(DRAIN_WITHIN_MS))?;
        if left > 0 {
            let held = members
                .iter()
                .find_map(|pid| PacketNote::parse(&self.view.worker_note(*pid).ok()??));
            let held = held.map_or(0, |note| note.held);
            tracing::warn!(
                group = group.0,
                held,
                "the worker did not end by itself: the packets that it holds are dropped"
            );
        }
        Ok(if members.is_empty() {
            UndoOutcome::AlreadyGone
        } else {
            UndoOutcome::Restored
        })
    }

    /// Each is tried whatever becomes of the others.
    fn resume(&mut self, victims: &[Victim]) -> Result<UndoOutcome, UndoError> {
        if !self.same_boot {
            return Ok(UndoOutcome::AlreadyGone);
        }
        let (mut resumed, mut by_others, mut failure) = (0, Vec::new(), None);
        for victim in victims {
            match self.resume_one(victim) {
                Ok(Found::Resumed) => resumed += 1,
                Ok(Found::Gone) => {}
                Ok(Found::Running) if self.may_blame => {
                    by_others.push(format!("{} (pid {}) was let go on by somebody else", victim.name, victim.pid));
                }
                Ok(Found::Running) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if !by_others.is_empty() => Ok(UndoOutcome::Drift { what: by_others }),
            None if resumed > 0 => Ok(UndoOutcome::Restored),
            None => Ok(UndoOutcome::AlreadyGone),
        }
    }

    fn resume_one(&mut self, victim: &Victim) -> Result<Found, UndoError> {
        let Some(process) = same_process(self.view, victim)? else {
            return Ok(Found::Gone);
        };
        match process.state {
            ProcessState::Stopped => {}
            ProcessState::Zombie | ProcessState::Dead => return Ok(Found::Gone),
            // A stop may still be on its way to one that runs inside the kernel; this takes it back.
            ProcessState::Running | ProcessState::Uninterruptible => {
                self.hands.continue_process(victim)?;
                return Ok(Found::Running);
            }
            _ => return Ok(Found::Running),
        }
        if !self.hands.continue_process(victim)? {
            return Ok(Found::Gone);
        }
        for look in 0..RESUME_LOOKS {
            if look > 0 {
                std::thread::sleep(RESUME_PAUSE);
            }
            let process = same_process(self.view, victim)?;
            if process.is_none_or(|p| p.state != ProcessState::Stopped) {
                return Ok(Found::Resumed);
            }
        }
        Err(UndoError::NoEffect(format!(
            "{} (pid {}) is still stopped",
            victim.name, victim.pid
        )))
    }

    fn restore_knob(&mut self, path: &str, ours: &str, before: &str) -> Result<UndoOutcome, UndoError> {
        if !may_set_knob(path) {
            return Err(UndoError::NoEffect(format!(
                "{path} is nothing that this agent sets: the journal is not ours"
            )));
        }
        match KnobState::of(self.view.knob(path)?.as_deref(), ours, before) {
            KnobState::Gone | KnobState::Before => Ok(UndoOutcome::AlreadyGone),
            KnobState::Foreign(value) => Ok(UndoOutcome::Drift {
                what: vec![format!(
                    "{path} reads {value:?}: neither ours ({ours:?}) nor the value from before ({before:?})"
                )],
            }),
            KnobState::Ours => {
                self.hands.write_knob(path, before)?;
                match KnobState::of(self.view.knob(path)?.as_deref(), ours, before) {
                    KnobState::Ours => Err(UndoError::NoEffect(format!(
                        "{path} still reads {ours:?} after {before:?} was written"
                    ))),
                    _ => Ok(UndoOutcome::Restored),
                }
            }
        }
    }

    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<UndoOutcome, UndoError> {
        let found = self.hands.remove_traffic(injection)?;
        self.tidy_table();
        Ok(if found { UndoOutcome::Restored } else { UndoOutcome::AlreadyGone })
    }

    /// The empty table harms nobody: that it stays is no failure of any undo.
    fn tidy_table(&mut self) {
        match self.view.our_traffic() {
            Ok(left) if left.is_empty() => {
                if let Err(error) = self.hands.remove_idle_table() {
                    tracing::warn!(error = with_causes(&error), "our idle packet table could not be removed");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = with_causes(&error), "our packet table could not be read"),
        }
    }

    /// A link that went while packets are led into it would swallow them, and those in it are lost with it: so this order.
    fn remove_path(
        &mut self,
        injection: &InjectionId,
        link: &str,
        drain_ms: u64,
        scaffolds: &[ScaffoldPlace],
    ) -> Result<UndoOutcome, UndoError> {
        if link != names::link_of(injection) {
            return Err(UndoError::NoEffect(format!("link {link:?} is not that of {injection}")));
        }
        let closed = self.hands.close_path(injection)?;
        let packets = self.hands.drain_path(injection, drain_ms.min(DRAIN_AT_MOST_MS))?;
        let removed = self.hands.remove_path(injection)?;
        let (cleared, by_others) = self.remove_scaffolds(scaffolds)?;
        if packets > 0 {
            tracing::warn!(injection = %injection, packets, "packets that were still under way were dropped with their path");
        }
        let found = closed || removed || cleared;
        Ok(match packets {
            _ if !by_others.is_empty() => UndoOutcome::Drift { what: by_others },
            0 if found => UndoOutcome::Restored,
            0 => UndoOutcome::AlreadyGone,
            packets => UndoOutcome::Dropped { packets },
        })
    }

    /// Whether one was removed, and what others made of them. Each is tried whatever becomes of the others.
    fn remove_scaffolds(&mut self, places: &[ScaffoldPlace]) -> Result<(bool, Vec<String>), UndoError> {
        // Interfaces are numbered anew at every boot, and a clsact does not outlive one.
        let places = if self.same_boot { places } else { &[] };
        let (mut removed, mut by_others, mut failure) = (false, Vec::new(), None);
        for place in places {
            match self.hands.remove_scaffold(place) {
                Ok(ScaffoldLeft::Removed) => removed = true,
                Ok(ScaffoldLeft::Gone | ScaffoldLeft::InUse | ScaffoldLeft::Foreign) => {}
                Ok(ScaffoldLeft::HandedOver { strangers }) => by_others.push(format!(
                    "the clsact of {} stays: {strangers} filters of somebody else hang on it",
                    place.interface
                )),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok((removed, by_others)), |error| Err(error.into()))
    }

    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<UndoOutcome, UndoError> {
        let path = ballast.path.display();
        if ballast.injection().is_none() {
            return Err(UndoError::NoEffect(format!("{path} does not carry our name")));
        }
        match BallastState::of(ballast, self.same_boot, self.view)? {
            BallastState::Gone => Ok(UndoOutcome::AlreadyGone),
            BallastState::Foreign => Ok(UndoOutcome::Drift {
                what: vec![format!("{path} is not the file that was made")],
            }),
            BallastState::Hidden => Err(UndoError::NoEffect(hidden(ballast))),
            BallastState::Moved(moved) => self.remove_moved(ballast, moved),
            BallastState::Ours => {
                self.hands.remove_ballast(ballast)?;
                match BallastState::of(ballast, self.same_boot, self.view)? {
                    BallastState::Ours => Err(UndoError::NoEffect(format!("{path} is still there"))),
                    BallastState::Moved(moved) => self.remove_moved(ballast, moved),
                    _ => Ok(UndoOutcome::Restored),
                }
            }
        }
    }

    /// Its space is given back whatever its name is, and each name that is found is removed.
    fn remove_moved(&mut self, ballast: &Ballast, mut moved: Moved) -> Result<UndoOutcome, UndoError> {
        let mut what = Vec::new();
        for _ in 0..MOST_NAMES {
            what.push(moved.says(ballast));
            self.hands
                .remove_moved_ballast(ballast, &moved.volume, moved.found.path.as_deref())?;
            match BallastState::of(ballast, self.same_boot, self.view)? {
                BallastState::Moved(left) if left.is_residue() => moved = left,
                BallastState::Ours => break,
                _ => return Ok(UndoOutcome::Drift { what }),
            }
        }
        Err(UndoError::NoEffect(format!(
            "{} was moved, and is still there: {}",
            ballast.path.display(),
            moved.says(ballast)
        )))
    }
}

fn ours(group: &str) -> Result<GroupId, UndoError> {
    if !group.starts_with(GroupId::PREFIX) || group.contains('/') {
        return Err(UndoError::NoEffect(format!("group {group:?} does not carry our name")));
    }
    Ok(GroupId(group.to_owned()))
}

/// How a victim was found.
enum Found {
    Resumed,
    Gone,
    Running,
}

/// Pids and start times are counted from boot: those of an earlier one name nobody.
pub(crate) fn is_of_this_boot(history: &History, view: &dyn HostView) -> bool {
    history.opened.boot_id == view.boot_id()
}

/// `None` when it has ended; a reused pid is somebody else.
pub(crate) fn same_process(view: &dyn HostView, victim: &Victim) -> Result<Option<Process>, agent_view::ViewError> {
    Ok(view.process(victim.pid)?.filter(|p| p.is(victim.pid, victim.start_time)))
}

/// What a touched knob reads now.
pub(crate) enum KnobState {
    Gone,
    Before,
    Ours,
    Foreign(String),
}

impl KnobState {
    pub(crate) fn of(now: Option<&str>, ours: &str, before: &str) -> Self {
        let Some(now) = now.map(str::trim) else { return Self::Gone };
        // The old freezer says so while it is on its way to FROZEN.
        let freezing = ours.trim() == "FROZEN" && now == "FREEZING";
        if now == before.trim() {
            Self::Before
        } else if now == ours.trim() || freezing {
            Self::Ours
        } else {
            Self::Foreign(now.to_owned())
        }
    }
}
