//! Schedules and ticks as rows and as one page; pure text.

use jiff::tz::TimeZone;
use proto_model::schedule::{ScheduleDocument, Standing, TickDocument};
use proto_model::time::Timestamp;

use crate::age::{ago, now};
use crate::documents::Shown;
use crate::output::table;

impl Shown for ScheduleDocument {
    const KIND: &'static str = "Schedule";
    const PLURAL: &'static str = "schedules";

    fn name(&self) -> String {
        self.name.clone()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "NAME",
                "STATE",
                "CRON",
                "TZ",
                "NEXT",
                "LAST",
                "VERDICT",
                "DUE",
                "28 DAYS",
                "35 DAYS",
                "EXPERIMENT",
                "SERVICE",
                "ENV",
                "WINDOW",
                "MISSED",
                "BY",
                "AGE",
            ]
        } else {
            &[
                "NAME", "STATE", "CRON", "TZ", "NEXT", "LAST", "VERDICT", "DUE", "28 DAYS", "35 DAYS", "AGE",
            ]
        }
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut row = vec![
            self.name.clone(),
            state(self).to_owned(),
            self.cron.clone(),
            self.timezone.clone(),
            self.next.first().map(|at| local(*at, &self.timezone)).unwrap_or_default(),
            self.last.as_ref().map(|tick| last(tick, now)).unwrap_or_default(),
            self.verdict.map(|verdict| verdict.as_str().to_owned()).unwrap_or_default(),
            self.due.state.as_str().to_owned(),
            day(self.due.due_at),
            day(self.due.overdue_at),
        ];
        if wide {
            let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
            row.extend([
                self.experiment.clone(),
                or_empty(&self.service),
                or_empty(&self.environment),
                or_empty(&self.window),
                missed(self).to_owned(),
                self.created_by.clone(),
            ]);
        }
        row.push(ago(self.created_at, now));
        row
    }
}

fn state(schedule: &ScheduleDocument) -> &'static str {
    if schedule.paused { "paused" } else { "active" }
}

fn missed(schedule: &ScheduleDocument) -> &'static str {
    match schedule.missed {
        proto_model::schedule::MissedRule::Skip => "skip",
        proto_model::schedule::MissedRule::RunOnce => "run-once",
    }
}

/// `started 2h ago`, `skipped (freeze) 5m ago`
fn last(tick: &TickDocument, now: Timestamp) -> String {
    format!("{} {} ago", word(tick), ago(tick.planned_at, now))
}

fn word(tick: &TickDocument) -> String {
    match tick.reason {
        Some(reason) => format!("{} ({})", tick.state.as_str(), reason.as_str()),
        None => tick.state.as_str().to_owned(),
    }
}

/// To the minute, in the schedule's own zone.
fn local(at: Timestamp, zone: &str) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.0).ok();
    let zoned = moment.zip(TimeZone::get(zone).ok()).map(|(at, zone)| at.to_zoned(zone));
    zoned.map_or_else(|| at.to_string(), |zoned| zoned.strftime("%a %Y-%m-%d %H:%M").to_string())
}

/// The day of a mark, in UTC.
pub fn day(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string().chars().take(10).collect()).unwrap_or_default()
}

pub fn decided(standing: &Standing, now: Timestamp) -> String {
    let at = standing.last.as_ref().map(|decided| decided.at);
    at.map(|at| format!("{} ago", ago(at, now))).unwrap_or_default()
}

/// One schedule with all that is known of it.
pub fn page(schedule: &ScheduleDocument) -> Vec<String> {
    let now = now();
    let or_dash = |text: Option<&str>| table::or_dash(text.unwrap_or_default());
    let mut lines = vec![
        format!("schedule  {} ({})", schedule.name, state(schedule)),
        format!(
            "runs      {}, service {}, env {}",
            schedule.experiment,
            or_dash(schedule.service.as_deref()),
            or_dash(schedule.environment.as_deref())
        ),
        format!("cron      {} in {}", schedule.cron, schedule.timezone),
        format!("window    {}", schedule.window.as_deref().unwrap_or("always")),
        format!("missed    {}", missed(schedule)),
    ];
    lines.extend(schedule.set.iter().map(|(key, value)| format!("set       {key}={value}")));
    lines.extend(
        schedule
            .next
            .iter()
            .map(|at| format!("next      {}", local(*at, &schedule.timezone))),
    );
    let due = &schedule.due;
    lines.push(format!(
        "due       {}: last decided {}, due {}, overdue after {}",
        due.state.as_str(),
        table::or_dash(&decided(due, now)),
        table::or_dash(&day(due.due_at)),
        table::or_dash(&day(due.overdue_at))
    ));
    if !schedule.ticks.is_empty() {
        let rows: Vec<Vec<String>> = schedule.ticks.iter().map(|tick| tick_row(tick, &schedule.timezone)).collect();
        lines.push(String::new());
        lines.extend(table::lines(&["PLANNED", "TICK", "TIMES", "RUN", "BY", "WHY"], &rows));
    }
    lines
}

fn tick_row(tick: &TickDocument, zone: &str) -> Vec<String> {
    vec![
        local(tick.planned_at, zone),
        word(tick),
        tick.count.to_string(),
        tick.run.as_ref().map(ToString::to_string).unwrap_or_default(),
        tick.by.clone(),
        tick.message.clone().unwrap_or_default(),
    ]
}

/// What became of a tick that was asked for.
pub fn tick_lines(tick: &TickDocument) -> Vec<String> {
    let mut lines = vec![format!("tick      {}", word(tick))];
    lines.extend(tick.run.iter().map(|run| format!("run       {run}")));
    lines.extend(tick.message.iter().map(|why| format!("why       {why}")));
    lines
}
