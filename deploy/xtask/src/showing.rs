//! What the demonstration runs, with what it says of the hosts held against what they were, and the site of it; it makes no host.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_harness::lab::CONTROL;
use tests_harness::protocol::Ended;
use tests_harness::{Cmd, Footprint, Lab, programs};

const SERVICE: &str = "deploy/demo/service.yaml";
const LONGEST_RUN: Duration = Duration::from_secs(600);
/// What agents change by living: journals, certificates, and processes of their own.
const OUR_FILES: &str = "files";
const OUR_PROCESSES: &str = "fracas-agent";
/// Ends by itself a minute after nginx starts.
const PASSING: &str = "nginx: cache loader process";

/// One experiment, and what follows its file on the command line.
pub struct Showing {
    file: &'static str,
    options: &'static [&'static str],
}

impl Showing {
    pub const fn new(file: &'static str, options: &'static [&'static str]) -> Self {
        Self { file, options }
    }

    /// As a person would type it.
    pub fn line(&self) -> String {
        [&["fracas", "run", self.file], self.options].concat().join(" ")
    }

    /// Runs it, prints what came of it, and returns its exit code.
    pub fn run(&self, lab: &Lab, folder: &Path) -> Result<u8> {
        let hosts: Vec<String> = lab.agents().map(str::to_owned).collect();
        let before = looks(lab, &hosts)?;
        let report = folder.join(self.report());
        std::fs::remove_file(&report).ok();
        let line = ["run", self.file, "--report", report.to_str().context("a path that is text")?];
        let code = match lab.host(CONTROL).attach(&typed(lab, &[&line, self.options].concat())?)? {
            Ended::Code(code) => u8::try_from(code).unwrap_or(1),
            Ended::Signal(_) => 1,
        };
        let shown = lab.json(&["runs", "show", "@last"])?;
        println!("\nverdict   {}", shown["verdict"].as_str().unwrap_or("none"));
        let clean = tell_residue(&hosts, &before, &looks(lab, &hosts)?);
        println!("report    {}", report.display());
        // The harness saw something that the run did not tell: no success.
        Ok(if code == 0 && !clean { 1 } else { code })
    }

    fn report(&self) -> String {
        let name = Path::new(self.file).file_stem().unwrap_or_default().to_string_lossy();
        format!("{name}.md")
    }
}

/// Tells the controller what the service is, by whose word, and what it needs.
pub fn declare(lab: &Lab) -> Result<()> {
    attached(lab, &["services", "apply", SERVICE])
}

/// Publishes everything that the controller knows, and says where the page is.
pub fn publish(lab: &Lab, folder: &Path) -> Result<()> {
    let site = folder.join("site");
    attached(lab, &["publish", site.to_str().context("a path that is text")?])?;
    attached(lab, &["levels", "show", "web"])?;
    let page = site.join("index.html");
    ensure!(page.is_file(), "fracas publish ended well, and {} is not there", page.display());
    println!("\npage      {}", page.display());
    Ok(())
}

fn attached(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let ended = lab.host(CONTROL).attach(&typed(lab, arguments)?)?;
    ensure!(ended == Ended::Code(0), "fracas {} ended with {ended:?}", arguments.join(" "));
    Ok(())
}

/// The operator's command, as typed in the project's folder.
fn typed(lab: &Lab, arguments: &[&str]) -> Result<Cmd> {
    Ok(lab
        .command(arguments)?
        .cwd(programs::repository().canonicalize()?)
        .limit(LONGEST_RUN))
}

fn looks(lab: &Lab, hosts: &[String]) -> Result<Vec<Footprint>> {
    let look = |host: &String| {
        let mut seen = lab.host(host).snapshot()?.without(&[OUR_FILES]);
        if let Some(processes) = seen.0.get_mut("processes") {
            processes.retain(|command, _| ![OUR_PROCESSES, PASSING].iter().any(|ignored| command.contains(ignored)));
        }
        Ok(seen)
    };
    hosts.iter().map(look).collect()
}

/// Prints what is on each host now and was not before; true when nothing is.
fn tell_residue(hosts: &[String], before: &[Footprint], after: &[Footprint]) -> bool {
    let mut clean = true;
    for ((host, before), after) in hosts.iter().zip(before).zip(after) {
        let left: Vec<String> = before.differences(after).iter().map(ToString::to_string).collect();
        clean &= left.is_empty();
        let told = if left.is_empty() { "none".to_owned() } else { left.join("; ") };
        println!("residue   {host} {told}");
    }
    clean
}
