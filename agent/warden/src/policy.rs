//! The host's own word on what may be done to it, read from agent.toml; nothing remote widens it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proto_model::catalogue::{Catalogue, FaultKind, KindDescription};
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
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            commands: PathBuf::new(),
            user: "nobody".to_owned(),
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

/// Why a policy cannot be used; nothing is allowed then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
    },
    #[error(
        "{path} does not exist, and without this host's rules nothing may be injected here: fracas-agent check-config --defaults > {path}",
        path = .0.display()
    )]
    Missing(PathBuf),
    #[error("{path} may be written by others than its owner: chmod go-w {path}", path = .0.display())]
    Writable(PathBuf),
    #[error("{path} belongs to user {owner}, who could allow anything with it: chown root:root {path}", path = path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{}: limits[{at}].{key}: {message}", path.display())]
    Limit {
        path: PathBuf,
        at: usize,
        key: &'static str,
        message: String,
    },
}

impl Policy {
    /// Reads the file, which must be root's or our own user's, and compares its limits with what there is to limit.
    pub fn load(path: &Path, catalogue: &Catalogue) -> Result<Self, PolicyError> {
        let read = |source| PolicyError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(PolicyError::Missing(path.to_owned())),
            Err(e) => return Err(read(e)),
        };
        // Of the file that is read, whatever its name leads to a moment later.
        let found = file.metadata().map_err(read)?;
        if found.mode() & 0o022 != 0 {
            return Err(PolicyError::Writable(path.to_owned()));
        }
        if ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
            let (path, owner) = (path.to_owned(), found.uid());
            return Err(PolicyError::Foreign { path, owner });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(read)?;
        let policy = Self::parse(&text, path)?;
        policy.check_limits(catalogue, path)?;
        Ok(policy)
    }

    /// A limit that limits nothing is a mistake in its name, and would let through what it was written against.
    fn check_limits(&self, catalogue: &Catalogue, path: &Path) -> Result<(), PolicyError> {
        for (at, limit) in self.limits.iter().enumerate() {
            let wrong = |key, message| PolicyError::Limit {
                path: path.to_owned(),
                at,
                key,
                message,
            };
            let meant: Vec<_> = catalogue.0.iter().filter(|one| limit.faults.matches(one.kind.as_str())).collect();
            if meant.is_empty() {
                let kinds: Vec<&str> = catalogue.0.iter().map(|one| one.kind.as_str()).collect();
                let message = format!("no kind of fault is called {:?} (there are: {})", limit.faults.0, kinds.join(", "));
                return Err(wrong("faults", message));
            }
            let mut names: Vec<&str> = meant.iter().flat_map(|one| parameters(one)).collect();
            names.sort_unstable();
            names.dedup();
            if !names.contains(&limit.parameter.as_str()) {
                let message = format!(
                    "{:?} has no parameter {:?} (there are: {})",
                    limit.faults.0,
                    limit.parameter,
                    names.join(", ")
                );
                return Err(wrong("parameter", message));
            }
        }
        Ok(())
    }

    /// `path` is only for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PolicyError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            PolicyError::Syntax {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
                message: error.message().to_owned(),
            }
        })
    }

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

/// The names of a kind's parameters, as its schema has them.
fn parameters(kind: &KindDescription) -> impl Iterator<Item = &str> {
    let properties = kind.params.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.as_str())
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
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, Path::new("agent.toml"))
    }

    fn load(path: &Path) -> Result<Policy, PolicyError> {
        Policy::load(path, &catalogue())
    }

    fn catalogue() -> Catalogue {
        let burn = json!({
            "kind": "cpu.burn", "summary": "", "aliases": [], "reversal": { "kind": "full" }, "duration": "required",
            "params": { "type": "object", "properties": { "percent": {} } }, "examples": [],
            "measured_by": "", "undone_by": ""
        });
        Catalogue(vec![serde_json::from_value(burn).unwrap()])
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
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("[faults]\nallow = []\nallways = []\n").unwrap_err().to_string();
        assert!(error.starts_with("agent.toml:3:1:") && error.contains("allways"), "{error}");
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(load(file.path()), Err(PolicyError::Writable(_))));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load(file.path()).unwrap(), Policy::default());
        if tests_notes::lacks_root("to give a file to another user") {
            return;
        }
        std::os::unix::fs::chown(file.path(), Some(1), None).unwrap();
        let error = load(file.path()).unwrap_err().to_string();
        assert!(error.contains("belongs to user 1") && error.contains("chown root:root"), "{error}");
    }

    #[test]
    fn without_the_file_nothing_is_allowed_and_the_command_that_writes_it_is_named() {
        let error = load(Path::new("/nonexistent/agent.toml")).unwrap_err().to_string();
        assert!(error.contains("check-config --defaults > /nonexistent/agent.toml"), "{error}");
    }

    #[test]
    fn a_limit_that_limits_nothing_is_refused_with_the_names_that_there_are() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |faults: &str, parameter: &str| {
            let text = format!("[[limits]]\nfaults = {faults:?}\nparameter = {parameter:?}\nmax = 80\n");
            std::fs::write(file.path(), text).unwrap();
            load(file.path()).map_err(|error| error.to_string())
        };
        assert_eq!(with("cpu.*", "percent").unwrap().limits.len(), 1);
        let error = with("cpu.*", "precent").unwrap_err();
        assert!(
            error.ends_with("limits[0].parameter: \"cpu.*\" has no parameter \"precent\" (there are: percent)"),
            "{error}"
        );
        let error = with("cpu.brun", "percent").unwrap_err();
        assert!(
            error.ends_with("limits[0].faults: no kind of fault is called \"cpu.brun\" (there are: cpu.burn)"),
            "{error}"
        );
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
