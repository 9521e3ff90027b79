//! Service files: what is right is read, what is wrong is named with its place.

use controller_evidence::parse_service;
use proto_model::host::PRODUCTION;

use crate::scene::{FILE, service};

#[test]
fn a_service_is_read_whole() {
    let web = service();
    assert_eq!((web.name.as_str(), web.owners.as_slice()), ("web", &["team-web".to_owned()][..]));
    let cache = &web.critical[0];
    assert_eq!((cache.criticality_period_ms, cache.rto_ms, cache.rpo_ms), (300_000, 60_000, 0));
    assert_eq!(web.required_tests().into_iter().collect::<Vec<_>>(), ["lost-cache"]);
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
    let change = |from: &str, to: &str| FILE.replacen(from, to, 1);
    for (text, place, words) in [
        (change("owners: [team-web]\n", ""), "1:1", "owners: is required"),
        (change("      rto: 1m\n", ""), "13:", "dependencies.critical[0].rto: is required"),
        (change("      tests: [lost-cache]\n", ""), "13:", "tests: is required"),
        (change("tests: [lost-cache]", "tests: []"), "18:", "tests: is empty"),
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
        format!("    - {{ name: {name}, criticality_period: 5m, rto: 1m, rpo: 1s, children: [{child}], probes: [p], tests: [t] }}\n")
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
