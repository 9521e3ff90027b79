//! Whether systemd starts the last guard of this host's faults, by the files of its unit; systemd itself is not asked.

use std::path::Path;

use super::presence::Presence;
use crate::distribution::Distribution;
use crate::units::{self, UnitState};

/// Starts the last guard when there is a journal of a fault.
const UNIT: &str = "fracas-guard.path";
/// It brings the unit.
const PACKAGE: &str = "fracas-agent";
/// It is there where systemd is process 1.
const SYSTEMD: &str = "/run/systemd/system";

pub(super) fn detect() -> Presence {
    if !Path::new(SYSTEMD).is_dir() {
        return Presence::unknown(
            "systemd does not run here: what starts the last guard, if anything, is not known",
            "have what starts services here keep `fracas-agent rescue --watch` running",
        );
    }
    judge(units::state_of(UNIT), Distribution::here())
}

fn judge(state: UnitState, distribution: Distribution) -> Presence {
    let consequence = "only the agent's own unit (ExecStopPost=) and the next start undo then";
    match state {
        // fracas-agent.service wants the unit, and starts it also where it is disabled.
        UnitState::Startable => Presence::Present,
        UnitState::Masked => Presence::absent(
            format!("{UNIT} is masked: {consequence}"),
            format!("systemctl unmask {UNIT} && systemctl start {UNIT}"),
        ),
        UnitState::Absent => Presence::absent(format!("{UNIT} is not installed: {consequence}"), distribution.reinstalls(PACKAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_guard_is_missing_where_its_unit_cannot_be_started() {
        let judged = |state| judge(state, Distribution::Debian);
        assert_eq!(judged(UnitState::Startable), Presence::Present);
        let Presence::Absent { why, fix } = judged(UnitState::Masked) else {
            panic!("a masked unit is no guard")
        };
        assert!(why.contains("ExecStopPost="), "{why}");
        assert_eq!(fix, "systemctl unmask fracas-guard.path && systemctl start fracas-guard.path");
        let Presence::Absent { why, fix } = judged(UnitState::Absent) else {
            panic!("a unit that is not there is no guard")
        };
        assert!(why.contains("is not installed"), "{why}");
        assert_eq!(fix, "apt install --reinstall ./fracas-agent_*.deb");
    }

    #[test]
    fn the_agents_unit_wants_the_unit_that_starts_the_last_guard() {
        let unit = include_str!("../../../../deploy/systemd/fracas-agent.service");
        let wants = unit.lines().filter_map(|line| line.strip_prefix("Wants="));
        assert!(wants.flat_map(str::split_whitespace).any(|wanted| wanted == UNIT));
    }
}
