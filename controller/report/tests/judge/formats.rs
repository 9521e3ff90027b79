//! The report's forms read by other means than those that wrote them: what a pipeline counts, what a browser may run, what is drawn.

use std::collections::BTreeMap;

use controller_report::{html, junit};
use proptest::prelude::*;
use proto_model::event::{EventBody, RunPhase, StopCause};
use proto_model::injection::{CleanProof, EndedBy};
use proto_model::probe::{Phase, ProbeRole, Sample, SampleResult, SampledBy, Tolerance};
use proto_model::time::Timestamp;
use proto_model::verdict::Verdict;
use quick_xml::events::Event as Xml;

use crate::rules::dirty;
use crate::story::{PROBE, Story, host, plan};

const HOSTILE: &str = "\"><script>alert('&')</script>\u{1b}\u{0}";

/// Judges the story as the conductor would, and finishes it.
fn finished(story: &mut Story) -> Verdict {
    let j = story.judgement();
    story.push(EventBody::RunJudged {
        verdict: j.verdict,
        cleanup: j.cleanup,
        exit_code: j.exit_code,
        ended_by: j.ended_by,
        reasons: j.reasons,
        detection_ms: j.detection_ms,
        recovery_ms: j.recovery_ms,
        judge_version: 1,
    });
    story.phase(RunPhase::Finished);
    j.verdict
}

/// The suite's own counts beside the elements that are really there.
fn counted(xml: &str) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut said, mut found) = (BTreeMap::new(), BTreeMap::new());
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("{error}: {xml}")) {
            Xml::Eof => return (said, found),
            Xml::Start(element) | Xml::Empty(element) => {
                let name = element.name().as_ref().to_owned();
                if name == "testsuite" {
                    for attribute in element.attributes().map(Result::unwrap) {
                        let key = attribute.key.as_ref().to_owned();
                        let number = attribute.value.parse();
                        said.extend(number.ok().map(|n| (key, n)));
                    }
                }
                *found.entry(name).or_insert(0) += 1;
            }
            _ => {}
        }
    }
}

fn is_green(xml: &str) -> bool {
    let (said, found) = counted(xml);
    let of = |word: &str| found.get(word).copied().unwrap_or(0);
    assert_eq!(said["tests"], of("testcase"), "{xml}");
    assert_eq!(
        (said["failures"], said["errors"], said["skipped"]),
        (of("failure"), of("error"), of("skipped"))
    );
    said["failures"] + said["errors"] == 0
}

#[test]
fn every_row_of_the_rules_is_green_only_when_it_passed() {
    for (name, tell, verdict, ..) in crate::broken::ROWS.iter().chain(crate::cut::ROWS) {
        let mut story = Story::experiment();
        tell(&mut story);
        assert!(!is_green(&junit(&story.events)), "{name}: a run without a verdict is green");
        finished(&mut story);
        assert_eq!(is_green(&junit(&story.events)), *verdict == Verdict::Passed, "{name}");
    }
}

#[test]
fn a_case_keeps_its_name_whatever_becomes_of_it() {
    for (name, tell, ..) in crate::broken::ROWS.iter().chain(crate::cut::ROWS) {
        let mut story = Story::experiment();
        tell(&mut story);
        finished(&mut story);
        let xml = junit(&story.events);
        for case in [
            "classname=\"trial.run\" name=\"run\"",
            "classname=\"trial.undo\" name=\"web is clean\"",
        ] {
            assert_eq!(xml.matches(case).count(), 1, "{name}: {case} in\n{xml}");
        }
    }
}

#[test]
fn a_step_takes_from_its_start_to_its_end() {
    let mut story = Story::experiment();
    story
        .before("ggg")
        .acting()
        .samples(Phase::During, "ggg")
        .undone(EndedBy::DurationElapsed);
    let at = |kind: &str| {
        let of_kind = story
            .events
            .iter()
            .find(|event| serde_json::to_value(event).unwrap()["type"] == kind);
        of_kind.unwrap().at
    };
    let took = at("step.ended").since(at("step.started"));
    assert!(took > 0);
    let expected = format!("for 10s\" time=\"{}.{:03}\"", took / 1_000, took % 1_000);
    let xml = junit(&story.events);
    assert!(xml.contains(&expected), "{expected} is not in\n{xml}");
}

#[test]
fn steps_probes_and_undos_are_cases() {
    let mut story = Story::experiment();
    story
        .before("ggggg")
        .acting()
        .samples(Phase::During, "gbbbg")
        .undone(EndedBy::DurationElapsed)
        .after("bggg")
        .recovered()
        .proven(dirty());
    finished(&mut story);
    let xml = junit(&story.events);
    for part in [
        "<property name=\"verdict\" value=\"error\"/>",
        "classname=\"trial.step\" name=\"steps[0] cpu.burn on web for 10s\"",
        "classname=\"trial.probe\" name=\"answers during\"",
        "<failure type=\"hypothesis_broke\" message=\"3 of 5 samples bad, 0 missing\"",
        "classname=\"trial.undo\" name=\"steps[0] cpu.burn on web\" time=\"0.040\"/>",
        "<failure type=\"host_dirty\" message=\"group fracas-1\"",
        "name=\"host\" value=\"web: agent 0, kernel 6\"",
    ] {
        assert!(xml.contains(part), "{part} is not in\n{xml}");
    }
}

fn hostile() -> Story {
    let mut planned = plan(&["web"], Some(Tolerance::Count(0)));
    planned.name = HOSTILE.into();
    planned.hypothesis.as_mut().unwrap().says = HOSTILE.into();
    let mut story = Story::of(planned);
    story.before("ggg").acting();
    let sample = Sample {
        probe: PROBE.into(),
        prober: SampledBy::Host(host("web")),
        started_at: Timestamp(1_700_000_005_000),
        took_ms: 2_000,
        result: SampleResult::Bad,
        value: None,
        unit: None,
        error: Some(HOSTILE.into()),
    };
    story.push(EventBody::ProbeSampled {
        role: ProbeRole::Hypothesis,
        phase: Phase::During,
        sample,
    });
    story.push(EventBody::StopRequested {
        cause: StopCause::Operator,
        reason: HOSTILE.into(),
        guard: None,
        halt_epoch: None,
    });
    story
        .undone(EndedBy::Stop)
        .proven(CleanProof::of(vec![HOSTILE.into()], vec![], vec![HOSTILE.into()], vec![], "b"));
    finished(&mut story);
    story
}

#[test]
fn what_hosts_and_people_wrote_is_never_markup() {
    let story = hostile();
    let page = html(&story.events, None);
    assert!(page.matches("alert(").count() > 5, "the texts are shown");
    assert!(!page.contains("<script"), "{page}");
    let inside = page.split('<').skip(1).filter_map(|tag| tag.split('>').next());
    for tag in inside {
        let tag: String = tag.split('"').step_by(2).collect();
        let handler = tag.split_whitespace().skip(1).any(|word| word.starts_with("on"));
        assert!(!handler && !tag.contains("alert"), "<{tag}>");
    }
    assert!(page.contains("default-src 'none'; style-src 'sha256-"), "{page}");
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page asks for {outside}");
    }
    assert!(!is_green(&junit(&story.events)));
}

/// The picture's elements by class, read as XML.
fn drawn(page: &str) -> BTreeMap<String, usize> {
    let start = page.find("<svg").unwrap();
    let end = page.find("</svg>").unwrap() + "</svg>".len();
    let mut reader = quick_xml::Reader::from_str(&page[start..end]);
    let mut classes = BTreeMap::new();
    loop {
        match reader.read_event().unwrap() {
            Xml::Eof => return classes,
            Xml::Start(element) | Xml::Empty(element) => {
                let class = element.attributes().map(Result::unwrap).find(|a| a.key.as_ref() == "class");
                let class = class.map(|a| a.value.into_owned());
                *classes.entry(class.unwrap_or_default()).or_insert(0) += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn the_picture_shows_what_happened() {
    let mut story = Story::of(plan(&["web", "cache"], Some(Tolerance::Count(0))));
    story.before("ggggg").acting().samples(Phase::During, "gbbmg");
    story.push(EventBody::GuardBroken {
        guard: "errors".into(),
        consecutive: 3,
        phase: Phase::During,
        last_error: None,
    });
    story.undone(EndedBy::DurationElapsed).after("bggg").recovered().clean();
    finished(&mut story);
    let page = html(&story.events, None);
    let classes = drawn(&page);
    let of = |class: &str| classes.get(class).copied().unwrap_or(0);
    assert_eq!(
        (of("fault"), of("sample-good"), of("sample-bad"), of("sample-missing")),
        (2, 10, 3, 1)
    );
    assert_eq!(of("bound"), 1, "one probe, one bound");
    assert_eq!(
        (of("line-bad"), of("line-good")),
        (2, 1),
        "the guard and the detection; the recovery"
    );
    assert!(of("phase") >= 4, "{classes:?}");
    assert_eq!(page.matches("\u{2713} clean").count(), 2, "each host has its proof");
}

#[test]
fn a_host_without_injections_has_a_row_of_its_own() {
    let mut story = Story::experiment();
    story.before("ggg").acting().undone(EndedBy::DurationElapsed).clean();
    story.push(EventBody::HostVerified {
        host: crate::story::host("client"),
        proof: CleanProof::of(vec![], vec![], vec![], vec![], "b"),
    });
    finished(&mut story);
    let page = html(&story.events, None);
    let height = |line: &str| {
        line.split(" y=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next()?.parse::<f64>().ok())
    };
    let heights = |end: &str| {
        page.lines()
            .filter(|line| line.ends_with(end))
            .filter_map(height)
            .collect::<Vec<f64>>()
    };
    let (names, proofs) = (
        [heights(">client</text>"), heights(">web</text>")].concat(),
        heights("clean</text>"),
    );
    assert_eq!((names.len(), proofs.len()), (2, 2));
    for (name, proof) in names.iter().zip(&proofs) {
        assert!((name - proof).abs() < 3.0, "a proof stands beside its host: {names:?} {proofs:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_leaves_well_formed_xml(name in any::<String>(), reason in any::<String>()) {
        let mut planned = plan(&["web"], None);
        planned.name = name;
        let mut story = Story::of(planned);
        story.push(EventBody::StopRequested { cause: StopCause::Operator, reason, guard: None, halt_epoch: None });
        finished(&mut story);
        prop_assert!(!is_green(&junit(&story.events)));
        drawn(&html(&story.events, None));
    }
}
