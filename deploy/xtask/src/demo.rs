//! `cargo xtask demo`: three hosts with real software, an experiment on them, and the proof that they are whole again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tests_harness::lab::CONTROL;
use tests_harness::protocol::Ended;
use tests_harness::{Fleet, Footprint, Lab, LabPlan, Packages, interrupt, programs};

use crate::rungs::spoken;
use crate::wrappers::Wrappers;
use crate::{orders, stage};

const PACKAGES: [&str; 4] = ["iproute2", "nftables", "redis-server", "nginx"];
const LONGEST_RUN: Duration = Duration::from_secs(600);
/// What agents change by living: journals, certificates, and processes of their own.
const OUR_FILES: &str = "files";
const OUR_PROCESSES: &str = "fracas-agent";

/// Make three hosts with real software, break them, and see them proven clean.
#[derive(Debug, Args)]
pub struct Demo {
    /// Stay up afterwards and print what to try
    #[arg(long)]
    keep: bool,
    /// Which of the shipped experiments to run
    #[arg(long, value_enum, default_value_t = Shipped::Experiment)]
    file: Shipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shipped {
    /// Web may answer stale: passes
    Experiment,
    /// Web may not: fails with exit code 6
    WithoutCache,
    /// Run nothing
    None,
}

/// Where logs, reports and scripts of the demo are.
pub fn folder() -> Result<PathBuf> {
    Ok(programs::target_folder()?.join("demo"))
}

impl Demo {
    pub fn run(&self) -> Result<ExitCode> {
        let mut steps = Steps::default();
        if let Some(reason) = Fleet::impossible() {
            anyhow::bail!("the demo makes hosts of namespaces, and cannot here: {reason}");
        }
        steps.say("Debian packages");
        Packages::ensure(&PACKAGES)?;
        steps.say("build (profile dev: quick to build, not quick to run)");
        programs::build_all(programs::Loudness::Progress)?;
        interrupt::check()?;
        steps.say("hosts: control, web, cache and client, on a bridge of their own");
        let lab = plan()?.create()?;
        steps.say("software: redis on cache, nginx and a reader of redis on web");
        stage::start(&lab)?;
        steps.say("controller on control");
        lab.start_controller()?;
        steps.say("agents join with tokens: web, cache, client");
        for host in lab.agents().map(str::to_owned).collect::<Vec<_>>() {
            lab.join(&host)?;
        }
        lab.all_connected()?;
        let wrappers = Wrappers::write(&lab, &folder()?)?;
        let code = match self.file.path() {
            Some(file) => attempt(&mut steps, &lab, file)?,
            None => 0,
        };
        if self.keep {
            invite()?;
            orders::serve(&lab)?;
        }
        drop(wrappers);
        steps.say("taking everything down");
        Ok(ExitCode::from(code))
    }
}

impl Shipped {
    fn path(self) -> Option<&'static str> {
        match self {
            Self::Experiment => Some("deploy/demo/experiment.yaml"),
            Self::WithoutCache => Some("deploy/demo/without-cache.yaml"),
            Self::None => None,
        }
    }
}

fn plan() -> Result<LabPlan> {
    let folder = folder()?;
    let logs = folder.join("logs");
    std::fs::remove_dir_all(&logs).ok();
    std::fs::create_dir_all(&logs)?;
    let plan = LabPlan::new("demo", "demo").writable(folder).logs(logs);
    Ok(["web", "cache", "client"].iter().fold(plan, |plan, name| plan.host(name, name)))
}

/// Runs an experiment, and holds what it says of the hosts against what they were before.
fn attempt(steps: &mut Steps, lab: &Lab, file: &str) -> Result<u8> {
    let hosts: Vec<String> = lab.agents().map(str::to_owned).collect();
    let before = looks(lab, &hosts)?;
    let report = folder()?.join("report.md");
    std::fs::remove_file(&report).ok();
    steps.say(&format!("fracas run {file}"));
    let line = ["run", file, "--report", report.to_str().context("a path that is text")?];
    let run = lab.command(&line)?.cwd(programs::repository().canonicalize()?).limit(LONGEST_RUN);
    let code = match lab.host(CONTROL).attach(&run)? {
        Ended::Code(code) => u8::try_from(code).unwrap_or(1),
        Ended::Signal(_) => 1,
    };
    let shown = lab.json(&["runs", "show", "@last"])?;
    let after = looks(lab, &hosts)?;
    println!("\nverdict   {}", shown["verdict"].as_str().unwrap_or("none"));
    let mut clean = true;
    for ((host, before), after) in hosts.iter().zip(before).zip(after) {
        let left: Vec<String> = before.differences(&after).iter().map(ToString::to_string).collect();
        clean &= left.is_empty();
        println!(
            "residue   {host} {}",
            if left.is_empty() { "none".to_owned() } else { left.join("; ") }
        );
    }
    println!("report    {}", report.display());
    // The harness saw something that the run did not tell: no success.
    Ok(if code == 0 && !clean { 1 } else { code })
}

fn looks(lab: &Lab, hosts: &[String]) -> Result<Vec<Footprint>> {
    let look = |host: &String| {
        let mut seen = lab.host(host).snapshot()?.without(&[OUR_FILES]);
        if let Some(processes) = seen.0.get_mut("processes") {
            processes.retain(|command, _| !command.contains(OUR_PROCESSES));
        }
        Ok(seen)
    };
    hosts.iter().map(look).collect()
}

fn invite() -> Result<()> {
    let folder = folder()?;
    let folder = folder.display();
    println!(
        "
The hosts stay up until Ctrl-C. To try, from another terminal:

  {folder}/fracas hosts
  {folder}/fracas plan deploy/demo/experiment.yaml
  {folder}/fracas run deploy/demo/without-cache.yaml
  {folder}/fracas attack cpu.burn percent=60 --on role=web --pick 1 --for 20s
  {folder}/fracas attack network.partition to=role=cache --on role=web --for 30s
  {folder}/fracas runs show @last
  {folder}/fracas halt        and then: {folder}/fracas release --reason 'seen enough'
  {folder}/on web sh          a shell, or any command, on any host
  cargo xtask demo-agent client down     (or up; kill9: with its guardian, started again; dead: and not started again)

Logs: {folder}/logs"
    );
    Ok(())
}

/// Numbered steps with the time each took.
#[derive(Default)]
struct Steps {
    number: u32,
    since: Option<Instant>,
}

impl Steps {
    fn say(&mut self, what: &str) {
        if let Some(since) = self.since.replace(Instant::now()) {
            eprintln!("   {}", spoken(since.elapsed()));
        }
        self.number += 1;
        eprintln!("{}. {what}", self.number);
    }
}
