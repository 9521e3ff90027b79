//! Figures with many finished runs in the store: the controller's start, lists, levels, the first page and publishing.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::figures::Figure;
use super::site::{Site, Tool};

const HOSTS: u32 = 3;
const READY_WITHIN: Duration = Duration::from_secs(2);
const LISTED_WITHIN: Duration = Duration::from_millis(300);
const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);

/// Services, and the tests that each requires, over which the copies are spread.
const SERVICES: u32 = 20;
const TESTS: u32 = 5;

/// A service whose tests are pinned to this experiment.
fn service(name: &str, tests: &[String], digest: &str) -> String {
    let tests: Vec<String> = tests.iter().map(|test| format!("{{ name: {test}, digest: '{digest}' }}")).collect();
    format!(
        "apiVersion: fracas/v1
kind: Service
name: {name}
owners: [team-web]
environments: {{ staging: {{}} }}
dependencies:
  critical:
    - {{ name: cache, criticality_period: 5m, rto: 1m, rpo: 0s, probes: [answers], tests: [{}] }}
playbooks:
  - {{ name: restore-cache, dependency: cache, steps: [start it] }}
",
        tests.join(", ")
    )
}

/// An experiment that probes this address.
fn experiment(probed: &str) -> String {
    format!(
        "apiVersion: fracas/v1
kind: Experiment
name: busy-cache
service: web
environment: staging
hypothesis:
  says: web answers
  before: 5s
  after: 5s
  probes:
    - {{ name: answers, tcp: {{ address: \"{probed}\" }}, every: 1s }}
steps:
  - {{ fault: cpu.burn, params: {{ percent: 20 }}, on: {{ labels: env=staging }}, duration: 10s }}
"
    )
}

pub fn measure(runs: u32, in_rows: bool, figures: &mut Vec<Figure>) -> Result<()> {
    eprintln!("one run over {HOSTS} hosts, to be copied {runs} times");
    let mut site = Site::new()?;
    site.start()?;
    let (mut fleet, _) = Tool::fleet(site.agents(), &site.token(HOSTS)?, HOSTS, 0)?;
    fleet.until("every host is connected", CONNECTED_WITHIN, |counts| {
        counts["connected"] == u64::from(HOSTS)
    })?;
    // Nobody has to accept for a connection to count as answered.
    let probed = TcpListener::bind("127.0.0.1:0")?;
    let file = site.folder().join("busy-cache.yaml");
    std::fs::write(&file, experiment(&probed.local_addr()?.to_string()))?;
    let run = site.json(&["run", text(&file)?])?;
    if run["verdict"] != "passed" {
        bail!("the run to copy did not pass: {run}");
    }
    drop(fleet);
    apply_services(
        &site,
        run["plan"]["experiment"].as_str().context("the run has its experiment's digest")?,
    )?;
    site.crash()?;
    let store = site.state().join("store.db");
    let began = Instant::now();
    let (services, tests) = (SERVICES.to_string(), TESTS.to_string());
    let many = ["--runs", &runs.to_string(), "--services", &services, "--tests", &tests];
    let rows = in_rows.then_some("--in-rows");
    Tool::start(["multiply", "--store", text(&store)?].into_iter().chain(many).chain(rows))?.line()?;
    let size = std::fs::metadata(&store)?.len() >> 20;
    eprintln!("{runs} runs made in {:?}, {size} MiB", began.elapsed());
    figures.push(Figure::within(
        format!("ready with {runs} finished runs ({size} MiB)"),
        site.start()?,
        READY_WITHIN,
    ));
    for line in [["runs"].as_slice(), &["levels"]] {
        let began = Instant::now();
        ok(&site, line)?;
        figures.push(Figure::within(
            format!("fracas {} of {runs}", line.join(" ")),
            began.elapsed(),
            LISTED_WITHIN,
        ));
    }
    figures.push(Figure::within(
        format!("the first page, {runs} runs"),
        first_page(&site)?,
        LISTED_WITHIN,
    ));
    let began = Instant::now();
    ok(&site, &["publish", text(&site.folder().join("published"))?])?;
    figures.push(Figure::within(format!("publish of {runs} runs"), began.elapsed(), PUBLISHED_WITHIN));
    Ok(())
}

/// Each of the services that the copies are of.
fn apply_services(site: &Site, digest: &str) -> Result<()> {
    let tests: Vec<String> = (0..TESTS).map(|test| format!("busy-cache-{test}")).collect();
    for number in 0..SERVICES {
        let (name, file) = (format!("web-{number}"), site.folder().join(format!("web-{number}.yaml")));
        std::fs::write(&file, service(&name, &tests, digest))?;
        ok(site, &["services", "apply", text(&file)?])?;
    }
    Ok(())
}

fn ok(site: &Site, args: &[&str]) -> Result<()> {
    let output = site.fracas(args)?;
    if !output.status.success() {
        bail!("{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn text(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("a path is text")
}

/// The list of runs as the dashboard shows it, over TLS by curl, with a viewer's token.
fn first_page(site: &Site) -> Result<Duration> {
    let token = site.folder().join("viewer");
    ok(
        site,
        &[
            "operators",
            "create",
            "viewer",
            "--role",
            "viewer",
            "--ttl",
            "1h",
            "--token-file",
            text(&token)?,
        ],
    )?;
    let secret = std::fs::read_to_string(&token)?;
    let authority = site.state().join("authority/ca.pem");
    let config = site.folder().join("curl.config");
    // In a file, so that the token is in no command line.
    let mut written = std::fs::File::create(&config)?;
    writeln!(written, "header = \"Authorization: Bearer {}\"", secret.trim())?;
    let began = Instant::now();
    let output = std::process::Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--cacert",
            text(&authority)?,
            "--config",
            text(&config)?,
        ])
        .arg(format!("https://{}/", site.operators()))
        .output()
        .context("start curl")?;
    if !output.status.success() {
        bail!("the first page: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(began.elapsed())
}
