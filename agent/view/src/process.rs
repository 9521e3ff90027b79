//! Processes as /proc shows them; it signals none.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::bounded::{PROCESS_LOOKS, Subject, Words};
use crate::error::ViewError;
use crate::program::{self, Program};
use crate::text;
use crate::users::Users;

/// The kernel's own mark of a kernel thread, among a process's flags.
const PF_KTHREAD: u64 = 0x0020_0000;

/// The kernel keeps this many bytes of a process's name.
pub const KERNEL_NAME: usize = 15;

/// What is read of a command line. A process can make its own as long as its stack allows, and there may be many of them.
const COMMAND_LINE_BYTES: u64 = 4096;

/// The scheduler's letter for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    Running,
    Sleeping,
    /// State D.
    Uninterruptible,
    /// State T: stopped by a signal.
    Stopped,
    Traced,
    Zombie,
    Dead,
    Idle,
    Other,
}

/// One process, named by pid and start time so that a reused pid is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat.
    pub start_time: u64,
    pub parent: u32,
    /// The kernel's name for it, at most 15 bytes.
    pub name: String,
    /// Target of /proc/PID/exe; none for kernel threads and what may not be read.
    pub exe: Option<String>,
    /// Its arguments, of which only the first 4 KiB together are read.
    pub command_line: Vec<String>,
    /// Its effective user, who decides what it may do.
    pub uid: u32,
    /// The user who started it: a setuid program does not change this one.
    pub real_uid: u32,
    /// The user whom it may become again: a setuid program's owner, also while the program acts as its caller.
    pub saved_uid: u32,
    pub user: Option<String>,
    /// It runs the same program file as we do.
    pub our_program: bool,
    /// Root has installed its program: the file is root's alone, and our mount namespace shows it there, below folders that others cannot
    /// write. Only looked at for files whose names begin as those of our programs.
    pub installed_program: bool,
    pub state: ProcessState,
    pub kernel_thread: bool,
    /// Paths of its groups, one per hierarchy, as in /proc/PID/cgroup.
    pub groups: Vec<String>,
    /// That in the unified hierarchy (cgroup v2), where there is one.
    pub unified: Option<String>,
    /// Why its command line and its program could not be read in time, in words. Of such a process its arguments are not there, what program
    /// file it runs is not known, and `exe` is no more than that file's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// What the kernel itself keeps of a process. A look at it waits for nothing, while one at its program or its memory may wait for a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
    pub parent: u32,
    pub state: ProcessState,
}

impl ProcessStat {
    /// Same process, not merely same pid.
    pub fn is(&self, pid: u32, start_time: u64) -> bool {
        self.pid == pid && self.start_time == start_time
    }
}

impl Process {
    pub fn stat(&self) -> ProcessStat {
        ProcessStat {
            pid: self.pid,
            start_time: self.start_time,
            parent: self.parent,
            state: self.state,
        }
    }

    /// Same process, not merely same pid.
    pub fn is(&self, pid: u32, start_time: u64) -> bool {
        self.stat().is(pid, start_time)
    }

    /// It runs a program file of this name that root has installed. Its own name, which any user may choose, counts only where the file
    /// cannot be read: for processes of other users without CAP_SYS_PTRACE.
    pub fn runs_installed(&self, name: &str) -> bool {
        match self.exe.as_deref() {
            Some(exe) => self.installed_program && exe.rsplit('/').next() == Some(name),
            None => self.has_a_program() && self.name == name.get(..KERNEL_NAME).unwrap_or(name),
        }
    }

    /// It may run an installed program file of this name: that could not be read in time.
    pub fn may_run_installed(&self, name: &str) -> bool {
        let file = self.exe.as_deref().and_then(|exe| exe.rsplit('/').next());
        self.unread.is_some() && file == Some(name)
    }

    /// Workers of ours run as root or as this user; their real and their saved user say so, as the kernel keeps them.
    pub fn has_user_of_workers(&self, worker_uid: Option<u32>) -> bool {
        [self.real_uid, self.saved_uid]
            .iter()
            .any(|uid| *uid == 0 || worker_uid == Some(*uid))
    }

    /// Kernel threads never had one, and what has ended has none any more.
    fn has_a_program(&self) -> bool {
        !self.kernel_thread && !matches!(self.state, ProcessState::Zombie | ProcessState::Dead)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

pub(crate) fn pids() -> Result<Vec<u32>, ViewError> {
    let failed = |e| ViewError::new("/proc", e);
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        pids.extend(
            entry
                .map_err(failed)?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    pids.sort_unstable();
    Ok(pids)
}

/// By the kernel's own table alone; `None` when it has ended.
pub(crate) fn stat(pid: u32) -> Result<Option<ProcessStat>, ViewError> {
    let read = text::read_if_there(format!("/proc/{pid}/stat"))?;
    Ok(read.as_deref().and_then(Stat::parse).map(|stat| ProcessStat {
        pid,
        start_time: stat.start_time,
        parent: stat.parent,
        state: stat.state,
    }))
}

/// A look at one of them, which may hang.
pub(crate) fn alone(pid: u32) -> Subject {
    let start_time = stat(pid).ok().flatten().map_or(0, |stat| stat.start_time);
    Subject::new(sort(pid, start_time), move || words(pid))
}

/// A number that is used again is another process.
fn sort(pid: u32, start_time: u64) -> String {
    format!("process {pid} that was started at {start_time}")
}

pub(crate) fn words(pid: u32) -> Words {
    Words {
        what: named(pid),
        fix: format!(
            "its program or its memory lies on a mount that hangs (fix: `readlink /proc/{pid}/exe` names the program; \
             bring the mount's server back, unmount it with umount -f, or end the process)"
        ),
    }
}

/// With the name that the kernel keeps, which waits for nothing.
pub(crate) fn named(pid: u32) -> String {
    let name = text::read_if_there(format!("/proc/{pid}/comm")).ok().flatten();
    match name.as_deref().map(str::trim_end) {
        Some(name) => format!("process {pid} ({name})"),
        None => format!("process {pid}"),
    }
}

/// `None` when it has ended. This look may hang: at its command line, which is in its memory, and at its program. Where one hangs already, the
/// process is seen without them.
pub(crate) fn process(pid: u32, users: &Users) -> Result<Option<Process>, ViewError> {
    let Some(kept) = kept(pid, users)? else { return Ok(None) };
    if let Some(late) = PROCESS_LOOKS.overdue(&sort(pid, kept.start_time)) {
        return Ok(Some(Process {
            exe: program::exe(pid),
            unread: Some(format!("{} gave {}", late.what, late.source)),
            ..kept
        }));
    }
    let Some(command) = text::read_start_if_there(format!("/proc/{pid}/cmdline"), COMMAND_LINE_BYTES)? else {
        return Ok(None);
    };
    let program = Program::of(pid);
    Ok(Some(Process {
        our_program: program.is_ours,
        installed_program: program.is_installed,
        exe: program.exe,
        command_line: command.split_terminator('\0').map(str::to_owned).collect(),
        ..kept
    }))
}

/// What the kernel itself keeps of it, for which no look waits; `None` when it has ended.
fn kept(pid: u32, users: &Users) -> Result<Option<Process>, ViewError> {
    let file = |name: &str| text::read_if_there(format!("/proc/{pid}/{name}"));
    let Some(stat) = file("stat")?.as_deref().and_then(Stat::parse) else {
        return Ok(None);
    };
    let (Some(status), Some(groups)) = (file("status")?, file("cgroup")?) else {
        return Ok(None);
    };
    let (real_uid, uid, saved_uid) = uids(&status);
    Ok(Some(Process {
        pid,
        start_time: stat.start_time,
        parent: stat.parent,
        name: stat.name,
        our_program: false,
        installed_program: false,
        exe: None,
        command_line: Vec::new(),
        uid,
        real_uid,
        saved_uid,
        user: users.name_of(uid).map(str::to_owned),
        state: stat.state,
        kernel_thread: stat.flags & PF_KTHREAD != 0,
        unified: groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned),
        groups: groups
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .map(str::to_owned)
            .collect(),
        unread: None,
    }))
}

/// The real, the effective and the saved one.
fn uids(status: &str) -> (u32, u32, u32) {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let mut uids = line.split_whitespace().map(|uid| uid.parse().unwrap_or(u32::MAX));
    let mut next = || uids.next().unwrap_or(u32::MAX);
    (next(), next(), next())
}

/// What we need of /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: ProcessState,
    parent: u32,
    flags: u64,
    start_time: u64,
}

impl Stat {
    /// The name stands in parentheses and may itself hold any of them.
    fn parse(text: &str) -> Option<Self> {
        let (open, close) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(close + 1..)?.split_whitespace().collect();
        Some(Self {
            name: text.get(open + 1..close)?.to_owned(),
            state: state_of(fields.first()?),
            parent: fields.get(1)?.parse().ok()?,
            flags: fields.get(6)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }
}

fn state_of(letter: &str) -> ProcessState {
    match letter {
        "R" => ProcessState::Running,
        "S" => ProcessState::Sleeping,
        "D" => ProcessState::Uninterruptible,
        "T" => ProcessState::Stopped,
        "t" => ProcessState::Traced,
        "Z" => ProcessState::Zombie,
        "X" | "x" => ProcessState::Dead,
        "I" => ProcessState::Idle,
        _ => ProcessState::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::is_owned_by_root;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_nothing() {
        let text = "42 (a) R (b) T 7 42 42 0 -1 2097152 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.name, "a) R (b");
        assert_eq!((stat.state, stat.parent, stat.start_time), (ProcessState::Stopped, 7, 4711));
        assert_eq!(stat.flags & PF_KTHREAD, PF_KTHREAD);
        assert!(Stat::parse("42 (x").is_none());
    }

    #[test]
    fn we_see_ourselves_and_not_what_never_was() {
        let users = Users::read_if_readable();
        let own = process(std::process::id(), &users).unwrap().unwrap();
        assert!(!own.kernel_thread && own.start_time > 0 && !own.command_line.is_empty());
        assert!(own.our_program && own.real_uid == own.uid);
        assert!(own.exe.is_some_and(|exe| exe.starts_with('/')));
        assert_eq!(process(u32::MAX, &users).unwrap(), None);
        assert_eq!(
            stat(own.pid).unwrap().map(|stat| (stat.parent, stat.is(own.pid, own.start_time))),
            Some((own.parent, true))
        );
        assert_eq!(stat(u32::MAX).unwrap(), None);
    }

    #[test]
    fn workers_are_roots_or_their_users_by_the_real_and_the_saved_user() {
        let own = process(std::process::id(), &Users::read_if_readable()).unwrap().unwrap();
        for (uid, real_uid, saved_uid, is_of_workers) in [
            (7, 7, 7, false),
            (0, 7, 7, false),
            (7, 0, 7, true),
            (7, 7, 0, true),
            (7, 65_534, 7, true),
            (7, 7, 65_534, true),
        ] {
            let process = Process {
                uid,
                real_uid,
                saved_uid,
                ..own.clone()
            };
            assert_eq!(
                process.has_user_of_workers(Some(65_534)),
                is_of_workers,
                "{uid} {real_uid} {saved_uid}"
            );
        }
    }

    #[test]
    fn a_program_is_known_by_its_file_and_by_who_may_write_that() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("fracas-view-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (written, link) = (folder.join("fracas"), folder.join("fracas-linked"));
        fs::write(&written, "").unwrap();
        fs::set_permissions(&written, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_owned_by_root(&fs::metadata(&written).unwrap()) && is_owned_by_root(&fs::metadata("/bin/sleep").unwrap()));
        // The kernel names a process after the link by which it was started.
        std::os::unix::fs::symlink("/bin/sleep", &link).unwrap();
        let mut child = std::process::Command::new(&link).arg("60").spawn().unwrap();
        let seen = process(child.id(), &Users::read_if_readable()).unwrap().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(seen.name, "fracas-linked");
        assert!(!seen.runs_installed("fracas-linked") && !seen.runs_installed("fracas"), "{seen:?}");
    }

    #[test]
    fn the_kernels_name_counts_only_where_the_program_cannot_be_read() {
        let own = process(std::process::id(), &Users::read_if_readable()).unwrap().unwrap();
        let unreadable = |name: &str, state: ProcessState, kernel_thread: bool| Process {
            name: name.to_owned(),
            exe: None,
            our_program: false,
            installed_program: false,
            state,
            kernel_thread,
            ..own.clone()
        };
        // The kernel cuts the name.
        let controller = unreadable("fracas-controll", ProcessState::Sleeping, false);
        assert!(controller.runs_installed("fracas-controller") && !controller.runs_installed("fracas"));
        assert!(unreadable("fracas", ProcessState::Stopped, false).runs_installed("fracas"));
        assert!(!unreadable("fracas", ProcessState::Zombie, false).runs_installed("fracas"));
        assert!(!unreadable("fracas", ProcessState::Idle, true).runs_installed("fracas"));
        let readable = Process {
            name: "fracas".to_owned(),
            ..own
        };
        assert!(!readable.runs_installed("fracas"));
    }

    #[test]
    fn of_a_command_line_only_the_beginning_is_read() {
        let long = "x".repeat(100_000);
        let mut child = std::process::Command::new("/bin/sh");
        let child = child.args(["-c", "read nothing", &long]).stdin(std::process::Stdio::piped());
        let mut child = child.spawn();
        // Between fork and exec the child still shows our own command line.
        let child = child.as_mut().unwrap();
        let users = Users::read_if_readable();
        let read = || process(child.id(), &users).unwrap().unwrap().command_line;
        let began = std::time::Instant::now();
        while read().first().is_none_or(|program| program != "/bin/sh") {
            assert!(began.elapsed().as_secs() < 10, "the shell was not started");
        }
        let shown = read();
        assert!(!process(child.id(), &users).unwrap().unwrap().our_program);
        child.kill().unwrap();
        child.wait().unwrap();
        let bytes: usize = shown.iter().map(|argument| argument.len() + 1).sum();
        assert_eq!((shown[1].as_str(), shown.len()), ("-c", 4));
        assert!((4000..=4097).contains(&bytes), "{bytes} bytes of the command line were read");
    }

    #[test]
    fn the_users_of_a_process_are_read_in_the_kernels_order() {
        assert_eq!(uids("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"), (1, 2, 3));
        assert_eq!(uids("Name:\tx\n"), (u32::MAX, u32::MAX, u32::MAX));
    }
}
