//! Why there is no plan: one stable word, one sentence, and every parameter or host concerned. Nothing was touched.

use std::fmt;

use controller_policy::Denial;
use proto_model::document::{ErrorBody, HostError};
use proto_model::id::HostName;
use proto_model::problem::{Problem, Problems};

/// The planner says no. `error.code` is one of `invalid_file`, `no_targets`, `unknown_fault`, `invalid_params`,
/// `environment`, `limit`, `unhealthy`, `policy`, `unattended`, `peers`, `conflict`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRefusal {
    pub error: ErrorBody,
}

impl PlanRefusal {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            error: ErrorBody::new(code, message),
        }
    }

    /// One problem, whose words are also the message.
    pub(crate) fn problem(code: &str, problem: Problem) -> Self {
        let mut refusal = Self::new(code, problem.to_string());
        refusal.error.problems.push(problem);
        refusal
    }

    pub(crate) fn problems(code: &str, problems: Problems) -> Self {
        let mut refusal = Self::new(code, problems.to_string());
        refusal.error.problems = problems.0;
        refusal
    }

    pub(crate) fn host(mut self, name: &HostName, code: &str, message: impl Into<String>) -> Self {
        self.error.hosts.push(HostError {
            name: name.clone(),
            code: code.to_owned(),
            message: message.into(),
        });
        self
    }

    /// Gives the problems their places, and the message where it is made of them.
    pub(crate) fn locate(&mut self, place: impl Fn(Problem) -> Problem) {
        let before = Problems(std::mem::take(&mut self.error.problems));
        let from_problems = self.error.message == before.to_string();
        let after = Problems(before.0.into_iter().map(place).collect());
        if from_problems {
            self.error.message = after.to_string();
        }
        self.error.problems = after.0;
    }

    /// What was found wrong with a file before anything was planned.
    pub fn invalid_file(problems: Problems) -> Self {
        Self::problems("invalid_file", problems)
    }
}

impl From<Denial> for PlanRefusal {
    fn from(denial: Denial) -> Self {
        Self { error: denial.into() }
    }
}

impl fmt::Display for PlanRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.message)?;
        for host in &self.error.hosts {
            write!(f, "; {}: {}", host.name, host.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanRefusal {}
