//! Whether systemd starts the last guard of this host's faults, by the files of its unit; systemd itself is not asked.

use std::path::Path;

use super::presence::Presence;
use crate::units::{self, UnitState};

/// Starts the last guard when there is a journal of a fault.
const UNIT: &str = "fracas-guard.path";
/// It is there where systemd is process 1.
const SYSTEMD: &str = "/run/systemd/system";

pub(super) fn kept() -> Presence {
    if !Path::new(SYSTEMD).is_dir() {
        return Presence::unknown("systemd does not run here: what starts the last guard, if anything, is not known");
    }
    match units::state_of(UNIT) {
        Ok(state) => judge(state),
        Err(error) => Presence::unknown(format!("the units of systemd cannot be read: {error}")),
    }
}

fn judge(state: UnitState) -> Presence {
    let enable = || format!("systemctl enable --now {UNIT}");
    match state {
        UnitState::Enabled => Presence::Present,
        UnitState::Disabled => Presence::absent(
            format!("{UNIT} is disabled: it is there only when fracas-agent.service starts it"),
            enable(),
        ),
        UnitState::Masked => Presence::absent(format!("{UNIT} is masked"), format!("systemctl unmask {UNIT} && {}", enable())),
        UnitState::Absent => Presence::absent(format!("{UNIT} is not installed"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_guard_that_is_not_enabled_is_missing_and_the_fix_enables_it() {
        assert_eq!(judge(UnitState::Enabled), Presence::Present);
        for state in [UnitState::Disabled, UnitState::Masked] {
            let Presence::Absent { fix: Some(fix), .. } = judge(state) else {
                panic!("{state:?} is no guard")
            };
            assert!(fix.ends_with("systemctl enable --now fracas-guard.path"), "{fix}");
            assert_eq!(fix.contains("unmask"), state == UnitState::Masked);
        }
        assert!(matches!(judge(UnitState::Absent), Presence::Absent { fix: None, .. }));
    }
}
