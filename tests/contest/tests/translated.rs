//! A peer behind an address that the host itself translates (DNAT), as of a load balancer or a cluster: what is cut is counted as cut.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests_contest::{Site, impossible, reaches};
use tests_harness::{Cmd, wait};

const LASTS: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(15);
const FINISHED: Duration = Duration::from_secs(60);
/// What programs of the host dial, and the door of the peer's echo behind it.
const DIALLED: &str = "203.0.113.80";
const DIALLED_PORT: u16 = 80;
const PEER: &str = "192.0.2.10";
const PEER_PORT: u16 = 7_000;

#[test]
fn a_peer_behind_a_translated_address_is_cut_and_the_effect_says_so() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("translated", &["web"])?;
    let web = site.host("web");
    let dialled = SocketAddr::new(DIALLED.parse()?, DIALLED_PORT);
    web.exec(Cmd::sh(format!(
        "set -e; ip route add {DIALLED}/32 dev eth0
        nft 'add table ip balancer; add chain ip balancer out {{ type nat hook output priority -100; }}
        add rule ip balancer out ip daddr {DIALLED} tcp dport {DIALLED_PORT} dnat to {PEER}:{PEER_PORT}'"
    )))?
    .ok()?;
    ensure!(reaches(web, dialled), "before any fault");

    for (to, direction) in [(PEER, "both"), (PEER, "out"), (DIALLED, "both"), (DIALLED, "in")] {
        let run = site.attack("web", "network.partition", &json!({"to": [to], "direction": direction}), LASTS)?;
        wait::until(format_args!("{to} {direction}: the peer is cut off"), SOON, || {
            Ok(!reaches(web, dialled))
        })?;
        // Programs go on trying, or nothing would observe the cut.
        let over = || {
            let reached = reaches(web, dialled);
            let run = site.run(&run)?;
            ensure!(
                !reached || run["injections"][0]["state"] != "holding",
                "{to} {direction}: came through"
            );
            Ok(run["state"] == "finished")
        };
        wait::until(format_args!("{to} {direction}: the run is over"), FINISHED, over)?;
        let effect = &site.run(&run)?["injections"][0]["effect"];
        ensure!(
            effect["state"] == "confirmed" && effect["measured"] == 100.0,
            "{to} {direction}: {effect}"
        );
        wait::until("the peer is back", SOON, || Ok(reaches(web, dialled)))?;
    }
    web.exec(Cmd::sh(format!("nft delete table ip balancer; ip route del {DIALLED}/32 dev eth0")))?
        .ok()?;
    site.is_clean("web")
}
