//! Errors of the controller and of the way to it: each class has its exit code and says what to do.

use std::process::Stdio;

use proto_model::document::{ErrorBody, HostError};
use proto_model::id::HostName;
use proto_model::problem::Problem;

use crate::fake::{Script, start};
use crate::tool::{command, finish, fracas};

fn failing(error: ErrorBody) -> Script {
    Script {
        error: Some(error),
        ..Script::default()
    }
}

#[test]
fn each_class_of_error_has_its_exit_code() {
    for (code, expected) in [
        ("unknown_fault", 2),
        ("invalid_params", 2),
        ("usage", 2),
        ("invalid_file", 3),
        ("not_authenticated", 4),
        ("forbidden", 5),
        ("approval_needed", 5),
        ("halted", 7),
        ("no_targets", 1),
        ("refused", 1),
    ] {
        let started = start(failing(ErrorBody::new(code, "because of it")));
        let said = started.fracas(&["attack", "cpu.burn", "--on", "role=web", "--for", "5s"]);
        assert_eq!(said.code, expected, "{code}: {said:?}");
        assert!(said.err.contains("error: because of it") && said.out.is_empty(), "{said:?}");
    }
}

#[test]
fn a_broken_file_names_its_place_and_what_is_allowed() {
    let mut error = ErrorBody::new("invalid_file", "the file is not valid; nothing was started");
    error.problems = vec![
        Problem::new("steps[0].params.percent", "140 is too much")
            .allowed("1..100")
            .at(12, 18),
    ];
    let started = start(failing(error));
    let file = started.path().join("broken.yaml");
    std::fs::write(&file, "apiVersion: fracas/v1\n").unwrap();
    let file = file.to_str().unwrap();
    for verb in ["run", "plan"] {
        let said = started.fracas(&[verb, file]);
        assert_eq!(said.code, 3);
        let expected = format!("{file}:12:18: steps[0].params.percent: 140 is too much (allowed: 1..100)");
        assert_eq!(said.err.lines().next(), Some(expected.as_str()));
    }
}

#[test]
fn a_file_that_is_not_there_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let said = fracas(folder.path(), &["run", "nowhere.yaml"]);
    assert!(said.code == 3 && said.err.contains("cannot read nowhere.yaml"), "{said:?}");
}

#[test]
fn every_refusing_host_is_named() {
    let mut error = ErrorBody::new("refused", "2 hosts refuse; nothing was started");
    let host = |name: &str, message: &str| HostError {
        name: HostName::parse(name).unwrap(),
        code: "policy".into(),
        message: message.into(),
    };
    error.hosts = vec![host("web", "15m at most"), host("cache-1", "denied")];
    let started = start(failing(error));
    let said = started.fracas(&["attack", "cpu.burn", "--on", "all", "--for", "5s"]);
    assert!(
        said.err.contains("  web: policy: 15m at most\n  cache-1: policy: denied"),
        "{said:?}"
    );
    let said = started.fracas(&["attack", "cpu.burn", "--on", "all", "--for", "5s", "-o", "json"]);
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(error["error"]["code"], "refused");
    assert_eq!(error["error"]["hosts"][1]["name"], "cache-1");
    assert_eq!(error["error"]["problems"], serde_json::json!([]));
}

#[test]
fn an_unknown_fault_names_the_nearest_or_the_one_of_that_other_name() {
    for typed in ["network.partitoin", "blackhole"] {
        let started = start(failing(ErrorBody::new("unknown_fault", "no host knows it")));
        let said = started.fracas(&["attack", typed, "--on", "web", "--for", "5s"]);
        assert_eq!(said.code, 2);
        assert!(said.err.contains("did you mean network.partition?"), "{typed}: {said:?}");
    }
}

#[test]
fn an_unreachable_controller_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("controller.sock").display().to_string();
    for arguments in [
        vec!["hosts"],
        vec!["status"],
        vec!["halt"],
        vec!["attack", "cpu.burn", "--on", "web", "--for", "5s"],
    ] {
        let said = fracas(folder.path(), &arguments);
        assert_eq!(said.code, 10, "{said:?}");
        assert!(
            said.err.contains(&socket) && said.err.contains("No such file") && said.err.contains("systemctl start"),
            "{said:?}"
        );
    }
    std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let said = fracas(folder.path(), &["hosts", "-o", "json"]);
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((said.code, &error["error"]["code"]), (10, &"unreachable".into()));
    let other = fracas(folder.path(), &["hosts", "--socket", "/nowhere/at.all"]);
    assert!(
        other.code == 10 && other.err.contains("/nowhere/at.all"),
        "the flag beats the environment: {other:?}"
    );
}

#[test]
fn a_closed_pipe_is_no_panic_and_keeps_the_verdict() {
    let started = start(Script {
        run: crate::starts::experiment("failed"),
        ..Script::default()
    });
    let file = started.path().join("a.yaml");
    std::fs::write(&file, "").unwrap();
    for (arguments, expected) in [(vec!["hosts"], 0), (vec!["--help"], 0), (vec!["run", file.to_str().unwrap()], 6)] {
        let mut child = command(started.path(), &arguments).spawn().unwrap();
        drop(child.stdout.take());
        let said = finish(child);
        assert_eq!(said.code, expected, "{arguments:?}: {said:?}");
        assert!(!said.err.contains("panicked"), "{said:?}");
    }
}

#[test]
fn data_that_cannot_be_written_is_no_success() {
    let started = start(Script::default());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said = finish(command(started.path(), &["hosts"]).stdout(Stdio::from(full)).spawn().unwrap());
    assert!(said.code == 1 && said.err.contains("cannot write to standard output"), "{said:?}");
}

#[test]
fn while_halted_a_start_names_the_halt() {
    // Planning finds no healthy host then; the status tells why.
    let started = start(Script {
        plan_error: Some(ErrorBody::new("unhealthy", "web is halted")),
        ..Script::default()
    });
    let said = started.fracas(&["attack", "cpu.burn", "--on", "web", "--for", "5s"]);
    assert_eq!(said.code, 7, "{said:?}");
    assert!(said.err.contains("halted by root@local: drill"), "{said:?}");
    started.fake.script().status["halt"]["engaged"] = false.into();
    let said = started.fracas(&["attack", "cpu.burn", "--on", "web", "--for", "5s"]);
    assert!(said.code == 1 && said.err.contains("web is halted"), "{said:?}");
}

#[test]
fn a_message_made_of_its_problems_is_said_once() {
    let problem = Problem::new("params.percent", "140 is too much").allowed("1..100");
    let mut error = ErrorBody::new("invalid_params", problem.to_string());
    error.problems = vec![problem];
    let started = start(failing(error));
    let said = started.fracas(&["attack", "cpu.burn", "percent=140", "--on", "web", "--for", "5s"]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (2, "error: params.percent: 140 is too much (allowed: 1..100)\n")
    );
}
