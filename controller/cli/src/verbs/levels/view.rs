//! Levels as a row, as a page, and as what is missing: pure text. Lines that hold are never shown as a level that is reached.

use proto_model::evidence::{LevelLine, Levels, Requirement, Standing, Witness};
use proto_model::time::Timestamp;

use crate::age::ago;
use crate::documents::Shown;

/// Levels that have a column.
const COLUMNS: usize = 5;
/// Characters of the column of standings.
const COLUMN: usize = 14;
/// Runs that stand below one requirement; more are in the JSON.
const WITNESSES: usize = 5;

impl Shown for Levels {
    const KIND: &'static str = "Levels";
    const PLURAL: &'static str = "services";

    fn name(&self) -> String {
        self.service.clone()
    }

    fn header(_: bool) -> &'static [&'static str] {
        &[
            "NAME",
            "LEVEL",
            "LINES OF 1",
            "LINES OF 2",
            "LINES OF 3",
            "LINES OF 4",
            "LINES OF 5",
            "AGE",
        ]
    }

    fn row(&self, _: bool, now: Timestamp) -> Vec<String> {
        let mut row = vec![self.service.clone(), self.level.to_string()];
        let standing = |at: usize| self.levels.get(at).map_or("-", |line| line.standing.as_str()).to_owned();
        row.extend((0..COLUMNS).map(standing));
        let newest = self
            .levels
            .iter()
            .flat_map(|line| &line.requirements)
            .flat_map(|r| &r.evidence)
            .map(|w| w.at)
            .max();
        row.push(newest.map(|at| ago(at, now)).unwrap_or_default());
        row
    }
}

/// The level, and every requirement with its evidence.
pub fn page(levels: &Levels, now: Timestamp, word: impl Fn(&str) -> String) -> Vec<String> {
    let mut lines = vec![format!("service   {}", levels.service), format!("level     {}", levels.level)];
    lines.extend(levels.problem.iter().map(|problem| format!("problem   {problem}")));
    for line in &levels.levels {
        lines.push(String::new());
        lines.push(format!("level {}: {}", line.level, heading(line, levels)));
        for requirement in &line.requirements {
            let standing = requirement.standing.as_str();
            // Padded by the word's own length: colours have none.
            let pad = " ".repeat(COLUMN.saturating_sub(standing.len()));
            lines.push(format!("  {}{pad}{}", word(standing), requirement.title));
            lines.extend(requirement.says.iter().map(|says| format!("                {says}")));
            lines.extend(requirement.holds_until.map(|at| format!("                holds until {at}")));
            lines.extend(
                requirement
                    .warning
                    .iter()
                    .map(|warning| format!("                warning: {warning}")),
            );
            lines.extend(requirement.evidence.iter().take(WITNESSES).map(|w| witness("run", w, now)));
            let passed_over = requirement.passed_over.iter().take(WITNESSES);
            lines.extend(passed_over.map(|w| witness("not counted: run", w, now)));
        }
    }
    lines
}

fn witness(what: &str, witness: &Witness, now: Timestamp) -> String {
    let (verdict, age) = (witness.verdict.as_str(), ago(witness.at, now));
    let why = witness.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!(
        "                {what} {} {} {verdict} in {} {age} ago{why}",
        witness.run, witness.name, witness.environment
    )
}

fn heading(line: &LevelLine, levels: &Levels) -> String {
    if line.reached {
        return "reached".to_owned();
    }
    let below = levels.levels.iter().find(|l| l.level < line.level && l.standing != Standing::Holds);
    match (line.standing, below) {
        (Standing::Holds, Some(below)) => {
            format!(
                "its lines hold; not reached, because level {} is {}",
                below.level,
                below.standing.as_str()
            )
        }
        (standing, _) => format!("not reached, {}", standing.as_str()),
    }
}

/// Whatever keeps the service from this level, lowest first.
pub fn why(levels: &Levels, level: u8, now: Timestamp, word: impl Fn(&str) -> String) -> Vec<String> {
    if let Some(problem) = &levels.problem
        && levels.levels.is_empty()
    {
        return vec![problem.clone()];
    }
    let up_to = || levels.levels.iter().filter(|line| line.level <= level);
    if up_to().all(|line| line.standing == Standing::Holds) {
        let warnings = up_to().flat_map(|line| &line.requirements).filter_map(|r| r.warning.as_ref());
        let mut lines = vec![format!("{} has reached level {level}", levels.service)];
        lines.extend(warnings.map(|warning| format!("warning: {warning}")));
        return lines;
    }
    let mut lines = vec![format!(
        "{} is at level {}; of level {level} and those below:",
        levels.service, levels.level
    )];
    for line in up_to() {
        let failing = line.requirements.iter().filter(|r| r.standing != Standing::Holds);
        failing.for_each(|requirement| lines.extend(missing(line.level, requirement, now, &word)));
    }
    lines
}

fn missing(level: u8, requirement: &Requirement, now: Timestamp, word: impl Fn(&str) -> String) -> Vec<String> {
    let standing = word(requirement.standing.as_str());
    let mut lines = vec![format!("level {level}  {standing}: {}", requirement.title)];
    lines.extend(requirement.says.iter().map(|says| format!("         {says}")));
    let excluded = requirement.passed_over.iter().take(WITNESSES);
    lines.extend(excluded.map(|w| witness("not counted: run", w, now)));
    lines.extend(requirement.next.iter().map(|next| format!("         next: {next}")));
    lines
}
