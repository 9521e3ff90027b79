//! What a host can and cannot do, why not, and what mends it: one document for the agent's own command and for operators.

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
    /// The command that mends it.
    pub mend: Option<String>,
}

impl Ability {
    pub fn yes() -> Self {
        Self {
            can: Can::Yes,
            engine: None,
            why: None,
            mend: None,
        }
    }

    pub fn by(self, engine: &str) -> Self {
        Self {
            engine: Some(engine.to_owned()),
            ..self
        }
    }

    pub fn no(why: impl Into<String>, mend: Option<String>) -> Self {
        Self {
            can: Can::No,
            why: Some(why.into()),
            mend,
            ..Self::yes()
        }
    }

    pub fn not_evaluated(why: impl Into<String>) -> Self {
        Self {
            can: Can::NotEvaluated,
            why: Some(why.into()),
            ..Self::yes()
        }
    }
}

/// One thing that kinds stand on: the kernel's, the host's, or the agent's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    /// What it is for.
    pub says: String,
    #[serde(flatten)]
    pub ability: Ability,
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
