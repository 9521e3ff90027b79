//! Following a run: lost streams, timeouts, interrupts with and without a terminal.

use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto_wire::v1::WatchRequest;

use crate::fake::{RUN, Script, Seen, Started, start};
use crate::tool::{command, finish, until};

const ATTACK: [&str; 6] = ["attack", "cpu.burn", "--on", "web", "--for", "20s"];

fn endless(stuck: bool) -> Started {
    start(Script {
        endless: true,
        stuck,
        ..Script::default()
    })
}

fn attack(extra: &[&'static str]) -> Vec<&'static str> {
    ATTACK.iter().chain(extra).copied().collect()
}

fn interrupt(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_broken_stream_is_taken_up_where_it_ended() {
    let started = start(Script {
        break_after: Some(2),
        ..Script::default()
    });
    let said = started.fracas(&ATTACK);
    assert_eq!(said.code, 0, "{said:?}");
    let watched: Vec<u64> = started.seen().into_iter().filter_map(from_seq).collect();
    assert_eq!(watched, [1, 3]);
    let phases = said.out_lines().iter().filter(|line| line.contains("phase")).count();
    assert_eq!(phases, 3, "nothing is told twice: {}", said.out);
    assert!(
        said.err.contains("lost the controller") && said.err.contains("found the controller again"),
        "{said:?}"
    );
}

fn from_seq(seen: Seen) -> Option<u64> {
    match seen {
        Seen::Watch(WatchRequest { from_seq, .. }) => Some(from_seq),
        _ => None,
    }
}

#[test]
fn a_timeout_leaves_the_run_and_names_it() {
    let started = endless(false);
    let said = started.fracas(&attack(&["--timeout", "300ms"]));
    assert_eq!(said.code, 9);
    assert!(
        said.err.contains(&format!("run {RUN} goes on after the timeout of 300ms")),
        "{said:?}"
    );
    assert!(!started.was_stopped());
}

#[test]
fn without_a_terminal_an_interrupt_leaves_the_run() {
    for (arguments, signal, expected) in [
        (attack(&[]), Signal::SIGINT, 130),
        (attack(&[]), Signal::SIGTERM, 143),
        (vec!["runs", "watch", RUN], Signal::SIGINT, 130),
    ] {
        let started = endless(false);
        let child = command(started.path(), &arguments).spawn().unwrap();
        until("the run is watched", || started.is_watched());
        interrupt(&child, signal);
        let said = finish(child);
        assert_eq!(said.code, expected, "{said:?}");
        assert!(said.err.contains("goes on"), "{said:?}");
        assert!(!started.was_stopped());
    }
}

#[test]
fn where_it_was_asked_for_an_interrupt_stops_the_run_and_waits_for_the_proof() {
    let started = endless(false);
    let child = command(started.path(), &attack(&["--stop-on-interrupt"])).spawn().unwrap();
    until("the run is watched", || started.is_watched());
    interrupt(&child, Signal::SIGTERM);
    let said = finish(child);
    assert_eq!(said.code, 7, "{said:?}");
    assert!(started.was_stopped());
    assert!(
        said.out.contains("verdict   aborted") && said.out.contains("residue   web none"),
        "{said:?}"
    );
}

#[test]
fn at_a_terminal_the_first_interrupt_stops_and_the_second_leaves_it_stopping() {
    let started = endless(true);
    let terminal = nix::pty::openpty(None, None).unwrap();
    let child = command(started.path(), &ATTACK).stdin(Stdio::from(terminal.slave)).spawn().unwrap();
    until("the run is watched", || started.is_watched());
    interrupt(&child, Signal::SIGINT);
    until("the run is stopped", || started.was_stopped());
    interrupt(&child, Signal::SIGINT);
    let said = finish(child);
    assert_eq!(said.code, 8, "nothing is proven yet: {said:?}");
    assert!(said.err.contains("is stopping"), "{said:?}");
}

#[test]
fn at_a_terminal_a_watcher_only_leaves() {
    let started = endless(false);
    let terminal = nix::pty::openpty(None, None).unwrap();
    let child = command(started.path(), &["runs", "watch", RUN])
        .stdin(Stdio::from(terminal.slave))
        .spawn()
        .unwrap();
    until("the run is watched", || started.is_watched());
    interrupt(&child, Signal::SIGINT);
    assert_eq!(finish(child).code, 130);
    assert!(!started.was_stopped());
}
