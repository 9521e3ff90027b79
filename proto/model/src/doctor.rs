//! What a host can and cannot do, why not, and what fixes it: one document for the agent's own command and for operators.

use serde::{Deserialize, Serialize};

use crate::catalogue::FaultKind;

/// Whether something can be done. What could not be looked at is neither a yes nor a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Can {
    Yes,
    No,
    NotEvaluated,
}

impl Can {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NotEvaluated => "not evaluated",
        }
    }
}

/// What one kind says of itself on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ability {
    pub can: Can,
    /// By what means it would be done here, where there is a choice.
    pub engine: Option<String>,
    pub why: Option<String>,
    /// The command that fixes it, or shows why it could not be looked at. Each problem has one.
    pub fix: Option<String>,
}

impl Ability {
    pub fn yes() -> Self {
        Self {
            can: Can::Yes,
            engine: None,
            why: None,
            fix: None,
        }
    }

    pub fn by(self, engine: &str) -> Self {
        Self {
            engine: Some(engine.to_owned()),
            ..self
        }
    }

    pub fn no(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::problem(Can::No, why.into(), fix.into())
    }

    pub fn not_evaluated(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::problem(Can::NotEvaluated, why.into(), fix.into())
    }

    fn problem(can: Can, why: String, fix: String) -> Self {
        Self {
            can,
            why: Some(why),
            fix: Some(fix),
            ..Self::yes()
        }
    }
}

/// One thing that kinds need: of the kernel, the host, or the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    /// What it is for.
    pub says: String,
    /// Kinds that cannot be injected without it.
    #[serde(default)]
    pub required_by: Vec<FaultKind>,
    /// Kinds that are injected by other means, or less exactly, without it.
    #[serde(default)]
    pub used_by: Vec<FaultKind>,
    #[serde(flatten)]
    pub ability: Ability,
}

impl Check {
    /// What the host does without, where this is missing or unknown; `None` where it is there.
    pub fn consequence(&self) -> Option<String> {
        let list = |kinds: &[FaultKind]| kinds.iter().map(FaultKind::as_str).collect::<Vec<_>>().join(", ");
        let required = (!self.required_by.is_empty()).then(|| format!("{} cannot be injected", list(&self.required_by)));
        let used = (!self.used_by.is_empty()).then(|| format!("{} only by other means or less exactly", list(&self.used_by)));
        match (self.ability.can, required, used) {
            (Can::Yes, _, _) => None,
            (_, None, None) => Some("no fault needs it".to_owned()),
            (_, required, used) => {
                let lost = required.into_iter().chain(used).collect::<Vec<_>>();
                Some(format!("without it: {}", lost.join("; ")))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindAbility {
    pub fault: FaultKind,
    /// By the host's own policy.
    pub allowed: bool,
    #[serde(flatten)]
    pub ability: Ability,
}

/// The JSON document `HostDoctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDoctor {
    pub host: String,
    /// `yes` when every kind that the host allows can be done.
    pub can: Can,
    /// Why the host could not be asked, if so.
    pub why: Option<String>,
    pub os: String,
    pub kernel: String,
    pub checks: Vec<Check>,
    pub kinds: Vec<KindAbility>,
}

impl HostDoctor {
    /// The worst of the allowed kinds: one that cannot be done outweighs one that was not looked at.
    pub fn worst(kinds: &[KindAbility]) -> Can {
        let of = |can: Can| kinds.iter().any(|kind| kind.allowed && kind.ability.can == can);
        match (of(Can::No), of(Can::NotEvaluated)) {
            (true, _) => Can::No,
            (false, true) => Can::NotEvaluated,
            (false, false) => Can::Yes,
        }
    }

    /// A host that could not be asked.
    pub fn unasked(host: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            can: Can::NotEvaluated,
            why: Some(why.into()),
            os: String::new(),
            kernel: String::new(),
            checks: Vec::new(),
            kinds: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_faults_that_it_costs() {
        let kind = |name: &str| FaultKind::parse(name).unwrap();
        let check = |can, required_by: &[&str], used_by: &[&str]| Check {
            name: "x".to_owned(),
            says: "something".to_owned(),
            required_by: required_by.iter().map(|name| kind(name)).collect(),
            used_by: used_by.iter().map(|name| kind(name)).collect(),
            ability: Ability { can, ..Ability::yes() },
        };
        assert_eq!(check(Can::Yes, &["cpu.burn"], &[]).consequence(), None);
        for (can, required, used, says) in [
            (
                Can::No,
                &["cpu.burn", "memory.hog"][..],
                &[][..],
                "without it: cpu.burn, memory.hog cannot be injected",
            ),
            (
                Can::NotEvaluated,
                &[],
                &["network.delay"],
                "without it: network.delay only by other means or less exactly",
            ),
            (
                Can::No,
                &["cpu.burn"],
                &["memory.hog"],
                "without it: cpu.burn cannot be injected; memory.hog only by other means or less exactly",
            ),
            (Can::No, &[], &[], "no fault needs it"),
        ] {
            assert_eq!(check(can, required, used).consequence().as_deref(), Some(says));
        }
    }

    #[test]
    fn only_allowed_kinds_count_and_a_no_outweighs_what_was_not_looked_at() {
        let kind = |allowed, can| KindAbility {
            fault: FaultKind::parse("cpu.burn").unwrap(),
            allowed,
            ability: Ability { can, ..Ability::yes() },
        };
        let worst = |kinds: &[(bool, Can)]| HostDoctor::worst(&kinds.iter().map(|(a, c)| kind(*a, *c)).collect::<Vec<_>>());
        assert_eq!(worst(&[(true, Can::Yes), (false, Can::No)]), Can::Yes);
        assert_eq!(worst(&[(true, Can::Yes), (true, Can::NotEvaluated)]), Can::NotEvaluated);
        assert_eq!(worst(&[(true, Can::No), (true, Can::NotEvaluated)]), Can::No);
    }
}
