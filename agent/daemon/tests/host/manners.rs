//! The program as an operator and a service manager meet it: ready, asked, halted, ended.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use agent_daemon::paths::Paths;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::agent::{PROGRAM, guardian_of, is_root, paths, wait_until};

/// A user without rights, and its group.
const NOBODY: u32 = 65_534;

fn program(paths: &Paths, args: &[&str]) -> Command {
    with_paths(Command::new(PROGRAM), paths, args)
}

fn with_paths(mut command: Command, paths: &Paths, args: &[&str]) -> Command {
    command
        .arg("--config")
        .arg(&paths.config)
        .arg("--state-dir")
        .arg(&paths.state_dir)
        .arg("--run-dir")
        .arg(&paths.run_dir)
        .arg("--group-root")
        .arg(&paths.group_root);
    command.args(args).stdin(Stdio::null());
    command
}

pub fn command(paths: &Paths, args: &[&str]) -> Output {
    program(paths, args).output().unwrap()
}

pub fn start(paths: &Paths, args: &[&str]) -> Child {
    program(paths, args).spawn().unwrap()
}

pub fn run(paths: &Paths) -> Child {
    start(paths, &["run"])
}

fn status(paths: &Paths) -> Option<Value> {
    let output = command(paths, &["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).ok()
}

fn guarded(paths: &Paths) -> bool {
    status(paths).is_some_and(|status| status["guarded"] == true)
}

/// What the kernel adds to a process's badness when memory runs out.
fn score(pid: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    text.trim().to_owned()
}

#[test]
fn an_agent_is_ready_answers_halts_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    let mut agent = run(&paths);
    assert!(wait_until(Duration::from_secs(10), || guarded(&paths)));
    assert_eq!(status(&paths).unwrap()["cleanliness"], "clean");
    let shown = command(&paths, &["status"]).stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.starts_with("controller none: this host is not enrolled"), "{shown}");
    // Where even root may not lower it, as in some containers, the agent runs all the same.
    let before = score("self");
    let may_lower = std::fs::write("/proc/self/oom_score_adj", "-900").is_ok();
    std::fs::write("/proc/self/oom_score_adj", &before).unwrap();
    let expected = if may_lower { "-900" } else { &before };
    for pid in [agent.id(), guardian_of(agent.id()).unwrap()] {
        assert_eq!(score(&pid.to_string()), expected, "of process {pid}");
    }
    let socket = std::fs::metadata(paths.socket()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&socket.permissions()) & 0o777, 0o600);

    assert!(command(&paths, &["halt", "--reason", "smoke"]).status.success());
    assert_eq!(status(&paths).unwrap()["halted"]["reason"], "smoke");
    assert!(command(&paths, &["release"]).status.success());
    assert!(status(&paths).unwrap()["halted"].is_null());

    let guardian = guardian_of(agent.id()).unwrap();
    kill_process(Pid::from_child(&agent), Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success());
    assert!(
        wait_until(Duration::from_secs(3), || guardian_of(agent.id()) != Some(guardian)),
        "the guardian leaves with its agent"
    );
    assert!(!paths.socket().exists());
}

#[test]
fn a_second_agent_on_the_same_directories_is_refused() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    paths.make().unwrap();
    let lock = std::fs::File::create(paths.instance_lock()).unwrap();
    lock.lock().unwrap();
    let mut second = run(&paths);
    assert!(!second.wait().unwrap().success());
    assert!(!paths.socket().exists());
}

#[test]
fn a_halt_needs_no_agent() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    assert!(command(&paths, &["halt", "--reason", "smoke"]).status.success());
    assert_eq!(std::fs::read_to_string(paths.state_dir.join("halted")).unwrap(), "smoke");
    let mut agent = run(&paths);
    assert!(wait_until(Duration::from_secs(10), || guarded(&paths)));
    assert_eq!(status(&paths).unwrap()["halted"]["latch"], "host");
    kill_process(Pid::from_child(&agent), Signal::TERM).unwrap();
    agent.wait().unwrap();
    assert!(command(&paths, &["release"]).status.success());
    assert!(!paths.state_dir.join("halted").exists());
}

#[test]
fn a_broken_rules_file_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    std::fs::write(&paths.config, "[faults]\nallow = []\n\n[protekt]\n").unwrap();
    let output = command(&paths, &["check-config"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("agent.toml:4:"), "{output:?}");
    std::fs::write(&paths.config, agent_warden::SHIPPED).unwrap();
    assert!(command(&paths, &["check-config"]).status.success());
}

#[test]
fn the_catalogue_is_json_and_names_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(&paths(dir.path()), &["catalogue"]);
    let kinds: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(kinds.len(), agent_faults::registry().count());
}

#[test]
fn a_worker_ends_as_soon_as_the_agent_does() {
    let spec = serde_json::json!({"injection": "0000000000000000", "kind": "cpu.burn",
        "params": {"percent": 1, "pin": "0"}, "deadline_boot_ms": u64::MAX / 2});
    let mut worker = Command::new(PROGRAM).arg("worker").stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = worker.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, format!("{spec}\n").as_bytes()).unwrap();
    let busy = || {
        std::fs::read_dir(format!("/proc/{}/task", worker.id()))
            .map(Iterator::count)
            .unwrap_or(0)
            >= 2
    };
    assert!(wait_until(Duration::from_secs(5), busy));
    let name = std::fs::read_to_string(format!("/proc/{}/comm", worker.id())).unwrap();
    assert_eq!(name, "fracas-worker\n", "the kernel's log must not call it the agent");
    drop(pipe);
    assert!(wait_until(Duration::from_secs(2), || worker.try_wait().unwrap().is_some()));
}

#[test]
fn a_doctor_of_another_user_does_not_call_an_agent_absent_that_it_may_not_see() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    std::fs::create_dir_all(paths.journal()).unwrap();
    // Where every user may run it, whatever folder this tree is in.
    let copy = dir.path().join("fracas-agent");
    std::fs::copy(PROGRAM, &copy).unwrap();
    for (path, mode) in [(dir.path(), 0o755), (copy.as_path(), 0o755), (paths.state_dir.as_path(), 0o700)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let mut doctor = with_paths(Command::new(&copy), &paths, &["doctor"]);
    let output = doctor.uid(NOBODY).gid(NOBODY).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text.contains("only root may see whether") && text.contains("fix: sudo fracas-agent doctor"),
        "{text}"
    );
    assert!(!text.contains("no agent has run here yet"), "{text}");
}
