//! The longest command line that a local user can have, and what a look at it costs; alone in its process, whose memory is measured.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_view::{HostView, LinuxView};

/// The kernel takes arguments of 6 MiB in all, each of at most 128 KiB.
const SCRIPT: &str = r#"
ulimit -s unlimited || exit 1
argument=$(head -c 131000 /dev/zero | tr '\0' x)
set --
count=0
while [ $count -lt 44 ]; do set -- "$@" "$argument"; count=$((count + 1)); done
exec /bin/sh -c 'read nothing' sh "$@"
"#;
const LONG: u64 = 5 << 20;
/// What the looking process may grow by.
const GROWTH_KIB: u64 = 2 << 10;
const STARTS: Duration = Duration::from_secs(30);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The most memory that this process has had.
fn most_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    most.trim().trim_end_matches(" kB").parse().unwrap()
}

/// By a process of its own: a read here would count as the look's.
fn bytes_of_command_line(pid: u32) -> u64 {
    let count = Command::new("/bin/sh")
        .args(["-c", &format!("wc -c < /proc/{pid}/cmdline")])
        .output();
    String::from_utf8(count.unwrap().stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn a_command_line_of_megabytes_costs_a_look_no_memory() {
    let view = LinuxView::new();
    // What any look needs is there from now on.
    view.processes().unwrap();
    let before = most_kib();
    let child = Command::new("/bin/sh").args(["-c", SCRIPT]).stdin(Stdio::piped()).spawn();
    let mut child = Running(child.unwrap());
    let pid = child.0.id();
    let began = Instant::now();
    let seen = || view.process(pid).unwrap().map(|process| process.command_line).unwrap_or_default();
    while seen().get(2).is_none_or(|word| word != "read nothing") {
        if child.0.try_wait().unwrap().is_some() {
            return tests_notes::skip("this machine lets no process have a command line of 5 MiB");
        }
        assert!(began.elapsed() < STARTS, "the process with the long command line was not started");
        std::thread::sleep(Duration::from_millis(20));
    }
    let bytes = bytes_of_command_line(pid);
    assert!(bytes > LONG, "{bytes} bytes");
    let began = Instant::now();
    let shown = view.process(pid).unwrap().unwrap();
    let took = began.elapsed();
    let growth = most_kib() - before;
    println!(
        "a look at a command line of {bytes} bytes: {} us, {growth} KiB more",
        took.as_micros()
    );
    assert!(growth < GROWTH_KIB, "the looking process grew by {growth} KiB");
    assert!(shown.command_line.iter().map(String::len).sum::<usize>() <= 4_096);
    let began = Instant::now();
    assert!(view.processes().unwrap().iter().any(|process| process.pid == pid));
    println!("a look at all processes: {} us", began.elapsed().as_micros());
    assert!(
        most_kib() - before < GROWTH_KIB,
        "the looking process grew by {} KiB",
        most_kib() - before
    );
}
