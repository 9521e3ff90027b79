//! Kinds of fault as they describe themselves; this knows no kind by name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InvalidId, sha256_text};
use crate::reversal::Reversal;

/// `family.action`, such as `cpu.burn`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FaultKind(String);

impl FaultKind {
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        match text.split_once('.') {
            Some((family, action)) if word(family) && word(action) => Ok(Self(text.to_owned())),
            _ => Err(InvalidId {
                what: "fault",
                text: text.to_owned(),
                expected: "family.action, such as cpu.burn",
            }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn family(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

impl TryFrom<String> for FaultKind {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text)
    }
}

impl From<FaultKind> for String {
    fn from(kind: FaultKind) -> String {
        kind.0
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a kind takes a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DurationRule {
    Required,
    Optional,
    None,
}

/// One kind, in its own words: feeds CLI help, docs/faults.md, typing of parameters and the test suites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindDescription {
    pub kind: FaultKind,
    /// One line.
    pub summary: String,
    /// The field's other names: blackhole, packet loss, stress.
    pub aliases: Vec<String>,
    pub reversal: Reversal,
    pub duration: DurationRule,
    /// How long it is held when no duration is given, where the rule lets that be; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_ms: Option<u64>,
    /// JSON Schema of the parameters: an object with described properties, ranges and defaults.
    pub params: serde_json::Value,
    pub examples: Vec<ExampleDescription>,
    /// How the effect is measured, in words.
    pub measured_by: String,
    /// How it is undone, in words.
    pub undone_by: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExampleDescription {
    pub says: String,
    pub params: serde_json::Value,
}

/// Everything an agent can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Catalogue(pub Vec<KindDescription>);

impl Catalogue {
    pub fn digest(&self) -> String {
        sha256_text(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    pub fn find(&self, kind: &FaultKind) -> Option<&KindDescription> {
        self.0.iter().find(|description| &description.kind == kind)
    }
}

/// The candidate nearest to what was typed, when it is near enough to be meant (edit distance of at most two fifths).
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(typed, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 5 <= 2 * candidate.len().max(typed.len()))
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = usize::from(x != *y);
            let next = (diagonal + cost).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_suggests_only_what_is_near() {
        let kinds = ["cpu.burn", "process.pause", "network.partition"];
        assert_eq!(nearest("cpu.brun", kinds), Some("cpu.burn"));
        assert_eq!(nearest("network.partitoin", kinds), Some("network.partition"));
        assert_eq!(nearest("prots", ["ports", "to"]), Some("ports"));
        assert_eq!(nearest("zzz", kinds), None);
    }

    #[test]
    fn a_kind_is_two_words() {
        assert!(FaultKind::parse("cpu.burn").is_ok());
        for bad in ["cpu", "cpu.", ".burn", "cpu.burn.now", "CPU.burn"] {
            assert!(FaultKind::parse(bad).is_err(), "{bad}");
        }
    }
}
