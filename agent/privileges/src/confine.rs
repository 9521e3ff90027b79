//! Rights given up for good: from root to a user without any, or a root that keeps some capabilities; none comes back by executing.

use nix::unistd::{setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};

use crate::account::Account;

/// Why a process still has rights that it should not have. It must not go on.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("{action}: {source}")]
    Kernel { action: &'static str, source: std::io::Error },
    #[error("rights are given up by a process of one thread only, and this one has {0}")]
    Threads(usize),
    #[error("rights were given up, and /proc/self/status still says {found:?} (expected: {expected:?})")]
    Kept { found: String, expected: String },
}

/// Gives up everything but what it has of `keep`, then reads back from the kernel that it is so.
///
/// The process must have one thread: the kernel keeps these rights for each thread by itself. It needs to be root, with
/// CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
pub fn confine(account: Account, keep: CapabilitySet) -> Result<(), ConfineError> {
    one_thread()?;
    // A unit or a container may not have left root all of them.
    let keep = keep & capabilities(None).map_err(failed("read the capabilities"))?.permitted;
    set_no_new_privs(true).map_err(failed("forbid new privileges"))?;
    limit_bounding_set(CapabilitySet::empty())?;
    set_keep_capabilities(!keep.is_empty()).map_err(failed("keep capabilities"))?;
    setgroups(&[]).map_err(failed("leave all groups"))?;
    setresgid(account.gid, account.gid, account.gid).map_err(failed("change the group"))?;
    setresuid(account.uid, account.uid, account.uid).map_err(failed("change the user"))?;
    set_held(keep)?;
    verify(account, keep)
}

/// Stays the user that it is, and gives up every capability but what it has of `keep`, then reads back from the kernel that it is so.
///
/// The process must have one thread, and CAP_SETPCAP.
pub fn keep_only(keep: CapabilitySet) -> Result<(), ConfineError> {
    one_thread()?;
    let held = keep & capabilities(None).map_err(failed("read the capabilities"))?.permitted;
    limit_bounding_set(keep)?;
    set_held(held)?;
    let bounding = status()?
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .map(str::trim)
        .map(str::to_owned);
    let bounding = bounding.unwrap_or_default();
    if u64::from_str_radix(&bounding, 16).map_or(true, |bits| bits & !keep.bits() != 0) {
        return Err(ConfineError::Kept {
            found: format!("CapBnd: {bounding}"),
            expected: format!("none but {:016x}", keep.bits()),
        });
    }
    let held = format!("{:016x}", held.bits());
    let none = format!("{:016x}", 0);
    read_back([
        ("CapInh:", none.clone()),
        ("CapPrm:", held.clone()),
        ("CapEff:", held),
        ("CapAmb:", none),
    ])
}

/// What a program that is executed can have at most.
fn limit_bounding_set(keep: CapabilitySet) -> Result<(), ConfineError> {
    clear_ambient_capability_set().map_err(failed("clear the ambient capabilities"))?;
    for capability in CapabilitySet::all().iter().filter(|capability| !keep.contains(*capability)) {
        match remove_capability_from_bounding_set(capability) {
            // One that this kernel does not know is in no set.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(failed("reduce the bounding set")(error)),
        }
    }
    Ok(())
}

fn set_held(keep: CapabilitySet) -> Result<(), ConfineError> {
    let sets = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed("give up capabilities"))
}

fn failed<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |source| ConfineError::Kernel {
        action,
        source: source.into(),
    }
}

fn one_thread() -> Result<(), ConfineError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(failed("count the threads"))?.count();
    if threads == 1 {
        Ok(())
    } else {
        Err(ConfineError::Threads(threads))
    }
}

fn verify(account: Account, keep: CapabilitySet) -> Result<(), ConfineError> {
    let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
    let kept = format!("{:016x}", keep.bits());
    let none = format!("{:016x}", 0);
    read_back([
        ("Uid:", four(account.uid.as_raw())),
        ("Gid:", four(account.gid.as_raw())),
        ("Groups:", String::new()),
        ("CapInh:", none.clone()),
        ("CapPrm:", kept.clone()),
        ("CapEff:", kept),
        ("CapBnd:", none.clone()),
        ("CapAmb:", none),
        ("NoNewPrivs:", "1".to_owned()),
    ])
}

fn status() -> Result<String, ConfineError> {
    std::fs::read_to_string("/proc/self/status").map_err(failed("read /proc/self/status"))
}

fn read_back<const N: usize>(all: [(&str, String); N]) -> Result<(), ConfineError> {
    let status = status()?;
    for (key, expected) in all {
        let found = status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if found != Some(expected.as_str()) {
            let found = format!("{key} {}", found.unwrap_or("nothing"));
            return Err(ConfineError::Kept { found, expected });
        }
    }
    Ok(())
}
