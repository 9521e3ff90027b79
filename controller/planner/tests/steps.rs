//! Steps made of steps, and variables: what becomes of them in a plan, and with which words the rest is refused.

#[expect(dead_code, reason = "the other suites use the rest of it")]
mod fleet;

use std::collections::BTreeMap;

use controller_planner::{Experiment, PlanRefusal, parse_experiment, plan};
use controller_policy::Policy;
use fleet::fleet;
use proto_model::plan::{OnFailure, Plan, StepBody};
use proto_model::problem::Problems;
use serde_json::json;

const HEAD: &str = "apiVersion: fracas/v1\nkind: Experiment\nname: x\nenvironment: staging\n";
const BURN: &str = "fault: cpu.burn, params: { percent: 60 }, duration: 20s";

fn parse(rest: &str, set: &[(&str, &str)]) -> Result<Experiment, Problems> {
    let set: BTreeMap<String, String> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    parse_experiment(&format!("{HEAD}{rest}"), "x.yaml", &set)
}

fn planned(rest: &str, set: &[(&str, &str)]) -> Result<Plan, PlanRefusal> {
    let experiment = parse(rest, set).unwrap_or_else(|problems| panic!("{problems}"));
    plan(&experiment, &fleet(), &Policy::default(), 7)
}

fn paths(plan: &Plan) -> Vec<&str> {
    plan.all_steps().iter().map(|step| step.path.as_str()).collect()
}

#[test]
fn branches_and_rounds_have_paths_of_their_own() {
    let text = format!(
        "steps:
  - parallel:
      - {{ {BURN}, on: {{ hosts: [web-1] }}, on_failure: continue }}
      - steps:
          - wait: 5s
          - {{ {BURN}, on: {{ hosts: [web-2] }} }}
  - repeat: 2
    steps:
      - {{ {BURN}, on: {{ hosts: [web-3] }} }}
      - wait: 1s
  - {{ wait: 2s, repeat: 2 }}
"
    );
    let plan = planned(&text, &[]).unwrap();
    let expected = [
        "steps[0]",
        "steps[0].parallel[0]",
        "steps[0].parallel[1]",
        "steps[0].parallel[1].steps[0]",
        "steps[0].parallel[1].steps[1]",
        "steps[1]",
        "steps[1].round[0]",
        "steps[1].round[0].steps[0]",
        "steps[1].round[0].steps[1]",
        "steps[1].round[1]",
        "steps[1].round[1].steps[0]",
        "steps[1].round[1].steps[1]",
        "steps[2]",
        "steps[2].round[0]",
        "steps[2].round[1]",
    ];
    assert_eq!(paths(&plan), expected);
    assert!(matches!(&plan.steps[0].body, StepBody::Parallel(branches) if branches.len() == 2));
    // 25 s in the longer branch, two rounds of 21 s, two waits.
    assert_eq!(plan.steps_ms(), 25_000 + 2 * 21_000 + 4_000);
    let ways: Vec<OnFailure> = plan.fault_steps().map(|(_, step)| step.on_failure).collect();
    assert_eq!(ways, [OnFailure::Continue, OnFailure::Stop, OnFailure::Stop, OnFailure::Stop]);
}

#[test]
fn every_round_hits_the_same_hosts_with_a_seed_of_its_own() {
    let plan = planned(
        &format!("steps: [{{ {BURN}, on: {{ labels: role=web, pick: 2 }}, repeat: 3 }}]"),
        &[],
    )
    .unwrap();
    let rounds: Vec<_> = plan.fault_steps().map(|(_, step)| step.injections.clone()).collect();
    assert_eq!(rounds.len(), 3);
    let hosts = |at: usize| rounds[at].iter().map(|i| i.host.clone()).collect::<Vec<_>>();
    assert!(hosts(0) == hosts(1) && hosts(1) == hosts(2));
    assert_ne!(rounds[0][0].seed, rounds[1][0].seed);
}

#[test]
fn limits_count_the_branches_together() {
    let branches = |limits: &str| {
        format!(
            "limits: {limits}
steps:
  - parallel:
      - {{ {BURN}, on: {{ hosts: [web-1, web-2] }} }}
      - {{ fault: network.partition, params: {{ to: [any] }}, duration: 5s, on: {{ hosts: [web-2, web-3] }} }}
"
        )
    };
    planned(&branches("{ hosts: 3 }"), &[]).unwrap();
    let refusal = planned(&branches("{ hosts: 2 }"), &[]).unwrap_err();
    assert_eq!(refusal.error.code, "limit");
    assert_eq!(
        refusal.error.message,
        "5:18: limits.hosts: steps[0] injects 3 hosts at the same time (allowed: ..2)"
    );
    planned(&branches("{ duration: 20s }"), &[]).unwrap();
    assert_eq!(planned(&branches("{ duration: 19s }"), &[]).unwrap_err().error.code, "limit");
    let share = format!(
        "limits: {{ keep_healthy: 1 }}
steps: [{{ parallel: [{{ {BURN}, on: {{ labels: role=web, pick: 2, seed: 1 }} }}, {{ wait: 1s }}, {{ {BURN}, on: {{ hosts: [web-1, web-2, web-3, web-4] }}, \
         params: {{ percent: 50 }} }}] }}]"
    )
    .replace(&format!("{BURN}, on: {{ hosts"), "fault: cpu.burn, duration: 20s, on: { hosts");
    assert!(planned(&share, &[]).unwrap_err().to_string().contains("leaves 0 of 4 hosts"));
}

#[test]
fn a_fault_that_is_too_short_to_be_decided_is_refused_with_the_shortest_that_works() {
    let asked = |every: &str, phases: &str, step: &str| {
        let probe = format!("{{ name: p, tcp: 'client:8080', from: role=cache, every: {every} }}");
        let fault = "fault: cpu.burn, params: { percent: 1 }, on: { labels: role=web }";
        planned(
            &format!("hypothesis: {{ {phases}, probes: [{probe}] }}\nsteps: [{{ {fault}, {step} }}]"),
            &[],
        )
    };
    let short = asked("2s", "before: 6s, after: 10s", "duration: 4s").unwrap_err();
    assert_eq!(short.error.code, "limit");
    assert_eq!(
        short.error.message,
        "6:88: steps[0].duration: 4s is too short to decide probe p: it is asked every 2s, and a fault has to act for 3 samples (allowed: 6s..)"
    );
    asked("2s", "before: 6s, after: 10s", "duration: 6s").unwrap();
    asked("1s", "before: 3s, after: 3s", "duration: 3s").unwrap();
    // The rounds of a step are judged together.
    asked("2s", "before: 6s, after: 10s", "duration: 4s, repeat: 2").unwrap();
    let rounds = asked("2s", "before: 6s, after: 10s", "duration: 3s, repeat: 2").unwrap_err();
    assert!(rounds.error.message.contains("(allowed: 4s..)"), "{rounds}");
}

#[test]
fn policy_counts_the_branches_together_too() {
    let text = format!("steps: [{{ parallel: [{{ {BURN}, on: {{ hosts: [web-1] }} }}, {{ {BURN}, on: {{ hosts: [web-2] }} }}] }}]");
    let policy = |most: u32| Policy::from_toml(&format!("[policy.staging]\nmax_faulted_hosts = {most}")).unwrap();
    let experiment = parse(&text, &[]).unwrap();
    plan(&experiment, &fleet(), &policy(2), 7).unwrap();
    let refusal = plan(&experiment, &fleet(), &policy(1), 7).unwrap_err();
    assert!(refusal.to_string().contains("steps[0] injects 2 hosts"), "{refusal}");
}

#[test]
fn the_same_fault_twice_at_once_on_a_host_is_a_conflict() {
    let twice =
        |way: &str| format!("steps: [{{ {way}: [{{ {BURN}, on: {{ hosts: [web-1] }} }}, {{ {BURN}, on: {{ labels: role=web }} }}] }}]");
    let refusal = planned(&twice("parallel"), &[]).unwrap_err();
    assert_eq!(refusal.error.code, "conflict");
    let text = refusal.to_string();
    assert!(
        text.starts_with("5:1") && text.contains("steps[0].parallel[1]: cpu.burn on web-1"),
        "{text}"
    );
    planned(&twice("steps"), &[]).unwrap();
    let plan = planned(&twice("parallel").replacen("percent: 60", "percent: 61", 1), &[]).unwrap();
    let wishes = plan.wishes(&fleet::name("web-1"));
    assert_eq!((wishes[0].1.beside.len(), wishes[1].1.beside.clone()), (0, vec![0]));
    assert!(plan.wishes(&fleet::name("web-2"))[0].1.beside.is_empty());
}

#[test]
fn problems_below_a_round_are_found_where_they_are_written() {
    let text = "steps:\n  - repeat: 2\n    steps:\n      - fault: cpu.burn\n        params: { percent: 0 }\n        on: { hosts: [web-1] }\n        duration: 5s\n";
    let refusal = planned(text, &[]).unwrap_err();
    let problem = &refusal.error.problems[0];
    assert_eq!(problem.path, "steps[0].round[0].steps[0].params.percent");
    assert_eq!((problem.line, problem.column), (Some(9), Some(28)));
}

#[test]
fn steps_of_steps_are_bounded() {
    let deep = |levels: usize| {
        let (mut open, mut close) = (String::new(), String::new());
        for _ in 0..levels {
            open.push_str("{ steps: [");
            close.insert_str(0, "] }");
        }
        format!("steps: [{open}{{ {BURN}, on: {{ all: true }} }}{close}]")
    };
    parse(&deep(3), &[]).unwrap();
    for (text, words) in [
        (deep(4), "is too deep"),
        (
            format!("steps: [{{ {BURN}, on: {{ all: true }}, repeat: 0 }}]"),
            "repeat: 0 is no number of rounds (allowed: 1..100)",
        ),
        (format!("steps: [{{ {BURN}, on: {{ all: true }}, repeat: 101 }}]"), "1..100"),
        (
            format!("steps: [{{ repeat: 100, steps: [{{ {BURN}, on: {{ all: true }} }}, {{ wait: 1s }}, {{ wait: 1s }}] }}]"),
            "100 rounds make 300 steps",
        ),
        (
            format!("steps: [{{ {BURN}, on: {{ all: true }}, repeat: 100 }}, {{ wait: 1s, repeat: 100 }}, {{ wait: 1s }}]"),
            "has 201 steps",
        ),
        (
            format!("steps: [{{ parallel: [{{ {BURN}, on: {{ all: true }} }}] }}]"),
            "has 1 branches (allowed: 2..20)",
        ),
        ("steps: [{ parallel: [{ wait: 1s }, { wait: 2s }] }]".into(), "injects nothing"),
        ("steps: [{ steps: [] }]".into(), "is empty"),
        ("steps: [{ steps: [{ wait: 1s }], params: {} }]".into(), "does not go with steps"),
        (
            format!("steps: [{{ {BURN}, on: {{ all: true }}, on_failure: retry }}]"),
            "on_failure: is \"retry\" (allowed: stop, continue)",
        ),
    ] {
        let problems = parse(&text, &[]).err().unwrap_or_else(|| panic!("was taken: {text}"));
        assert!(problems.to_string().contains(words), "{text}\n{problems}");
        assert!(problems.0.iter().all(|p| p.line.is_some()), "{problems}");
    }
}

const VARIABLES: &str = r#"variables:
  host: web-1
  percent: { type: percent, default: 60 }
  length: { type: duration, says: how long }
  rounds: 2
name2: x
steps:
  - fault: cpu.burn
    params: { percent: "${percent}" }
    on: { hosts: ["${host}"] }
    duration: ${length}
    repeat: ${rounds}
"#;

fn variables() -> String {
    VARIABLES.replace("name2: x\n", "")
}

#[test]
fn variables_are_set_recorded_and_part_of_the_digest() {
    let plan = |set: &[(&str, &str)]| planned(&variables(), set).unwrap_or_else(|refusal| panic!("{refusal}"));
    let first = plan(&[("length", "5s")]);
    assert_eq!(
        json!(first.variables),
        json!({ "host": "web-1", "percent": "60%", "length": "5s", "rounds": 2 })
    );
    let steps: Vec<_> = first.fault_steps().collect();
    assert_eq!((steps.len(), steps[0].1.duration_ms), (2, 5_000));
    assert_eq!(steps[0].1.params, json!({ "percent": 60.0 }));
    let other = plan(&[("length", "5s"), ("percent", "25"), ("host", "web-2"), ("rounds", "1")]);
    let (_, step) = other.fault_steps().next().unwrap();
    assert_eq!(
        (step.params.clone(), step.injections[0].host.as_str()),
        (json!({ "percent": 25.0 }), "web-2")
    );
    assert_ne!(first.digest(), other.digest());
    assert_eq!(first.digest(), plan(&[("length", "5s"), ("host", "web-1")]).digest());
    let read: Plan = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
    assert_eq!(read.digest(), first.digest());
}

#[test]
fn a_variable_may_be_a_part_of_a_text_and_dollars_can_be_written() {
    let text = format!(
        "variables: {{ host: prom, port: 9090 }}\nhypothesis:\n  says: \"costs $${{host}} ${{port}}\"\n  probes: [{{ name: p, http: \"http://${{host}}:${{port}}/\" }}]\nsteps: [{{ {BURN}, on: {{ all: true }} }}]"
    );
    let experiment = parse(&text, &[("port", "80")]).unwrap();
    let hypothesis = experiment.hypothesis.unwrap();
    assert_eq!(hypothesis.says, "costs ${host} 80");
    assert_eq!(hypothesis.probes[0].spec.check.params["url"], "http://prom:80/");
}

#[test]
fn what_is_wrong_with_a_variable_is_said_with_its_place() {
    let steps = format!("steps: [{{ {BURN}, on: {{ all: true }} }}]");
    for (text, set, words) in [
        (
            variables(),
            vec![],
            "8:11: variables.length: has no default and was not set (allowed: --set length=200ms)",
        ),
        (
            variables(),
            vec![("length", "5")],
            "8:11: variables.length: \"5\", as it was set, is no duration",
        ),
        (
            variables(),
            vec![("lenght", "5s")],
            "set.lenght: x.yaml declares no variable lenght; did you mean length?",
        ),
        (
            variables(),
            vec![("length", "5s"), ("rounds", "two")],
            "\"two\", as it was set, is no integer",
        ),
        (variables(), vec![("length", "5s"), ("rounds", "200")], "1..100"),
        (
            variables().replace("${host}", "${hosd}"),
            vec![("length", "5s")],
            "13:19: steps[0].on.hosts[0]: no variable \"hosd\" is declared; did you mean host?",
        ),
        (
            variables().replace("${host}", "${host"),
            vec![("length", "5s")],
            "does not close it",
        ),
        (
            format!("variables: {{ a: {{ type: word }} }}\n{steps}"),
            vec![],
            "\"word\" is no type (allowed: text, number",
        ),
        (
            format!("variables: {{ a: {{ type: integer, default: x }} }}\n{steps}"),
            vec![],
            "variables.a.default: \"x\" is no integer",
        ),
        (
            format!("variables: {{ a: {{ type: text, default: 5 }} }}\n{steps}"),
            vec![],
            "5 is no text",
        ),
        (format!("variables: {{ 1a: 5 }}\n{steps}"), vec![], "\"1a\" is no variable's name"),
        (format!("variables: {{ a: [1] }}\n{steps}"), vec![], "variables.a: is a list"),
        (format!("variables: {{ a: 1, a: 2 }}\n{steps}"), vec![], "is written twice"),
        (format!("variables: [a]\n{steps}"), vec![], "5:12: variables: is a list"),
        (format!("{steps}\nservice: ${{x}}"), vec![], "none is declared"),
    ] {
        let problems = parse(&text, &set).err().unwrap_or_else(|| panic!("was taken: {text}"));
        assert!(problems.to_string().contains(words), "{text}\n{problems}");
        assert!(problems.0.iter().all(|p| p.line.is_some()), "{problems}");
    }
}
