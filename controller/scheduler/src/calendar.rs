//! A calendar of freezes as a file: YAML with absolute times or times in a zone of its own. It is read whole or not at all.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use proto_model::document::API_VERSION;
use proto_model::problem::{Problem, Problems};
use proto_model::time::Timestamp;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::cadence::no_zone;

pub const KIND: &str = "FreezeCalendar";
/// Freezes in one calendar.
const MOST: usize = 1_000;
const TIMES: &str = "2026-12-20, 2026-12-20T18:00 (in the calendar's timezone) or 2026-12-20T18:00:00Z";
const REASON_LENGTH: usize = 200;

/// What a calendar says, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// A later import of the same name replaces it.
    pub name: String,
    pub freezes: Vec<Wish>,
}

/// One freeze as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub from: Timestamp,
    pub until: Timestamp,
    pub reason: String,
    pub environment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    api_version: Spanned<String>,
    kind: Spanned<String>,
    name: Spanned<String>,
    #[serde(default)]
    timezone: Option<Spanned<String>>,
    freezes: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    from: Spanned<String>,
    until: Spanned<String>,
    reason: Spanned<String>,
    #[serde(default)]
    environment: Option<Spanned<String>>,
}

impl Entry {
    /// The value of this key, which has to be mended.
    fn value(&self, key: &str) -> &Spanned<String> {
        match key {
            "until" => &self.until,
            "reason" => &self.reason,
            "environment" => self.environment.as_ref().unwrap_or(&self.from),
            _ => &self.from,
        }
    }
}

fn at(problem: Problem, value: &Spanned<String>) -> Problem {
    problem.at(value.referenced.line(), value.referenced.column())
}

fn no_such_zone(name: &str) -> Problem {
    Problem::new("timezone", no_zone(name)).allowed("a name such as Europe/Berlin")
}

pub fn parse(text: &str, file_name: &str) -> Result<Calendar, Problems> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| Problems::one(unreadable(&error, file_name)))?;
    let mut problems = Problems::default();
    for (path, found, wanted) in [("apiVersion", &file.api_version, API_VERSION), ("kind", &file.kind, KIND)] {
        if found.value != wanted {
            let problem = Problem::new(path, format!("{:?} is not known here", found.value));
            problems.push(at(problem.allowed(wanted), found));
        }
    }
    if let Err(why) = proto_model::selector::value(&file.name.value) {
        problems.push(at(Problem::new("name", why), &file.name));
    }
    if let Some(zone) = file.timezone.as_ref().filter(|zone| TimeZone::get(&zone.value).is_err()) {
        problems.push(at(no_such_zone(&zone.value), zone));
        return Err(problems);
    }
    if file.freezes.len() > MOST {
        problems.push(Problem::new("freezes", format!("are {}", file.freezes.len())).allowed(format!("..{MOST}")));
    }
    let mut freezes = Vec::new();
    for (number, entry) in file.freezes.iter().enumerate() {
        match wish(
            &entry.from.value,
            &entry.until.value,
            &entry.reason.value,
            entry.environment.as_ref().map(|environment| environment.value.as_str()),
            file.timezone.as_ref().map(|zone| zone.value.as_str()),
        ) {
            Ok(wish) => freezes.push(wish),
            Err(wrong) => wrong.0.into_iter().for_each(|mut problem| {
                let value = entry.value(&problem.path);
                problem.path = format!("freezes[{number}].{}", problem.path);
                problems.push(at(problem, value));
            }),
        }
    }
    problems.into_result()?;
    Ok(Calendar {
        name: file.name.value,
        freezes,
    })
}

/// One freeze from its texts. A date alone is its first moment; as an end it is the end of that day.
pub fn wish(from: &str, until: &str, reason: &str, environment: Option<&str>, timezone: Option<&str>) -> Result<Wish, Problems> {
    let mut problems = Problems::default();
    let zone = timezone.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok());
    let zone = zone.unwrap_or_else(|| {
        problems.push(no_such_zone(timezone.unwrap_or_default()));
        TimeZone::UTC
    });
    let mut moment = |path: &str, text: &str, end: bool| {
        let found = moment(text, &zone, end);
        if found.is_none() {
            problems.push(Problem::new(path, format!("{text:?} is no time")).allowed(TIMES));
        }
        found
    };
    let (from, until) = (moment("from", from, false), moment("until", until, true));
    if let (Some(from), Some(until)) = (from, until)
        && until <= from
    {
        problems.push(Problem::new("until", format!("{until} is not after {from}")).allowed("a later time"));
    }
    if reason.trim().is_empty() || reason.chars().count() > REASON_LENGTH || reason.chars().any(char::is_control) {
        problems.push(Problem::new("reason", "is no reason").allowed(format!("1 to {REASON_LENGTH} printable characters")));
    }
    if let Some(Err(why)) = environment.map(proto_model::selector::value) {
        problems.push(Problem::new("environment", why));
    }
    match (from, until, problems.into_result()) {
        (Some(from), Some(until), Ok(())) => Ok(Wish {
            from,
            until,
            reason: reason.trim().to_owned(),
            environment: environment.map(str::to_owned),
        }),
        (_, _, Err(problems)) => Err(problems),
        _ => Err(Problems::one(Problem::new("from", "is no time").allowed(TIMES))),
    }
}

fn moment(text: &str, zone: &TimeZone, end: bool) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(at) = Timestamp::parse(text) {
        return Some(at);
    }
    let local: DateTime = match text.parse::<Date>() {
        Ok(date) if text.len() == "2026-12-20".len() => {
            let day = if end { date.tomorrow().ok()? } else { date };
            day.to_datetime(jiff::civil::Time::midnight())
        }
        _ => text.parse().ok()?,
    };
    let at = local.to_zoned(zone.clone()).ok()?;
    Some(Timestamp(at.timestamp().as_millisecond()))
}

fn unreadable(error: &serde_saphyr::Error, file_name: &str) -> Problem {
    let problem = Problem::new("", format!("{file_name} is no calendar of freezes: {error}"));
    match error.location() {
        Some(place) => problem.at(place.line(), place.column()),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: fracas/v1\nkind: FreezeCalendar\nname: retail-2026\ntimezone: Europe/Berlin\n";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn days_are_whole_days_in_the_calendars_zone() {
        let text = format!(
            "{HEAD}freezes:\n  - {{ from: 2026-12-20, until: 2026-12-26, reason: year end, environment: production }}\n  - {{ from: 2026-11-27T06:00, until: 2026-11-27T22:00:00Z, reason: sale }}\n"
        );
        let calendar = parse(&text, "retail.yaml").unwrap();
        assert_eq!(calendar.name, "retail-2026");
        assert_eq!(
            calendar.freezes[0],
            Wish {
                from: at("2026-12-19T23:00:00Z"),
                until: at("2026-12-26T23:00:00Z"),
                reason: "year end".into(),
                environment: Some("production".into())
            }
        );
        assert_eq!(
            (calendar.freezes[1].from, calendar.freezes[1].until),
            (at("2026-11-27T05:00:00Z"), at("2026-11-27T22:00:00Z"))
        );
    }

    #[test]
    fn a_day_of_25_hours_is_frozen_to_its_end() {
        let wish = wish("2026-10-25", "2026-10-25", "clocks", None, Some("Europe/Berlin")).unwrap();
        assert_eq!(wish.until.since(wish.from), 25 * 3_600_000);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_entry() {
        let refused = |rest: &str| parse(&format!("{HEAD}{rest}"), "retail.yaml").unwrap_err();
        for (rest, path) in [
            ("freezes: [{from: tomorrow, until: 2026-12-26, reason: x}]", "freezes[0].from"),
            ("freezes: [{from: 2026-12-26, until: 2026-12-20, reason: x}]", "freezes[0].until"),
            ("freezes: [{from: 2026-12-20, until: 2026-12-26, reason: ' '}]", "freezes[0].reason"),
            (
                "freezes: [{from: 2026-12-20, until: 2026-12-26, reason: x, environment: 'a b'}]",
                "freezes[0].environment",
            ),
        ] {
            let problem = refused(rest).0.remove(0);
            assert_eq!((problem.path.as_str(), problem.line), (path, Some(5)), "{rest}");
        }
        let unknown = refused("freezes:\n  - { from: 2026-12-20, until: 2026-12-26, reason: x, enviroment: production }");
        assert!(
            unknown.to_string().contains("enviroment") && unknown.0[0].line == Some(6),
            "{unknown:?}"
        );
        let zone = parse(&HEAD.replace("Berlin", "Berlim").replace("name: ", "freezes: []\nname: "), "x.yaml").unwrap_err();
        assert_eq!((zone.0.len(), zone.0[0].line, zone.0[0].column), (1, Some(5), Some(11)), "{zone}");
        assert!(zone.to_string().contains("did you mean Europe/Berlin?"), "{zone}");
        assert!(parse("kind: Experiment", "x.yaml").is_err());
        assert_eq!(
            wish("2026-12-20", "2026-12-26", "x", None, Some("Europe/Berlim")).unwrap_err().0[0].path,
            "timezone"
        );
    }
}
