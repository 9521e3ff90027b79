//! The questions of a preflight with their answers, and a host's proof that it is clean.

use proto_model::catalogue::FaultKind;
use proto_model::injection::{CleanProof, PreflightAnswer, Wish};

use super::field::{ConvertError, json};
use super::host::cleanliness;
use crate::v1;

impl From<&Wish> for v1::PreflightQuestion {
    fn from(wish: &Wish) -> Self {
        Self {
            fault: wish.fault.to_string(),
            params_json: wish.params.to_string(),
            duration_ms: wish.duration_ms,
            seed: wish.seed,
            // A place in a question that fits into one message.
            concurrent_with: wish.beside.iter().filter_map(|place| u32::try_from(*place).ok()).collect(),
            unattended: wish.unattended,
        }
    }
}

impl TryFrom<v1::PreflightQuestion> for Wish {
    type Error = ConvertError;

    fn try_from(question: v1::PreflightQuestion) -> Result<Self, ConvertError> {
        let places = question.concurrent_with.into_iter().map(usize::try_from);
        Ok(Self {
            fault: FaultKind::parse(&question.fault).map_err(|error| ConvertError::invalid("fault", error))?,
            params: json("params_json", &question.params_json)?,
            duration_ms: question.duration_ms,
            seed: question.seed,
            beside: places
                .collect::<Result<_, _>>()
                .map_err(|error| ConvertError::invalid("concurrent_with", error))?,
            unattended: question.unattended,
        })
    }
}

impl From<PreflightAnswer> for v1::PreflightResult {
    fn from(answer: PreflightAnswer) -> Self {
        Self {
            accepted: answer.accepted,
            refusals: answer.refusals.into_iter().map(Into::into).collect(),
            warnings: answer.warnings,
            undo: answer.undo,
            affected_resources: answer.touches,
            engine: answer.engine,
        }
    }
}

impl From<v1::PreflightResult> for PreflightAnswer {
    fn from(result: v1::PreflightResult) -> Self {
        Self {
            accepted: result.accepted,
            refusals: result.refusals.into_iter().map(Into::into).collect(),
            warnings: result.warnings,
            undo: result.undo,
            touches: result.affected_resources,
            engine: result.engine,
        }
    }
}

impl From<CleanProof> for v1::CleanProof {
    fn from(proof: CleanProof) -> Self {
        Self {
            result: v1::Cleanliness::from(proof.result).into(),
            owned_left: proof.owned_left,
            not_restored: proof.not_restored,
            drift: proof.drift,
            consequences: proof.consequences,
            boot_id: proof.boot_id,
            digest: proof.digest,
        }
    }
}

impl TryFrom<v1::CleanProof> for CleanProof {
    type Error = ConvertError;

    fn try_from(proof: v1::CleanProof) -> Result<Self, ConvertError> {
        Ok(Self {
            result: cleanliness(proof.result)?,
            owned_left: proof.owned_left,
            not_restored: proof.not_restored,
            drift: proof.drift,
            consequences: proof.consequences,
            boot_id: proof.boot_id,
            digest: proof.digest,
        })
    }
}

/// An answer's proof, which must be there.
pub fn proof_or_missing(proof: Option<v1::CleanProof>) -> Result<CleanProof, ConvertError> {
    proof.ok_or(ConvertError::Missing { field: "proof" })?.try_into()
}
