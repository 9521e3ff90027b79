//! Everything on a host that a fault could touch, as one comparable value: the suites' oracle; it only looks.

mod json;
mod kernel;
mod network;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Sections (`routes`, `nft`, `groups`, ...) of named things and how they are. Counters, handles, times and pids are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint(pub BTreeMap<String, Section>);

pub type Section = BTreeMap<String, String>;

/// The section whose values are milliseconds that may move a little: clocks are steered, and looks take time.
const CLOCK: &str = "clock";
const CLOCK_MOVES_MS: i64 = 250;

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub section: String,
    pub thing: String,
    /// None when it was not there.
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Footprint {
    /// Looks at the host this process is in.
    pub fn look(root: &Path) -> Result<Self> {
        // Processes first: the looking starts some.
        let mut sections = BTreeMap::from([("processes".to_owned(), kernel::processes())]);
        for (name, section) in [
            ("links", network::links()?),
            ("addresses", network::addresses()?),
            ("routes", network::routes()?),
            ("qdiscs", network::qdiscs()?),
            ("nft", network::nft()?),
            ("iptables", network::iptables()?),
            ("sysctls", kernel::sysctls()),
            ("groups", kernel::groups()?),
            ("mounts", kernel::mounts()?),
            ("files", kernel::files(root)),
            ("volumes", kernel::volumes()?),
            ("identity", kernel::identity()),
            (CLOCK, kernel::clock()?),
            ("units", kernel::units()?),
        ] {
            sections.insert(name.to_owned(), section);
        }
        Ok(Self(sections))
    }

    /// Without these sections, for a comparison that they would disturb.
    pub fn without(mut self, sections: &[&str]) -> Self {
        self.0.retain(|name, _| !sections.contains(&name.as_str()));
        self
    }

    /// What is not in `after` as it is here, in order of section and name.
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        let empty = Section::new();
        let mut found = Vec::new();
        for name in keys(&self.0, &after.0) {
            let (old, new) = (self.0.get(name).unwrap_or(&empty), after.0.get(name).unwrap_or(&empty));
            for thing in keys(old, new) {
                let (before, after) = (old.get(thing).cloned(), new.get(thing).cloned());
                let steered = name == CLOCK && is_near(before.as_deref(), after.as_deref());
                if before != after && !steered {
                    found.push(Difference {
                        section: name.clone(),
                        thing: thing.clone(),
                        before,
                        after,
                    });
                }
            }
        }
        found
    }
}

fn is_near(before: Option<&str>, after: Option<&str>) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    number(before)
        .zip(number(after))
        .is_some_and(|(one, other)| one.abs_diff(other) <= CLOCK_MOVES_MS.unsigned_abs())
}

fn keys<'a, T>(one: &'a BTreeMap<String, T>, other: &'a BTreeMap<String, T>) -> Vec<&'a String> {
    let mut all: Vec<&String> = one.keys().chain(other.keys()).collect();
    all.sort();
    all.dedup();
    all
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.section, self.thing)?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "was {before}, is {after}"),
            (None, Some(after)) => write!(f, "appeared: {after}"),
            (Some(before), None) => write!(f, "vanished: {before}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(things: &[(&str, &str, &str)]) -> Footprint {
        let mut footprint = Footprint::default();
        for (section, thing, how) in things {
            footprint
                .0
                .entry((*section).to_owned())
                .or_default()
                .insert((*thing).to_owned(), (*how).to_owned());
        }
        footprint
    }

    #[test]
    fn differences_tell_what_was_and_what_is() {
        let before = footprint(&[("links", "eth0", "up"), ("mounts", "/mnt", "rw"), ("groups", "a", "")]);
        let after = footprint(&[("links", "eth0", "down"), ("groups", "a", ""), ("nft", "table", "fracas")]);
        let told: Vec<String> = before.differences(&after).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "links eth0: was up, is down",
                "mounts /mnt: vanished: rw",
                "nft table: appeared: fracas"
            ]
        );
        assert!(before.differences(&before.clone()).is_empty());
        let clock = |ms: &str| footprint(&[(CLOCK, "offset", ms)]);
        assert!(clock("1000").differences(&clock("1250")).is_empty(), "a clock is steered");
        assert_eq!(clock("1000").differences(&clock("1251")).len(), 1, "a clock was set");
        assert_eq!(clock("1000").differences(&footprint(&[])).len(), 1);
        assert_eq!(before.differences(&after.without(&["nft"])).len(), 2);
    }
}
