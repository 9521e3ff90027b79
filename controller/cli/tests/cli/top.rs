//! The live view: one plain frame into a pipe, and a real terminal that is given back whatever happens.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::fake::{Script, Seen, Started, start};

const LIMIT: Duration = Duration::from_secs(20);
/// How the terminal is told of red.
const RED: &str = "\x1b[38;5;1";
/// What leaves the other screen.
const GIVEN_BACK: &str = "\x1b[?1049l";

#[test]
fn into_a_pipe_it_is_one_plain_frame() {
    let started = start(Script::default());
    let said = started.fracas(&["top"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(!said.out.contains('\x1b'), "{:?}", said.out);
    for word in ["HALTED", "root@local: drill", "3 up", "1 dirty", "burn", "cache-1", "lost"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    assert!(!said.out.contains("q quit"), "keys that nobody can press: {}", said.out);
    assert_eq!(started.fracas(&["top", "-o", "json"]).json()["kind"], "Status");
}

/// The program on a terminal of its own.
struct Seat {
    child: Child,
    master: std::fs::File,
    /// Kept open, so that the terminal's settings can be read when the program is gone.
    slave: OwnedFd,
    shown: Receiver<Vec<u8>>,
    all: String,
}

impl Seat {
    fn take(started: &Started, settings: &[(&str, &str)]) -> Self {
        let size = Winsize {
            ws_row: 30,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_fracas"))
            .arg("top")
            .env("FRACAS_SOCKET", started.path().join("controller.sock"))
            .env("FRACAS_CONFIG", started.path().join("none.yaml"))
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(settings.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let master = std::fs::File::from(master);
        let mut reads = master.try_clone().unwrap();
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = reads.read(&mut bytes) {
                if length == 0 || sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            master,
            slave,
            shown,
            all: String::new(),
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    fn until(&mut self, what: &str, condition: impl Fn(&mut Self) -> bool) {
        let limit = Instant::now() + LIMIT;
        while !condition(self) {
            assert!(Instant::now() < limit, "waited in vain for {what}: {:?}", self.all);
            if let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(50)) {
                self.all.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }

    fn shows(&mut self, word: &str) {
        self.until(word, |seat| seat.all.contains(word));
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit code, once the terminal is what it was.
    fn leaves(mut self) -> Option<i32> {
        self.until("the end", |seat| seat.child.try_wait().unwrap().is_some());
        self.shows(GIVEN_BACK);
        assert!(!self.is_raw(), "the terminal is still raw");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn q_and_control_c_give_the_terminal_back() {
    for key in ["q", "\x03"] {
        let started = start(Script::default());
        let mut seat = Seat::take(&started, &[]);
        seat.shows("cache-1");
        assert!(seat.is_raw());
        assert!(seat.all.contains(RED), "no colours: {:?}", seat.all);
        seat.press(key);
        assert_eq!(seat.leaves(), Some(0), "{key:?}");
    }
}

#[test]
fn a_termination_gives_the_terminal_back_too() {
    let started = start(Script::default());
    let mut seat = Seat::take(&started, &[]);
    seat.shows("cache-1");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(seat.child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(seat.leaves(), Some(143));
}

#[test]
fn a_halt_is_sent_only_when_it_was_typed() {
    let started = start(Script::default());
    let mut seat = Seat::take(&started, &[("NO_COLOR", "1")]);
    seat.shows("cache-1");
    seat.press("hno\r");
    // Only what changes is drawn, so that a sentence comes in pieces.
    seat.shows("\"no\"");
    assert!(started.seen().is_empty(), "{:?}", started.seen());
    seat.press("hhalt\r");
    seat.until("a halt", |_| started.seen().iter().any(|seen| matches!(seen, Seen::Halt(_))));
    seat.shows("answered,");
    assert!(!seat.all.contains(RED), "colours in spite of NO_COLOR");
    seat.press("q");
    assert_eq!(seat.leaves(), Some(0));
}
