//! Memory and disk space beside C, stress-ng and `fallocate`: how fast and how exactly they are taken, by the kernel's own account.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tests_harness::{Cmd, Host, Lab, packages, programs, wait};

use crate::bench::Figure;
use crate::measure::{finished, median, millis};

const MEBI: u64 = 1 << 20;
const TIMES: usize = 3;
const SOON: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);
/// How long an amount is watched, and how often.
const WATCHED: Duration = Duration::from_secs(5);
const WATCH: Duration = Duration::from_millis(20);
const SETTLES: Duration = Duration::from_secs(1);
/// Compiled when it is needed: memset of so many bytes by so many threads, in huge pages if there is a third argument.
const MEMSET: &str = include_str!("memset.c");
/// As many as a worker starts at most.
const MOST_THREADS: usize = 16;

/// How much is taken.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    pub fast: u64,
    pub exact: u64,
    pub disk: u64,
}

impl Amounts {
    pub const FULL: Self = Self {
        fast: 4 << 30,
        exact: 1 << 30,
        disk: 5 << 30,
    };
    /// Only to try the measuring itself.
    pub const SMALL: Self = Self {
        fast: 128 * MEBI,
        exact: 64 * MEBI,
        disk: 256 * MEBI,
    };
}

/// From before the fork until the memory is there, for our worker, a C memset and stress-ng.
pub fn memory_speed(amount: u64) -> Result<Figure> {
    eprintln!("taking {} MiB of memory, {TIMES} times each way", amount / MEBI);
    room_for(2 * amount)?;
    let folder = programs::target_folder()?.join("bench");
    let memset = compiled(&folder)?;
    let bytes = amount.to_string();
    let stress = packages::tool("stress-ng")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let count = threads.to_string();
    let ours = median_of(|| worker(amount), amount)?;
    let same = median_of(|| quiet(Command::new(&memset).args([&bytes, &count, "huge"])), amount)?;
    let plain = median_of(|| quiet(Command::new(&memset).args([&bytes, "1"])), amount)?;
    // stress-ng parts the bytes among its instances itself.
    let stress = median_of(
        || quiet(Command::new(&stress).args(["--vm", &count, "--vm-keep", "--vm-bytes", &bytes, "--timeout", "60"])),
        amount,
    )?;
    Ok(Figure::new(
        format!(
            "memory.hog to {} MiB by {threads} threads in huge pages, median of {TIMES}",
            amount / MEBI
        ),
        millis(ours),
        format!(
            "C memset by as many threads in huge pages: {}; by one without: {}; stress-ng --vm {threads} --vm-keep: {}",
            millis(same),
            millis(plain),
            millis(stress)
        ),
        "within 1.15x of the same memset",
    ))
}

fn room_for(bytes: u64) -> Result<()> {
    let listed = fs::read_to_string("/proc/meminfo")?;
    let line = listed.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes: u64 = line.context("a MemAvailable line")?.trim().trim_end_matches(" kB").parse()?;
    ensure!(
        kilobytes * 1_024 > bytes,
        "{} MiB must be available to measure with half of it",
        bytes / MEBI
    );
    Ok(())
}

fn compiled(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let (source, program) = (folder.join("memset.c"), folder.join("memset"));
    fs::write(&source, MEMSET)?;
    let built = Command::new("gcc")
        .args(["-O2", "-pthread", "-o"])
        .arg(&program)
        .arg(&source)
        .status();
    ensure!(built.context("start gcc")?.success(), "gcc could not build {}", source.display());
    Ok(program)
}

/// The very program that an agent starts, with an order as it gets it.
fn worker(amount: u64) -> Result<Child> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = uptime.split(' ').next().context("an uptime")?.parse()?;
    let order = serde_json::json!({
        "injection": "0123456789abcdef",
        "kind": "memory.hog",
        "params": { "amount": format!("{amount}B") },
        "deadline_boot_ms": (seconds * 1e3) as u64 + 60_000,
    });
    let mut command = Command::new(programs::find("fracas-agent")?);
    let mut child = command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let pipe = child.stdin.as_mut().context("a worker listens")?;
    pipe.write_all(format!("{order}\n").as_bytes())?;
    Ok(child)
}

fn quiet(command: &mut Command) -> Result<Child> {
    let silent = command
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(silent.spawn()?)
}

fn median_of(start: impl Fn() -> Result<Child>, amount: u64) -> Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let begin = Instant::now();
        let mut child = start()?;
        let reached = reaches(child.id(), amount, begin);
        // stress-ng ends its children itself when it is asked to.
        Command::new("kill").arg(child.id().to_string()).status()?;
        if wait::until("it ends", Duration::from_secs(10), || Ok(child.try_wait()?.is_some())).is_err() {
            child.kill()?;
            child.wait()?;
        }
        took.push(reached?);
    }
    Ok(median(took))
}

/// When a process and its children have all but one percent of it.
fn reaches(pid: u32, amount: u64, begin: Instant) -> Result<Duration> {
    while begin.elapsed() < SOON {
        if family(pid).iter().map(|pid| resident(*pid)).sum::<u64>() >= amount / 100 * 99 {
            return Ok(begin.elapsed());
        }
        sleep(LOOK);
    }
    bail!("{} MiB were not taken within {SOON:?}", amount / MEBI)
}

/// It and those below it.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in listed.split_whitespace().filter_map(|word| word.parse().ok()) {
        all.extend(family(child));
    }
    all
}

fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

/// The least and the most that is held while it is watched.
pub fn memory_exactness(lab: &Lab, amount: u64) -> Result<Figure> {
    eprintln!("watching {} MiB of memory for {} s each way", amount / MEBI, WATCHED.as_secs());
    room_for(2 * amount)?;
    let host = lab.host("one");
    let asked = format!("amount={amount}B");
    let run = lab.json(&["attack", "memory.hog", &asked, "--on", "one", "--for", "60s", "--detach"])?;
    let id = run["id"].as_str().context("a run has an id")?.to_owned();
    let ours = held(host, "fracas-worker", amount)?;
    lab.fracas(&["stop", &id])?.ok()?;
    finished(lab, &id)?;
    let stress = packages::tool("stress-ng")?;
    let line = ["--vm", "1", "--vm-keep", "--vm-bytes", &amount.to_string(), "--timeout", "60"].map(str::to_owned);
    let sink = fs::File::options().write(true).open("/dev/null")?;
    let peer = host.background(&Cmd::new(stress.to_string_lossy()).args(line).cwd("/run/tmp"), &sink)?;
    let theirs = held(host, "stress-ng", amount)?;
    host.signal(peer.pid(), 15)?;
    peer.wait(SOON)?;
    Ok(Figure::new(
        format!(
            "memory.hog of {} MiB, least and most over {} s (PSS)",
            amount / MEBI,
            WATCHED.as_secs()
        ),
        ours,
        format!("stress-ng --vm-keep: {theirs}"),
        "within 1 %",
    ))
}

/// Of the largest process of this name (stress-ng renames its own), once it has most of it.
fn held(host: &Host, name: &str, amount: u64) -> Result<String> {
    let largest = || -> Result<u64> {
        let mut most = 0;
        for process in host.processes()?.iter().filter(|process| process.name.starts_with(name)) {
            let rollup = host.read(&format!("/proc/{}/smaps_rollup", process.pid)).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kilobytes: u64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
            most = most.max(kilobytes * 1_024);
        }
        Ok(most)
    };
    wait::until(format_args!("{name} has memory"), SOON, || Ok(largest()? >= amount / 100 * 98))?;
    // The last of it is still being taken; what is watched is how it is held.
    sleep(SETTLES);
    let (begin, mut least, mut most) = (Instant::now(), u64::MAX, 0);
    while begin.elapsed() < WATCHED {
        let now = largest()?;
        (least, most) = (least.min(now), most.max(now));
        sleep(WATCH);
    }
    let mebi = |bytes: u64| bytes as f64 / MEBI as f64;
    Ok(format!("{:.1}..{:.1} MiB", mebi(least), mebi(most)))
}

/// From the file's birth until its last change, as the file system dates them; the command from before its fork to its end.
pub fn disk(lab: &Lab, amount: u64) -> Result<Figure> {
    eprintln!("filling {} MiB of a disk of a host's own", amount / MEBI);
    let host = lab.host("one");
    // Space that is only allocated takes none of the disk's image; what the host keeps free is on top.
    host.mount_disk("/srv", amount + amount / 4 + (1 << 30))?;
    let (mut ours, mut theirs, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let asked = format!("amount={amount}B");
        let run = lab.json(&[
            "attack",
            "disk.fill",
            "path=/srv",
            &asked,
            "--on",
            "one",
            "--for",
            "60s",
            "--detach",
        ])?;
        let id = run["id"].as_str().context("a run has an id")?.to_owned();
        ours.push(wait::for_some("the disk is filled", SOON, || Ok(full(host, amount)))?.0);
        lab.fracas(&["stop", &id])?.ok()?;
        finished(lab, &id)?;
        let begin = Instant::now();
        host.exec(Cmd::new("fallocate").args(["-l", &amount.to_string(), "/srv/peer"]))?
            .ok()?;
        whole.push(begin.elapsed());
        theirs.push(full(host, amount).context("fallocate filled the disk")?);
        fs::remove_file(host.path("/srv/peer"))?;
    }
    host.exec(Cmd::new("umount").arg("/srv"))?.ok()?;
    Ok(Figure::new(
        format!("disk.fill of {} MiB on ext4, median of {TIMES}", amount / MEBI),
        millis(median(ours)),
        format!(
            "fallocate, timed the same way: {}; from its fork to its end: {}",
            millis(median(theirs)),
            millis(median(whole))
        ),
        "under 200 ms",
    ))
}

/// How long it took, once our file has all of it.
fn full(host: &Host, amount: u64) -> Option<Duration> {
    let entries = fs::read_dir(host.path("/srv")).ok()?.flatten();
    let file = entries
        .filter_map(|entry| entry.metadata().ok())
        .find(|file| file.blocks() * 512 >= amount)?;
    let born = file.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let changed = Duration::new(u64::try_from(file.ctime()).ok()?, u32::try_from(file.ctime_nsec()).ok()?);
    changed.checked_sub(born)
}
