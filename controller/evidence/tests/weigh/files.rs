//! Service files: what is right is read, what is wrong is named with its place.

use controller_evidence::parse_service;
use proto_model::host::PRODUCTION;
use proto_model::id::sha256_text;

use crate::scene::{FILE, service};

#[test]
fn a_service_is_read_whole() {
    let web = service();
    assert_eq!((web.name.as_str(), web.owners.as_slice()), ("web", &["team-web".to_owned()][..]));
    let cache = &web.critical[0];
    assert_eq!((cache.criticality_period_ms, cache.rto_ms, cache.rpo_ms), (300_000, 60_000, 0));
    assert_eq!(web.required_tests().into_keys().collect::<Vec<_>>(), ["lost-cache"]);
    assert_eq!(web.shared("demo", PRODUCTION), None);
    for (environment, why) in [
        ("staging", "payment gateway"),
        ("lab", "does not declare"),
        (PRODUCTION, "is production"),
    ] {
        assert!(
            web.shared(environment, PRODUCTION).is_some_and(|said| said.contains(why)),
            "{environment}"
        );
    }
    assert!(web.shared(PRODUCTION, "staging").is_some(), "sharing has two sides");
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let change = |from: &str, to: &str| {
        assert!(FILE.contains(from), "{from} is not in the file");
        FILE.replacen(from, to, 1)
    };
    let tests = FILE.lines().find(|line| line.contains("tests:")).unwrap();
    for (text, place, words) in [
        (change("owners: [team-web]\n", ""), "1:1", "owners: is required"),
        (change("      rto: 1m\n", ""), "13:", "dependencies.critical[0].rto: is required"),
        (change(&format!("{tests}\n"), ""), "13:", "tests: is required"),
        (change(tests, "      tests: []"), "18:", "tests: is empty"),
        (
            change(tests, "      tests: [lost-cache]"),
            "18:15",
            "is a name alone, which does not say what the test is (allowed: { name: lost-cache, digest: sha256:...",
        ),
        (
            change(tests, "      tests: [{ name: lost-cache }]"),
            "18:",
            "digest, or bounds on variables, or both",
        ),
        (change("sha256:0", "sha512:0"), "18:", "is not a digest"),
        (change("at_least: 100ms", "at_last: 100ms"), "18:", "did you mean at_least?"),
        (change("at_least: 100ms", "at_least: slow"), "18:", "a number or an amount"),
        (change("{ at_least: 100ms }", "{}"), "18:", "has no bound"),
        (change("rto: 1m", "rto: 60"), "15:12", "rto"),
        (change("rto: 1m", "rto: 0s"), "15:12", "is not a duration"),
        (
            change("with: production", "with: prod"),
            "10:17",
            "no other environment is named \"prod\"",
        ),
        (change("with: production", "with: staging"), "10:17", "no other environment"),
        (
            change("dependency: cache", "dependency: cash"),
            "20:",
            "\"cash\" is no critical dependency",
        ),
        (change("name: web", "nam: web"), "3:1", "did you mean name?"),
        (change("kind: Service", "kind: Experiment"), "2:7", "Service"),
        (
            change("rpo: 0s", "rpo: 0s\n      children: [disc]"),
            "17:18",
            "cache names the child \"disc\", which is not declared",
        ),
        (
            change("rpo: 0s", "rpo: 0s\n      children: [cache]"),
            "17:17",
            "depends on itself: cache -> cache",
        ),
    ] {
        let problems = parse_service(&text, "service.yaml").expect_err(words).to_string();
        assert!(
            problems.contains(words) && problems.contains(place),
            "{words} at {place}: {problems}"
        );
    }
}

#[test]
fn a_circle_is_shown_as_a_way() {
    let dependency = |name: &str, child: &str| {
        format!(
            "    - {{ name: {name}, criticality_period: 5m, rto: 1m, rpo: 1s, children: [{child}], probes: [p], tests: [{{ name: t, variables: {{ n: 1 }} }}] }}\n"
        )
    };
    let (head, _) = FILE.split_once("    - name: cache").unwrap();
    let with = |list: &[(&str, &str)]| head.to_owned() + &list.iter().map(|(name, child)| dependency(name, child)).collect::<String>();
    let circle = with(&[("a", "b"), ("b", "c"), ("c", "a")]);
    let said = parse_service(&circle, "service.yaml").unwrap_err().to_string();
    assert!(said.contains("depends on itself: a -> b -> c -> a"), "{said}");
    let tail = with(&[("x", "a"), ("a", "b"), ("b", "a")]);
    let said = parse_service(&tail, "service.yaml").unwrap_err().to_string();
    assert!(said.contains("critical[1].children") && said.contains("a -> b -> a"), "{said}");
    assert!(parse_service(&with(&[("a", "b"), ("c", "b"), ("b", "d"), ("d", "")]), "s").is_ok());
    let twice = with(&[("a", ""), ("a", "")]);
    assert!(
        parse_service(&twice, "s")
            .unwrap_err()
            .to_string()
            .contains("the name \"a\" is taken")
    );
}

#[test]
fn a_test_counts_once_a_day_unless_the_file_says_otherwise() {
    let interval = |text: &str| parse_service(text, "s").unwrap().critical[0].tests[0].min_interval_ms;
    assert_eq!(interval(FILE), 24 * 3_600_000);
    for (written, ms) in [("0s", 0), ("90m", 5_400_000)] {
        assert_eq!(
            interval(&FILE.replace("variables: {", &format!("min_interval: {written}, variables: {{"))),
            ms
        );
    }
}

#[test]
fn two_dependencies_say_the_same_of_a_test_that_they_share() {
    let (head, rest) = FILE.split_once("playbooks:").unwrap();
    let second = |bound: &str| {
        format!(
            "    - {{ name: db, criticality_period: 5m, rto: 1m, rpo: 1s, probes: [p], tests: [{{ name: lost-cache, variables: {{ delay: {{ at_least: {bound} }} }} }}] }}\nplaybooks:"
        )
    };
    let said = parse_service(&format!("{head}{}{rest}", second("1ms")), "s")
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("requires the test \"lost-cache\" otherwise than another dependency does"),
        "{said}"
    );
}

/// The demonstration's own service pins the file that it runs.
#[test]
fn the_demonstrations_service_pins_its_experiment() {
    let service = parse_service(include_str!("../../../../deploy/demo/service.yaml"), "service.yaml").unwrap();
    let digest = sha256_text(include_bytes!("../../../../deploy/demo/experiment.yaml"));
    assert_eq!(service.required_tests()["web-survives-a-lost-cache"].digest, Some(digest));
}
