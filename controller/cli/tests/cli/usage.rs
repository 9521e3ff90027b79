//! Mistakes on the command line: exit 2, the nearest name, before any controller is asked.

use crate::tool::{Said, fracas};

fn mistaken(arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let said = fracas(folder.path(), arguments);
    assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
    assert_eq!(said.out, "", "{arguments:?}: mistakes go to standard error");
    said
}

#[test]
fn a_mistyped_verb_names_the_nearest() {
    for (arguments, near) in [
        (vec!["atack", "cpu.burn"], "attack"),
        (vec!["hosts", "shwo"], "show"),
        (vec!["run", "--detatch", "a.yaml"], "--detach"),
        (vec!["hosts", "-o", "jsno"], "json"),
    ] {
        let said = mistaken(&arguments);
        assert!(said.err.contains(near), "{arguments:?}: {said:?}");
    }
}

#[test]
fn words_are_parsed_before_anything_is_asked() {
    for (arguments, expected) in [
        (vec!["attack", "cpu.burn", "--for", "20s"], "--on"),
        (vec!["attack", "cpu.burn", "--on", "", "--for", "20s"], "\"all\" for every host"),
        (vec!["attack", "cpu.burn", "--on", "role=", "--for", "20s"], "not a label value"),
        (vec!["attack", "cpu.burn", "--on", "web", "--for", "20"], "200ms, 2s, 5m or 1h"),
        (vec!["attack", "cpu.burn", "percent", "--on", "web", "--for", "2s"], "not key=value"),
        (
            vec!["attack", "cpu.burn", "--on", "web", "--for", "2s", "--pick", "0"],
            "a count such as 2",
        ),
        (
            vec!["attack", "cpu.burn", "ports=[1", "--on", "web", "--for", "2s"],
            "begins like JSON",
        ),
        (vec!["runs", "show", "abc"], "@last"),
        (vec!["release"], "--reason"),
        (vec!["release", "--reason", " "], "needs its reason"),
        (vec!["hosts", "label", "web", "role"], "key=value to set"),
        (vec!["run"], "FILE"),
        (vec!["run", "a.yaml", "--plan", "sha256:00"], "cannot be used with"),
        (vec!["--context", "nowhere", "status"], "no context \"nowhere\""),
    ] {
        let said = mistaken(&arguments);
        assert!(said.err.contains(expected), "{arguments:?}: {said:?}");
    }
}

#[test]
fn mistakes_are_json_where_json_was_asked_for() {
    for arguments in [["hosts", "shwo", "-o", "json"], ["--output=json", "hosts", "shwo", "web"]] {
        let said = mistaken(&arguments);
        let error: serde_json::Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!(error["error"]["code"], "usage");
        assert!(error["error"]["message"].as_str().unwrap().contains("show"), "{said:?}");
    }
}

#[test]
fn help_shows_an_example_of_each_verb() {
    let folder = tempfile::tempdir().unwrap();
    let verbs = "attack plan run stop halt release runs hosts faults tokens contexts services levels publish status completion";
    let nouns = "runs list,runs show,runs watch,runs report,runs events,hosts list,hosts show,hosts label,hosts cordon,hosts uncordon,\
        hosts verify,hosts accept,faults list,faults explain,tokens create,tokens list,tokens revoke,contexts list,contexts use,contexts add,\
        contexts remove,services apply,services list,services show,services remove,levels show,levels why";
    for verb in verbs.split(' ').chain(nouns.split(',').map(str::trim)) {
        let arguments: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let said = fracas(folder.path(), &arguments);
        assert_eq!(said.code, 0, "{verb}");
        let example = said.out.lines().position(|line| line.contains("fracas ") && line.contains(verb));
        let usage = said.out.lines().position(|line| line.starts_with("Usage:"));
        assert!(example.is_some() && example < usage, "{verb}: {}", said.out);
    }
}

#[test]
fn singular_and_plural_mean_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for (singular, plural) in [
        ("host", "hosts"),
        ("fault", "faults"),
        ("token", "tokens"),
        ("context", "contexts"),
        ("service", "services"),
        ("level", "levels"),
    ] {
        let help = |noun: &str| fracas(folder.path(), &[noun, "--help"]).out;
        assert_eq!(help(singular), help(plural));
    }
    let show = |noun: &str| fracas(folder.path(), &[noun, "show", "--help"]).out;
    assert_eq!(show("run"), show("runs"));
}

#[test]
fn completion_scripts_are_printed_without_a_controller() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = fracas(folder.path(), &["completion", shell]);
        assert!(said.code == 0 && said.out.contains("attack"), "{shell}: {said:?}");
    }
}

#[test]
fn a_user_without_a_home_in_the_environment_has_the_local_context() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::tool::command(folder.path(), &["contexts", "-o", "name"]);
    command.env_remove("HOME");
    let said = crate::tool::finish(command.spawn().unwrap());
    assert!(said.code == 0 && said.out.lines().any(|name| name == "local"), "{said:?}");
}

#[test]
fn contexts_are_kept_privately_and_chosen_by_name() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["ca.pem", "token"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    // Without a socket in the environment, the current context counts.
    let run = |arguments: &[&str]| {
        let mut command = crate::tool::command(folder.path(), arguments);
        command.env_remove("FRACAS_SOCKET");
        crate::tool::finish(command.spawn().unwrap())
    };
    let added = run(&[
        "contexts",
        "add",
        "staging",
        "--server",
        "ctl.example",
        "--ca-file",
        &path("ca.pem"),
        "--token-file",
        &path("token"),
    ]);
    assert_eq!(added.code, 0, "{added:?}");
    assert_eq!(run(&["context", "use", "staging"]).code, 0);
    assert_eq!(
        run(&["contexts"]).out_lines(),
        [
            "NAME     CURRENT  SERVER                       IDENTITY",
            "local    -        /run/fracas/controller.sock  user",
            "staging  *        ctl.example:7443             token",
        ]
    );
    assert_eq!(run(&["contexts", "-o", "json"]).json()["kind"], "ContextList");
    let mode = std::fs::metadata(folder.path().join(".config/fracas/config.yaml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let near = run(&["contexts", "use", "stagin"]);
    assert!(near.code == 2 && near.err.contains("did you mean \"staging\""), "{near:?}");
    assert_eq!(run(&["contexts", "remove", "staging"]).code, 0);
    assert_eq!(run(&["contexts", "list", "-o", "name"]).out, "local\n");
    assert_eq!(run(&["contexts", "remove", "local"]).code, 2);
}
