//! Probes that hosts run, and what they saw. It knows no kind of check by name: a check is its kind and the parameters of that kind.

use proto_model::id::HostName;
use proto_model::probe::{ProbeCheck, ProbeRole, ProbeSpec, Prober, Sample, SampleResult, SampledBy, Tolerance};
use proto_model::quantity::Percent;
use proto_model::time::Timestamp;
use serde_json::Value;

use super::field::{ConvertError, enums, json};
use crate::v1;

enums!(ProbeRole, v1::probe::Role, role, "probe.role": Hypothesis, Guard);
enums!(SampleResult, v1::sample::Result, sample_result, "sample.result": Good, Bad, Missing);

impl TryFrom<&ProbeSpec> for v1::Probe {
    type Error = ConvertError;

    fn try_from(spec: &ProbeSpec) -> Result<Self, ConvertError> {
        let check = serde_json::to_value(&spec.check).map_err(|error| ConvertError::invalid("probe.check", error))?;
        let (check, params) = match check {
            Value::Object(fields) if fields.len() == 1 => fields.into_iter().next(),
            _ => None,
        }
        .ok_or(ConvertError::Missing { field: "probe.check" })?;
        Ok(Self {
            name: spec.name.clone(),
            role: v1::probe::Role::from(spec.role).into(),
            check,
            params_json: params.to_string(),
            every_ms: spec.every_ms,
            timeout_ms: spec.timeout_ms,
            tolerance: Some(match spec.tolerate {
                Tolerance::Count(count) => v1::probe::Tolerance::Count(count),
                Tolerance::Share(Percent(share)) => v1::probe::Tolerance::SharePercent(share),
            }),
            failure_threshold: spec.breaks,
        })
    }
}

/// The probe that `host` is to run.
pub fn probe_from_wire(host: &HostName, probe: v1::Probe) -> Result<ProbeSpec, ConvertError> {
    let params = json("probe.params_json", &probe.params_json)?;
    let check = Value::Object([(probe.check, params)].into_iter().collect());
    let check: ProbeCheck = serde_json::from_value(check).map_err(|error| ConvertError::invalid("probe.check", error))?;
    let tolerance = probe.tolerance.ok_or(ConvertError::Missing { field: "probe.tolerance" })?;
    Ok(ProbeSpec {
        name: probe.name,
        role: role(probe.role)?,
        check,
        from: Prober::Hosts(vec![host.clone()]),
        every_ms: probe.every_ms,
        timeout_ms: probe.timeout_ms,
        tolerate: match tolerance {
            v1::probe::Tolerance::Count(count) => Tolerance::Count(count),
            v1::probe::Tolerance::SharePercent(share) => Tolerance::Share(Percent(share)),
        },
        breaks: probe.failure_threshold,
    })
}

/// What one host saw for one run.
pub fn samples_to_wire(run: String, samples: &[Sample]) -> v1::Samples {
    let sample = |sample: &Sample| v1::Sample {
        probe: sample.probe.clone(),
        started_at_ms: sample.started_at.0,
        took_ms: sample.took_ms,
        result: v1::sample::Result::from(sample.result).into(),
        value: sample.value,
        unit: sample.unit.clone(),
        error: sample.error.clone(),
    };
    v1::Samples {
        run,
        samples: samples.iter().map(sample).collect(),
    }
}

/// A sample from the session of `host`: who asked is never read from the message.
pub fn sample_from_wire(host: &HostName, sample: v1::Sample) -> Result<Sample, ConvertError> {
    Ok(Sample {
        probe: sample.probe,
        prober: SampledBy::Host(host.clone()),
        started_at: Timestamp(sample.started_at_ms),
        took_ms: sample.took_ms,
        result: sample_result(sample.result)?,
        value: sample.value,
        unit: sample.unit,
        error: sample.error,
    })
}
