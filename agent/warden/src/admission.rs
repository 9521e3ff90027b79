//! Whether a fault may start, asked in a fixed order; the first no is the answer, and nothing has been touched by then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use agent_faults::{AnyFault, Claim, Preflight, Scene};
use agent_view::HostView;
use proto_model::catalogue::{DurationRule, FaultKind, nearest};
use proto_model::injection::{PreflightAnswer, Wish};
use proto_model::problem::Refusal;
use proto_model::quantity::Millis;
use serde_json::Value;

use crate::active::Active;
use crate::causes::panic_text;
use crate::handle::{HaltLatch, Halted};
use crate::kinds::Kinds;
use crate::policy::Policy;
use crate::protection::ProtectedResources;

/// A yes, with what the deed needs.
pub(crate) struct Admitted {
    pub(crate) fault: &'static dyn AnyFault,
    /// Canonical, with every default written out.
    pub(crate) params: Value,
    pub(crate) duration_ms: u64,
    pub(crate) claims: Vec<Claim>,
    pub(crate) preflight: Preflight,
}

/// Whether this host takes anything at all now.
pub(crate) struct Readiness {
    pub(crate) leaving: bool,
    pub(crate) halted: Option<Halted>,
    pub(crate) guarded: bool,
    /// Something that is left behind.
    pub(crate) residue: Option<String>,
    /// Why it is unknown whether something is left behind.
    pub(crate) unproven: Option<String>,
    /// Why no way back could be written down, where that was tried.
    pub(crate) journal: Option<String>,
}

/// What a wish is held against: this host as it is now. It changes nothing and remembers nothing.
pub(crate) struct Admission<'a> {
    view: &'a dyn HostView,
    policy: &'a Policy,
    kinds: Kinds,
    readiness: Readiness,
    active: Vec<&'a Active>,
    /// Where journals lie: what fills these volumes must leave some room.
    journals: Vec<PathBuf>,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(
        view: &'a dyn HostView,
        policy: &'a Policy,
        kinds: Kinds,
        readiness: Readiness,
        active: Vec<&'a Active>,
        journals: Vec<PathBuf>,
    ) -> Self {
        Self {
            view,
            policy,
            kinds,
            readiness,
            active,
            journals,
        }
    }

    /// What would be answered to orders like these; nothing is changed. Wishes that may act at the same time are also held
    /// against each other.
    pub(crate) fn preflight(&self, wishes: &[Wish]) -> Vec<PreflightAnswer> {
        let mut claimed: Vec<(&FaultKind, Vec<Claim>)> = Vec::with_capacity(wishes.len());
        let mut answers = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let admitted = self.admit(wish);
            let beside = wish.beside.iter().filter_map(|at| claimed.get(*at));
            let admitted = admitted.and_then(|admitted| {
                check_beside(&admitted.claims, beside)?;
                Ok(admitted)
            });
            let claims = admitted.as_ref().map(|admitted| admitted.claims.clone());
            claimed.push((&wish.fault, claims.unwrap_or_default()));
            answers.push(answer(admitted));
        }
        answers
    }

    pub(crate) fn admit(&self, wish: &Wish) -> Result<Admitted, Refusal> {
        let kind = &wish.fault;
        self.check_halts()?;
        self.check_guardian()?;
        self.check_clean()?;
        self.check_journal()?;
        let fault = (self.kinds.find)(kind).ok_or_else(|| self.unknown(kind))?;
        let params = fault.check(&wish.params).map_err(first)?;
        let duration_ms = lasts(fault, wish.duration_ms)?;
        self.policy.check(kind, &fault.reversal(), &params, duration_ms)?;
        self.policy.check_attended(kind, &fault.reversal(), wish.unattended)?;
        let claims = fault.claims_here(&params, self.view).map_err(first)?;
        self.check_conflicts(&claims)?;
        let preflight = self.ask_kind(fault, &params, duration_ms, wish.seed)?;
        Ok(Admitted {
            fault,
            params,
            duration_ms,
            claims,
            preflight,
        })
    }

    fn check_halts(&self) -> Result<(), Refusal> {
        if self.readiness.leaving {
            return Err(Refusal::new("leaving", "", "the agent is about to end"));
        }
        let Some(halted) = &self.readiness.halted else { return Ok(()) };
        let release = match halted.latch {
            HaltLatch::Host => "`fracas-agent release` on the host",
            HaltLatch::Controller => "`fracas release`",
        };
        Err(Refusal::new(
            "halted",
            "",
            format!("halted: {}; nothing starts until {release}", halted.reason),
        ))
    }

    fn check_guardian(&self) -> Result<(), Refusal> {
        if self.readiness.guarded {
            return Ok(());
        }
        Err(Refusal::new(
            "unguarded",
            "",
            "the agent's guardian does not answer; it is being restarted, and `fracas-agent doctor` says whether this host can have one",
        ))
    }

    fn check_clean(&self) -> Result<(), Refusal> {
        match (&self.readiness.residue, &self.readiness.unproven) {
            (None, None) => Ok(()),
            (Some(residue), _) => Err(Refusal::new("dirty", "", format!("this host is dirty: {residue}"))),
            (None, Some(why)) => {
                let text = format!("this host is not proven clean: {why}; remove the cause, and the agent looks again within a second");
                Err(Refusal::new("unproven", "", text))
            }
        }
    }

    fn check_journal(&self) -> Result<(), Refusal> {
        match &self.readiness.journal {
            None => Ok(()),
            Some(why) => Err(unwritable(why)),
        }
    }

    fn unknown(&self, kind: &FaultKind) -> Refusal {
        let catalogue = (self.kinds.catalogue)();
        let names: Vec<&str> = catalogue.0.iter().map(|d| d.kind.as_str()).collect();
        let hint = nearest(kind.as_str(), names.iter().copied()).map(|name| format!("; did you mean {name}?"));
        let message = format!("this agent has no fault {kind}{}", hint.unwrap_or_default());
        Refusal::new("unknown_fault", "fault", message).allowed(names.join(", "))
    }

    fn check_conflicts(&self, claims: &[Claim]) -> Result<(), Refusal> {
        let holder = self.active.iter().find_map(|active| {
            let claim = active
                .claims
                .iter()
                .find(|held| claims.iter().any(|claim| claim.conflicts_with(held)))?;
            Some((active, claim))
        });
        let Some((active, claim)) = holder else { return Ok(()) };
        let (kind, id, run) = (&active.kind, &active.injection, &active.run);
        Err(Refusal::new(
            "conflict",
            "",
            format!("{} is held by {kind} {id} of run {run}", claim.0),
        ))
    }

    /// The kind's own look; one that panics has refused.
    fn ask_kind(&self, fault: &'static dyn AnyFault, params: &Value, duration_ms: u64, seed: u64) -> Result<Preflight, Refusal> {
        let protected = ProtectedResources::of(self.policy, self.view).with_journals(&self.journals, self.view);
        let scene = Scene {
            view: self.view,
            protection: &protected,
            seed,
            duration_ms,
        };
        let asked = catch_unwind(AssertUnwindSafe(|| fault.preflight(params, &scene)));
        asked.unwrap_or_else(|panic| {
            Err(Refusal::new(
                "bug",
                "",
                format!("the fault's check panicked: {}", panic_text(&*panic)),
            ))
        })
    }
}

fn answer(admitted: Result<Admitted, Refusal>) -> PreflightAnswer {
    match admitted {
        Ok(admitted) => PreflightAnswer {
            accepted: true,
            refusals: Vec::new(),
            warnings: admitted.preflight.warnings,
            undo: vec![admitted.fault.describe().undone_by],
            touches: admitted.preflight.touches,
            engine: admitted.preflight.engine,
        },
        Err(refusal) => PreflightAnswer {
            accepted: false,
            refusals: vec![refusal],
            warnings: Vec::new(),
            undo: Vec::new(),
            touches: Vec::new(),
            engine: None,
        },
    }
}

/// Without its journal nothing may be touched.
pub(crate) fn unwritable(why: &str) -> Refusal {
    Refusal::new("journal", "", format!("the way back cannot be written down: {why}"))
}

/// What two branches of a plan would hold at the same time.
fn check_beside<'a>(claims: &[Claim], beside: impl Iterator<Item = &'a (&'a FaultKind, Vec<Claim>)>) -> Result<(), Refusal> {
    for (kind, held) in beside {
        if let Some(claim) = claims.iter().find(|ours| held.iter().any(|theirs| ours.conflicts_with(theirs))) {
            let message = format!("conflicts with {kind} of the same plan: both would hold {}", claim.0);
            return Err(Refusal::new("conflict", "", message));
        }
    }
    Ok(())
}

/// How long it is held: as ordered, or as the kind says where the order may leave it out.
fn lasts(fault: &dyn AnyFault, ordered_ms: u64) -> Result<u64, Refusal> {
    let description = fault.describe();
    let own = description.lasts_ms.unwrap_or_default();
    match description.duration {
        DurationRule::Optional if ordered_ms == 0 => Ok(own),
        DurationRule::None if ordered_ms == 0 || ordered_ms == own => Ok(own),
        DurationRule::None => {
            let text = format!("{} takes no duration: it is held for {}", description.kind, Millis(own));
            Err(Refusal::new("invalid_params", "duration", text))
        }
        _ => Ok(ordered_ms),
    }
}

fn first(problems: proto_model::problem::Problems) -> Refusal {
    match problems.0.into_iter().next() {
        Some(problem) => problem.into(),
        None => Refusal::new("invalid_params", "params", "the parameters are not valid"),
    }
}
