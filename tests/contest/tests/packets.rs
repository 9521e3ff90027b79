//! The worker that holds packets, killed and stopped: packets flow again, the fault ends early and says why, nothing is left.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tests_contest::{Harm, Site, impossible};
use tests_harness::{report, wait};

const LONG: Duration = Duration::from_secs(120);
/// Packets pass a queue that nobody reads: nothing has to notice anything.
const AT_ONCE: Duration = Duration::from_secs(1);
/// For an agent to find that its worker has ended, or that it does not move.
const MISSED: Duration = Duration::from_secs(5);

#[test]
fn a_killed_worker_lets_packets_flow_at_once() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    without_its_worker("killed", nix::libc::SIGKILL, AT_ONCE, "is gone")
}

#[test]
fn a_stopped_worker_is_noticed_and_ended() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    without_its_worker("stopped", nix::libc::SIGSTOP, MISSED, "has not moved")
}

fn without_its_worker(name: &str, signal: i32, flow_within: Duration, why: &str) -> Result<()> {
    let site = Site::start(&format!("packets-{name}"), &["web"])?;
    for to in ["192.0.2.10", "2001:db8::20"] {
        let harm = Harm::begin(
            &site,
            "web",
            "network.delay",
            // Delays that are alike are a worker's on every kernel.
            &json!({"to": [to], "delay": "150ms", "jitter": "1ms", "correlation": 50, "direction": "both"}),
            LONG,
        )?;
        let workers = site.workers("web")?;
        ensure!(workers.len() == 1, "one worker: {workers:?}");
        let event = Instant::now();
        site.host("web").signal(workers[0], signal)?;
        wait::until("packets flow", flow_within, || Ok(!harm.witness.sees()?))?;
        report::undone(&harm.fault, &format!("a worker {name}"), event.elapsed(), flow_within);
        let undone = || Ok(site.run(&harm.run)?["injections"][0]["state"] == "undone");
        wait::until("the fault without its worker is undone", MISSED, undone)?;
        let run = harm.is_over()?;
        ensure!(
            run["injections"][0]["ended_by"] == "ended_early" && run["verdict"] == "error",
            "{run}"
        );
        ensure!(
            run["cleanup"] == "proven" && run.to_string().contains(why),
            "it does not say that it {why}: {run}"
        );
        site.all_clean()?;
    }
    Ok(())
}
