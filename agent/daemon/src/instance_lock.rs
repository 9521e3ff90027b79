//! The lock that an agent holds as long as it runs: by it there is one agent on a host, and guards see whether it is there.

use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::OFlags;

/// How long a predecessor may take to end.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(5);
/// Between two tries to take the lock.
const TRY_PAUSE: Duration = Duration::from_millis(50);

/// Takes the lock, which is held until the file is closed. Two agents on one host would undo each other's work.
pub fn acquire(path: &Path) -> anyhow::Result<File> {
    let file = private_file(path).with_context(|| format!("make {}", path.display()))?;
    let until = Instant::now() + PREDECESSOR_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                bail!("another agent runs on this host: it holds {}", path.display())
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_PAUSE),
        }
    }
}

/// Whether an agent runs. A lock that cannot be opened is held by none. The look shares the lock, so that two looks at a time are no agent
/// to each other.
pub fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Any process that can open a file can lock it, so only root may open this one, also where it was made with other rights.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_held_until_its_file_is_closed_and_is_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        assert!(!is_held(&path), "a lock that was never taken is held by none");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let look = File::open(&path).unwrap();
        look.try_lock_shared().unwrap();
        assert!(!is_held(&path), "another look is no agent");
        drop(look);
        let lock = acquire(&path).unwrap();
        assert!(is_held(&path));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(lock);
        assert!(!is_held(&path));
    }
}
