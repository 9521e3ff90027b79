//! Figures of one fleet: joining, memory, plans, a run over every host, halts beside a bare fan-out, and the way back after a crash.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tests_harness::limits::monotonic_ns;
use tests_harness::wait;

use super::figures::{Figure, percentile};
use super::site::{Site, Tool};

/// The longest anything may take until the bench gives up on it.
const PATIENCE: Duration = Duration::from_secs(600);
const SETTLE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// First dials are spread by so many milliseconds for each host, as a fleet's are that was started over some time.
const SPREAD_MS: u64 = 3;
const PICK: u32 = 100;
const PLANS: usize = 5;
const KIB_AT_REST: f64 = 40.0;
const KIB_IN_A_RUN: f64 = 80.0;
const PROVEN_WITHIN: Duration = Duration::from_secs(5);
const PLAN_WITHIN: Duration = Duration::from_millis(300);
const ENROLLED_WITHIN: Duration = Duration::from_secs(120);
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// The goal for a fleet of this size.
fn halt_within(hosts: u32) -> Duration {
    Duration::from_millis(if hosts > 1_000 { 1_000 } else { 200 })
}

pub fn measure(hosts: u32, halts: u32, figures: &mut Vec<Figure>) -> Result<()> {
    eprintln!("{hosts} hosts: starting a controller, enrolling");
    let mut site = Site::new()?;
    site.start()?;
    let token = site.token(hosts)?;
    let empty = site.pss_kib()?;
    let (mut fleet, enrolled) = Tool::fleet(site.agents(), &token, hosts, u64::from(hosts) * SPREAD_MS)?;
    figures.push(Figure::within(format!("{hosts} hosts enrolled"), enrolled, ENROLLED_WITHIN));
    let all = u64::from(hosts);
    fleet.until("every host is connected", PATIENCE, |counts| counts["connected"] == all)?;
    std::thread::sleep(SETTLE);
    let each = |pss: f64| (pss - empty).max(0.0) / f64::from(hosts);
    figures.push(Figure::at_most(
        format!("memory for each of {hosts} hosts at rest"),
        each(site.pss_kib()?),
        "KiB",
        KIB_AT_REST,
    ));
    plans(&site, hosts, figures)?;
    let (peak, ended) = run_over_all(&site, &mut fleet)?;
    figures.push(Figure::at_most(
        format!("memory for each of {hosts} hosts in a run over all"),
        each(peak),
        "KiB",
        KIB_IN_A_RUN,
    ));
    figures.push(match ended {
        Ok(took) => Figure::within(format!("from the last undo to proven, {hosts} hosts"), took, PROVEN_WITHIN),
        Err(how) => Figure::expected(format!("a run over {hosts} hosts ends proven"), how, "proven", false),
    });
    halt_often(&site, &mut fleet, hosts, halts, figures)?;
    figures.push(back(&mut site, &mut fleet, hosts)?);
    Ok(())
}

fn attack<'a>(duration: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec!["attack", "cpu.burn", "percent=20", "--on", "env=staging", "--for", duration];
    line.extend(more);
    line
}

fn plans(site: &Site, hosts: u32, figures: &mut Vec<Figure>) -> Result<()> {
    eprintln!("{hosts} hosts: plans");
    let pick = PICK.min(hosts).to_string();
    let mut took = Vec::new();
    for _ in 0..PLANS {
        let began = Instant::now();
        let run = site.json(&attack("1h", &["--pick", &pick, "--detach"]))?;
        took.push(began.elapsed());
        let id = run["id"].as_str().with_context(|| format!("a run has an id: {run}"))?;
        site.fracas(&["stop", id])?;
        finished(site, id)?;
    }
    figures.push(Figure::within(
        format!("attack on {pick} of {hosts} hosts accepted, median of {PLANS}"),
        percentile(took, 50),
        PLAN_WITHIN,
    ));
    let began = Instant::now();
    let planned = site.fracas(&attack("10s", &["--dry-run"]))?;
    if !planned.status.success() {
        let why = String::from_utf8_lossy(&planned.stderr).into_owned();
        figures.push(Figure::expected(
            format!("--dry-run over {hosts} hosts"),
            why.trim(),
            "planned",
            false,
        ));
        return Ok(());
    }
    figures.push(Figure::stated(
        format!("--dry-run over {hosts} hosts"),
        format!("{} ms", began.elapsed().as_millis()),
    ));
    Ok(())
}

fn finished(site: &Site, run: &str) -> Result<()> {
    wait::until("the run is finished", PATIENCE, || {
        Ok(site.json(&["runs", "show", run])?["state"] == "finished")
    })
    .map(drop)
}

/// The largest memory while it went, and how long after the last undo it was proven, or how it ended instead.
fn run_over_all(site: &Site, fleet: &mut Tool) -> Result<(f64, Result<Duration, String>)> {
    eprintln!("a run over all of them");
    let (out, err) = (site.folder().join("attack.json"), site.folder().join("attack.err"));
    let mut attack = site
        .command(&attack("10s", &["-o", "json"]))?
        .stdout(Stdio::from(std::fs::File::create(&out)?))
        .stderr(Stdio::from(std::fs::File::create(&err)?))
        .spawn()
        .context("start fracas attack")?;
    let (began, mut peak) = (Instant::now(), 0.0_f64);
    while attack.try_wait()?.is_none() {
        peak = peak.max(site.pss_kib()?);
        if began.elapsed() > PATIENCE {
            attack.kill()?;
            bail!("a run over all has not ended within {PATIENCE:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let ended_ns = monotonic_ns();
    let run: Value = serde_json::from_str(&std::fs::read_to_string(out)?)
        .with_context(|| format!("read what the attack printed: {}", std::fs::read_to_string(err).unwrap_or_default()))?;
    if run["cleanup"] != "proven" || run["ended_by"] != "completed" {
        return Ok((peak, Err(format!("ended by {}, cleanup {}", run["ended_by"], run["cleanup"]))));
    }
    // A look at it is at most so much late.
    let took = Duration::from_nanos(ended_ns.saturating_sub(fleet.count("undone_ns")?));
    Ok((peak, Ok(took)))
}

fn halt_often(site: &Site, fleet: &mut Tool, hosts: u32, halts: u32, figures: &mut Vec<Figure>) -> Result<()> {
    eprintln!("{halts} halts of {hosts} hosts");
    let mut ours = Vec::new();
    for _ in 0..halts {
        let began = monotonic_ns();
        let halted = site.json(&["halt", "--reason", "a drill"])?;
        ours.push(arrived(fleet, &halted["epoch"], hosts, began)?);
        let released = site.json(&["release", "--reason", "the drill is over"])?;
        arrived(fleet, &released["epoch"], hosts, began)?;
    }
    let echo = echo_often(hosts, halts)?;
    for percent in [50, 99] {
        let (own, peer) = (percentile(ours.clone(), percent), percentile(echo.clone(), percent));
        let what = format!("halt to the last of {hosts} hosts, p{percent} of {halts}");
        figures.push(Figure::within(what, own, halt_within(hosts)).beside(format!("echo: {} ms", peer.as_millis())));
    }
    let ratio = percentile(ours, 50).as_secs_f64() / percentile(echo, 50).as_secs_f64().max(f64::EPSILON);
    figures.push(Figure::at_most(
        format!("halt of {hosts} hosts beside the echo, medians"),
        ratio,
        "times",
        2.0,
    ));
    Ok(())
}

/// How long after `began` the last host read this epoch's order.
fn arrived(fleet: &mut Tool, epoch: &Value, hosts: u32, began: u64) -> Result<Duration> {
    let line = format!("halt {}", epoch.as_u64().context("a halt has an epoch")?);
    let all = |times: &Value| times["hosts"].as_u64() == Some(u64::from(hosts));
    let (times, _) = wait::for_some("every host has read the halt", PATIENCE, || Ok(Some(fleet.ask(&line)?).filter(all)))?;
    Ok(Duration::from_nanos(
        times["last_ns"].as_u64().unwrap_or_default().saturating_sub(began),
    ))
}

fn echo_often(hosts: u32, rounds: u32) -> Result<Vec<Duration>> {
    eprintln!("{rounds} rounds of a bare fan-out to {hosts} streams");
    let site = Site::new()?;
    let folder = site.folder().join("authority");
    let mut echo = Tool::start([std::ffi::OsStr::new("echo"), folder.as_os_str()])?;
    let at = echo.line()?;
    let (address, token) = (at["address"].as_str().unwrap_or_default(), at["token"].as_str().unwrap_or_default());
    let (mut fleet, _) = Tool::fleet(address, &site.keep_token(token)?, hosts, u64::from(hosts) * SPREAD_MS)?;
    fleet.until("every stream is up", PATIENCE, |counts| counts["connected"] == u64::from(hosts))?;
    let mut took = Vec::new();
    for round in 1..=u64::from(rounds) {
        let sent = echo.ask(&format!("fan-out {round}"))?;
        let began = sent["began_ns"].as_u64().context("a fan-out has begun")?;
        took.push(arrived(&mut fleet, &round.into(), hosts, began)?);
    }
    Ok(took)
}

fn back(site: &mut Site, fleet: &mut Tool, hosts: u32) -> Result<Figure> {
    eprintln!("{hosts} hosts: the controller is killed and started again");
    let sessions = fleet.count("sessions")?;
    site.crash()?;
    let began = monotonic_ns();
    site.spawn()?;
    let all = u64::from(hosts);
    fleet.until("every host is back", PATIENCE, |counts| {
        counts["connected"] == all && counts["sessions"].as_u64() >= Some(sessions + all)
    })?;
    let took = Duration::from_nanos(fleet.count("session_ns")?.saturating_sub(began));
    Ok(Figure::within(
        format!("all of {hosts} hosts back after kill -9"),
        took,
        BACK_WITHIN,
    ))
}
