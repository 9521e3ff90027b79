//! Each type of the model there and back, and what the model does not know refused.

use proto_model::catalogue::FaultKind;
use proto_model::host::HostFacts;
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::*;
use proto_model::probe::*;
use proto_model::problem::Refusal;
use proto_model::quantity::Percent;
use proto_model::time::Timestamp;
use serde_json::json;

use super::*;
use crate::v1;

fn report(fact: AgentFact) -> AgentReport {
    AgentReport {
        injection: InjectionId::generate(),
        run: "r".into(),
        agent_seq: 3,
        boot_id: "b".into(),
        boot_ms: 9,
        fact,
    }
}

fn web() -> HostName {
    HostName::parse("web").unwrap()
}

#[test]
fn every_fact_crosses_unchanged() {
    let ends = [EndedBy::DurationElapsed, EndedBy::KernelExpiry];
    let undone = |ended_by| {
        AgentFact::Undone(Undone {
            ended_by,
            undone_by: "guardian".into(),
            undo_ms: 41,
            answer: UndoAnswer::AlreadyUndone,
            drift: vec!["a rule".into()],
        })
    };
    let observation = Observation {
        asked: Some(20.0),
        measured: None,
        unit: "percent".into(),
        state: EffectState::Unexercised,
        note: Some("no packet".into()),
    };
    let mut facts = vec![
        AgentFact::Refused(Refusal::new("policy", "params.percent", "too much").allowed("1..50")),
        AgentFact::Applied(Applied {
            effect: json!({ "rules": [1, 2] }),
            engine: Some("netem".into()),
            apply_ms: 5,
            deadline_boot_ms: u64::MAX,
            noop: true,
        }),
        AgentFact::Observed(Observed {
            window: 2,
            window_ms: 1_000,
            observation,
        }),
        AgentFact::Ending(Ending {
            ended_by: EndedBy::LocalHalt,
            reason: Some("drill".into()),
        }),
        AgentFact::UndoFailed(UndoFailed {
            undo: "remove a rule".into(),
            error: "busy".into(),
            attempt: 2,
        }),
        AgentFact::Spent(Spent {
            consequences: vec!["pid 7 killed".into()],
        }),
    ];
    facts.extend(ends.map(undone));
    for fact in facts {
        let report = report(fact);
        let wire = v1::InjectionReport::from(&report);
        assert_eq!(AgentReport::try_from(wire).unwrap(), report);
    }
}

#[test]
fn what_the_model_does_not_know_is_refused_and_never_a_default() {
    for value in [0, 99, -1] {
        let unknown = ConvertError::UnknownValue { field: "ended_by", value };
        assert_eq!(ended_by(value), Err(unknown));
        assert!(cleanliness(value).is_err() && injection_state(value).is_err());
    }
    let ending = AgentFact::Ending(Ending {
        ended_by: EndedBy::Stop,
        reason: None,
    });
    let mut wire = v1::InjectionReport::from(&report(ending));
    let fact = wire.fact.take();
    assert_eq!(AgentReport::try_from(wire.clone()), Err(ConvertError::Missing { field: "fact" }));
    wire.fact = fact.map(|_| v1::injection_report::Fact::Ending(v1::Ending::default()));
    let error = AgentReport::try_from(wire).unwrap_err();
    assert!(
        error.to_string().starts_with("ended_by: 0 is not a value that this version knows"),
        "{error}"
    );
    let observed = v1::injection_report::Fact::Observed(v1::Observed::default());
    assert!(
        AgentFact::try_from(observed).is_err(),
        "an observation without a state confirms nothing"
    );
    assert!(proof_or_missing(Some(v1::CleanProof::default())).is_err() && proof_or_missing(None).is_err());
    assert!(sample_from_wire(&web(), v1::Sample::default()).is_err());
}

#[test]
fn what_a_host_states_of_itself_crosses_unchanged() {
    let facts = HostFacts {
        hostname: "web".into(),
        cpus: 4,
        memory_bytes: 1 << 33,
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        service_manager: "systemd".into(),
        ..HostFacts::default()
    };
    let wire = v1::HostFacts::from(&facts);
    assert_eq!(facts_or_missing(Some(wire.clone())).unwrap(), facts);
    let bad = v1::HostFacts {
        addresses: vec!["web".into()],
        ..wire
    };
    let error = HostFacts::try_from(bad).unwrap_err().to_string();
    assert_eq!(error, "facts.addresses: \"web\" is no address");
    assert_eq!(facts_or_missing(None), Err(ConvertError::Missing { field: "facts" }));
}

#[test]
fn questions_answers_and_proofs_cross_unchanged() {
    let wish = Wish {
        fault: FaultKind::parse("cpu.burn").unwrap(),
        params: json!({ "percent": 50 }),
        duration_ms: 5_000,
        seed: u64::MAX,
        beside: vec![0, 2],
        unattended: true,
    };
    assert_eq!(Wish::try_from(v1::PreflightQuestion::from(&wish)).unwrap(), wish);
    let answer = PreflightAnswer {
        accepted: false,
        refusals: vec![Refusal::new("conflict", "", "held")],
        warnings: vec!["w".into()],
        undo: vec!["u".into()],
        touches: vec!["eth0".into()],
        engine: Some("bpf".into()),
    };
    assert_eq!(PreflightAnswer::from(v1::PreflightResult::from(answer.clone())), answer);
    let proof = CleanProof::of(vec!["a".into()], vec![], vec!["d".into()], vec![], "b");
    assert_eq!(proof_or_missing(Some(proof.clone().into())).unwrap(), proof);
}

#[test]
fn a_probe_crosses_as_its_kind_and_parameters() {
    let spec = ProbeSpec {
        name: "answers".into(),
        role: ProbeRole::Guard,
        check: ProbeCheck {
            kind: "tcp".into(),
            params: [("address".to_owned(), "db:5432".into()), ("within".to_owned(), "500ms".into())]
                .into_iter()
                .collect(),
        },
        from: Prober::Hosts(vec![web()]),
        every_ms: 1_000,
        timeout_ms: 500,
        tolerate: Tolerance::Share(Percent(5.0)),
        breaks: 3,
    };
    let wire = v1::Probe::try_from(&spec).unwrap();
    assert_eq!(wire.check, "tcp");
    assert_eq!(probe_from_wire(&web(), wire.clone()).unwrap(), spec);
    let unknown = v1::Probe {
        check: "telepathy".into(),
        ..wire
    };
    // Which kinds there are is for whoever asks to say.
    assert_eq!(probe_from_wire(&web(), unknown).unwrap().check.kind, "telepathy");
}

#[test]
fn a_sample_is_of_the_host_whose_session_it_came_by() {
    let sample = Sample {
        probe: "answers".into(),
        prober: SampledBy::Host(web()),
        started_at: Timestamp(7),
        took_ms: 3,
        result: SampleResult::Bad,
        value: Some(0.5),
        unit: Some("s".into()),
        error: None,
    };
    let mut wire = samples_to_wire("r".into(), std::slice::from_ref(&sample));
    assert_eq!(sample_from_wire(&web(), wire.samples.remove(0)).unwrap(), sample);
}
