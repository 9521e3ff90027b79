//! Steps made of steps: branches at the same time, groups in order, and rounds of either. What one fault is, is not read here.

use crate::experiment::WishedStep;
use controller_reader::{Fields, Located, Node, Reader};

/// Reads one step, whatever it is, with so many levels left below it.
pub(super) type ReadStep = fn(&mut Reader, &str, &Located, usize) -> Option<WishedStep>;

/// Faults and waits of one experiment, every round counted.
pub(super) const MOST_STEPS: usize = 200;
/// Levels of steps below each other.
pub(super) const DEEPEST: usize = 4;
/// Branches of one parallel step.
const BRANCHES: std::ops::RangeInclusive<usize> = 2..=20;
/// Rounds of one step.
const ROUNDS: std::ops::RangeInclusive<u64> = 1..=100;

/// The steps of one list.
pub(super) fn inner(reader: &mut Reader, path: &str, at: &Located, deeper: usize, read: ReadStep) -> Vec<WishedStep> {
    let items = reader.items(path, at, "steps");
    if items.len() > MOST_STEPS {
        reader.complain(path, at, format!("has {} steps", items.len()), format!("..{MOST_STEPS}"));
        return Vec::new();
    }
    let steps = items.iter().enumerate();
    steps
        .filter_map(|(i, item)| read(reader, &format!("{path}[{i}]"), item, deeper))
        .collect()
}

/// `parallel: [...]`
pub(super) fn parallel(reader: &mut Reader, path: &str, fields: &Fields<'_>, deeper: usize, read: ReadStep) -> Option<WishedStep> {
    let (list, at) = fields.get("parallel")?;
    let steps = below(reader, &list, at, deeper, read)?;
    if let Node::List(items) = &at.value
        && !BRANCHES.contains(&items.len())
    {
        let allowed = format!("{}..{}", BRANCHES.start(), BRANCHES.end());
        reader.complain(&list, at, format!("has {} branches", items.len()), allowed);
        return None;
    }
    Some(WishedStep::Parallel {
        path: path.to_owned(),
        steps,
    })
}

/// `steps: [...]` inside a step.
pub(super) fn group(reader: &mut Reader, path: &str, fields: &Fields<'_>, deeper: usize, read: ReadStep) -> Option<WishedStep> {
    let (list, at) = fields.get("steps")?;
    let steps = below(reader, &list, at, deeper, read)?;
    if matches!(&at.value, Node::List(items) if items.is_empty()) {
        reader.complain(&list, at, "is empty", "at least one step");
        return None;
    }
    Some(WishedStep::Sequence {
        path: path.to_owned(),
        steps,
    })
}

fn below(reader: &mut Reader, path: &str, at: &Located, deeper: usize, read: ReadStep) -> Option<Vec<WishedStep>> {
    if deeper > 1 {
        return Some(inner(reader, path, at, deeper - 1, read));
    }
    reader.complain(path, at, "is too deep", format!("{DEEPEST} levels of steps"));
    None
}

/// `repeat: N` writes the step out, a path for each round.
pub(super) fn repeated(reader: &mut Reader, path: &str, fields: &Fields<'_>, step: Option<WishedStep>) -> Option<WishedStep> {
    let Some((key, at)) = fields.get("repeat") else { return step };
    let number = match &at.value {
        Node::Number(number) => number.as_u64().filter(|n| ROUNDS.contains(n)),
        _ => None,
    };
    let Some(rounds) = number else {
        let allowed = format!("{}..{}", ROUNDS.start(), ROUNDS.end());
        reader.complain(&key, at, format!("{} is no number of rounds", at.value.name()), allowed);
        return None;
    };
    let step = step?;
    let count = step.leaves().saturating_mul(usize::try_from(rounds).unwrap_or(usize::MAX));
    if count > MOST_STEPS {
        reader.complain(
            &key,
            at,
            format!("{rounds} rounds make {count} steps"),
            format!("..{MOST_STEPS} steps"),
        );
        return None;
    }
    Some(WishedStep::Sequence {
        path: path.to_owned(),
        steps: (0..rounds)
            .map(|round| step.moved(path, &format!("{path}.round[{round}]")))
            .collect(),
    })
}
