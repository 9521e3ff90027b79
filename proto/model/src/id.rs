//! Identities: opaque, lower case, safe in file, group and rule names; never derived from a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters in a generated id: 80 random bits.
pub const LENGTH: usize = 16;

/// Why a text is not an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: expected {expected}")]
pub struct InvalidId {
    pub what: &'static str,
    pub text: String,
    pub expected: &'static str,
}

fn random_text() -> String {
    (0..LENGTH)
        .map(|_| char::from(ALPHABET[usize::from(rand::random::<u8>() & 31)]))
        .collect()
}

fn well_formed(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|b| ALPHABET.contains(&b))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new random id.
            pub fn generate() -> Self {
                Self(random_text())
            }

            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if well_formed(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(InvalidId { what: $what, text: text.to_owned(), expected: "16 characters of 0-9 and a-z without i, l, o, u" })
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/// One execution of a plan.
    RunId, "run id");
id!(/// One fault on one host in one run.
    InjectionId, "injection id");
id!(/// A join token's public part.
    TokenId, "token id");
id!(/// One schedule, whatever its name is or was.
    ScheduleId, "schedule id");
id!(/// One freeze.
    FreezeId, "freeze id");
id!(/// Made when an agent process starts; tells two processes of one identity apart.
    InstanceId, "agent instance");

/// Names that selectors, peers, probes and contexts give a meaning of their own: no host may have one of them.
pub const RESERVED_NAMES: [&str; 4] = ["all", "any", "controller", "local"];

/// The name of a host as operators write it: a DNS-like label or dotted name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if RESERVED_NAMES.contains(&text) {
            return Err(InvalidId {
                what: "host name",
                text: text.to_owned(),
                expected: "a name other than all, any, controller and local, which are reserved",
            });
        }
        let ok = !text.is_empty()
            && text.len() <= 63
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            && !text.starts_with(['-', '.'])
            && !text.ends_with(['-', '.']);
        if ok {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidId {
            what: "host name",
            text: text.to_owned(),
            expected: "1 to 63 of a-z, 0-9, '-' and '.', not at the ends",
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> String {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `sha256:` and 64 hex digits over a plan's canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanDigest(pub String);

impl PlanDigest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha256_text(bytes))
    }
}

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `sha256:` and the digest in hex.
pub fn sha256_text(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_parse_and_differ() {
        let (a, b) = (RunId::generate(), RunId::generate());
        assert_ne!(a, b);
        assert_eq!(RunId::parse(a.as_str()), Ok(a));
    }

    #[test]
    fn host_names_refuse_what_could_be_a_path_or_a_selector() {
        for bad in ["", "../x", "a b", "a=b", "-a", "a.", "A", &"x".repeat(64)] {
            assert!(HostName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(HostName::parse("web-1.example").is_ok());
    }

    #[test]
    fn names_that_mean_something_else_are_no_hosts() {
        for name in RESERVED_NAMES {
            let refused = HostName::parse(name).unwrap_err().to_string();
            assert!(refused.contains("reserved"), "{refused}");
            assert!(serde_json::from_str::<HostName>(&format!("{name:?}")).is_err(), "{name}");
        }
        assert!(HostName::parse("controller-1").is_ok() && HostName::parse("all.example").is_ok());
    }
}
