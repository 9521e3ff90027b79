//! One line of the table: what was measured, under which load, and whether its goal is met.

use std::fmt::Write as _;
use std::time::Duration;

/// A figure with its goal.
pub struct Figure {
    what: String,
    ours: String,
    peer: String,
    goal: String,
    met: Option<bool>,
    load: String,
}

impl Figure {
    /// Met when it is not above the goal.
    pub fn at_most(what: impl Into<String>, value: f64, unit: &str, goal: f64) -> Self {
        Self {
            what: what.into(),
            ours: format!("{} {unit}", short(value)),
            peer: String::new(),
            goal: format!("at most {} {unit}", short(goal)),
            met: Some(value <= goal),
            load: load(),
        }
    }

    pub fn within(what: impl Into<String>, value: Duration, goal: Duration) -> Self {
        Self::at_most(what, value.as_secs_f64() * 1_000.0, "ms", goal.as_secs_f64() * 1_000.0)
    }

    /// Without a goal of its own.
    pub fn stated(what: impl Into<String>, ours: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ours: ours.into(),
            peer: String::new(),
            goal: "stated".to_owned(),
            met: None,
            load: load(),
        }
    }

    /// What should have happened and did, or did not.
    pub fn expected(what: impl Into<String>, ours: impl Into<String>, goal: &str, met: bool) -> Self {
        Self {
            what: what.into(),
            ours: ours.into(),
            peer: String::new(),
            goal: goal.to_owned(),
            met: Some(met),
            load: load(),
        }
    }

    pub fn beside(mut self, peer: impl Into<String>) -> Self {
        self.peer = peer.into();
        self
    }
}

fn short(value: f64) -> String {
    let rounded = if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    };
    rounded.strip_suffix(".0").map(str::to_owned).unwrap_or(rounded)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| what | ours | peer | goal | met | load |\n|---|---|---|---|---|---|\n");
    for figure in figures {
        let met = match figure.met {
            Some(true) => "yes",
            Some(false) => "**missed**",
            None => "",
        };
        let Figure {
            what,
            ours,
            peer,
            goal,
            load,
            ..
        } = figure;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {what} | {ours} | {peer} | {goal} | {met} | {load} |");
    }
    text
}

/// The value below which so many percent of them are, by nearest rank.
pub fn percentile(mut values: Vec<Duration>, percent: usize) -> Duration {
    values.sort();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_says_so() {
        let figures = [
            Figure::at_most("a", 41.0, "KiB", 40.0),
            Figure::at_most("b", 40.0, "KiB", 40.0).beside("30 KiB"),
        ];
        let table = table(&figures);
        assert!(table.contains("| a | 41 KiB |  | at most 40 KiB | **missed** |"), "{table}");
        assert!(table.contains("| b | 40 KiB | 30 KiB | at most 40 KiB | yes |"), "{table}");
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<Duration> = (1..=10).map(Duration::from_secs).collect();
        assert_eq!(percentile(values.clone(), 50).as_secs(), 5);
        assert_eq!(percentile(values, 99).as_secs(), 10);
        assert_eq!(percentile(vec![], 99), Duration::ZERO);
    }
}
