//! The levels of a service at a moment: each needs all of its requirements and all of the levels below. It reads no clock.

use proto_model::evidence::{LevelLine, Levels, Requirement, Standing};

use crate::known::Evidence;
use crate::requirements::{fail_tested, in_production, not_evaluated, on_a_cadence, on_a_dashboard, published, service_file};

/// Levels 1 to 5, lowest first, and how many of them are reached without a gap.
pub fn weigh(evidence: &Evidence<'_>) -> Levels {
    let mut levels = Vec::new();
    let mut reached = true;
    for (level, requirements) in (1..).zip(lines(evidence)) {
        let standing = own(&requirements);
        reached &= standing == Standing::Holds;
        levels.push(LevelLine {
            level,
            standing,
            reached,
            requirements,
        });
    }
    Levels {
        service: evidence.service.name.clone(),
        level: levels.iter().filter(|line| line.reached).map(|line| line.level).max().unwrap_or(0),
        at: evidence.now,
        levels,
        problem: None,
    }
}

fn own(requirements: &[Requirement]) -> Standing {
    let any = |standing| requirements.iter().any(|line| line.standing == standing);
    if any(Standing::Missing) {
        Standing::Missing
    } else if any(Standing::NotEvaluated) || requirements.is_empty() {
        Standing::NotEvaluated
    } else {
        Standing::Holds
    }
}

fn lines(evidence: &Evidence<'_>) -> [Vec<Requirement>; 5] {
    let not = not_evaluated;
    [
        vec![
            service_file(evidence),
            not(
                "probes_deliver",
                "each dependency's probe delivers data",
                "nothing asks the probes between runs yet",
            ),
            not(
                "agreed",
                "dev, test, operations and stakeholder signed each playbook",
                "signatures are not recorded yet",
            ),
            not(
                "exercised_by_hand",
                "disaster recovery was exercised by hand",
                "exercises of playbooks are not recorded yet",
            ),
        ],
        vec![fail_tested(evidence), published(evidence)],
        vec![on_a_cadence(evidence), on_a_dashboard(evidence), in_production(evidence)],
        vec![
            not("automated", "tests outside production are all automated", "nothing looks at it yet"),
            not("failover", "failover is semi-automated", "failover scripts are not recorded yet"),
        ],
        vec![
            not("in_the_pipeline", "every release has its run", "releases are not recorded yet"),
            not("fails_the_build", "a failure fails the build", "releases are not recorded yet"),
            not(
                "automated_in_production",
                "tests in production are automated",
                "nothing looks at it yet",
            ),
        ],
    ]
}
