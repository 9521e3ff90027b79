//! The lock that an agent holds as long as it runs: by it there is one agent on a host, and guards and packages see whether it is there.

use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
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

/// Whether an agent runs. A lock that cannot be opened is held by none.
pub fn is_held(path: &Path) -> bool {
    look(path).unwrap_or(false)
}

/// Waits until no agent runs. One that still does after `patience` is an error, and so is a lock that cannot be looked at.
pub fn wait_until_released(path: &Path, patience: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    while look(path).with_context(|| format!("see whether an agent runs: look at {}", path.display()))? {
        if Instant::now() >= until {
            bail!(still_runs(path, holder(path)));
        }
        std::thread::sleep(TRY_PAUSE);
    }
    Ok(())
}

/// Whether the lock is held. The look shares the lock, so that two looks at a time are no agent to each other.
fn look(path: &Path) -> std::io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn still_runs(path: &Path, holder: Option<u32>) -> String {
    let path = path.display();
    match holder {
        Some(pid) => format!(
            "an agent still runs on this host: process {pid} holds {path}; `systemctl status {pid}` names its unit, where it has one. Stop it by \
             what started it (a supervisor, a container), or by `kill {pid}` where nothing starts it again, then try again"
        ),
        None => format!(
            "an agent still runs on this host: a process that is not visible from here, perhaps one of a container, holds {path}. Stop it by what \
             started it, then try again"
        ),
    }
}

/// The process that holds the lock; none where the kernel does not show it here. What /proc/locks calls a file is not what `stat` calls it on
/// every file system, so the file is looked for among those that each process has open.
fn holder(path: &Path) -> Option<u32> {
    let file = std::fs::metadata(path).ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    flock_holders(&locks).find(|pid| has_open(*pid, &file))
}

/// Of lines such as `7: FLOCK  ADVISORY  WRITE 811 fe:00:10010666 0 EOF`; in those of processes that wait, an arrow follows the number, and the
/// process is 0 where it is of another namespace.
fn flock_holders(locks: &str) -> impl Iterator<Item = u32> {
    locks.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, "WRITE", pid, ..] => pid.parse::<u32>().ok().filter(|pid| *pid != 0),
            _ => None,
        }
    })
}

fn has_open(pid: u32, file: &Metadata) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut opened = entries.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok());
    opened.any(|one| (one.dev(), one.ino()) == (file.dev(), file.ino()))
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

    #[test]
    fn a_lock_is_waited_for_and_one_that_stays_held_is_an_error_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        wait_until_released(&path, Duration::ZERO).unwrap();
        let lock = acquire(&path).unwrap();
        let error = wait_until_released(&path, Duration::from_millis(100)).unwrap_err().to_string();
        let us = format!("process {} holds {}", std::process::id(), path.display());
        assert!(error.contains(&us) && error.contains("Stop it by what started it"), "{error}");
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(lock);
        });
        wait_until_released(&path, Duration::from_secs(60)).unwrap();
        ends.join().unwrap();
        // What cannot be looked at may hide an agent.
        assert!(wait_until_released(&dir.path().join("agent.lock/below"), Duration::ZERO).is_err());
    }

    #[test]
    fn only_processes_that_hold_a_whole_file_are_asked_which_one() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:1a:77 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 12 00:1a:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 00:1a:77 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 00:1a:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 00:1a:78 0 EOF\n";
        assert_eq!(flock_holders(locks).collect::<Vec<u32>>(), [13]);
        assert!(still_runs(Path::new("/run/fracas-agent/agent.lock"), None).contains("not visible"));
    }
}
