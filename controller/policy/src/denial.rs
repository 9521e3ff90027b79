//! Why something may not be injected: the rule, what is wrong, what is allowed, and every host concerned.

use std::fmt;

use proto_model::document::{ErrorBody, HostError};
use proto_model::id::HostName;
use proto_model::problem::Problem;

/// The same words when planning, when admitting a run and as a step starts. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// `policy`, `limit`, `conflict` or `unattended`.
    pub code: &'static str,
    /// The rule's path, such as `policy.staging.max_faulted_hosts` or `limits.share`.
    pub rule: String,
    pub message: String,
    pub allowed: String,
    pub hosts: Vec<HostError>,
}

impl Denial {
    pub(crate) fn new(code: &'static str, rule: impl Into<String>, message: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            code,
            rule: rule.into(),
            message: message.into(),
            allowed: allowed.into(),
            hosts: Vec::new(),
        }
    }

    pub(crate) fn host(mut self, name: &HostName, code: &str, message: String) -> Self {
        self.hosts.push(HostError {
            name: name.clone(),
            code: code.to_owned(),
            message,
        });
        self
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (allowed: {})", self.rule, self.message, self.allowed)?;
        for host in &self.hosts {
            write!(f, "; {}", host.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Denial {}

impl From<Denial> for ErrorBody {
    fn from(denial: Denial) -> Self {
        let problem = Problem::new(denial.rule, denial.message).allowed(denial.allowed);
        let mut body = Self::new(denial.code, problem.to_string());
        body.problems.push(problem);
        body.hosts = denial.hosts;
        body
    }
}

/// Such as `1 host` or `3 hosts`.
pub fn hosts_in_words(count: usize) -> String {
    if count == 1 {
        "1 host".to_owned()
    } else {
        format!("{count} hosts")
    }
}
