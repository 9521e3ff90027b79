//! A cut that covers the controller: the host is cut off from everything at that address but its controller.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_contest::{Line, Site, impossible, reaches};
use tests_harness::wait;

/// Longer than the lease and the wait for a lost host together: without its session the fault would end early.
const LASTS: Duration = Duration::from_secs(12);
const SOON: Duration = Duration::from_secs(15);
const FINISHED: Duration = Duration::from_secs(60);
/// Where the controller takes agents and operators.
const AGENTS: u16 = 7_400;
const OPERATORS: u16 = 7_443;

#[test]
fn a_cut_that_covers_the_controller_leaves_the_session_alive() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("exempt", &["web"])?;
    let (web, control) = (site.host("web"), site.control());
    let at = |port: u16| SocketAddr::new(control.v4().into(), port);
    ensure!(reaches(web, at(AGENTS)) && reaches(web, at(OPERATORS)), "before any fault");
    let run = site.attack("web", "network.partition", &json!({"to": [control.v4(), control.v6()]}), LASTS)?;
    wait::until("the controller's host is cut off", SOON, || Ok(!reaches(web, at(OPERATORS))))?;
    Line::open(web, at(AGENTS)).context("a new session could be opened during the cut")?;

    let finished = site.finished(&run, FINISHED)?;
    let injection = &finished["injections"][0];
    ensure!(injection["ended_by"] == "duration_elapsed", "the session was lost: {injection}");
    let events = site.lab.fracas(&["runs", "events", &run, "-o", "json"])?.stdout;
    ensure!(!events.contains("host.lost") && !events.contains("lease.lapsed"), "{events}");
    ensure!(reaches(web, at(OPERATORS)), "after the fault");
    site.is_clean("web")
}
