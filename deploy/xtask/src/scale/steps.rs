//! How long a run rests between two steps.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::figures::{Figure, percentile};
use super::site::{Site, Tool};

const STEPS: usize = 12;
const BETWEEN: Duration = Duration::from_millis(5);
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);

pub fn measure(figures: &mut Vec<Figure>) -> Result<()> {
    eprintln!("a run of {STEPS} steps");
    let mut site = Site::new()?;
    site.start()?;
    let (mut fleet, _) = Tool::fleet(site.agents(), &site.token(1)?, 1, 0)?;
    fleet.until("the host is connected", CONNECTED_WITHIN, |counts| counts["connected"] == 1)?;
    let file = site.folder().join("steps.yaml");
    let step = "  - { fault: cpu.burn, params: { percent: 10 }, on: { labels: env=staging }, duration: 3s }\n";
    let text = format!(
        "apiVersion: fracas/v1\nkind: Experiment\nname: steps\nenvironment: staging\nsteps:\n{}",
        step.repeat(STEPS)
    );
    std::fs::write(&file, text)?;
    let run = site.json(&["run", file.to_str().context("a path is text")?])?;
    let id = run["id"].as_str().with_context(|| format!("a run has an id: {run}"))?;
    let listed = site.json(&["runs", "events", id])?;
    let events = listed["items"].as_array().or(listed.as_array()).context("a run has events")?;
    let mut gaps = Vec::new();
    let mut ended = None;
    for event in events {
        match event["type"].as_str() {
            Some("step.ended") => ended = Some(at_ms(event)?),
            Some("step.started") => gaps.extend(ended.take().map(|ended| at_ms(event).map(|at| at - ended)).transpose()?),
            _ => {}
        }
    }
    if gaps.len() + 1 != STEPS {
        bail!("{} gaps between {STEPS} steps", gaps.len());
    }
    let gaps: Vec<Duration> = gaps
        .into_iter()
        .map(|gap| Duration::from_millis(gap.try_into().unwrap_or(0)))
        .collect();
    figures.push(Figure::within(
        format!("between two steps of a run, worst of {}", gaps.len()),
        percentile(gaps, 100),
        BETWEEN,
    ));
    Ok(())
}

/// Milliseconds within the day of an event's `at`, which is RFC 3339 in UTC with milliseconds.
fn at_ms(event: &Value) -> Result<i64> {
    let at = event["at"].as_str().context("an event has its time")?;
    let clock = at.get(11..23).with_context(|| format!("{at} has hours, minutes and seconds"))?;
    let parts: Vec<&str> = clock.split([':', '.']).collect();
    let [hours, minutes, seconds, millis] = parts[..] else {
        bail!("{at} has no milliseconds")
    };
    let number = |text: &str| text.parse::<i64>().with_context(|| format!("read {at}"));
    Ok(((number(hours)? * 60 + number(minutes)?) * 60 + number(seconds)?) * 1_000 + number(millis)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_events_are_read_to_the_millisecond() {
        let at = |text: &str| at_ms(&serde_json::json!({ "at": text })).unwrap();
        assert_eq!(at("2026-11-26T01:02:03.004Z"), 3_723_004);
        assert!(at_ms(&serde_json::json!({ "at": "2026-11-26T01:02:03Z" })).is_err());
    }
}
