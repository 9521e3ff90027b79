//! The operators' program against a real controller without hosts: exit codes, refusals, tokens, and the halt across restarts.

use std::path::Path;

use anyhow::Result;
use proto_model::exit;
use tests_harness::report;
use tests_it::{Controller, Said, fracas, impossible};

/// True, and said why, when these tests cannot run here.
fn skipped() -> bool {
    let why = impossible();
    if let Some(why) = &why {
        report::skip(why);
    }
    why.is_some()
}

fn expect(said: &Said, code: u8, words: &[&str]) {
    assert_eq!(said.code, i32::from(code), "{said:?}");
    for word in words {
        assert!(said.err.contains(word) || said.out.contains(word), "{word:?} is not in {said:?}");
    }
}

fn file(folder: &Path, text: &str) -> Result<String> {
    let path = folder.join("experiment.yaml");
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_nothing_starts() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    let broken = file(
        folder.path(),
        "apiVersion: fracas/v1\nkind: Experiment\nname: x\nsteps:\n  - fault: cpu.burn\n    parms: {}\n",
    )?;
    expect(
        &controller.fracas(&["run", &broken])?,
        exit::INVALID_FILE,
        &["experiment.yaml:6:5", "parms", "params"],
    );
    let duplicate = file(
        folder.path(),
        "apiVersion: fracas/v1\nkind: Experiment\nname: x\nname: y\nsteps: []\n",
    )?;
    expect(
        &controller.fracas(&["plan", &duplicate])?,
        exit::INVALID_FILE,
        &["experiment.yaml:4:", "name"],
    );
    expect(
        &controller.fracas(&["attack", "cpu.burn", "--on", "role=web", "--for", "10s"])?,
        exit::ERROR,
        &["role=web"],
    );
    expect(
        &controller.fracas(&["attack", "cpu.burn", "--on", "all", "--for", "10"])?,
        exit::USAGE,
        &["10", "5m"],
    );
    expect(&controller.fracas(&["runs", "show", "nothing"])?, exit::ERROR, &["nothing"]);
    let listed = controller.fracas(&["runs", "-o", "json"])?;
    let list: serde_json::Value = serde_json::from_str(&listed.out)?;
    assert_eq!(list["kind"], "RunList");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(0));
    Ok(())
}

#[test]
fn tokens_are_shown_once_and_can_be_revoked() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    let made = controller.fracas(&[
        "tokens",
        "create",
        "--label",
        "env=staging",
        "--uses",
        "2",
        "--ttl",
        "1h",
        "-o",
        "json",
    ])?;
    let made: serde_json::Value = serde_json::from_str(&made.out)?;
    let token = made["token"].as_str().unwrap_or_default();
    assert!(token.starts_with("fjt1."), "{made}");
    let secret = token.split('.').nth(2).unwrap_or_default();
    let listed = controller.fracas(&["tokens", "-o", "json"])?;
    assert!(!listed.out.contains(secret), "a list shows the secret");
    assert!(
        !std::fs::read(folder.path().join("state/store.db"))?
            .windows(secret.len())
            .any(|w| w == secret.as_bytes())
    );
    let id = token.split('.').nth(1).unwrap_or_default();
    assert_eq!(controller.fracas(&["tokens", "revoke", id])?.code, 0);
    assert!(controller.fracas(&["tokens"])?.out.contains("revoked"));
    expect(
        &controller.fracas(&["tokens", "create", "--uses", "0", "--ttl", "1h"])?,
        exit::USAGE,
        &["uses"],
    );
    Ok(())
}

#[test]
fn a_halt_survives_a_crash_and_an_unreadable_latch_is_a_halt() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    assert_eq!(controller.fracas(&["halt", "--reason", "drill"])?.code, 0);
    controller.kill()?;
    let controller = Controller::start(folder.path())?;
    expect(
        &controller.fracas(&["attack", "cpu.burn", "--on", "all", "--for", "10s"])?,
        exit::ABORTED,
        &["drill"],
    );
    expect(&controller.fracas(&["release"])?, exit::USAGE, &["reason"]);
    assert_eq!(controller.fracas(&["release", "--reason", "over"])?.code, 0);
    controller.kill()?;
    let controller = Controller::start(folder.path())?;
    expect(
        &controller.fracas(&["attack", "cpu.burn", "--on", "all", "--for", "10s"])?,
        exit::ERROR,
        &[],
    );
    controller.kill()?;
    std::fs::write(folder.path().join("state/halted"), "{")?;
    let controller = Controller::start(folder.path())?;
    expect(
        &controller.fracas(&["attack", "cpu.burn", "--on", "all", "--for", "10s"])?,
        exit::ABORTED,
        &["cannot be read"],
    );
    Ok(())
}

#[test]
fn one_controller_per_state_and_a_damaged_store_is_refused() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let first = Controller::start(folder.path())?;
    let (code, said) = Controller::spawn(folder.path())?.ended()?;
    assert!(code == Some(1) && said.contains("store.db"), "{said}");
    assert_eq!(first.fracas(&["status"])?.code, 0, "the first goes on");
    first.kill()?;
    // The log beside it could mend what is damaged here.
    std::fs::remove_file(folder.path().join("state/store.db-wal"))?;
    std::fs::write(folder.path().join("state/store.db"), vec![7_u8; 8192])?;
    let (code, said) = Controller::spawn(folder.path())?.ended()?;
    assert!(code == Some(1) && said.contains("store"), "{said}");
    Ok(())
}

#[test]
fn nobody_at_home_is_said_with_the_address() -> Result<()> {
    let folder = tempfile::tempdir()?;
    expect(&fracas(folder.path(), &["status"])?, exit::UNREACHABLE, &["controller.sock"]);
    expect(&fracas(folder.path(), &["halt"])?, exit::UNREACHABLE, &["controller.sock"]);
    Ok(())
}

#[test]
fn an_unknown_key_of_the_configuration_is_refused_with_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("controller.toml"), "lease = \"15s\"\nlaese = \"2s\"\n")?;
    let (code, said) = Controller::spawn(folder.path())?.ended()?;
    assert!(
        code == Some(2) && said.contains("controller.toml:2") && said.contains("laese"),
        "{said}"
    );
    Ok(())
}
