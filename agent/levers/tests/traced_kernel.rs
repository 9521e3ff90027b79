//! A paused process under a tracer on this very kernel. Traces only a process that it made.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_journal::{Opened, UndoOutcome};
use agent_levers::ops::ProcessOps;
use agent_levers::{History, JournalStore, LinuxOps, ResumeProcesses, Victim, prove, rewind};
use agent_view::{HostView, LinuxView};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;
use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(5);

/// A child of this test; killed at its end.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// The kernel's letter for it.
    fn letter(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, after) = stat.rsplit_once(") ").unwrap();
        after.chars().next().unwrap()
    }

    #[track_caller]
    fn becomes(&self, letter: char) {
        let deadline = Instant::now() + WITHIN;
        while self.letter() != letter {
            assert!(
                Instant::now() < deadline,
                "it is {} and not {letter} after {WITHIN:?}",
                self.letter()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes this thread its tracer, which holds it; false where this thread may trace nothing.
fn hold(sleeper: &Sleeper) -> bool {
    match ptrace::seize(sleeper.pid(), ptrace::Options::empty()) {
        Err(Errno::EPERM) => {
            tests_notes::skip("this process may not trace its own child");
            return false;
        }
        seized => seized.unwrap(),
    }
    ptrace::interrupt(sleeper.pid()).unwrap();
    sleeper.becomes('t');
    true
}

fn victim(sleeper: &Sleeper, view: &LinuxView) -> Victim {
    let process = view.process(sleeper.0.id()).unwrap().unwrap();
    Victim {
        pid: process.pid,
        start_time: process.start_time,
        name: process.name,
    }
}

/// What a proof says of it; not what else it may fail to read without root.
fn said_of(sleeper: &Sleeper, history: &History, view: &LinuxView) -> Vec<String> {
    let mut said = prove(&[history], &[], view).not_restored;
    let pid = format!("(pid {})", sleeper.0.id());
    said.retain(|what| what.contains(&pid));
    said
}

#[test]
fn one_that_was_paused_and_then_traced_runs_when_its_tracer_leaves() {
    let (view, sleeper) = (LinuxView::new(), Sleeper::new());
    let (mut hands, victim) = (LinuxOps::new(PathBuf::from("/bin/false")), victim(&sleeper, &view));
    let opened = Opened {
        injection: InjectionId::generate(),
        run: "run".to_owned(),
        kind: "test.pause".to_owned(),
        params: json!({}),
        boot_id: view.boot_id(),
        opened_boot_ms: view.boot_ms(),
        deadline_boot_ms: view.boot_ms() + 60_000,
        plan_digest: String::new(),
    };
    let mut journal = JournalStore::memory().create(opened).unwrap();
    journal
        .intend(
            ResumeProcesses {
                victims: vec![victim.clone()],
            }
            .into(),
        )
        .unwrap();
    assert!(hands.stop_process(&victim).unwrap());
    sleeper.becomes('T');
    journal.applied(&json!({})).unwrap();

    // A tracer that comes and goes leaves it stopped as it was: that is what the undo has to end.
    if !hold(&sleeper) {
        return;
    }
    ptrace::detach(sleeper.pid(), None).unwrap();
    sleeper.becomes('T');
    assert!(hold(&sleeper));
    let [hidden] = &said_of(&sleeper, journal.history(), &view)[..] else {
        panic!("a tracer hides whether it is stopped, and nothing says so")
    };
    assert!(hidden.contains("is still stopped is not known"), "{hidden}");

    journal.ending(EndedBy::Stop).unwrap();
    let rewound = rewind(&mut journal, &mut hands, &view);
    assert!(rewound.is_complete() && rewound.drift.len() == 1, "{rewound:?}");
    assert!(matches!(rewound.outcomes[..], [UndoOutcome::Drift { .. }]), "{rewound:?}");
    assert_eq!(sleeper.letter(), 't', "its tracer still holds it");
    assert_eq!(said_of(&sleeper, journal.history(), &view), [""; 0]);
    ptrace::detach(sleeper.pid(), None).unwrap();
    sleeper.becomes('S');
}
