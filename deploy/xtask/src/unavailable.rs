//! Tests that a kernel without some capability cannot run: the checked-in list, held against the tests' notes and this kernel.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tests_harness::packages;
use tests_notes::Note;

/// Relative to the repository.
pub const LIST: &str = "tests/unavailable.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    #[serde(rename = "capability")]
    capabilities: Vec<Capability>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Capability {
    name: String,
    /// Where the tests do run, or will.
    runs_in: String,
    /// As nextest names them: `package::binary test`.
    tests: BTreeSet<String>,
}

/// What the tests said and the list does not excuse, as notes of skips; and what it does excuse, as lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub skips: Vec<(String, String)>,
    pub excused: Vec<String>,
}

impl List {
    pub fn read(repository: &Path) -> Result<Self> {
        let path = repository.join(LIST);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Every note is judged, and every listed test that `ran` but left no note.
    pub fn judge(&self, notes: &[Note], ran: impl Fn(&str) -> bool, present: impl Fn(&str) -> Result<bool>) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        let (mut noted, mut absent) = (BTreeSet::new(), BTreeSet::new());
        for capability in &self.capabilities {
            if !present(&capability.name)? {
                absent.insert(capability.name.as_str());
            }
        }
        for note in notes {
            match note {
                Note::Skipped { test, reason } => verdict.skips.push((test.clone(), reason.clone())),
                Note::Unavailable { test, capability, reason } => {
                    noted.insert(test.clone());
                    let listed = self.capabilities.iter().find(|known| &known.name == capability);
                    let skipped = |why: &str| (test.clone(), format!("{capability}: {why}"));
                    match listed {
                        Some(known) if !known.lists(test) => {
                            verdict.skips.push(skipped(&format!("{LIST} does not list this test")));
                        }
                        Some(_) if !absent.contains(capability.as_str()) => {
                            verdict.skips.push(skipped("this kernel has it, so the test must run"));
                        }
                        Some(known) => verdict
                            .excused
                            .push(format!("{test}: {capability}: {reason} (runs in {})", known.runs_in)),
                        None => verdict.skips.push(skipped(&format!("{LIST} does not know this capability"))),
                    }
                }
                Note::Undone { .. } => {}
            }
        }
        let listed = self.capabilities.iter().filter(|known| absent.contains(known.name.as_str()));
        for test in listed.flat_map(|known| &known.tests) {
            if ran(test) && !noted.iter().any(|noted| is_named(test, noted)) {
                let reason = format!("{LIST} lists it as unavailable here, but no test of this name reported so");
                verdict.skips.push((test.clone(), reason));
            }
        }
        verdict.skips.sort();
        verdict.skips.dedup();
        verdict.excused.sort();
        verdict.excused.dedup();
        Ok(verdict)
    }
}

impl Capability {
    fn lists(&self, test: &str) -> bool {
        self.tests.iter().any(|listed| is_named(listed, test))
    }
}

/// Nextest names the package as well, libtest alone does not.
fn is_named(listed: &str, test: &str) -> bool {
    listed == test || listed.ends_with(&format!("::{test}"))
}

/// Whether this kernel has a capability, tried by other means than the product's own.
pub fn present(capability: &str) -> Result<bool> {
    match capability {
        // A network of its own, so that nothing of the machine's is touched.
        "sch_netem" => Ok(Command::new("unshare")
            .args(["--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "limit", "10"])
            .env("PATH", packages::path())
            .output()
            .context("start unshare (package util-linux)")?
            .status
            .success()),
        other => bail!("{LIST}: no probe for the capability {other:?} (write one in deploy/xtask/src/unavailable.rs)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        toml::from_str("[[capability]]\nname = \"sch_netem\"\nruns_in = \"vm\"\ntests = [\"p::b netem\"]\n").unwrap()
    }

    fn unavailable(test: &str, capability: &str) -> Note {
        Note::Unavailable {
            test: test.into(),
            capability: capability.into(),
            reason: "no module".into(),
        }
    }

    #[test]
    fn only_a_listed_test_without_its_capability_is_excused() {
        let judge = |notes: &[Note], present: bool| list().judge(notes, |_| false, |_| Ok(present)).unwrap();
        for name in ["p::b netem", "b netem"] {
            let excused = judge(&[unavailable(name, "sch_netem")], false);
            assert_eq!(excused.skips, []);
            assert_eq!(excused.excused, [format!("{name}: sch_netem: no module (runs in vm)")]);
        }
        for (note, there, reason) in [
            (unavailable("p::b netem", "sch_netem"), true, "the test must run"),
            (unavailable("p::b other", "sch_netem"), false, "does not list"),
            (unavailable("p::b netem", "sch_other"), false, "does not know"),
        ] {
            let verdict = judge(&[note], there);
            assert!(verdict.excused.is_empty() && verdict.skips[0].1.contains(reason), "{verdict:?}");
        }
    }

    #[test]
    fn a_listed_test_that_is_gone_is_noticed_where_its_suite_ran() {
        assert_eq!(list().judge(&[], |_| false, |_| Ok(false)).unwrap(), Verdict::default());
        assert_eq!(list().judge(&[], |_| true, |_| Ok(true)).unwrap(), Verdict::default());
        let verdict = list().judge(&[], |_| true, |_| Ok(false)).unwrap();
        assert_eq!(verdict.skips[0].0, "p::b netem");
    }

    #[test]
    fn a_skip_is_counted_once_for_each_reason() {
        let skip = |reason: &str| Note::Skipped {
            test: "p::b x".into(),
            reason: reason.into(),
        };
        let verdict = list().judge(&[skip("a"), skip("b"), skip("a")], |_| false, |_| Ok(true)).unwrap();
        assert_eq!(verdict.skips.len(), 2);
    }

    #[test]
    fn the_list_is_understood_and_every_capability_has_a_probe() {
        let list = List::read(tests_harness::programs::repository()).unwrap();
        for capability in &list.capabilities {
            assert!(!capability.tests.is_empty() && !capability.runs_in.is_empty());
            assert!(present(&capability.name).is_ok(), "{}", capability.name);
        }
    }
}
