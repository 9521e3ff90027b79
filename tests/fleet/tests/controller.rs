//! The simulated fleet held to a real controller over loopback: joining, an attack on all, a halt, a crash of the controller, misbehaviour.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tests_fleet::{Behaviour, Enrolment, Fleet, Member, enrol};
use tests_harness::report;
use tests_it::{Controller, impossible};

const SOON: Duration = Duration::from_secs(20);

struct Installation {
    controller: Option<Controller>,
    members: Vec<Arc<Member>>,
    folder: tempfile::TempDir,
}

impl Installation {
    /// A controller and so many enrolled hosts; `None` where the controller's socket cannot be called.
    async fn of(hosts: u32) -> Result<Option<Self>> {
        if let Some(why) = impossible() {
            report::skip(&why);
            return Ok(None);
        }
        proto_transport::install_provider();
        let folder = tempfile::tempdir()?;
        let controller = Controller::start(folder.path())?;
        let made = controller.fracas(&[
            "tokens",
            "create",
            "--label",
            "env=staging",
            "--uses",
            &hosts.to_string(),
            "--ttl",
            "1h",
        ])?;
        let token = made
            .out
            .split(|letter: char| letter.is_whitespace() || letter == '\'')
            .find(|word| word.starts_with("fjt1."))
            .context("a token is printed")?;
        let enrolment = Enrolment {
            controller: agents(&controller)?,
            token: token.to_owned(),
            prefix: "sim".to_owned(),
            first: 0,
            hosts,
            at_once: 16,
        };
        let members = enrol(&enrolment).await?.into_iter().map(Arc::new).collect();
        Ok(Some(Self {
            controller: Some(controller),
            members,
            folder,
        }))
    }

    fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("a controller runs")
    }

    fn start(&self, behaviour: impl Fn(u32) -> Behaviour) -> Result<Fleet> {
        Ok(Fleet::start(
            agents(self.controller())?,
            &self.members,
            Duration::from_millis(200),
            behaviour,
        ))
    }

    /// SIGKILL; the fleet is led to the next one, which listens elsewhere.
    fn crash(&mut self, fleet: &Fleet) -> Result<()> {
        self.controller.take().context("a controller runs")?.kill()?;
        let next = Controller::start(self.folder.path())?;
        fleet.move_to(agents(&next)?);
        self.controller = Some(next);
        Ok(())
    }

    async fn fracas(&self, args: &[&str]) -> Result<Value> {
        let (folder, args) = (
            self.folder.path().to_owned(),
            args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>(),
        );
        // The hosts must go on while the command waits.
        tokio::task::spawn_blocking(move || json(&folder, &args)).await?
    }

    async fn finished(&self, run: &str) -> Result<Value> {
        for _ in 0..400 {
            let shown = self.fracas(&["runs", "show", run]).await?;
            if shown["state"] == "finished" {
                return Ok(shown);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("run {run} is not finished within 40 s")
    }
}

fn json(folder: &Path, args: &[String]) -> Result<Value> {
    let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
    all.extend(["-o", "json"]);
    let said = tests_it::fracas(folder, &all)?;
    serde_json::from_str(&said.out).with_context(|| format!("{args:?} printed {said:?}"))
}

fn agents(controller: &Controller) -> Result<SocketAddr> {
    Ok(controller.address("agents")?.parse()?)
}

fn attack<'a>(on: &'a str, duration: &'a str) -> Vec<&'a str> {
    vec!["attack", "cpu.burn", "percent=20", "--on", on, "--for", duration]
}

/// Verdict, end, cleanup.
fn outcome(run: &Value) -> [&str; 3] {
    ["verdict", "ended_by", "cleanup"].map(|key| run[key].as_str().unwrap_or("none"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attack_on_every_host_ends_clean_and_a_halt_reaches_them_all() -> Result<()> {
    const HOSTS: u32 = 50;
    let Some(site) = Installation::of(HOSTS).await? else {
        return Ok(());
    };
    let fleet = site.start(|_| Behaviour::Obedient)?;
    let all = u64::from(HOSTS);
    fleet
        .until("every host is connected", SOON, |counts| counts.connected == all)
        .await?;
    let run = site.fracas(&attack("env=staging", "4s")).await?;
    // Nothing was asked of the system under test, so it is no pass.
    assert_eq!(outcome(&run), ["inconclusive", "completed", "proven"], "{run}");
    fleet
        .until("every end is settled", SOON, |counts| counts.undone == all && counts.unsettled == 0)
        .await?;

    let mut detached = attack("env=staging", "60s");
    detached.push("--detach");
    let run = site.fracas(&detached).await?;
    fleet
        .until("every host is under fault", SOON, |counts| counts.acting == all)
        .await?;
    let halted = site.fracas(&["halt", "--reason", "a drill"]).await?;
    let epoch = halted["epoch"].as_u64().context("a halt has an epoch")?;
    fleet.until("nothing acts", SOON, |counts| counts.acting == 0).await?;
    let times = fleet.halt(epoch).context("the halt arrived")?;
    assert_eq!(times.hosts, all);
    let id = run["id"].as_str().context("a run has an id")?;
    let shown = site.finished(id).await?;
    assert_eq!(outcome(&shown), ["aborted", "halt", "proven"], "{shown}");
    let counts = fleet.counts();
    assert_eq!((counts.violations, counts.unsettled, counts.connected), (0, 0, all), "{counts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_every_host_returns_and_the_run_is_ended_and_proven() -> Result<()> {
    const HOSTS: u32 = 20;
    let Some(mut site) = Installation::of(HOSTS).await? else {
        return Ok(());
    };
    let fleet = site.start(|_| Behaviour::Obedient)?;
    let all = u64::from(HOSTS);
    fleet
        .until("every host is connected", SOON, |counts| counts.connected == all)
        .await?;
    let mut detached = attack("env=staging", "60s");
    detached.push("--detach");
    let run = site.fracas(&detached).await?;
    let id = run["id"].as_str().context("a run has an id")?.to_owned();
    fleet
        .until("every host is under fault", SOON, |counts| counts.acting == all)
        .await?;
    site.crash(&fleet)?;
    fleet
        .until("every host is back", SOON, |counts| {
            counts.connected == all && counts.sessions >= 2 * all
        })
        .await?;
    let shown = site.finished(&id).await?;
    assert_eq!(outcome(&shown), ["aborted", "controller_restart", "proven"], "{shown}");
    fleet
        .until("every end is settled", SOON, |counts| counts.acting == 0 && counts.unsettled == 0)
        .await?;
    assert_eq!(fleet.counts().violations, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_misbehave_are_named_and_the_others_are_proven() -> Result<()> {
    const HOSTS: u32 = 5;
    let Some(site) = Installation::of(HOSTS).await? else {
        return Ok(());
    };
    let fleet = site.start(|number| match number {
        0 => Behaviour::Silent,
        1 => Behaviour::NeverReturns,
        2 => Behaviour::Slow(Duration::from_millis(300)),
        3 => Behaviour::WrongClock,
        _ => Behaviour::Obedient,
    })?;
    fleet
        .until("every host is connected", SOON, |counts| counts.connected == u64::from(HOSTS))
        .await?;
    let folder = site.folder.path().to_owned();
    let refused = tokio::task::spawn_blocking(move || tests_it::fracas(&folder, &attack("sim-0", "3s"))).await??;
    let named = refused.err.contains("host sim-0 did not answer preflight");
    assert!(named, "a host that does not answer is not attacked: {refused:?}");
    assert_eq!(fleet.counts().applied, 0);
    for (host, outcomes) in [
        ("sim-2", ["inconclusive", "completed", "proven"]),
        ("sim-3", ["inconclusive", "completed", "proven"]),
        ("sim-1", ["error", "host_lost", "unproven"]),
    ] {
        let run = site.fracas(&attack(host, "4s")).await?;
        assert_eq!(outcome(&run), outcomes, "{host}: {run}");
    }
    let counts = fleet.counts();
    assert!(counts.renewals > 0 && counts.violations == 0, "{counts:?}");
    Ok(())
}
