//! Whether a guardian can hold on to its agent here, by a descriptor of the process (pidfd_open): a number may come to mean another one.

use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::presence::Presence;

/// Tries it on this process; the descriptor is closed at once.
pub(super) fn detect() -> Presence {
    judge(pidfd_open(getpid(), PidfdFlags::empty()).map(drop))
}

fn judge(opened: Result<(), Errno>) -> Presence {
    let consequence = "no guardian can hold on to this agent, so no fault is admitted";
    match opened {
        Ok(()) => Presence::Present,
        Err(Errno::NOSYS) => Presence::absent(
            format!("the kernel is too old: {consequence} (pidfd_open: ENOSYS; Linux 5.3 and later have it)"),
            "boot Linux 5.3 or later",
        ),
        Err(Errno::PERM) => Presence::absent(
            format!("a filter of system calls is in the way: {consequence} (pidfd_open: EPERM)"),
            "systemctl edit fracas-agent: below [Service] add SystemCallFilter=pidfd_open pidfd_send_signal, without a line that empties or forbids them later; then systemctl restart fracas-agent; in a container, its profile has to allow both",
        ),
        Err(error) => Presence::unknown(
            format!("whether a guardian can hold on to this agent is not known (pidfd_open: {error})"),
            "journalctl -u fracas-agent says whether its guardian has started; `sysctl fs.file-nr` shows whether the host is out of descriptors",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guardian_needs_a_kernel_and_a_filter_that_let_it_hold_a_process() {
        assert_eq!(judge(Ok(())), Presence::Present);
        for (error, says, fixed_by) in [
            (Errno::NOSYS, "kernel is too old", "boot Linux 5.3 or later"),
            (
                Errno::PERM,
                "filter of system calls",
                "SystemCallFilter=pidfd_open pidfd_send_signal",
            ),
        ] {
            let Presence::Absent { why, fix } = judge(Err(error)) else {
                panic!("{error} is no guardian")
            };
            assert!(why.contains(says) && why.contains("no fault is admitted"), "{why}");
            assert!(fix.contains(fixed_by), "{fix}");
        }
        assert!(matches!(judge(Err(Errno::MFILE)), Presence::Unknown { .. }));
    }

    #[test]
    fn the_units_that_undo_may_hold_a_process_whatever_the_groups_of_their_systemd_contain() {
        for unit in [
            include_str!("../../../../deploy/systemd/fracas-agent.service"),
            include_str!("../../../../deploy/systemd/fracas-guard.service"),
            include_str!("../../../../deploy/systemd/fracas-rescue.service"),
        ] {
            let filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
            let allowed: Vec<&str> = filters.flat_map(str::split_whitespace).collect();
            assert!(
                allowed.contains(&"pidfd_open") && allowed.contains(&"pidfd_send_signal"),
                "{allowed:?}"
            );
        }
    }
}
