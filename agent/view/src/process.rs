//! Processes as /proc shows them; it signals none.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::error::ViewError;
use crate::text;
use crate::users::Users;

/// The kernel's own mark of a kernel thread, among a process's flags.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What the names of our program files begin with.
const OUR_NAMES: &str = "fracas";

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
}

impl Process {
    /// Same process, not merely same pid.
    pub fn is(&self, pid: u32, start_time: u64) -> bool {
        self.pid == pid && self.start_time == start_time
    }

    /// It runs a program file of this name that root has installed. Its own name, which any user may choose, counts only where the file
    /// cannot be read: for processes of other users without CAP_SYS_PTRACE.
    pub fn runs_installed(&self, name: &str) -> bool {
        match self.exe.as_deref() {
            Some(exe) => self.installed_program && exe.rsplit('/').next() == Some(name),
            None => self.has_a_program() && self.name == name.get(..KERNEL_NAME).unwrap_or(name),
        }
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

pub(crate) fn processes() -> Result<Vec<Process>, ViewError> {
    let users = Users::read_if_readable();
    let mut found = Vec::new();
    for pid in pids()? {
        found.extend(process(pid, &users)?);
    }
    Ok(found)
}

/// `None` when it has ended.
pub(crate) fn process(pid: u32, users: &Users) -> Result<Option<Process>, ViewError> {
    let file = |name: &str| text::read_if_there(format!("/proc/{pid}/{name}"));
    let Some(stat) = file("stat")?.as_deref().and_then(Stat::parse) else {
        return Ok(None);
    };
    let command = text::read_start_if_there(format!("/proc/{pid}/cmdline"), COMMAND_LINE_BYTES)?;
    let (Some(status), Some(command), Some(groups)) = (file("status")?, command, file("cgroup")?) else {
        return Ok(None);
    };
    let (real_uid, uid, saved_uid) = uids(&status);
    let (exe, program) = (exe(pid), fs::metadata(format!("/proc/{pid}/exe")).ok());
    Ok(Some(Process {
        pid,
        start_time: stat.start_time,
        parent: stat.parent,
        name: stat.name,
        our_program: is_our_program(program.as_ref(), exe.as_deref()),
        installed_program: program
            .as_ref()
            .zip(exe.as_deref())
            .is_some_and(|(program, exe)| has_our_name(exe) && is_installed(program, Path::new(exe))),
        exe,
        command_line: command.split_terminator('\0').map(str::to_owned).collect(),
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
    }))
}

/// The program, also when its file has been replaced since it started.
fn exe(pid: u32) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    // A path that is no UTF-8 must not pass for one that cannot be read.
    let target = target.to_string_lossy();
    Some(target.strip_suffix(" (deleted)").unwrap_or(&target).to_owned())
}

/// By the file itself, or by its path where an upgrade has replaced it since.
fn is_our_program(program: Option<&fs::Metadata>, exe: Option<&str>) -> bool {
    static OURS: OnceLock<Option<(fs::Metadata, PathBuf)>> = OnceLock::new();
    let ours = OURS.get_or_init(|| {
        let file = fs::metadata("/proc/self/exe").ok()?;
        Some((file, std::env::current_exe().ok()?))
    });
    let (Some((ours, path)), Some(program), Some(exe)) = (ours, program, exe) else {
        return false;
    };
    let at_our_path = Path::new(exe) == path && program.uid() == ours.uid();
    is_same_file(program, ours) || at_our_path && (was_removed(program, path) || is_there(program, path))
}

fn has_our_name(exe: &str) -> bool {
    exe.rsplit('/').next().is_some_and(|name| name.starts_with(OUR_NAMES))
}

/// A user may show any file under any path, in a mount namespace of their own; in ours they cannot change a folder that is closed to them.
fn is_installed(program: &fs::Metadata, path: &Path) -> bool {
    let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
    // From the root on, so that nothing below a folder of a user is looked up: what is mounted there may never answer. The program itself was
    // looked at before, and where it lies on a mount that hangs this may not have answered either.
    folders.reverse();
    is_owned_by_root(program)
        && path.is_absolute()
        && folders.into_iter().all(is_closed)
        && (was_removed(program, path) || is_there(program, path))
}

/// A group that may write it, such as staff in /usr/local/bin, was let in by root.
fn is_closed(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|folder| folder.is_dir() && folder.uid() == 0 && folder.mode() & 0o002 == 0)
}

fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// An upgrade has put another file in its place, or none. Of its path only the text is left, so it must be of the volume where that path leads
/// in our own mount namespace: the root of a container can remove any file of its own.
fn was_removed(program: &fs::Metadata, path: &Path) -> bool {
    let is_here = |folder: &Path| fs::symlink_metadata(folder).is_ok_and(|folder| folder.dev() == program.dev());
    program.nlink() == 0 && path.parent().is_some_and(is_here)
}

/// In our own mount namespace.
fn is_there(program: &fs::Metadata, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| is_same_file(&file, program))
}

fn is_owned_by_root(file: &fs::Metadata) -> bool {
    let (by_group, by_others) = (file.mode() & 0o020 != 0, file.mode() & 0o002 != 0);
    file.uid() == 0 && !by_others && (!by_group || file.gid() == 0)
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
        assert!(processes().unwrap().iter().any(|p| p.pid == std::process::id()));
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
    fn a_file_that_another_user_or_group_may_write_is_not_roots_alone() {
        if tests_notes::lacks_root("to give files to other users") {
            return;
        }
        let file = std::env::temp_dir().join(format!("fracas-owned-{}", std::process::id()));
        fs::write(&file, "").unwrap();
        for (uid, gid, mode, expected) in [
            (0, 0, 0o755, true),
            (0, 0, 0o775, true),
            (0, 1, 0o755, true),
            (0, 1, 0o775, false),
            (0, 0, 0o757, false),
            (1, 0, 0o755, false),
        ] {
            std::os::unix::fs::chown(&file, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(is_owned_by_root(&fs::metadata(&file).unwrap()), expected, "{uid}:{gid} {mode:o}");
        }
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_file_of_roots_is_installed_only_where_our_mount_namespace_shows_it() {
        let sleep = fs::canonicalize("/bin/sleep").unwrap();
        let program = fs::metadata(&sleep).unwrap();
        assert!(is_installed(&program, &sleep));
        // As a mount in another namespace shows it: at a path where we have nothing, or another file.
        assert!(!is_installed(&program, Path::new("/usr/bin/fracas-not-installed")));
        assert!(!is_installed(&program, &fs::canonicalize("/etc/passwd").unwrap()));
        assert!(!is_installed(&program, Path::new("sleep")));
        // Users may link a file of root's into a folder that they may write; where it is of another volume, nothing can be linked.
        let folder = std::env::temp_dir().join(format!("fracas-open-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let link = folder.join("fracas");
        let linked = fs::hard_link(&sleep, &link).is_ok() && is_installed(&fs::metadata(&link).unwrap(), &link);
        fs::remove_dir_all(&folder).unwrap();
        assert!(!linked);
        assert!(has_our_name("/usr/bin/fracas") && has_our_name("/opt/x/fracas-controller"));
        assert!(!has_our_name("/usr/bin/sleep") && !has_our_name("/opt/fracas/sleep"));
    }

    #[test]
    fn a_file_counts_as_removed_only_on_the_volume_of_its_path() {
        let path = std::env::temp_dir().join(format!("fracas-removed-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        assert!(!was_removed(&file.metadata().unwrap(), &path));
        fs::remove_file(&path).unwrap();
        let removed = file.metadata().unwrap();
        assert!(was_removed(&removed, &path));
        // As one of a container would be: its path is ours, and its volume is another.
        assert!(!was_removed(&removed, Path::new("/proc/fracas")));
        assert!(!was_removed(&removed, &path.join("no-such-folder/fracas")));
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
