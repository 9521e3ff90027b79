//! Looks at a mount that hangs: a server of FUSE in this process answers until it is told to answer no more.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent_view::{HostView, LinuxView};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// The one file of the mount, which is a program.
const PROGRAM: &str = "sleeper";
/// A look at what hangs waits for 2 s; a machine that is busy takes longer to come back from it.
const LATE: Duration = Duration::from_secs(8);
const AT_ONCE: Duration = Duration::from_millis(1_500);
/// Looks of the whole process are counted together, so where tests share one they run one after another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The numbers of include/uapi/linux/fuse.h.
mod fuse {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const ROOT: u64 = 1;
    pub(super) const FILE: u64 = 2;
}

/// A mount in a mount namespace of the calling thread's own.
struct Mount {
    point: PathBuf,
    hangs: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
    _alone: MutexGuard<'static, ()>,
}

impl Mount {
    /// `None`, and a note, where the kernel has no FUSE.
    fn new(name: &str) -> Option<Self> {
        if tests_notes::lacks_root("to mount") {
            return None;
        }
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                tests_notes::skip(&format!("/dev/fuse cannot be opened: {error} (fix: modprobe fuse)"));
                return None;
            }
        };
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let point = std::env::temp_dir().join(format!("fracas-hung-{name}-{}", std::process::id()));
        fs::create_dir_all(&point).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(
            Some("fracas-test"),
            &point,
            Some("fuse"),
            MsFlags::MS_NOSUID,
            Some(options.as_str()),
        )
        .unwrap();
        let hangs = Arc::new(AtomicBool::new(false));
        let (silent, program) = (Arc::clone(&hangs), fs::read("/bin/sleep").unwrap());
        let server = std::thread::spawn(move || serve(device, &program, &silent));
        Some(Self {
            point,
            hangs,
            server: Some(server),
            _alone: alone,
        })
    }

    fn program(&self) -> PathBuf {
        self.point.join(PROGRAM)
    }

    fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    /// Its server goes, and everything that waits for it comes back with an error.
    fn end(&mut self) {
        umount2(&self.point, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH).unwrap();
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.server.is_some() {
            umount2(&self.point, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH).ok();
        }
        fs::remove_dir(&self.point).ok();
    }
}

/// Answers requests until the mount is gone; those that come while it hangs are never answered.
fn serve(mut device: File, program: &[u8], hangs: &AtomicBool) {
    let mut request = vec![0; 1 << 20];
    loop {
        let read = match device.read(&mut request) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if hangs.load(Ordering::SeqCst) {
            continue;
        }
        let Some(answer) = answer(&request[..read], program) else {
            continue;
        };
        if device.write_all(&answer).is_err() {
            return;
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn answer(request: &[u8], program: &[u8]) -> Option<Vec<u8>> {
    let (kind, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
    let body = &request[40..];
    let answered = match kind {
        fuse::FORGET | fuse::BATCH_FORGET | fuse::INTERRUPT => return None,
        fuse::INIT => Ok(init(body)),
        fuse::LOOKUP if node == fuse::ROOT && body.strip_suffix(b"\0") == Some(PROGRAM.as_bytes()) => {
            // Neither the name nor its attributes may be remembered: each look asks again.
            let mut entry = [fuse::FILE, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
            entry.extend(attributes(fuse::FILE, program));
            Ok(entry)
        }
        fuse::LOOKUP => Err(libc::ENOENT),
        fuse::GETATTR => {
            let mut attr = [0, 0].map(u64::to_ne_bytes).concat();
            attr.extend(attributes(node, program));
            Ok(attr)
        }
        fuse::OPEN => Ok([0, 0].map(u64::to_ne_bytes).concat()),
        fuse::READ => {
            let from = usize::try_from(u64_at(body, 8)).unwrap().min(program.len());
            let to = program.len().min(from + u32_at(body, 16) as usize);
            Ok(program[from..to].to_vec())
        }
        fuse::RELEASE => Ok(Vec::new()),
        _ => Err(libc::ENOSYS),
    };
    let (error, body) = match answered {
        Ok(body) => (0, body),
        Err(error) => (-error, Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).unwrap();
    Some([&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), &body].concat())
}

fn init(body: &[u8]) -> Vec<u8> {
    let (major, minor) = (u32_at(body, 0), u32_at(body, 4).min(31));
    let mut all = Vec::with_capacity(64);
    // Read ahead, flags, two numbers of requests in the background, and the longest write.
    for word in [major, minor, 0, 0, 0x0010_0010, 4_096] {
        all.extend(word.to_ne_bytes());
    }
    all.resize(64, 0);
    all
}

fn attributes(node: u64, program: &[u8]) -> Vec<u8> {
    let (mode, size) = if node == fuse::ROOT {
        (libc::S_IFDIR | 0o755, 0)
    } else {
        (libc::S_IFREG | 0o755, program.len() as u64)
    };
    let mut all = [node, size, size.div_ceil(512), 0, 0, 0].map(u64::to_ne_bytes).concat();
    // Three parts of times, the mode, one link, the user, the group, the device, the size of a block, and a padding.
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4_096, 0] {
        all.extend(word.to_ne_bytes());
    }
    all
}

fn timed<T>(look: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (look(), began.elapsed())
}

#[test]
fn a_volume_that_hangs_is_given_up_in_time_and_holds_no_look_at_another() {
    let Some(mut hung) = Mount::new("volume") else { return };
    let (view, folder) = (LinuxView::new().with_helper(), std::env::temp_dir());
    assert_eq!(
        fs::metadata(hung.program()).unwrap().len(),
        fs::metadata("/bin/sleep").unwrap().len()
    );
    hung.hang();
    let (seen, took) = timed(|| view.volume(&hung.program()));
    let error = seen.unwrap_err();
    assert!(took < LATE, "{took:?}");
    assert_eq!(error.source.kind(), ErrorKind::TimedOut, "{error}: {}", error.source);
    assert!(
        error.source.to_string().contains(&format!("umount -f {}", hung.point.display())),
        "{}",
        error.source
    );
    let (seen, took) = timed(|| view.file(&hung.program()));
    assert!(seen.is_err() && took < AT_ONCE, "{took:?}");
    let (seen, took) = timed(|| view.volume(&folder));
    assert!(seen.unwrap().is_some() && took < AT_ONCE, "{took:?}");
    hung.end();
    let began = Instant::now();
    while view.volume(&hung.point).is_err() {
        assert!(began.elapsed() < LATE, "looks do not work again after the mount has gone");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ended however the test ends.
struct Sleeper(Child);

impl Sleeper {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        Self(command.arg("60").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_process_with_its_program_on_a_mount_that_hangs_is_listed_without_what_cannot_be_read() {
    let Some(mut hung) = Mount::new("process") else { return };
    let view = LinuxView::new().with_helper();
    let sleeper = Sleeper::start(&hung.program());
    let pid = sleeper.0.id();
    let of = |all: &[agent_view::Process], pid: u32| all.iter().find(|process| process.pid == pid).cloned().unwrap();
    let before = of(&view.processes().unwrap(), pid);
    assert_eq!((before.unread, before.command_line.len()), (None, 2));
    assert_eq!(before.exe.as_deref(), hung.program().to_str());
    assert_eq!(fs::metadata(format!("/proc/{pid}/exe")).unwrap().uid(), 0);
    hung.hang();
    let (all, took) = timed(|| view.processes());
    let all = all.unwrap();
    assert!(took < LATE, "{took:?}");
    let seen = of(&all, pid);
    let unread = seen.unread.unwrap();
    assert!(
        unread.contains(&format!("process {pid} (")) && unread.contains("no answer within"),
        "{unread}"
    );
    assert_eq!((seen.start_time, seen.parent), (before.start_time, std::process::id()));
    assert!(seen.command_line.is_empty() && !seen.our_program, "{:?}", seen.command_line);
    assert_eq!(of(&all, std::process::id()).unread, None, "what does not hang is read");
    let (again, took) = timed(|| view.processes());
    assert!(of(&again.unwrap(), pid).unread.is_some() && took < AT_ONCE, "{took:?}");
    let (stat, took) = timed(|| view.process_stat(pid));
    assert!(stat.unwrap().is_some_and(|stat| stat.is(pid, before.start_time)) && took < AT_ONCE);
    drop(sleeper);
    assert_eq!(view.process_stat(pid).unwrap(), None);
    hung.end();
}

#[test]
fn as_many_processes_as_looks_may_hang_at_hold_no_look_at_a_volume() {
    // Those that wait for the mount end only after it, so they are dropped after it.
    let mut sleepers = Vec::new();
    let Some(mut hung) = Mount::new("processes") else { return };
    let view = LinuxView::new().with_helper();
    sleepers.extend((0..8).map(|_| Sleeper::start(&hung.program())));
    hung.hang();
    for sleeper in &sleepers {
        let seen = view.process(sleeper.0.id());
        assert!(seen.is_err() || seen.unwrap().unwrap().unread.is_some(), "a look does not hang");
    }
    let (all, took) = timed(|| view.processes());
    let text = all.unwrap_err().source.to_string();
    assert!(
        text.contains("8 other looks do not come back") && took < AT_ONCE,
        "{took:?}: {text}"
    );
    for path in [Path::new("/"), &std::env::temp_dir()] {
        let (seen, took) = timed(|| view.volume(path));
        assert!(seen.unwrap().is_some() && took < AT_ONCE, "{}: {took:?}", path.display());
    }
    hung.end();
    let began = Instant::now();
    while view.processes().is_err() {
        assert!(began.elapsed() < LATE, "processes are not looked at again after the mount has gone");
        std::thread::sleep(Duration::from_millis(20));
    }
}
