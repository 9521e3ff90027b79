//! The measurements behind the benchmarks, each by other means than our own reports.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests_harness::{Cmd, Host, Lab, packages, programs, wait};

use crate::bench::Figure;

const STARTS: usize = 21;
const STOPS: usize = 10;
const REST: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(6);
const PERCENTS: [u32; 4] = [20, 50, 80, 100];
const SOON: Duration = Duration::from_secs(20);

/// Which machine, and how busy.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let load = load.split(' ').next().unwrap_or("unknown");
    format!("{} cores, Linux {}, load {load} when it began", cores(), kernel.trim())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn sizes() -> Result<Vec<Figure>> {
    let goals = [("fracas-agent", "under 12 MiB"), ("fracas-controller", ""), ("fracas", "")];
    let size = |(name, goal): (&str, &'static str)| {
        let bytes = std::fs::metadata(programs::find(name)?)?.len();
        Ok(Figure::new(format!("size of {name}"), format!("{:.1} MiB", mebi(bytes)), "", goal))
    };
    goals.into_iter().map(size).collect()
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

pub fn cli_start() -> Result<Figure> {
    let start = |program: &std::path::Path| -> Result<Duration> {
        let mut took = Vec::new();
        for _ in 0..STARTS {
            let begin = Instant::now();
            Command::new(program).arg("--version").stdout(Stdio::null()).status()?;
            took.push(begin.elapsed());
        }
        Ok(median(took))
    };
    let (ours, peer) = (start(&programs::find("fracas")?)?, start(std::path::Path::new("/bin/cat"))?);
    Ok(Figure::new(
        "start of the CLI, median of 21",
        millis(ours),
        format!("cat: {}", millis(peer)),
        "under 20 ms",
    ))
}

pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Proportional memory and processor share of an agent and its guardian while nothing happens.
pub fn at_rest(lab: &Lab) -> Result<Figure> {
    eprintln!("measuring an agent at rest for {} s", REST.as_secs());
    let host = lab.host("one");
    let (begin, used) = (Instant::now(), host.cpu_time()?);
    sleep(REST);
    let share = (host.cpu_time()? - used).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    let mut pss = 0;
    for process in host.processes_named("fracas-agent")? {
        let rollup = host.read(&format!("/proc/{}/smaps_rollup", process.pid))?;
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .context("smaps_rollup has a Pss line")?;
        pss += line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
    }
    let ours = format!("{:.1} MiB, {share:.3} % of a core", mebi(pss));
    Ok(Figure::new("agent and guardian at rest (PSS)", ours, "", "under 10 MiB and 0.1 %"))
}

/// cpu.burn beside stress-ng, both read from the accounting of the host's own group.
pub fn burn(lab: &Lab) -> Result<Vec<Figure>> {
    let host = lab.host("one");
    let stress = packages::tool("stress-ng")?;
    let mut figures = Vec::new();
    for percent in PERCENTS {
        eprintln!("measuring {percent} % of all cores");
        let asked = format!("percent={percent}");
        let run = lab.json(&["attack", "cpu.burn", &asked, "--on", "one", "--for", "30s", "--detach"])?;
        let id = run["id"].as_str().context("a run has an id")?.to_owned();
        let ours = load(host)?;
        lab.fracas(&["stop", &id])?.ok()?;
        finished(lab, &id)?;
        let line = ["--cpu", &cores().to_string(), "--cpu-load", &percent.to_string(), "--timeout", "30"].map(str::to_owned);
        let sink = std::fs::File::options().write(true).open("/dev/null")?;
        let peer = host.background(&Cmd::new(stress.to_string_lossy()).args(line).cwd("/run/tmp"), &sink)?;
        let theirs = load(host)?;
        host.signal(peer.pid(), 15)?;
        peer.wait(SOON)?;
        figures.push(Figure::new(
            format!("cpu.burn at {percent} %"),
            format!("{ours:.1} %"),
            format!("stress-ng: {theirs:.1} %"),
            "within 2 points",
        ));
    }
    Ok(figures)
}

/// The share of all cores that a host uses over a window, once what just started has settled.
fn load(host: &Host) -> Result<f64> {
    sleep(SETTLE);
    let (begin, used) = (Instant::now(), host.cpu_time()?);
    sleep(WINDOW);
    Ok((host.cpu_time()? - used).as_secs_f64() / begin.elapsed().as_secs_f64() / cores() as f64 * 100.0)
}

/// From the order to stop until the last of three hosts has undone.
pub fn stop(lab: &Lab) -> Result<Figure> {
    eprintln!("stopping three hosts, {STOPS} times");
    let mut took = Vec::new();
    for _ in 0..STOPS {
        let run = lab.json(&["attack", "cpu.burn", "percent=10", "--on", "role=bench", "--for", "60s", "--detach"])?;
        let id = run["id"].as_str().context("a run has an id")?.to_owned();
        wait::until(
            "three hosts are under fault",
            SOON,
            || Ok(injections_are(lab, &id, "holding")? == 3),
        )?;
        let begin = Instant::now();
        lab.fracas(&["stop", &id])?.ok()?;
        wait::until("three hosts have undone", SOON, || Ok(injections_are(lab, &id, "undone")? == 3))?;
        took.push(begin.elapsed());
        finished(lab, &id)?;
    }
    Ok(Figure::new(
        "stop of three hosts, median of ten",
        millis(median(took)),
        "",
        "under 1 s",
    ))
}

fn injections_are(lab: &Lab, run: &str, state: &str) -> Result<usize> {
    let shown = lab.json(&["runs", "show", run])?;
    let Some(injections) = shown["injections"].as_array() else {
        bail!("run {run} has no injections")
    };
    Ok(injections.iter().filter(|injection| injection["state"] == state).count())
}

pub fn finished(lab: &Lab, run: &str) -> Result<()> {
    wait::until("the run is finished", SOON, || {
        Ok(lab.json(&["runs", "show", run])?["state"] == "finished")
    })
    .map(drop)
}
