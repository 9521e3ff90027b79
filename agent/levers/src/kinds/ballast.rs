//! Files that do nothing but use a volume's space: made empty, grown, and removed wherever they were moved.

use std::fmt;
use std::path::Path;

use agent_journal::UndoOutcome;
#[cfg(any(test, feature = "fake"))]
use agent_view::FileFound;
use agent_view::Volume;
use serde::{Deserialize, Serialize};

use super::{History, Lever, Undo, UndoContext, UndoError};
use crate::ballast::{self, Ballast, Made};
use crate::ballast_state::{BallastState, Moved, hidden};
use crate::clean_check::{CleanCheck, Recorded};
use crate::error::OpsError;
#[cfg(any(test, feature = "fake"))]
use crate::fake::FakeHost;
use crate::levers::{LeverError, Levers};
use crate::linux::LinuxOps;

/// How many names that others gave to a ballast file one undo removes.
const MOST_NAMES: usize = 16;

/// Empty and remove our ballast file, only if it is still that file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveBallast {
    pub ballast: Ballast,
}

/// Ballast files.
pub trait BallastOps {
    /// Makes a ballast file, empty and for root alone. Fails when anything is there already, or its folder is on another volume.
    fn make_ballast(&mut self, ballast: &Ballast) -> Result<Made, OpsError>;
    /// Gives it space without writing; false where the file system cannot.
    fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, OpsError>;
    /// Empties and removes it. Returns false when it is not there, or another file is.
    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<bool, OpsError>;
    /// Empties the file of its handle on the volume of a folder, and removes this name of it. Returns false when it is gone.
    fn remove_moved_ballast(&mut self, ballast: &Ballast, volume: &Path, name: Option<&Path>) -> Result<bool, OpsError>;
}

impl Levers<'_> {
    /// Makes this injection's ballast file in a folder of a volume, whose links were all followed; it is empty.
    pub fn make_ballast(&mut self, folder: &Path, volume: &Volume) -> Result<Ballast, LeverError> {
        let mut ballast = Ballast {
            path: Ballast::path_in(folder, &self.context().injection),
            mount_point: volume.mount_point.clone(),
            device: volume.device,
            volume_id: volume.id,
            inode: None,
            volatile: volume.is_memory(),
            handle: None,
        };
        self.intend(RemoveBallast { ballast: ballast.clone() })?;
        let made = self.ops().make_ballast(&ballast)?;
        (ballast.inode, ballast.handle) = (Some(made.inode), made.handle);
        // Before it takes any space it is known which file is ours.
        self.intend(RemoveBallast { ballast: ballast.clone() })?;
        Ok(ballast)
    }

    /// Lets it take `bytes` at once; false where the file system cannot, and nothing was done.
    pub fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, LeverError> {
        self.check_open()?;
        Ok(self.ops().grow_ballast(ballast, bytes)?)
    }
}

impl fmt::Display for RemoveBallast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", self.ballast.path.display())
    }
}

impl Lever for RemoveBallast {
    type Aim = ();

    /// The fullest record of the same file: the first was written before it was made, and knows only its path.
    fn complete(&self, history: &History) -> Self {
        if self.ballast.inode.is_some() {
            return self.clone();
        }
        let same = |(_, undo): &(u32, Undo)| match undo {
            Undo::RemoveBallast(other) if other.ballast.path == self.ballast.path && other.ballast.inode.is_some() => Some(other.clone()),
            _ => None,
        };
        history.intents.iter().rev().find_map(same).unwrap_or_else(|| self.clone())
    }

    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
        let ballast = &self.ballast;
        let path = ballast.path.display();
        if ballast.injection().is_none() {
            return Err(UndoError::NoEffect(format!("{path} does not carry our name")));
        }
        match BallastState::of(ballast, context.same_boot, context.view)? {
            BallastState::Gone => Ok(UndoOutcome::AlreadyGone),
            BallastState::Foreign => Ok(UndoOutcome::Drift {
                what: vec![format!("{path} is not the file that was made")],
            }),
            BallastState::Hidden => Err(UndoError::NoEffect(hidden(ballast))),
            BallastState::Moved(moved) => remove_moved(ballast, moved, context),
            BallastState::Ours => {
                context.ops.remove_ballast(ballast)?;
                match BallastState::of(ballast, context.same_boot, context.view)? {
                    BallastState::Ours => Err(UndoError::NoEffect(format!("{path} is still there"))),
                    BallastState::Moved(moved) => remove_moved(ballast, moved, context),
                    _ => Ok(UndoOutcome::Restored),
                }
            }
        }
    }

    fn verify(&self, check: &mut CleanCheck<'_>, recorded: Recorded) {
        let ballast = &self.ballast;
        match check.seen(BallastState::of(ballast, recorded.same_boot, check.view())) {
            Some(BallastState::Ours) => check.owned_left(format!("file {}", ballast.path.display())),
            Some(BallastState::Moved(moved)) if moved.is_residue() => check.owned_left(moved.says(ballast)),
            Some(BallastState::Hidden) if !recorded.undone => check.not_restored(hidden(ballast)),
            _ => {}
        }
    }

    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError> {
        let folder = Path::new("/var/lib");
        let volume = levers.view().volume(folder)?.expect("an ordinary fake host has it");
        let ballast = levers.make_ballast(folder, &volume)?;
        levers.grow_ballast(&ballast, 1 << 20).map(|_| ())
    }
}

/// Its space is given back whatever its name is, and each name that is found is removed.
fn remove_moved(ballast: &Ballast, mut moved: Moved, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
    let mut what = Vec::new();
    for _ in 0..MOST_NAMES {
        what.push(moved.says(ballast));
        context
            .ops
            .remove_moved_ballast(ballast, &moved.volume, moved.found.path.as_deref())?;
        match BallastState::of(ballast, context.same_boot, context.view)? {
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

impl BallastOps for LinuxOps {
    fn make_ballast(&mut self, ballast: &Ballast) -> Result<Made, OpsError> {
        ballast::make(&ballast.path, ballast.device).map_err(|e| OpsError::new(format!("make {}", ballast.path.display()), e))
    }

    fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, OpsError> {
        ballast::grow(ballast, bytes).map_err(|e| OpsError::new(format!("give {} {bytes} bytes", ballast.path.display()), e))
    }

    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<bool, OpsError> {
        ballast::remove(ballast).map_err(|e| OpsError::new(format!("remove {}", ballast.path.display()), e))
    }

    fn remove_moved_ballast(&mut self, ballast: &Ballast, volume: &Path, name: Option<&Path>) -> Result<bool, OpsError> {
        let action = || format!("remove {}, which was moved", ballast.path.display());
        ballast::remove_moved(ballast, volume, name).map_err(|e| OpsError::new(action(), e))
    }
}

#[cfg(any(test, feature = "fake"))]
impl BallastOps for FakeHost {
    fn make_ballast(&mut self, ballast: &Ballast) -> Result<Made, OpsError> {
        self.call(&format!("make {}", ballast.path.display()), |state| {
            state.resources.make_file(&ballast.path)
        })
    }

    fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, OpsError> {
        self.call(&format!("grow {}", ballast.path.display()), |state| {
            state.resources.grow_file(&ballast.path, ballast.inode, bytes)
        })
    }

    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<bool, OpsError> {
        self.undo(&format!("remove {}", ballast.path.display()), |state| {
            Ok(state.resources.remove_file(&ballast.path, ballast.inode))
        })
    }

    fn remove_moved_ballast(&mut self, ballast: &Ballast, volume: &Path, name: Option<&Path>) -> Result<bool, OpsError> {
        self.undo(&format!("remove {}, which was moved", ballast.path.display()), |state| {
            let handle = ballast.handle.as_ref();
            let found = handle.and_then(|handle| state.resources.by_handle(volume, &handle.bytes));
            let is_it = |found: &&FileFound| Some(found.seen.inode) == ballast.inode && found.path.as_deref() == name;
            Ok(match (found.as_ref().filter(is_it), name) {
                (Some(_), Some(name)) => state.resources.remove_file(name, ballast.inode),
                _ => false,
            })
        })
    }
}
