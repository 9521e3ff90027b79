//! How a ballast file is found: at its path, moved elsewhere, gone, or where nobody can look; it changes none.

use std::path::PathBuf;

use agent_view::{FileFound, FileSeen, HostView, ViewError, Volume};

use crate::ballast::Ballast;

/// What a file system may keep of an empty file, such as its labels.
const OF_AN_EMPTY_FILE: u64 = 64 << 10;

pub(crate) enum BallastState {
    Gone,
    Ours,
    /// Something else is at its path.
    Foreign,
    /// Its volume is not mounted where it was, so nobody can say.
    Hidden,
    /// It is not at its path, but still on its volume.
    Moved(Moved),
}

/// A ballast file that its handle led to.
pub(crate) struct Moved {
    /// A folder of its volume.
    pub(crate) volume: PathBuf,
    pub(crate) found: FileFound,
}

impl Moved {
    fn takes_space(&self) -> bool {
        self.found.seen.size > 0 || self.found.seen.allocated > OF_AN_EMPTY_FILE
    }

    /// Without space and without a name that is known there is nothing to take back.
    pub(crate) fn is_residue(&self) -> bool {
        self.takes_space() || self.found.path.is_some()
    }

    pub(crate) fn says(&self, ballast: &Ballast) -> String {
        let was = ballast.path.display();
        match &self.found.path {
            Some(path) if *path == ballast.path => format!("{was} has other names too"),
            Some(path) => format!("{was} was found at {}, where somebody else put it", path.display()),
            None if self.found.links == 0 => format!("{was} was removed by somebody else, but is held open"),
            None => format!(
                "{was} was moved by somebody else on the volume of {}, its name is not known",
                self.volume.display()
            ),
        }
    }
}

/// Where a ballast file can be looked for.
struct Ground {
    /// A folder of its volume.
    volume: PathBuf,
    /// As `stat` numbers the volume now; after a reboot that says nothing.
    device: Option<u64>,
    /// Another volume is where its folder was.
    covered: bool,
}

impl BallastState {
    pub(crate) fn of(ballast: &Ballast, same_boot: bool, view: &dyn HostView) -> Result<Self, ViewError> {
        if ballast.volatile && !same_boot {
            return Ok(Self::Gone);
        }
        let Some(ground) = Ground::of(ballast, same_boot, view)? else {
            return Ok(if ballast.volatile { Self::Gone } else { Self::Hidden });
        };
        let at_path = if ground.covered {
            Self::Hidden
        } else {
            Self::at_path(ballast, &ground, view)?
        };
        match &ballast.handle {
            Some(_) if !matches!(at_path, Self::Ours) => Self::by_handle(ballast, ground, at_path, view),
            _ => Ok(at_path),
        }
    }

    fn at_path(ballast: &Ballast, ground: &Ground, view: &dyn HostView) -> Result<Self, ViewError> {
        let Some(found) = view.file(&ballast.path)? else {
            return Ok(Self::Gone);
        };
        // Ours was still empty when only its path was known; one that is not is judged by the record of its inode.
        if ballast.inode.is_none() && found.size > 0 {
            return Ok(Self::Gone);
        }
        let ours = ground.holds(ballast, &found);
        Ok(if ours { Self::Ours } else { Self::Foreign })
    }

    /// As the path tells it, unless the volume still knows the file.
    fn by_handle(ballast: &Ballast, ground: Ground, at_path: Self, view: &dyn HostView) -> Result<Self, ViewError> {
        let Some(handle) = &ballast.handle else { return Ok(at_path) };
        let folder = ballast.path.parent().unwrap_or(&ballast.path);
        let found = view.file_by_handle(&ground.volume, folder, handle.kind, &handle.bytes)?;
        let Some(found) = found.filter(|found| ground.holds(ballast, &found.seen)) else {
            return Ok(if ground.covered { Self::Gone } else { at_path });
        };
        // Its name may be below what is mounted there now.
        if ground.covered && found.path.is_none() && found.links > 0 {
            return Ok(Self::Hidden);
        }
        let moved = Moved {
            volume: ground.volume,
            found,
        };
        let really_gone = moved.found.links == 0 && !moved.takes_space();
        Ok(if really_gone { at_path } else { Self::Moved(moved) })
    }
}

impl Ground {
    /// `None` when its volume is not mounted where it was.
    fn of(ballast: &Ballast, same_boot: bool, view: &dyn HostView) -> Result<Option<Self>, ViewError> {
        let folder = ballast.path.parent().unwrap_or(&ballast.path);
        let in_folder = view.volume(folder)?.filter(|_| same_boot);
        if let Some(volume) = in_folder.as_ref().filter(|volume| is_of(ballast, volume)) {
            return Ok(Some(Self {
                volume: folder.to_owned(),
                device: Some(volume.device),
                covered: false,
            }));
        }
        let covered = in_folder.is_some();
        let mounted = view.volume(&ballast.mount_point)?.filter(|volume| {
            let known = !covered || is_of(ballast, volume);
            volume.mount_point == ballast.mount_point && known
        });
        Ok(mounted.map(|volume| Self {
            volume: ballast.mount_point.clone(),
            device: same_boot.then_some(if is_of(ballast, &volume) { volume.device } else { ballast.device }),
            covered,
        }))
    }

    /// Whether this is the ballast file.
    fn holds(&self, ballast: &Ballast, found: &FileSeen) -> bool {
        let same_volume = self.device.is_none_or(|device| device == found.device);
        found.regular && same_volume && ballast.inode.is_none_or(|inode| inode == found.inode)
    }
}

/// By the number that it has in this boot, or by its own when it is back from another device.
fn is_of(ballast: &Ballast, volume: &Volume) -> bool {
    volume.device == ballast.device || ballast.volume_id.is_some_and(|id| volume.id == Some(id))
}

/// Why nobody can say what became of a ballast file, and what would help.
pub(crate) fn hidden(ballast: &Ballast) -> String {
    let (path, point) = (ballast.path.display(), ballast.mount_point.display());
    format!("the volume of {path} is not mounted at {point} any more: mount it there, and the file is removed")
}
