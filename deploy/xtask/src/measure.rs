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
const PERCENTS: [u32; 6] = [10, 25, 50, 75, 90, 100];
const SOON: Duration = Duration::from_secs(20);

/// Which machine, and how busy.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let (processor, load) = (processor(&read("/proc/cpuinfo")), load.split(' ').next().unwrap_or("unknown"));
    format!(
        "{} cores of {processor}, Linux {}, load {load} when it began",
        cores(),
        kernel.trim()
    )
}

/// The model in /proc/cpuinfo, and whether it is a hypervisor's: the same model is slower there.
fn processor(cpuinfo: &str) -> String {
    let value = |name: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    };
    let model = value("model name").unwrap_or("an unknown model");
    let flags = value("flags").unwrap_or_default();
    if flags.split(' ').any(|flag| flag == "hypervisor") {
        format!("{model} in a virtual machine")
    } else {
        model.to_owned()
    }
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

/// Proportional memory and processor share of an agent, its session and its guardian while nothing happens.
pub fn at_rest(lab: &Lab) -> Result<Figure> {
    eprintln!("measuring an agent at rest for {} s", REST.as_secs());
    let host = lab.host("one");
    let (begin, used, sent) = (Instant::now(), host.cpu_time()?, bytes_on_the_wire(host)?);
    sleep(REST);
    let share = (host.cpu_time()? - used).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    let wire = (bytes_on_the_wire(host)? - sent) as f64 / begin.elapsed().as_secs_f64();
    let mut pss = 0;
    let ours = host.processes()?.into_iter().filter(|process| process.name.starts_with("fracas-"));
    for process in ours {
        let rollup = host.read(&format!("/proc/{}/smaps_rollup", process.pid))?;
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .context("smaps_rollup has a Pss line")?;
        pss += line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
    }
    let ours = format!("{:.1} MiB, {share:.3} % of a core, {wire:.0} B/s", mebi(pss));
    let peer = "Harness's agent, as published: 15 MB, 0.05 %, 150 B/s";
    let goal = "under 10 MiB, 0.05 %, 100 B/s, and below the peer";
    Ok(Figure::new("agent, session and guardian at rest (PSS)", ours, peer, goal))
}

/// What the host's interface has received and sent so far, headers included.
fn bytes_on_the_wire(host: &Host) -> Result<u64> {
    let path = format!("/proc/{}/net/dev", host.init_pid());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"))
        .context("a line of eth0")?;
    // Bytes come first of the eight columns of what was received, then of what was sent.
    let columns: Vec<u64> = line.split_whitespace().filter_map(|column| column.parse().ok()).collect();
    columns
        .first()
        .zip(columns.get(8))
        .map(|(received, sent)| received + sent)
        .context("columns of bytes")
}

/// cpu.burn beside stress-ng, on every core and on one, both read from the accounting of the host's own group.
pub fn burn(lab: &Lab) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for busy in [cores(), 1] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for percent in PERCENTS {
            eprintln!("measuring {percent} % of {busy} cores");
            let (own, peer) = burn_once(lab, busy, percent)?;
            ours.push((own - f64::from(percent)).abs());
            theirs.push((peer - f64::from(percent)).abs());
            figures.push(Figure::new(
                format!("cpu.burn at {percent} % of {busy} cores"),
                format!("{own:.1} %"),
                format!("stress-ng: {peer:.1} %"),
                "within 1 point",
            ));
        }
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
        figures.push(Figure::new(
            format!("cpu.burn, mean error over 10 to 100 % of {busy} cores"),
            format!("{:.2} points", mean(&ours)),
            format!("stress-ng: {:.2} points", mean(&theirs)),
            "under 1 point, and never above the peer",
        ));
    }
    Ok(figures)
}

/// What is used of these cores in percent, by us and by the peer.
fn burn_once(lab: &Lab, busy: usize, percent: u32) -> Result<(f64, f64)> {
    let host = lab.host("one");
    let stress = packages::tool("stress-ng")?;
    let (asked, on) = (format!("percent={percent}"), format!("cores={busy}"));
    let run = lab.json(&["attack", "cpu.burn", &asked, &on, "--on", "one", "--for", "30s", "--detach"])?;
    let id = run["id"].as_str().context("a run has an id")?.to_owned();
    let ours = load(host, busy)?;
    lab.fracas(&["stop", &id])?.ok()?;
    finished(lab, &id)?;
    let line = ["--cpu", &busy.to_string(), "--cpu-load", &percent.to_string(), "--timeout", "30"].map(str::to_owned);
    let sink = std::fs::File::options().write(true).open("/dev/null")?;
    let peer = host.background(&Cmd::new(stress.to_string_lossy()).args(line).cwd("/run/tmp"), &sink)?;
    let theirs = load(host, busy)?;
    host.signal(peer.pid(), 15)?;
    peer.wait(SOON)?;
    Ok((ours, theirs))
}

/// The share of so many cores that a host uses over a window, once what just started has settled.
fn load(host: &Host, busy: usize) -> Result<f64> {
    sleep(SETTLE);
    let (begin, used) = (Instant::now(), host.cpu_time()?);
    sleep(WINDOW);
    Ok((host.cpu_time()? - used).as_secs_f64() / begin.elapsed().as_secs_f64() / busy as f64 * 100.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_its_model_and_whether_it_is_virtual() {
        let cpuinfo = |flags: &str| format!("processor\t: 0\nmodel name\t: Example 9000 @ 2.5GHz\nflags\t\t: {flags}\nprocessor\t: 1\n");
        assert_eq!(processor(&cpuinfo("fpu sse2")), "Example 9000 @ 2.5GHz");
        assert_eq!(
            processor(&cpuinfo("fpu hypervisor sse2")),
            "Example 9000 @ 2.5GHz in a virtual machine"
        );
        assert_eq!(processor(""), "an unknown model");
    }
}
