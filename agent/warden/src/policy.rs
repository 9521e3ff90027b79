//! The host's own word on what may be done to it, read from agent.toml; nothing remote widens it.

use std::path::PathBuf;

use proto_model::catalogue::FaultKind;
use proto_model::injection::Reversal;
use proto_model::peer::Network;
use proto_model::problem::Refusal;
use proto_model::quantity::{Bytes, Millis, Percent, PortRange};
use serde::Deserialize;
use serde_json::Value;

use crate::bound::Bound;

/// What a fresh installation has; also written out as a file to be edited.
pub const SHIPPED: &str = include_str!("../../../deploy/agent.toml");
/// The word in `faults.allow` for every kind that can be undone.
const REVERSIBLE: &str = "reversible";
/// What any duration must lie within, whatever the policy says.
const DURATIONS: std::ops::RangeInclusive<u64> = 1_000..=43_200_000;
/// A fault that cuts the host off from its controller ends by its deadline alone, so it must be near.
const ISOLATING_MAX_MS: u64 = 300_000;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub faults: Faults,
    pub limits: Vec<Limit>,
    pub protect: Protect,
    pub reserve: Reserve,
    pub probes: Probes,
    pub users: Users,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    pub allow: Vec<Glob>,
    pub deny: Vec<Glob>,
    pub isolating: bool,
    pub irreversible_unattended: bool,
    pub max_duration: Millis,
}

impl Default for Faults {
    fn default() -> Self {
        let glob = |text: &str| Glob(text.to_owned());
        Self {
            allow: vec![glob(REVERSIBLE), glob("process.kill")],
            deny: vec![glob("host.*")],
            isolating: false,
            irreversible_unattended: false,
            max_duration: Millis(15 * 60_000),
        }
    }
}

/// The most that one parameter of some kinds may be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub faults: Glob,
    pub parameter: String,
    pub max: Bound,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protect {
    pub processes: Vec<Glob>,
    pub units: Vec<Glob>,
    pub paths: Vec<PathBuf>,
    pub interfaces: Vec<Glob>,
    pub ports: Vec<PortRange>,
    pub networks: Vec<Network>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reserve {
    pub memory: Bytes,
    pub disk: Bytes,
    pub disk_percent: Percent,
}

impl Default for Reserve {
    fn default() -> Self {
        Self {
            memory: Bytes(512 << 20),
            disk: Bytes(1 << 30),
            disk_percent: Percent(5.0),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Probes {
    /// The directory of programs that command probes may run; empty: none.
    pub commands: PathBuf,
    /// Whose rights they have; empty: the agent's own.
    pub user: String,
    /// Networks that probes may ask; empty: every address but link-local ones and metadata services, which must be named here.
    pub allow: Vec<Network>,
    /// Networks that they may not ask, whatever is allowed.
    pub deny: Vec<Network>,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            commands: PathBuf::new(),
            user: "nobody".to_owned(),
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

/// The system users that the agent's processes without root's rights run as.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Users {
    /// Whatever reads from the network.
    pub session: String,
    /// Whatever loads the host.
    pub workers: String,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            session: "fracas".to_owned(),
            workers: "fracas-load".to_owned(),
        }
    }
}

/// A text in which `*` stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Glob(pub String);

impl Glob {
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.len() >= last.len() && rest.ends_with(last)
    }
}

impl Policy {
    /// Whether this host lets this kind act with these parameters for so long.
    pub fn check(&self, kind: &FaultKind, reversal: &Reversal, params: &Value, duration_ms: u64) -> Result<(), Refusal> {
        self.check_kind(kind, reversal)?;
        self.check_duration(duration_ms)?;
        self.check_isolating(params, duration_ms)?;
        self.limits
            .iter()
            .filter(|limit| limit.faults.matches(kind.as_str()))
            .try_for_each(|limit| limit.check(params))
    }

    /// Whether this kind may act here at all.
    pub fn allows(&self, kind: &FaultKind, reversal: &Reversal) -> bool {
        self.check_kind(kind, reversal).is_ok()
    }

    /// Whether what cannot be undone may be done while nobody watches.
    pub fn check_attended(&self, kind: &FaultKind, reversal: &Reversal, unattended: bool) -> Result<(), Refusal> {
        if !unattended || reversal.is_full() || self.faults.irreversible_unattended {
            return Ok(());
        }
        let text =
            format!("{kind} cannot be undone, and this host does not allow that unattended: faults.irreversible_unattended in agent.toml");
        Err(Refusal::new("policy", "fault", text))
    }

    fn check_kind(&self, kind: &FaultKind, reversal: &Reversal) -> Result<(), Refusal> {
        let says = |rule: &str| Refusal::new("policy", "fault", format!("this host does not allow {kind}: {rule} in agent.toml"));
        if let Some(glob) = self.faults.deny.iter().find(|glob| glob.matches(kind.as_str())) {
            return Err(says(&format!("faults.deny has {:?}", glob.0)));
        }
        let reversible = reversal.is_full();
        let allowed = self
            .faults
            .allow
            .iter()
            .any(|glob| (glob.0 == REVERSIBLE && reversible) || glob.matches(kind.as_str()));
        if allowed {
            Ok(())
        } else {
            Err(says("faults.allow does not have it"))
        }
    }

    fn check_duration(&self, duration_ms: u64) -> Result<(), Refusal> {
        let most = self.faults.max_duration.0.min(*DURATIONS.end());
        if (*DURATIONS.start()..=most).contains(&duration_ms) {
            return Ok(());
        }
        let rule = if duration_ms > most {
            "longer than this host allows (faults.max_duration in agent.toml)"
        } else {
            "too short"
        };
        Err(
            Refusal::new("policy", "duration", format!("{} is {rule}", Millis(duration_ms))).allowed(format!(
                "{}..{}",
                Millis(*DURATIONS.start()),
                Millis(most)
            )),
        )
    }

    fn check_isolating(&self, params: &Value, duration_ms: u64) -> Result<(), Refusal> {
        if params.get("isolating").and_then(Value::as_bool) != Some(true) {
            return Ok(());
        }
        if !self.faults.isolating {
            let message = "this host may not be cut off from its controller: faults.isolating in agent.toml";
            return Err(Refusal::new("policy", "params.isolating", message).allowed("false"));
        }
        if duration_ms > ISOLATING_MAX_MS {
            let message = format!(
                "{} is longer than a fault that cuts off its own controller may last",
                Millis(duration_ms)
            );
            return Err(Refusal::new("policy", "duration", message).allowed(format!("1s..{}", Millis(ISOLATING_MAX_MS))));
        }
        Ok(())
    }
}

impl Limit {
    fn check(&self, params: &Value) -> Result<(), Refusal> {
        let Some(value) = params.get(&self.parameter).filter(|value| !value.is_null()) else {
            return Ok(());
        };
        let rule = format!("(limits for {:?} in agent.toml)", self.faults.0);
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let message = match self.max.allows(value) {
            Some(true) => return Ok(()),
            Some(false) => format!("{shown} is more than this host allows {rule}"),
            None => format!("{shown} cannot be compared with what this host allows {rule}"),
        };
        Err(Refusal::new("policy", format!("params.{}", self.parameter), message).allowed(format!("..{}", self.max)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::policy_file::PolicyError;

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, Path::new("agent.toml"))
    }

    fn check(policy: &Policy, kind: &str, params: Value, duration_ms: u64) -> Result<(), Refusal> {
        policy.check(&FaultKind::parse(kind).unwrap(), &Reversal::Full, &params, duration_ms)
    }

    #[test]
    fn the_shipped_file_says_what_the_program_does_without_one() {
        assert_eq!(parse(SHIPPED).unwrap(), Policy::default());
        assert_eq!(parse("").unwrap(), Policy::default());
    }

    #[test]
    fn deny_wins_over_allow_and_irreversible_needs_its_name() {
        let policy = Policy::default();
        check(&policy, "cpu.burn", json!({}), 60_000).unwrap();
        assert!(
            check(&policy, "host.clock", json!({}), 60_000)
                .unwrap_err()
                .message
                .contains("faults.deny")
        );
        let irreversible = Reversal::Irreversible { why: "x".into() };
        let ask = |kind: &str| policy.check(&FaultKind::parse(kind).unwrap(), &irreversible, &json!({}), 60_000);
        assert!(ask("process.kill").is_ok());
        assert_eq!(ask("network.reset").unwrap_err().code, "policy");
    }

    #[test]
    fn nothing_is_done_for_good_while_nobody_watches_unless_the_host_says_so() {
        let gone = Reversal::Irreversible { why: "x".into() };
        let ask = |policy: &Policy, reversal: &Reversal, unattended| {
            policy.check_attended(&FaultKind::parse("process.kill").unwrap(), reversal, unattended)
        };
        let policy = Policy::default();
        assert!(ask(&policy, &gone, false).is_ok() && ask(&policy, &Reversal::Full, true).is_ok());
        let refusal = ask(&policy, &gone, true).unwrap_err();
        assert!(refusal.message.contains("irreversible_unattended"), "{refusal}");
        let policy = parse("[faults]\nirreversible_unattended = true\n").unwrap();
        assert!(ask(&policy, &gone, true).is_ok());
    }

    #[test]
    fn durations_have_a_floor_and_the_hosts_ceiling() {
        let policy = Policy::default();
        for bad in [0, 999, 900_001] {
            let refusal = check(&policy, "cpu.burn", json!({}), bad).unwrap_err();
            assert_eq!((refusal.path.as_str(), refusal.allowed.as_deref()), ("duration", Some("1s..15m")));
        }
        check(&policy, "cpu.burn", json!({}), 900_000).unwrap();
    }

    #[test]
    fn numbers_are_capped_where_the_host_says_so() {
        let policy = parse("[[limits]]\nfaults = \"cpu.*\"\nparameter = \"percent\"\nmax = 80\n").unwrap();
        check(&policy, "cpu.burn", json!({"percent": 80.0}), 60_000).unwrap();
        let refusal = check(&policy, "cpu.burn", json!({"percent": 80.5}), 60_000).unwrap_err();
        assert_eq!(
            (refusal.path.as_str(), refusal.allowed.as_deref()),
            ("params.percent", Some("..80"))
        );
        check(&policy, "network.loss", json!({"percent": 100.0}), 60_000).unwrap();
        let policy = parse("[[limits]]\nfaults = \"*\"\nparameter = \"amount\"\nmax = \"1GiB\"\n").unwrap();
        check(&policy, "disk.fill", json!({"amount": "1GiB"}), 60_000).unwrap();
        check(&policy, "disk.fill", json!({"amount": null}), 60_000).unwrap();
        for over in ["1025MiB", "10%"] {
            let refusal = check(&policy, "disk.fill", json!({"amount": over}), 60_000).unwrap_err();
            assert_eq!(refusal.allowed.as_deref(), Some("..1GiB"), "{over}");
        }
    }

    #[test]
    fn cutting_off_the_controller_needs_the_hosts_word_and_a_near_end() {
        let isolating = json!({"isolating": true});
        assert_eq!(
            check(&Policy::default(), "network.partition", isolating.clone(), 60_000)
                .unwrap_err()
                .path,
            "params.isolating"
        );
        let policy = parse("[faults]\nisolating = true\n").unwrap();
        check(&policy, "network.partition", isolating.clone(), 60_000).unwrap();
        assert_eq!(
            check(&policy, "network.partition", isolating, 301_000).unwrap_err().path,
            "duration"
        );
    }

    #[test]
    fn stars_stand_for_anything() {
        for (glob, text, fits) in [
            ("cpu.*", "cpu.burn", true),
            ("cpu.*", "memory.hog", false),
            ("*", "x", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("exact", "exactly", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(Glob(glob.into()).matches(text), fits, "{glob} {text}");
        }
    }
}
