//! When starts are welcome: weekdays and times of day in the schedule's own zone, such as `Mon-Fri 09:00-16:00`. It knows no cron.

use jiff::Zoned;
use jiff::civil::{Time, Weekday};
use proto_model::problem::Problem;

const EXPECTED: &str = "days and times, such as 'Mon-Fri 09:00-16:00' or 'Mon,Wed 22:00-04:00; Sun 10:00-24:00'";
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const MINUTES_A_DAY: u16 = 24 * 60;

/// Any of these may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

/// From the first minute to before the last; one that ends at or before its beginning ends on the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// Monday first.
    days: [bool; 7],
    from: u16,
    until: u16,
}

impl Windows {
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let windows: Option<Vec<Window>> = text.split(';').map(|part| window(part.trim())).collect();
        windows
            .map(Self)
            .ok_or_else(|| Problem::new("window", format!("{text:?} is no window")).allowed(EXPECTED))
    }

    pub fn hold(&self, at: &Zoned) -> bool {
        let (day, minute) = (index(at.weekday()), minutes(at.time()));
        self.0.iter().any(|window| window.holds(day, minute))
    }
}

impl Window {
    fn holds(&self, day: usize, minute: u16) -> bool {
        let yesterday = (day + 6) % 7;
        if self.from < self.until {
            return self.days[day] && (self.from..self.until).contains(&minute);
        }
        (self.days[day] && minute >= self.from) || (self.days[yesterday] && minute < self.until)
    }
}

fn window(text: &str) -> Option<Window> {
    let (days, times) = text.split_once(char::is_whitespace)?;
    let (from, until) = times.trim().split_once('-')?;
    let (from, until) = (clock(from)?, clock(until)?);
    let mut chosen = [false; 7];
    for part in days.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        chosen[at] = true;
        while at != last {
            at = (at + 1) % 7;
            chosen[at] = true;
        }
    }
    (from < MINUTES_A_DAY && from != until).then_some(Window { days: chosen, from, until })
}

fn day(text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    DAYS.iter().position(|(name, _)| *name == text)
}

fn index(weekday: Weekday) -> usize {
    usize::from(weekday.to_monday_zero_offset().unsigned_abs())
}

fn minutes(time: Time) -> u16 {
    u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs())
}

/// `HH:MM`, and `24:00` as an end.
fn clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= MINUTES_A_DAY).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(window: &str, at: &str) -> bool {
        let at: Zoned = format!("{at}[Europe/Berlin]").parse().unwrap();
        Windows::parse(window).unwrap().hold(&at)
    }

    #[test]
    fn a_window_opens_on_its_minute_and_closes_on_its_minute() {
        let office = "Mon-Fri 09:00-16:00";
        for (at, expected) in [
            ("2026-11-23T08:59:59", false),
            ("2026-11-23T09:00:00", true),
            ("2026-11-23T15:59:59", true),
            ("2026-11-23T16:00:00", false),
            ("2026-11-28T12:00:00", false),
            ("2026-11-27T12:00:00", true),
        ] {
            assert_eq!(open(office, at), expected, "{at}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        // 2026-11-27 is a Friday.
        for (at, expected) in [
            ("2026-11-27T23:00:00", true),
            ("2026-11-28T03:59:00", true),
            ("2026-11-28T04:00:00", false),
            ("2026-11-28T23:00:00", false),
            ("2026-11-27T03:00:00", false),
        ] {
            assert_eq!(open("Fri 22:00-04:00", at), expected, "{at}");
        }
    }

    #[test]
    fn several_windows_and_days_across_the_weekend() {
        let window = "Sat-Mon 10:00-24:00; Wed,Thu 00:00-01:00";
        assert!(open(window, "2026-11-29T23:59:00") && open(window, "2026-11-23T10:00:00") && open(window, "2026-11-26T00:30:00"));
        assert!(!open(window, "2026-11-24T10:00:00") && !open(window, "2026-11-27T00:30:00"));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in [
            "",
            "Mon",
            "Mon 9-16",
            "Mon 09:00-09:00",
            "Mon 09:60-10:00",
            "Mo 09:00-10:00",
            "Mon 24:00-10:00",
            "Mon 09:00-24:01",
            "09:00-10:00",
            "Mon 09:00-10:00;",
        ] {
            assert!(Windows::parse(bad).is_err(), "{bad:?}");
        }
    }
}
