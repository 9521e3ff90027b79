//! `cargo xtask demo`: hosts with real software, experiments on them, the proof that they are whole again, and the site that tells of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use tests_harness::{Fleet, Lab, LabPlan, Packages, interrupt, programs};

use crate::rungs::spoken;
use crate::showing::Showing;
use crate::wrappers::Wrappers;
use crate::{orders, showing, stage};

const PACKAGES: [&str; 4] = ["iproute2", "nftables", "redis-server", "nginx"];
const SETTINGS: &str = include_str!("../../demo/controller.toml");

/// Make hosts with real software, break them, see them proven clean, and publish it.
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
        steps.say("hosts: control, web, cache and client, and live in production, on a bridge of their own");
        let lab = plan()?.create()?;
        steps.say("software: redis on cache, nginx and a reader of redis on web, all of it on live, and customers who ask web");
        stage::start(&lab)?;
        steps.say("controller on control");
        lab.start_controller()?;
        steps.say("agents join with tokens: web, cache, client, live");
        for host in lab.agents().map(str::to_owned).collect::<Vec<_>>() {
            lab.join(&host)?;
        }
        lab.all_connected()?;
        let wrappers = Wrappers::write(&lab, &folder()?)?;
        let code = self.runs(&mut steps, &lab)?;
        if self.keep {
            invite()?;
            orders::serve(&lab)?;
        }
        drop(wrappers);
        steps.say("taking everything down");
        Ok(ExitCode::from(code))
    }

    /// Runs what was asked for and publishes it; the first answer that is not success is the demonstration's.
    fn runs(&self, steps: &mut Steps, lab: &Lab) -> Result<u8> {
        let shown = self.file.runs();
        if shown.is_empty() {
            return Ok(0);
        }
        steps.say("fracas services apply deploy/demo/service.yaml");
        showing::declare(lab)?;
        let mut code = 0;
        for showing in shown {
            steps.say(&showing.line());
            let ended = showing.run(lab, &folder()?)?;
            if code == 0 {
                code = ended;
            }
        }
        steps.say("fracas publish target/demo/site");
        showing::publish(lab, &folder()?)?;
        Ok(code)
    }
}

impl Shipped {
    /// Each is run by `fracas run` with these words.
    fn runs(self) -> &'static [Showing] {
        const WITHOUT_CACHE: &[Showing] = &[Showing::new("deploy/demo/without-cache.yaml", &[])];
        const BOTH: &[Showing] = &[
            Showing::new("deploy/demo/experiment.yaml", &[]),
            Showing::new("deploy/demo/production.yaml", &["--confirm", "production"]),
        ];
        match self {
            Self::Experiment => BOTH,
            Self::WithoutCache => WITHOUT_CACHE,
            Self::None => &[],
        }
    }
}

fn plan() -> Result<LabPlan> {
    let folder = folder()?;
    let logs = folder.join("logs");
    std::fs::remove_dir_all(&logs).ok();
    std::fs::create_dir_all(&logs)?;
    let plan = LabPlan::new("demo", "demo").writable(folder).logs(logs).settings(SETTINGS);
    let plan = ["web", "cache", "client"].iter().fold(plan, |plan, name| plan.host(name, name));
    Ok(plan.host_with("live", &[("role", "live"), ("env", "production")]))
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
