//! Every kind acting on a host at once, and how long each took to be gone after an event; it ends nothing itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proto_model::injection::Reversal;
use serde_json::Value;
use tests_harness::{report, wait};

use crate::site::Site;
use crate::witness::Witness;

const ACTS: Duration = Duration::from_secs(15);
const FINISHED: Duration = Duration::from_secs(60);

/// One attack that is known to act.
pub struct Harm<'a> {
    pub fault: String,
    pub host: String,
    pub run: String,
    pub witness: Witness<'a>,
    site: &'a Site,
}

impl<'a> Harm<'a> {
    /// Attacks and waits until the effect is seen.
    pub fn begin(site: &'a Site, host: &str, fault: &str, params: &Value, lasts: Duration) -> Result<Self> {
        let mut witness = Witness::of(site, host, fault, params).with_context(|| format!("before {fault}"))?;
        let run = site.attack(host, fault, params, lasts)?;
        witness.told_run(&run);
        let harm = Self {
            fault: fault.to_owned(),
            host: host.to_owned(),
            run,
            witness,
            site,
        };
        let seen = wait::until(format_args!("{fault} is seen on {host}"), ACTS, || harm.witness.sees());
        seen.with_context(|| format!("{:?}", site.run(&harm.run).map(|run| run.to_string())))?;
        Ok(harm)
    }

    /// Every kind by its first example, side by side, each on the host that [`Site::one_each`] made for it.
    pub fn every_kind(site: &'a Site, lasts: Duration) -> Result<Vec<Self>> {
        let begin = |(number, fault): (usize, &dyn agent_faults::AnyFault)| {
            let description = fault.describe();
            let example = description.examples.first().context("a kind shows an example")?;
            Self::begin(site, &host_of(number), fault.kind().as_str(), &example.params, lasts)
        };
        reversible().enumerate().map(begin).collect()
    }

    /// Only the kind of this family, on a host of its own.
    pub fn one_kind(site: &'a Site, family: &str, lasts: Duration) -> Result<Self> {
        let mut kinds = reversible().enumerate();
        let found = kinds.find(|(_, fault)| fault.kind().as_str().starts_with(family));
        let (number, fault) = found.with_context(|| format!("no kind of {family}"))?;
        let example = fault.describe().examples.swap_remove(0);
        Self::begin(site, &host_of(number), fault.kind().as_str(), &example.params, lasts)
    }

    /// The run once it is over, and proof that its host is as before.
    pub fn is_over(&self) -> Result<Value> {
        let run = self.site.finished(&self.run, FINISHED)?;
        self.witness.recovers().with_context(|| self.fault.clone())?;
        Ok(run)
    }
}

/// Every kind that promises to be undone.
pub fn reversible() -> impl Iterator<Item = &'static dyn agent_faults::AnyFault> {
    agent_faults::registry().filter(|fault| fault.reversal() == Reversal::Full)
}

/// Every kind that leaves something for good.
pub fn irreversible() -> impl Iterator<Item = &'static dyn agent_faults::AnyFault> {
    agent_faults::registry().filter(|fault| fault.reversal() != Reversal::Full)
}

/// The host that belongs to the kind of this number.
pub fn host_of(number: usize) -> String {
    format!("host{number}")
}

/// Waits until nobody sees any of them any more, tells how long each took since `event`, and holds that against `limit`.
pub fn all_gone(harms: &[Harm<'_>], after: &str, event: Instant, limit: Duration) -> Result<()> {
    let mut left: Vec<&Harm> = harms.iter().collect();
    let mut late = Vec::new();
    let patience = limit + Duration::from_secs(20);
    while !left.is_empty() {
        let mut still = Vec::new();
        for harm in left {
            if harm.witness.sees()? {
                still.push(harm);
                continue;
            }
            let took = event.elapsed();
            report::undone(&harm.fault, after, took, limit);
            if took > limit {
                late.push(format!("{} took {took:?}", harm.fault));
            }
        }
        let names: Vec<&str> = still.iter().map(|harm| harm.fault.as_str()).collect();
        ensure!(event.elapsed() < patience, "after {after}, {names:?} still acts after {patience:?}");
        left = still;
        std::thread::sleep(Duration::from_millis(10));
    }
    ensure!(late.is_empty(), "after {after}: {} of at most {limit:?}", late.join(", "));
    Ok(())
}
