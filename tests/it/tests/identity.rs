//! Who may do what, tried from outside: roles, operators' tokens and the audit log of a real controller, over TLS and its socket.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use proto_model::exit;
use serde_json::Value;
use tests_harness::{programs, report, wait};
use tests_it::{Controller, Said, impossible};

/// A uid that no account of this machine has, in no group.
const OTHER_USER: u32 = 61_234;

fn skipped() -> bool {
    let why = impossible();
    if let Some(why) = &why {
        report::skip(why);
    }
    why.is_some()
}

/// `fracas` as somebody on another machine: over TLS, with the token in a file.
struct Far<'a> {
    controller: &'a Controller,
    name: String,
}

impl<'a> Far<'a> {
    fn new(controller: &'a Controller, name: &str, role: &str, ttl: &str) -> Result<Self> {
        let file = controller.folder().join(format!("{name}.token"));
        let made = controller.fracas(&[
            "operators",
            "create",
            name,
            "--role",
            role,
            "--ttl",
            ttl,
            "--token-file",
            text(&file),
        ])?;
        assert_eq!(made.code, 0, "{made:?}");
        Self::with(controller, name, "--token-file", &file, &[])
    }

    fn with(controller: &'a Controller, name: &str, flag: &str, file: &Path, more: &[&str]) -> Result<Self> {
        let server = controller.address("operators")?;
        // As operators on other machines are given it.
        let bundle = controller.fracas(&["authority", "show", "--pem"])?;
        assert_eq!(bundle.code, 0, "{bundle:?}");
        let ca = controller.folder().join(format!("{name}-authority.pem"));
        std::fs::write(&ca, bundle.out)?;
        let mut args = vec![
            "contexts",
            "add",
            name,
            "--server",
            &server,
            "--ca-file",
            text(&ca),
            flag,
            text(file),
        ];
        args.extend(more);
        let added = controller.fracas(&args)?;
        assert_eq!(added.code, 0, "{added:?}");
        let name = name.to_owned();
        Ok(Self { controller, name })
    }

    fn fracas(&self, args: &[&str]) -> Result<Said> {
        let mut all = vec!["--context", &self.name];
        all.extend(args);
        self.controller.fracas(&all)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn expect(said: &Said, code: u8, words: &[&str]) {
    assert_eq!(said.code, i32::from(code), "{said:?}");
    for word in words {
        assert!(said.err.contains(word) || said.out.contains(word), "{word:?} is not in {said:?}");
    }
}

fn json(said: &Said) -> Result<Value> {
    serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))
}

fn token_in(path: &Path) -> Result<(String, String)> {
    let token = std::fs::read_to_string(path)?.trim().to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!((parts.len(), parts[0]), (3, "fot1"), "not an operator's token");
    Ok((parts[1].to_owned(), parts[2].to_owned()))
}

/// Every file below the folder in which the text occurs.
fn holding(folder: &Path, wanted: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(holding(&path, wanted)?);
        } else if path.is_file() && std::fs::read(&path)?.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[test]
fn each_role_may_do_what_is_its_own_and_hears_which_would_do() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    let viewer = Far::new(&controller, "vic", "viewer", "1h")?;
    let operator = Far::new(&controller, "ann", "operator", "30d")?;
    let approver = Far::new(&controller, "kim", "approver", "1h")?;
    let administrator = Far::new(&controller, "ada", "administrator", "1h")?;
    expect(&viewer.fracas(&["status"])?, exit::OK, &["vic (viewer)"]);
    let attack = ["attack", "cpu.burn", "--on", "all", "--for", "10s"];
    for who in [&viewer, &approver] {
        let role = if who.name == "vic" { "viewer" } else { "approver" };
        let run = who.fracas(&["tokens", "create"])?;
        expect(
            &run,
            exit::FORBIDDEN,
            &["Tokens/Create needs the role administrator", &who.name, role],
        );
    }
    expect(
        &viewer.fracas(&attack)?,
        exit::FORBIDDEN,
        &["needs the role operator", "vic has the role viewer"],
    );
    expect(&operator.fracas(&attack)?, exit::ERROR, &["all"]);
    expect(&operator.fracas(&["operators"])?, exit::FORBIDDEN, &["administrator", "operator"]);
    expect(&administrator.fracas(&["operators"])?, exit::OK, &["ann", "operator", "just now"]);
    expect(&viewer.fracas(&["halt", "--reason", "smoke"])?, exit::OK, &[]);
    expect(
        &operator.fracas(&["release", "--reason", "over"])?,
        exit::FORBIDDEN,
        &["administrator"],
    );
    expect(&administrator.fracas(&["release", "--reason", "over"])?, exit::OK, &[]);
    Ok(())
}

#[test]
fn a_token_is_shown_once_ends_and_is_nowhere_else() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    let file = folder.path().join("ann.token");
    let ann = Far::new(&controller, "ann", "viewer", "1h")?;
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let (id, secret) = token_in(&file)?;
    expect(&ann.fracas(&["status"])?, exit::OK, &[]);
    let listed = controller.fracas(&["operators", "-o", "json"])?;
    assert!(listed.out.contains(&id) && !listed.out.contains(&secret), "{listed:?}");
    assert_eq!(
        holding(folder.path(), &secret)?,
        [file.display().to_string()],
        "the secret is in another file"
    );
    expect(
        &ann.fracas(&["operators", "revoke", &format!("fot1.{id}.{secret}")])?,
        exit::FORBIDDEN,
        &[],
    );
    expect(&controller.fracas(&["operators", "revoke", &id])?, exit::OK, &["revoked"]);
    expect(&ann.fracas(&["status"])?, exit::NOT_AUTHENTICATED, &["revoked"]);
    let short = Far::new(&controller, "bob", "viewer", "1s")?;
    wait::until("the token expires", Duration::from_secs(10), || {
        Ok(short.fracas(&["status"])?.code == i32::from(exit::NOT_AUTHENTICATED))
    })?;
    expect(&short.fracas(&["status"])?, exit::NOT_AUTHENTICATED, &["expired"]);
    controller.kill()?;
    let controller = Controller::start(folder.path())?;
    let again = Far::with(&controller, "later", "--token-file", &file, &[])?;
    expect(&again.fracas(&["status"])?, exit::NOT_AUTHENTICATED, &["revoked"]);
    assert_eq!(holding(folder.path(), &secret)?, [file.display().to_string()]);
    expect(
        &controller.fracas(&["operators", "create", "root@local", "--role", "viewer"])?,
        exit::USAGE,
        &["root@local"],
    );
    expect(
        &controller.fracas(&["operators", "create", "eve", "--role", "king"])?,
        exit::USAGE,
        &["approver"],
    );
    expect(
        &controller.fracas(&["operators", "create", "eve", "--role", "viewer", "--ttl", "91d"])?,
        exit::USAGE,
        &["90d"],
    );
    Ok(())
}

#[test]
fn a_certificate_carries_its_role_and_a_foreign_caller_is_nobody() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    let out = folder.path().join("issued");
    let issued = Command::new(programs::find("fracas-controller")?)
        .args([
            "--issue-operator",
            "cat",
            "--role",
            "viewer",
            "--out",
            text(&out),
            "--state-dir",
            text(&folder.path().join("state")),
        ])
        .args(["--config", text(&folder.path().join("controller.toml"))])
        .output()?;
    assert!(issued.status.success(), "{issued:?}");
    let key = out.join("cat-key.pem");
    let cat = Far::with(
        &controller,
        "cat",
        "--certificate-file",
        &out.join("cat.pem"),
        &["--key-file", text(&key)],
    )?;
    expect(&cat.fracas(&["status"])?, exit::OK, &["cat (viewer)"]);
    expect(&cat.fracas(&["tokens"])?, exit::FORBIDDEN, &["cat has the role viewer"]);
    let revoked = Command::new(programs::find("fracas-controller")?)
        .args(["--revoke-operator", "cat", "--state-dir", text(&folder.path().join("state"))])
        .args(["--config", text(&folder.path().join("controller.toml"))])
        .output()?;
    assert!(revoked.status.success(), "{revoked:?}");
    expect(
        &cat.fracas(&["status"])?,
        exit::NOT_AUTHENTICATED,
        &["the certificate of cat is revoked"],
    );
    let wrong = folder.path().join("wrong.token");
    std::fs::write(&wrong, "fot1.0123456789abcdef.000000000000000000000000000000000000000000000000")?;
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o600))?;
    let nobody = Far::with(&controller, "nobody", "--token-file", &wrong, &[])?;
    for _ in 0..10 {
        expect(&nobody.fracas(&["status"])?, exit::NOT_AUTHENTICATED, &[]);
    }
    let barred = wait::for_some("the address is barred", Duration::from_secs(10), || {
        let said = nobody.fracas(&["status"])?;
        Ok(said.err.contains("too many failed tries").then_some(said))
    })?;
    assert_eq!(barred.0.code, i32::from(exit::NOT_AUTHENTICATED));
    expect(&controller.fracas(&["status"])?, exit::OK, &["failed authentications"]);
    Ok(())
}

/// As on a machine with the package: the controller is a user of its own, and root types the commands.
#[test]
fn what_root_issues_and_revokes_is_read_by_a_controller_of_another_user() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let by_root = |args: &[&str]| -> Result<Said> {
        let mut program = Command::new(programs::find("fracas-controller")?);
        program.args(args).arg("--state-dir").arg(&state);
        let output = program.arg("--config").arg(folder.path().join("controller.toml")).output()?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    };
    let out = |name: &str| folder.path().join(format!("issued-{name}"));
    let issue = |name: &str| by_root(&["--issue-operator", name, "--role", "viewer", "--out", text(&out(name))]);
    expect(&issue("ann")?, exit::ERROR, &["start the controller first"]);
    assert!(
        !state.exists() && !out("ann").exists(),
        "something is made for a controller that never ran"
    );

    let controller = Controller::start_as(folder.path(), OTHER_USER)?;
    let far = |name: &str| -> Result<Far<'_>> {
        expect(&issue(name)?, exit::OK, &["written to"]);
        let (certificate, key) = (out(name).join(format!("{name}.pem")), out(name).join(format!("{name}-key.pem")));
        Far::with(&controller, name, "--certificate-file", &certificate, &["--key-file", text(&key)])
    };
    let (ann, bob) = (far("ann")?, far("bob")?);
    expect(&ann.fracas(&["status"])?, exit::OK, &["ann (viewer)"]);
    expect(&by_root(&["--revoke-operator", "ann"])?, exit::OK, &["every certificate of ann"]);
    expect(
        &ann.fracas(&["status"])?,
        exit::NOT_AUTHENTICATED,
        &["the certificate of ann is revoked"],
    );
    expect(&bob.fracas(&["status"])?, exit::OK, &["bob (viewer)"]);

    // Root in the controller's place would leave files of its own.
    let run = text(folder.path()).to_owned() + "/another-run";
    let second = by_root(&[
        "--agents-address",
        "127.0.0.1:0",
        "--operators-address",
        "127.0.0.1:0",
        "--run-dir",
        &run,
    ])?;
    expect(&second, exit::ERROR, &["belongs to user", "start the service"]);

    // A step that reads who has which certificate.
    expect(&controller.fracas(&["authority", "rotate", "prepare"])?, exit::OK, &["prepared"]);
    expect(&controller.fracas(&["authority", "rotate", "switch"])?, exit::OK, &["switched"]);
    let finish = controller.fracas(&["authority", "rotate", "finish"])?;
    expect(&finish, exit::ERROR, &["would shut out 1", "operator/bob"]);
    Ok(())
}

#[test]
fn who_changed_what_and_who_was_refused_is_on_record() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    let ann = Far::new(&controller, "ann", "operator", "1h")?;
    expect(&ann.fracas(&["hosts", "lock", "web", "--reason", "x"])?, exit::ERROR, &["web"]);
    expect(&ann.fracas(&["tokens", "create"])?, exit::FORBIDDEN, &[]);
    expect(&ann.fracas(&["halt", "--reason", "drill"])?, exit::OK, &[]);
    expect(&controller.fracas(&["release", "--reason", "over"])?, exit::OK, &[]);
    let log = || -> Result<Vec<Value>> {
        let listed = json(&controller.fracas(&["audit", "-o", "json"])?)?;
        Ok(listed["items"].as_array().cloned().unwrap_or_default())
    };
    wait::until("the halt is on record", Duration::from_secs(5), || {
        Ok(log()?.iter().any(|line| line["call"] == "Emergency/Halt"))
    })?;
    let lines = log()?;
    let find = |call: &str| lines.iter().find(|line| line["call"] == call).cloned().unwrap_or_default();
    let made = find("Operators/Create");
    assert_eq!(
        (&made["outcome"], &made["caller"], &made["subject"]),
        (&"done".into(), &"root@local".into(), &"ann (operator)".into())
    );
    let refused = find("Tokens/Create");
    assert_eq!(
        (&refused["outcome"], &refused["code"], &refused["role"]),
        (&"refused".into(), &"forbidden".into(), &"operator".into())
    );
    assert!(
        refused["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")),
        "{refused}"
    );
    let halt = find("Emergency/Halt");
    assert_eq!(
        (&halt["caller"], &halt["subject"], &halt["outcome"]),
        (&"ann".into(), &"drill".into(), &"done".into())
    );
    assert!(
        lines.iter().all(|line| line["call"] != "Emergency/Status"),
        "what only reads is not listed"
    );
    expect(&ann.fracas(&["audit"])?, exit::FORBIDDEN, &[]);
    let file = folder.path().join("state/audit/audit.jsonl");
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file)?.lines().count() >= 4);
    wait::until("three lines of ann's", Duration::from_secs(5), || {
        let of_ann = controller.fracas(&["audit", "--caller", "ann", "-o", "name"])?;
        Ok(of_ann.out.lines().count() == 3)
    })?;
    Ok(())
}

#[test]
fn what_cannot_be_written_down_is_refused_except_a_halt() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    // As on a disk that takes no new file.
    let pending = folder.path().join("state/audit/pending");
    std::fs::remove_dir(&pending)?;
    expect(
        &controller.fracas(&["tokens", "create"])?,
        exit::ERROR,
        &["audit log cannot be written"],
    );
    assert_eq!(
        json(&controller.fracas(&["tokens", "-o", "json"])?)?["items"],
        serde_json::json!([])
    );
    expect(&controller.fracas(&["halt", "--reason", "smoke"])?, exit::OK, &[]);
    std::fs::create_dir(&pending)?;
    expect(&controller.fracas(&["release", "--reason", "over"])?, exit::OK, &[]);
    Ok(())
}

/// The socket's mode lets it in, so that only what the controller makes of the caller stands in the way.
#[test]
fn a_local_user_who_is_neither_root_nor_of_the_group_is_refused_at_the_socket() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    // Where every user may run it, whatever folder this tree is in.
    let program = folder.path().join("fracas");
    std::fs::copy(programs::find("fracas")?, &program)?;
    let socket = folder.path().join("run/controller.sock");
    for (path, mode) in [
        (folder.path(), 0o755),
        (&program, 0o755),
        (&folder.path().join("run"), 0o755),
        (&socket, 0o666),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    let call = |uid: u32, args: &[&str]| -> Result<(Option<i32>, String)> {
        let mut fracas = Command::new(&program);
        fracas.args(args).env("FRACAS_SOCKET", &socket).env("FRACAS_CONFIG", "/nonexistent");
        let output = fracas.uid(uid).gid(uid).output().context("run fracas as another user")?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, _) = call(0, &["status"])?;
    assert_eq!(code, Some(exit::OK.into()), "root, by the same way");
    for args in [&["status"][..], &["tokens", "create"], &["halt", "--reason", "x"]] {
        let (code, err) = call(OTHER_USER, args)?;
        assert_eq!(code, Some(exit::NOT_AUTHENTICATED.into()), "{args:?}: {err}");
    }
    assert!(
        !controller.fracas(&["status"])?.out.contains("halted"),
        "the refused halt took effect"
    );
    Ok(())
}
