//! Whether the host's clock is synchronised, by what the kernel's own discipline says, and whether it was stepped; nothing is set.

use std::sync::OnceLock;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::presence::Presence;
use crate::distribution::Distribution;

/// Made by systemd-timesyncd at its first synchronisation since boot.
const TIMESYNCD: &str = "/run/systemd/timesync/synchronized";
/// STA_UNSYNC of include/uapi/linux/timex.h.
const UNSYNC: i32 = 0x40;
/// A smaller step is a leap second, or a correction of no consequence.
const STEP_MS: i64 = 1_500;
/// A process younger than this has seen nothing.
const WATCHED_MS: i64 = 60_000;

/// What the kernel's discipline says of the clock.
#[derive(Debug, Clone, Copy)]
struct Discipline {
    is_synchronised: bool,
    /// By its own estimate.
    most_off_us: i64,
}

pub(super) fn synchronised() -> Presence {
    judge(discipline(), std::path::Path::new(TIMESYNCD).exists(), Distribution::here())
}

fn discipline() -> std::io::Result<Discipline> {
    // SAFETY: timex is plain data for which zero is a valid value; with `modes` zero adjtimex only fills it in.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&mut timex), timex)
    };
    if state == -1 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(Discipline {
        is_synchronised: timex.status & UNSYNC == 0,
        most_off_us: timex.maxerror,
    })
}

fn judge(kernel: std::io::Result<Discipline>, timesyncd: bool, distribution: Distribution) -> Presence {
    match kernel {
        Ok(Discipline {
            is_synchronised: true,
            most_off_us,
        }) => Presence::described(format!("synchronised, at most {} ms off", most_off_us / 1_000)),
        Ok(_) => Presence::absent(
            "no time service keeps the clock synchronised (adjtimex: STA_UNSYNC)",
            distribution
                .time_service()
                .unwrap_or_else(|| "install and start a time service, such as chrony".to_owned()),
        ),
        Err(_) if timesyncd => Presence::described(format!("synchronised since boot by systemd-timesyncd ({TIMESYNCD})")),
        Err(error) => Presence::unknown(
            format!("the sandbox of this process hides the clock's state (adjtimex: {error})"),
            "timedatectl shows it",
        ),
    }
}

/// How far the wall clock is ahead of the time since boot: only setting it changes that, since both run at the same disciplined rate.
fn ahead_of_boot_ms() -> i64 {
    let milliseconds = |time: Timespec| time.tv_sec * 1_000 + time.tv_nsec / 1_000_000;
    milliseconds(clock_gettime(ClockId::Realtime)) - milliseconds(clock_gettime(ClockId::Boottime))
}

fn boot_ms() -> i64 {
    i64::try_from(crate::clock::boot_ms()).unwrap_or(i64::MAX)
}

/// Begins to watch the clock, once in a process: steps are seen from here on.
pub(crate) fn watch() -> (i64, i64) {
    static FIRST: OnceLock<(i64, i64)> = OnceLock::new();
    *FIRST.get_or_init(|| (ahead_of_boot_ms(), boot_ms()))
}

pub(super) fn steps() -> Presence {
    let (first_ahead, since) = watch();
    judge_steps(ahead_of_boot_ms() - first_ahead, boot_ms() - since)
}

fn judge_steps(moved_ms: i64, watched_ms: i64) -> Presence {
    let minutes = watched_ms / 60_000;
    if moved_ms.abs() >= STEP_MS {
        let seconds = moved_ms as f64 / 1_000.0;
        return Presence::absent(
            format!("the wall clock was stepped by {seconds:+.1} s in all in the {minutes} min since this process began"),
            "let one time service correct it slowly, with steps at boot only (chrony: makestep 1 3), then systemctl restart fracas-agent",
        );
    }
    if watched_ms < WATCHED_MS {
        return Presence::unknown(
            "only an agent that runs for a minute sees steps of the clock",
            "fracas hosts doctor asks the running agent",
        );
    }
    Presence::described(format!("no step in the {minutes} min since this process began"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_without_a_time_service_is_a_problem_and_a_hidden_one_is_not_evaluated() {
        let kernel = |is_synchronised| {
            Ok(Discipline {
                is_synchronised,
                most_off_us: 16_000,
            })
        };
        let denied = || Err(std::io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(
            judge(kernel(true), false, Distribution::Other),
            Presence::described("synchronised, at most 16 ms off")
        );
        let unknown = judge(kernel(false), false, Distribution::Other);
        assert!(matches!(unknown, Presence::Absent { fix, .. } if fix.contains("time service")));
        // What a time service said once is no word on the clock now.
        for timesyncd in [false, true] {
            let Presence::Absent { why, fix } = judge(kernel(false), timesyncd, Distribution::Debian) else {
                panic!("it is not synchronised")
            };
            assert!(why.contains("STA_UNSYNC") && fix.contains("chrony"), "{why}");
        }
        assert!(matches!(judge(denied(), true, Distribution::Other), Presence::Described { .. }));
        assert!(matches!(judge(denied(), false, Distribution::Other), Presence::Unknown { fix, .. } if fix.contains("timedatectl")));
    }

    #[test]
    fn steps_are_told_by_a_process_that_has_watched_for_a_while() {
        for (moved, watched, word) in [
            (0, 5_000, "unknown"),
            (1_000, 5_000, "unknown"),
            (0, 3_600_000, "described"),
            (-1_000, 3_600_000, "described"),
            (30_000, 3_600_000, "absent"),
            (-86_400_000, 5_000, "absent"),
        ] {
            let found = match judge_steps(moved, watched) {
                Presence::Unknown { .. } => "unknown",
                Presence::Described { .. } => "described",
                Presence::Absent { why, .. } => {
                    assert!(why.contains(&format!("{:+.1} s", moved as f64 / 1_000.0)), "{why}");
                    "absent"
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(found, word, "{moved} {watched}");
        }
        let (ahead, _) = watch();
        assert!(
            (ahead_of_boot_ms() - ahead).abs() < STEP_MS,
            "nothing steps the clock of this machine"
        );
    }
}
