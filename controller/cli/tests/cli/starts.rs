//! Attacks, runs and plans: what is asked of the controller, what is said, and what the exit code means.

use proto_model::document::ErrorBody;
use proto_wire::v1::plan_request::Wish;
use serde_json::{Value, json};

use crate::fake::{RUN, Script, Seen, Started, plan, run, start};

/// A run of an experiment with a hypothesis.
pub fn experiment(verdict: &str) -> Value {
    let mut run = run();
    let codes = [("passed", 0), ("failed", 6), ("error", 1), ("aborted", 7), ("inconclusive", 11)];
    run["exit_code"] = json!(codes.iter().find(|(of, _)| *of == verdict).unwrap().1);
    run["origin"] = json!("experiment");
    run["verdict"] = json!(verdict);
    run["reasons"] = json!([]);
    run["probes"] = json!([{"name": "answers", "phase": "during", "samples": 9, "bad": 0, "missing": 0, "held": true}]);
    run
}

const ATTACK: [&str; 11] = [
    "attack",
    "cpu.burn",
    "percent=60",
    "to=a",
    "to=b",
    "--on",
    "role=web",
    "--pick",
    "1",
    "--for",
    "20s",
];

fn of_run(run: Value) -> Started {
    start(Script { run, ..Script::default() })
}

fn file(started: &Started) -> String {
    let path = started.path().join("checkout.yaml");
    std::fs::write(&path, "apiVersion: fracas/v1\n").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_attack_says_its_choices_and_ends_with_verdict_residue_and_report() {
    let started = start(Script::default());
    let said = started.fracas(&ATTACK);
    assert_eq!(said.code, 0, "confirmed and proven clean is what was asked for: {said:?}");
    for line in ["env       staging", "hosts     web (seed 7)", "note      1 of 3 hosts"] {
        assert!(said.err.lines().any(|said| said == line), "{line}: {said:?}");
    }
    assert!(said.err.starts_with("context   local ("), "{said:?}");
    assert!(said.err.contains("no evidence"), "{said:?}");
    assert_eq!(
        said.out_lines(),
        [
            "  +0.0s  phase preflight",
            "  +1.0s  phase during",
            "         surprise.of.a.newer.controller",
            "  +3.0s  phase finished",
            "effect    cpu.burn on web asked 60 percent, measured 59.4: confirmed, undone in 41 ms",
            "reason    no_hypothesis: nothing was asked of the system",
            "cleanup   proven",
            "verdict   inconclusive",
            "residue   web none",
            "report    /var/lib/fracas/controller/reports/0123456789abcdef.md",
        ]
    );
}

#[test]
fn parameters_are_sent_as_typed_and_the_shown_plan_is_the_one_that_runs() {
    let started = start(Script::default());
    assert_eq!(started.fracas(&ATTACK).code, 0);
    let seen = started.seen();
    let Seen::Plan(plan) = &seen[0] else { panic!("{seen:?}") };
    let Some(Wish::Attack(wish)) = &plan.wish else { panic!("{plan:?}") };
    let params: Value = serde_json::from_str(&wish.params_json).unwrap();
    assert_eq!(params, json!({"percent": "60", "to": ["a", "b"]}));
    assert_eq!(
        (wish.duration_ms, wish.pick.as_str(), &wish.on[..]),
        (20_000, "1", &["role=web".to_owned()][..])
    );
    let Seen::Run(run) = &seen[1] else { panic!("{seen:?}") };
    assert_eq!(run.plan.as_ref().unwrap().wish, Some(Wish::Digest("sha256:ab".into())));
    assert_eq!(run.idempotency_key.len(), 16);
}

#[test]
fn an_attack_ends_with_the_exit_code_that_its_document_shows() {
    for code in [0, 1, 7, 8, 11] {
        let mut run = run();
        run["exit_code"] = json!(code);
        let started = of_run(run);
        assert_eq!(started.fracas(&ATTACK).code, code);
        let document = started.fracas(&[&ATTACK[..], &["-o", "json"]].concat());
        assert_eq!((document.code, &document.json()["exit_code"]), (code, &json!(code)));
        assert_eq!(document.err, "", "standard error is for JSON alone");
    }
}

#[test]
fn a_run_is_a_gate() {
    for (verdict, expected) in [("passed", 0), ("failed", 6), ("error", 1), ("aborted", 7), ("inconclusive", 11)] {
        let started = of_run(experiment(verdict));
        let file = file(&started);
        let said = started.fracas(&["run", &file]);
        assert_eq!(said.code, expected, "{verdict}");
        let lines = said.out_lines();
        let verdict = format!("verdict   {verdict}");
        let report = "report    /var/lib/fracas/controller/reports/0123456789abcdef.md";
        assert_eq!(lines[lines.len() - 3..], [verdict.as_str(), "residue   web none", report]);
        assert_eq!(started.fracas(&["runs", "watch", RUN]).code, expected, "watching is as good a gate");
        assert_eq!(started.fracas(&["runs", "show", RUN]).code, 0, "showing is no gate");
    }
}

#[test]
fn a_run_can_be_read_by_programs() {
    let started = of_run(experiment("passed"));
    let file = file(&started);
    let document = started.fracas(&["run", &file, "-o", "json"]);
    assert_eq!((document.code, &document.json()["verdict"]), (0, &json!("passed")));
    let lines = started.fracas(&["run", &file, "-o", "jsonl"]);
    let kinds: Vec<Value> = lines
        .out_lines()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone())
        .collect();
    assert_eq!(kinds, ["Event", "Event", "Event", "Event", "Run"]);
    assert_eq!(started.fracas(&["run", &file, "-o", "name"]).out, format!("{RUN}\n"));
}

#[test]
fn a_report_is_written_where_it_was_asked_for() {
    let started = of_run(experiment("passed"));
    let file = file(&started);
    for (name, form) in [("r.md", "markdown"), ("r.json", "json"), ("r.html", "html"), ("r.xml", "junit")] {
        let report = started.path().join(name);
        assert_eq!(started.fracas(&["run", &file, "--report", report.to_str().unwrap()]).code, 0);
        assert_eq!(std::fs::read_to_string(report).unwrap(), format!("a report as {form}\n"));
    }
    let said = started.fracas(&["run", &file, "--report", "/nowhere/r.md"]);
    assert!(
        said.code == 1 && said.err.contains("cannot write /nowhere/r.md"),
        "a lost result is no success: {said:?}"
    );
    assert_eq!(
        started.fracas(&["run", &file, "--report", "r.docx"]).code,
        2,
        "said before anything starts"
    );
}

#[test]
fn a_pipeline_finds_the_result_of_a_run_that_failed_and_of_one_that_never_was() {
    let failed = of_run(experiment("failed"));
    let (experiment, junit) = (file(&failed), failed.path().join("out.xml"));
    let both = ["--junit", junit.to_str().unwrap(), "--report", "/nowhere/r.html"];
    let said = failed.fracas(&[&["run", experiment.as_str()][..], &both].concat());
    assert!(said.code == 1 && said.err.contains("nothing was started"), "{said:?}");
    assert!(
        failed.seen().is_empty(),
        "a result that would be lost is not begun: {:?}",
        failed.seen()
    );
    assert!(std::fs::read_to_string(&junit).unwrap().contains("cannot write /nowhere/r.html"));
    let said = failed.fracas(&["run", &experiment, "--junit", junit.to_str().unwrap()]);
    assert_eq!(said.code, 6, "{said:?}");
    assert_eq!(std::fs::read_to_string(&junit).unwrap(), "a report as junit\n");

    let halted = start(Script {
        plan_error: Some(ErrorBody::new("halted", "halted by <root>")),
        ..Script::default()
    });
    let said = halted.fracas(&["run", &experiment, "--junit", junit.to_str().unwrap()]);
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert_eq!(said.code, 7, "{said:?}");
    assert!(
        xml.contains("errors=\"1\"") && xml.contains("type=\"halted\" message=\"halted by &lt;root&gt;\""),
        "{xml}"
    );

    let alone = tempfile::tempdir().unwrap();
    for (name, part) in [
        ("u.xml", "type=\"unreachable\""),
        ("u.json", "\"code\": \"unreachable\""),
        ("u.html", "no result"),
        ("u.md", "**unreachable**"),
    ] {
        let path = alone.path().join(name);
        std::fs::write(&path, "an older report that passed").unwrap();
        let said = crate::tool::fracas(alone.path(), &["run", &experiment, "--report", path.to_str().unwrap()]);
        assert_eq!(said.code, 10, "{said:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(part) && !text.contains("passed"), "{name}: {text}");
    }
    let said = crate::tool::fracas(alone.path(), &["run", "/nowhere.yaml", "--junit", junit.to_str().unwrap()]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(std::fs::read_to_string(&junit).unwrap().contains("type=\"invalid_file\""));
}

/// Files of an earlier run that passed, and the flags that name them.
fn green(started: &Started) -> (Vec<std::path::PathBuf>, Vec<String>) {
    let paths: Vec<_> = ["j.xml", "r.md"].iter().map(|name| started.path().join(name)).collect();
    paths
        .iter()
        .for_each(|path| std::fs::write(path, "an older report that passed").unwrap());
    let flags = ["--junit", "--report"].iter().zip(&paths);
    let flags = flags.flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()]);
    (paths.clone(), flags.collect())
}

fn texts(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Red for whoever reads JUnit, for this reason.
#[track_caller]
fn red(xml: &str, code: &str, why: &str) {
    let head = "errors=\"1\" skipped=\"0\" time=\"0.000\">\n    <testcase";
    assert!(xml.contains(head) && xml.contains(&format!("<error type=\"{code}\"")), "{xml}");
    assert!(xml.contains(why) && !xml.contains("passed"), "{xml}");
}

#[test]
fn a_run_that_is_left_leaves_no_older_result_behind() {
    let started = start(Script {
        endless: true,
        run: experiment("passed"),
        ..Script::default()
    });
    let ((paths, flags), file) = (green(&started), file(&started));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let said = started.fracas(&[&["run", file.as_str(), "--timeout", "300ms"], &flags[..]].concat());
    assert_eq!(said.code, 9, "{said:?}");
    let found = texts(&paths);
    red(&found[0], "not_finished", &format!("run {RUN} goes on after the timeout of 300ms"));
    assert_eq!(found[1], "a report as markdown\n", "as far as it has got");
}

#[test]
fn a_program_that_is_killed_leaves_no_older_result_behind() {
    let started = start(Script {
        endless: true,
        ..Script::default()
    });
    let ((paths, flags), file) = (green(&started), file(&started));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut child = crate::tool::command(started.path(), &[&["run", file.as_str()], &flags[..]].concat())
        .spawn()
        .unwrap();
    crate::tool::until("the run is watched", || started.is_watched());
    child.kill().unwrap();
    child.wait().unwrap();
    let found = texts(&paths);
    red(&found[0], "not_finished", "it was killed");
    assert!(found[1].contains("no result") && found[1].contains("not_finished"), "{}", found[1]);
}

#[test]
fn a_report_that_cannot_be_fetched_is_no_older_one() {
    let started = start(Script {
        run: experiment("passed"),
        report_error: Some(ErrorBody::new("internal", "the disk is gone")),
        ..Script::default()
    });
    let ((paths, flags), file) = (green(&started), file(&started));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let said = started.fracas(&[&["run", file.as_str()], &flags[..]].concat());
    assert_eq!(said.code, 1, "a lost result is no success: {said:?}");
    let found = texts(&paths);
    red(
        &found[0],
        "no_report",
        &format!("the report of run {RUN} could not be fetched: the disk is gone"),
    );
    assert!(found[1].contains("no_report") && !found[1].contains("older"), "{}", found[1]);
}

#[test]
fn a_dry_run_has_no_result_to_write() {
    let started = start(Script::default());
    let (paths, flags) = green(&started);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(started.fracas(&[&ATTACK[..], &["--dry-run"], &flags].concat()).code, 2);
    assert_eq!(texts(&paths)[0], "an older report that passed");
}

#[test]
fn a_plan_changes_nothing_and_lists_every_refusal() {
    for (accepted, expected) in [(true, 0), (false, 1)] {
        let started = start(Script {
            plan: plan(accepted),
            ..Script::default()
        });
        let file = file(&started);
        let dry: Vec<&str> = ATTACK.iter().copied().chain(["--dry-run"]).collect();
        for arguments in [vec!["plan", &file], dry] {
            let said = started.fracas(&arguments);
            assert_eq!(said.code, expected, "{said:?}");
            assert!(said.out.contains("cpu.burn percent=60  web   20s  full"), "{said:?}");
            assert_eq!(
                said.out.contains("web refuses: policy: too long (allowed: 1s..15m)"),
                !accepted,
                "{said:?}"
            );
        }
        assert!(
            started.seen().iter().all(|seen| matches!(seen, Seen::Plan(_))),
            "{:?}",
            started.seen()
        );
        assert_eq!(started.fracas(&["plan", &file, "-o", "name"]).out, "sha256:ab\n");
        assert_eq!(started.fracas(&["plan", &file, "-o", "json"]).json()["plan"]["seed"], 7);
    }
}

#[test]
fn detached_prints_the_id_alone() {
    let started = start(Script {
        endless: true,
        ..Script::default()
    });
    let arguments: Vec<&str> = ATTACK.iter().copied().chain(["--detach"]).collect();
    let said = started.fracas(&arguments);
    assert_eq!((said.code, said.out), (0, format!("{RUN}\n")));
    assert!(said.err.contains(&format!("fracas stop {RUN}")), "{}", said.err);
    assert!(!started.is_watched() && !started.was_stopped());
}

#[test]
fn a_confirmation_of_another_environment_starts_nothing() {
    let started = start(Script::default());
    let arguments: Vec<&str> = ATTACK.iter().copied().chain(["--confirm", "production"]).collect();
    let said = started.fracas(&arguments);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(started.seen().iter().all(|seen| matches!(seen, Seen::Plan(_))));
    let arguments: Vec<&str> = ATTACK.iter().copied().chain(["--confirm", "staging"]).collect();
    assert_eq!(started.fracas(&arguments).code, 0);
    assert!(
        started
            .seen()
            .iter()
            .any(|seen| matches!(seen, Seen::Run(run) if run.confirm == "staging"))
    );
}

#[test]
fn production_is_typed_at_a_terminal() {
    use std::io::Write;
    for (typed, expected) in [("production\n", 0), ("yes\n", 5)] {
        let mut plan = plan(true);
        plan["plan"]["environment"] = json!("production");
        plan["plan"]["production"] = json!(true);
        let started = start(Script { plan, ..Script::default() });
        let terminal = nix::pty::openpty(None, None).unwrap();
        std::fs::File::from(terminal.master.try_clone().unwrap())
            .write_all(typed.as_bytes())
            .unwrap();
        let child = crate::tool::command(started.path(), &ATTACK).stdin(terminal.slave).spawn().unwrap();
        let said = crate::tool::finish(child);
        assert_eq!(said.code, expected, "{said:?}");
        assert!(said.err.contains("Type its name"), "{said:?}");
        let ran = started
            .seen()
            .iter()
            .any(|seen| matches!(seen, Seen::Run(run) if run.confirm == "production"));
        assert_eq!(ran, expected == 0);
    }
}

/// A plan whose only step cannot be undone.
fn for_good() -> Value {
    let mut plan = plan(true);
    plan["plan"]["steps"][0]["body"]["fault"]["reversal"] = json!({"kind": "irreversible", "why": "what is burnt is burnt"});
    plan
}

#[test]
fn what_cannot_be_undone_is_confirmed_by_a_flag_where_nobody_sits() {
    let confirmed = |started: &Started| {
        let seen = started.seen();
        seen.iter().find_map(|seen| match seen {
            Seen::Run(run) => Some(run.confirm_irreversible),
            _ => None,
        })
    };
    let started = start(Script {
        plan: for_good(),
        ..Script::default()
    });
    let arguments: Vec<&str> = ATTACK.iter().copied().chain(["--confirm-irreversible"]).collect();
    let said = started.fracas(&arguments);
    assert!(
        said.err.contains("IRREVERSIBLE steps[0] cpu.burn: what is burnt is burnt"),
        "{said:?}"
    );
    assert_eq!((said.code, confirmed(&started)), (0, Some(true)), "{said:?}");
    let started = start(Script {
        plan: for_good(),
        ..Script::default()
    });
    started.fracas(&ATTACK);
    assert_eq!(confirmed(&started), Some(false), "the controller decides on what was not confirmed");
}

#[test]
fn what_cannot_be_undone_is_typed_at_a_terminal() {
    use std::io::Write;
    for (typed, expected) in [("irreversible\n", 0), ("yes\n", 5)] {
        let started = start(Script {
            plan: for_good(),
            ..Script::default()
        });
        let terminal = nix::pty::openpty(None, None).unwrap();
        std::fs::File::from(terminal.master.try_clone().unwrap())
            .write_all(typed.as_bytes())
            .unwrap();
        let child = crate::tool::command(started.path(), &ATTACK).stdin(terminal.slave).spawn().unwrap();
        let said = crate::tool::finish(child);
        assert_eq!(said.code, expected, "{said:?}");
        let ran = started
            .seen()
            .iter()
            .any(|seen| matches!(seen, Seen::Run(run) if run.confirm_irreversible));
        assert_eq!(ran, expected == 0);
    }
}

#[test]
fn a_stop_says_what_was_undone() {
    let started = start(Script::default());
    let said = started.fracas(&["stop", RUN, "--reason", "enough"]);
    assert_eq!(
        (said.code, said.out_lines()),
        (0, vec!["run 0123456789abcdef undone now, 1 undone"])
    );
    assert!(said.err.contains("env       staging"), "{said:?}");
    assert!(matches!(&started.seen()[0], Seen::Stop(stop) if stop.reason == "enough" && stop.target == RUN));
}

#[test]
fn a_start_or_a_change_that_was_not_answered_in_time_may_have_been_accepted() {
    let started = start(Script {
        out_of_time: true,
        ..Script::default()
    });
    let said = started.fracas(&ATTACK);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.err.contains("did not answer in its time"), "{said:?}");
    assert!(
        said.err
            .contains("may have been accepted all the same: look with `fracas runs list --active`"),
        "{said:?}"
    );
    let said = started.fracas(&["hosts", "lock", "web", "--reason", "its key was copied"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(
        said.err
            .contains("a change may have been accepted all the same: look before you ask again"),
        "{said:?}"
    );
}
