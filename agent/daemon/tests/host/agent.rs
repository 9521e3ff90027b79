//! An agent in a process of its own, without a controller: it holds what the environment says and prints its reports.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use agent_daemon::paths::Paths;
use agent_daemon::run::{start_warden, undo_on_signal};
use agent_warden::{Policy, StartOrder};
use proto_model::catalogue::FaultKind;
use proto_model::id::{InjectionId, PlanDigest, RunId};
use proto_model::injection::{AgentFact, AgentReport, Wish};
use proto_program::shutdown::Shutdown;
use serde_json::Value;
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_fracas-agent");
const DIR: &str = "FRACAS_TEST_DIR";
const ORDERS: &str = "FRACAS_TEST_ORDERS";
/// The exit status of an agent that was not ended within a minute.
const NEVER_ENDED: i32 = 2;
const WATCHDOG: Duration = Duration::from_millis(1_500);

/// Whether the calling test runs here; recorded as a skip if not.
pub fn is_root() -> bool {
    !tests_notes::lacks_root("for an agent that holds faults")
}

/// The shipped rules, for users that every Debian has.
fn rules() -> String {
    agent_warden::SHIPPED
        .replace("session = \"fracas\"", "session = \"nobody\"")
        .replace("workers = \"fracas-load\"", "workers = \"daemon\"")
}

pub fn paths(dir: &Path) -> Paths {
    std::fs::write(dir.join("agent.toml"), rules()).unwrap();
    Paths {
        config: dir.join("agent.toml"),
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
        group_root: group_root(dir),
    }
}

/// An agent removes groups of ours that it does not know, so each of these agents has a folder of groups of its own.
pub fn group_root(dir: &Path) -> PathBuf {
    Path::new("/").join(format!("agent-test-{}", dir.file_name().unwrap().to_string_lossy()))
}

/// The other process, and what it said.
pub struct Agent {
    pub child: Child,
    pub dir: TempDir,
    reports: Receiver<AgentReport>,
}

impl Agent {
    /// Starts it with orders of (fault, parameters), each for a minute.
    pub fn holding(orders: &[(&str, Value)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "agent::the_other_process",
                "--ignored",
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env(DIR, dir.path())
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, reports) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for report in lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()) {
                drop(sender.send(report));
            }
        });
        Self { child, dir, reports }
    }

    /// The next report for which `want` has something.
    pub fn hear<T>(&self, within: Duration, want: impl Fn(&AgentReport) -> Option<T>) -> Option<T> {
        let until = Instant::now() + within;
        loop {
            match self.reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(report) => {
                    if let AgentFact::Refused(refusal) = &report.fact {
                        panic!("refused: {refusal}");
                    }
                    if let Some(found) = want(&report) {
                        return Some(found);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    pub fn applied(&self) -> InjectionId {
        let applied = self.hear(Duration::from_secs(10), |r| {
            matches!(r.fact, AgentFact::Applied(_)).then(|| r.injection.clone())
        });
        applied.expect("nothing was applied in 10 s")
    }

    pub fn paths(&self) -> Paths {
        paths(self.dir.path())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        // The guardian of a killed agent still writes here.
        wait_until(Duration::from_secs(15), || guardian_of(self.child.id()).is_none());
        let view = agent_view::LinuxView::with_group_root(&group_root(self.dir.path()));
        for hierarchy in view.hierarchies().used() {
            let _ = std::fs::remove_dir(&hierarchy.root);
        }
    }
}

/// Not a test: the body of the other process.
#[test]
#[ignore = "started by the other tests"]
fn the_other_process() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let orders: Vec<(String, Value)> = serde_json::from_str(&std::env::var(ORDERS).unwrap()).unwrap();
    let (sender, mut reports) = tokio::sync::mpsc::channel(100);
    let policy = Policy::parse(&rules(), Path::new("agent.toml")).unwrap();
    let report = move |report| drop(sender.try_send(report));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let signals = runtime.block_on(async { Shutdown::listen() });
    let (warden, thread) = start_warden(&paths(&dir), PROGRAM.into(), policy, WATCHDOG, None, report).unwrap();
    wait_until(Duration::from_secs(10), || warden.status().unwrap().guarded);
    let mut ids = Vec::new();
    for (kind, params) in orders {
        let injection = InjectionId::generate();
        ids.push(injection.clone());
        let order = StartOrder {
            injection,
            run: RunId::generate(),
            lease_ms: 5_000,
            plan_digest: PlanDigest("sha256:0".into()),
            wish: Wish {
                fault: FaultKind::parse(&kind).unwrap(),
                params,
                duration_ms: 60_000,
                seed: 1,
                beside: Vec::new(),
                unattended: false,
            },
        };
        warden.start(order).unwrap();
    }
    let held = warden.clone();
    std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if held.renew(&ids, 5_000).is_err() {
                return;
            }
            while let Ok(report) = reports.try_recv() {
                println!("\n{}", serde_json::to_string(&report).unwrap());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        std::process::exit(NEVER_ENDED);
    });
    let clean = runtime.block_on(undo_on_signal(signals, &warden));
    drop(warden);
    std::process::exit(i32::from(!(clean && thread.join().is_ok())));
}

/// True when it became true in time.
pub fn wait_until(within: Duration, mut is: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + within;
    while Instant::now() < until {
        if is() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    is()
}

/// The guardian that watches this process.
pub fn guardian_of(agent: u32) -> Option<u32> {
    let wanted = format!("guardian\0--agent\0{agent}\0");
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter()
        .find(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&wanted)))
}

/// A process to be harmed, ours alone; its program's file is named as wished.
pub struct Victim {
    pub child: Child,
    _dir: TempDir,
}

impl Victim {
    pub fn named(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(name);
        std::fs::copy("/bin/sleep", &program).unwrap();
        let child = Command::new(program).arg("120").spawn().unwrap();
        Self { child, _dir: dir }
    }

    /// The scheduler's letter.
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
