//! When a schedule is planned for: a cron pattern in a time zone, and the windows in which it may start. Pure: whoever asks brings the time.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::tz::TimeZone;
use proto_model::catalogue::nearest;
use proto_model::problem::{Problem, Problems};
use proto_model::time::Timestamp;

use crate::window::Windows;

/// Planned times looked at when a schedule is added, to see whether its windows ever let one start.
const LOOK_AHEAD: usize = 1_000;
/// Planned times that are counted one by one; of a longer stretch the count is at least this.
pub const COUNTED: u32 = 100_000;

const CRON: &str = "minute 0-59, hour 0-23, day 1-31, month 1-12 and weekday 0-7, such as '0 3 * * 2', with * , - / and names, or @daily";
const ZONE: &str = "a name of the time zone database, such as Europe/Berlin or UTC";

/// A schedule's texts, understood.
#[derive(Debug, Clone)]
pub struct Cadence {
    cron: Cron,
    zone: TimeZone,
    windows: Option<Windows>,
}

/// The planned times of a stretch, as far as anybody needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrences {
    pub last: Timestamp,
    /// The one before the last.
    pub earlier: Option<Timestamp>,
    pub count: u32,
}

impl Cadence {
    /// Every text that is wrong is named.
    pub fn parse(cron: &str, timezone: &str, window: Option<&str>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let refused = |path: &str, why: String, allowed: &str| Problem::new(path, why).allowed(allowed);
        let pattern = parser.parse(cron);
        if let Err(error) = &pattern {
            let why = error.to_string();
            let why = why.trim_end_matches('.');
            problems.push(refused("cron", format!("{cron:?} is no cron pattern: {why}"), CRON));
        }
        let zone = TimeZone::get(timezone);
        if zone.is_err() {
            problems.push(refused("tz", no_zone(timezone), ZONE));
        }
        let windows = window.map(Windows::parse).transpose();
        if let Err(problem) = &windows {
            problems.push(problem.clone());
        }
        match (pattern, zone, windows) {
            (Ok(cron), Ok(zone), Ok(windows)) => Ok(Self { cron, zone, windows }),
            _ => Err(problems),
        }
    }

    /// The first planned time after this moment; `None` when there is none in the pattern's reach.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.local(at)?, false).ok()?;
        Some(Timestamp(next.timestamp().as_millisecond()))
    }

    /// The next planned times in whose moment a window is open.
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let times = std::iter::successors(self.next_after(after), |at| self.next_after(*at)).take(LOOK_AHEAD);
        times.filter(|at| self.may_start(*at)).take(count).collect()
    }

    /// The planned times after `from`, up to and with `until`.
    pub fn between(&self, from: Timestamp, until: Timestamp) -> Option<Occurrences> {
        let first = self.next_after(from).filter(|at| *at <= until)?;
        let mut found = Occurrences {
            last: first,
            earlier: None,
            count: 1,
        };
        while found.count < COUNTED {
            let Some(next) = self.next_after(found.last).filter(|at| *at <= until) else {
                return Some(found);
            };
            found = Occurrences {
                last: next,
                earlier: Some(found.last),
                count: found.count + 1,
            };
        }
        self.jumped(found, until)
    }

    /// The end of a stretch that is too long to be counted.
    fn jumped(&self, counted: Occurrences, until: Timestamp) -> Option<Occurrences> {
        let before = |at: Timestamp, inclusive: bool| {
            let found = self.cron.find_previous_occurrence(&self.local(at)?, inclusive).ok()?;
            Some(Timestamp(found.timestamp().as_millisecond()))
        };
        let last = before(until, true)?;
        Some(Occurrences {
            last,
            earlier: before(last, false),
            ..counted
        })
    }

    /// Whether a window is open.
    pub fn may_start(&self, at: Timestamp) -> bool {
        match (&self.windows, self.local(at)) {
            (None, _) => true,
            (Some(windows), Some(local)) => windows.hold(&local),
            (Some(_), None) => false,
        }
    }

    fn local(&self, at: Timestamp) -> Option<Zoned> {
        let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

/// Says that there is no such time zone, and which one comes near.
pub(crate) fn no_zone(name: &str) -> String {
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let near = nearest(name, known.iter().map(String::as_str)).map(|near| format!("; did you mean {near}?"));
    format!("{name:?} is no time zone{}", near.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn cadence(cron: &str, zone: &str) -> Cadence {
        Cadence::parse(cron, zone, None).unwrap()
    }

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let times = cadence(cron, zone).upcoming(at(after), count);
        times.iter().map(|at| at.to_string().replace(":00.000Z", "")).collect()
    }

    #[test]
    fn tuesdays_at_three_in_berlin_move_with_the_clock() {
        // 2026-10-25 is the end of summer time: 03:00 is 01:00 UTC before and 02:00 UTC after it.
        assert_eq!(
            times("0 3 * * 2", "Europe/Berlin", "2026-10-19T12:00:00Z", 3),
            ["2026-10-20T01:00", "2026-10-27T02:00", "2026-11-03T02:00"]
        );
        assert_eq!(
            times("0 3 * * 2", "UTC", "2026-10-19T12:00:00Z", 2),
            ["2026-10-20T03:00", "2026-10-27T03:00"]
        );
    }

    #[test]
    fn a_time_that_does_not_exist_is_made_up_for_right_after_the_gap() {
        // On 2026-03-29 Berlin has no 02:30; the first moment after the gap is 03:00 local, 01:00 UTC.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]
        );
    }

    #[test]
    fn a_time_that_comes_twice_is_planned_once() {
        // On 2026-10-25 Berlin has 02:30 twice, at 00:30 and at 01:30 UTC.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3),
            ["2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30"]
        );
        let between = cadence("30 2 * * *", "Europe/Berlin").between(at("2026-10-25T00:00:00Z"), at("2026-10-25T05:00:00Z"));
        assert_eq!(between.unwrap().count, 1);
    }

    #[test]
    fn every_minute_stays_every_minute_through_gap_and_overlap() {
        let minutes = cadence("* * * * *", "Europe/Berlin");
        for (from, until) in [
            ("2026-03-29T00:30:00Z", "2026-03-29T02:30:00Z"),
            ("2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
        ] {
            assert_eq!(minutes.between(at(from), at(until)).unwrap().count, 120, "{from}");
        }
    }

    #[test]
    fn a_stretch_is_counted_with_its_last_two() {
        let hourly = cadence("0 * * * *", "UTC");
        let found = hourly.between(at("2026-01-01T00:00:00Z"), at("2026-01-01T03:10:00Z")).unwrap();
        assert_eq!(
            (found.count, found.last, found.earlier),
            (3, at("2026-01-01T03:00:00Z"), Some(at("2026-01-01T02:00:00Z")))
        );
        assert_eq!(hourly.between(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:59:59Z")), None);
        // Both ends at a planned time: the first is over, the last is not.
        assert_eq!(
            hourly
                .between(at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z"))
                .unwrap()
                .count,
            1
        );
    }

    #[test]
    fn a_stretch_of_years_ends_where_it_ends_and_counts_at_least() {
        let found = cadence("* * * * *", "UTC")
            .between(at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:30Z"))
            .unwrap();
        assert_eq!(
            (found.count, found.last, found.earlier),
            (COUNTED, at("2026-01-01T00:00:00Z"), Some(at("2025-12-31T23:59:00Z")))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_expected() {
        let refused = |cron: &str, zone: &str, window: Option<&str>| Cadence::parse(cron, zone, window).unwrap_err().to_string();
        for cron in ["", "0 3 * *", "0 0 3 * * 2", "61 * * * *", "every tuesday"] {
            let text = refused(cron, "UTC", None);
            assert!(
                text.contains("minute 0-59, hour 0-23") && text.starts_with("cron: ") && !text.contains(". ("),
                "{cron}: {text}"
            );
        }
        let both = refused("0 3 * * 9", "Europe/Berlim", Some("Mon 9-16"));
        assert!(
            both.contains("Europe/Berlim") && both.contains("cron") && both.contains("Mon 9-16"),
            "{both}"
        );
    }

    #[test]
    fn a_pattern_that_never_comes_has_no_next() {
        assert_eq!(cadence("0 0 31 2 *", "UTC").upcoming(at("2026-01-01T00:00:00Z"), 1), []);
    }
}
