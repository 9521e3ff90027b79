//! Facts about injections, as agents report them.

use proto_model::id::InjectionId;
use proto_model::injection::{
    AgentFact, AgentReport, Applied, EffectState, EndedBy, Ending, InjectionState, Observation, Observed, Spent, UndoAnswer, UndoFailed,
    Undone,
};
use proto_model::problem::Refusal;

use super::field::{ConvertError, enums, json};
use crate::v1;
use crate::v1::injection_report::Fact;

enums!(EndedBy, v1::EndedBy, ended_by, "ended_by": DurationElapsed, Stop, Halt, LocalHalt, LeaseLost, ApplyFailed, EndedEarly,
    Guardian, Rescue, Boot, Package, KernelExpiry);
enums!(InjectionState, v1::InjectionState, injection_state, "state": Planned, Withdrawn, Ordered, Refused, Applying, Holding, Undoing,
    Undone, UndoFailed, Spent);
enums!(EffectState, v1::observed::State, effect_state, "observed.state": Confirmed, Mismatch, Unexercised, Unknown);
enums!(UndoAnswer, v1::undone::Answer, undo_answer, "undone.answer": UndoneNow, AlreadyUndone, UnknownId, Spent);

impl From<&AgentReport> for v1::InjectionReport {
    fn from(report: &AgentReport) -> Self {
        Self {
            injection: report.injection.to_string(),
            run: report.run.clone(),
            agent_seq: report.agent_seq,
            boot_id: report.boot_id.clone(),
            boot_ms: report.boot_ms,
            fact: Some(report.fact.clone().into()),
        }
    }
}

impl TryFrom<v1::InjectionReport> for AgentReport {
    type Error = ConvertError;

    fn try_from(report: v1::InjectionReport) -> Result<Self, ConvertError> {
        Ok(Self {
            injection: InjectionId::parse(&report.injection).map_err(|error| ConvertError::invalid("injection", error))?,
            run: report.run,
            agent_seq: report.agent_seq,
            boot_id: report.boot_id,
            boot_ms: report.boot_ms,
            fact: report.fact.ok_or(ConvertError::Missing { field: "fact" })?.try_into()?,
        })
    }
}

impl From<AgentFact> for Fact {
    fn from(fact: AgentFact) -> Self {
        match fact {
            AgentFact::Refused(refusal) => Self::Refused(refusal.into()),
            AgentFact::Applied(applied) => Self::Applied(v1::Applied {
                effect_json: applied.effect.to_string(),
                engine: applied.engine,
                apply_ms: applied.apply_ms,
                deadline_boot_ms: applied.deadline_boot_ms,
                noop: applied.noop,
            }),
            AgentFact::Observed(observed) => Self::Observed(v1::Observed {
                window: observed.window,
                window_ms: observed.window_ms,
                asked: observed.observation.asked,
                measured: observed.observation.measured,
                unit: observed.observation.unit,
                state: v1::observed::State::from(observed.observation.state).into(),
                note: observed.observation.note,
            }),
            AgentFact::Ending(ending) => Self::Ending(v1::Ending {
                ended_by: v1::EndedBy::from(ending.ended_by).into(),
                reason: ending.reason,
            }),
            AgentFact::Undone(undone) => Self::Undone(v1::Undone {
                ended_by: v1::EndedBy::from(undone.ended_by).into(),
                undone_by: undone.undone_by,
                undo_ms: undone.undo_ms,
                answer: v1::undone::Answer::from(undone.answer).into(),
                drift: undone.drift,
            }),
            AgentFact::UndoFailed(failed) => Self::UndoFailed(v1::UndoFailed {
                undo: failed.undo,
                error: failed.error,
                attempt: failed.attempt,
            }),
            AgentFact::Spent(spent) => Self::Spent(v1::Spent {
                consequences: spent.consequences,
            }),
        }
    }
}

impl TryFrom<Fact> for AgentFact {
    type Error = ConvertError;

    fn try_from(fact: Fact) -> Result<Self, ConvertError> {
        Ok(match fact {
            Fact::Refused(refusal) => Self::Refused(refusal.into()),
            Fact::Applied(applied) => Self::Applied(Applied {
                effect: json("applied.effect_json", &applied.effect_json)?,
                engine: applied.engine,
                apply_ms: applied.apply_ms,
                deadline_boot_ms: applied.deadline_boot_ms,
                noop: applied.noop,
            }),
            Fact::Observed(observed) => Self::Observed(Observed {
                window: observed.window,
                window_ms: observed.window_ms,
                observation: Observation {
                    asked: observed.asked,
                    measured: observed.measured,
                    unit: observed.unit,
                    state: effect_state(observed.state)?,
                    note: observed.note,
                },
            }),
            Fact::Ending(ending) => Self::Ending(Ending {
                ended_by: ended_by(ending.ended_by)?,
                reason: ending.reason,
            }),
            Fact::Undone(undone) => Self::Undone(Undone {
                ended_by: ended_by(undone.ended_by)?,
                undone_by: undone.undone_by,
                undo_ms: undone.undo_ms,
                answer: undo_answer(undone.answer)?,
                drift: undone.drift,
            }),
            Fact::UndoFailed(failed) => Self::UndoFailed(UndoFailed {
                undo: failed.undo,
                error: failed.error,
                attempt: failed.attempt,
            }),
            Fact::Spent(spent) => Self::Spent(Spent {
                consequences: spent.consequences,
            }),
        })
    }
}

impl From<Refusal> for v1::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            path: refusal.path,
            message: refusal.message,
            allowed: refusal.allowed,
        }
    }
}

impl From<v1::Refusal> for Refusal {
    fn from(refusal: v1::Refusal) -> Self {
        Self {
            code: refusal.code,
            path: refusal.path,
            message: refusal.message,
            allowed: refusal.allowed,
        }
    }
}
