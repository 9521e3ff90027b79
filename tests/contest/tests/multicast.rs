//! Heartbeats of a cluster, sent to a group or a broadcast address: what comes from a peer meets the fault whatever its destination, and what goes
//! out to a group, which names no peer, is said not to be covered.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_contest::{Site, datagrams, hears, impossible, reaches};
use tests_harness::wait;

const LASTS: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(15);
const FINISHED: Duration = Duration::from_secs(60);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 255);
const PORT: u16 = 5_405;
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const PEER_ECHO: u16 = 7_000;
const NOT_COVERED: &str = "multicast groups or broadcast addresses reach the peers all the same";

/// One host's end of the heartbeats.
struct Heart {
    listener: UdpSocket,
    sender: UdpSocket,
}

impl Heart {
    fn of(site: &Site, host: &str, address: Ipv4Addr) -> Result<Self> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
        Ok(Self {
            listener: datagrams(site.host(host), any, Some((GROUP, address)))?,
            sender: datagrams(site.host(host), SocketAddr::new(address.into(), 0), None)?,
        })
    }

    fn beats(&self, to: &Self, destination: Ipv4Addr) -> bool {
        hears(&to.listener, &self.sender, SocketAddr::new(destination.into(), PORT))
    }
}

/// The run's document once it is over; until then `meanwhile` is done again and again, and one connection to the peer is tried each time.
fn over(site: &Site, run: &str, mut meanwhile: impl FnMut() -> Result<()>) -> Result<Value> {
    let acts = || Ok(site.run(run)?["injections"][0]["state"] == "holding");
    wait::until("the fault acts", SOON, acts)?;
    let begin = Instant::now();
    while acts()? {
        ensure!(
            begin.elapsed() < LASTS + SOON,
            "a fault of {LASTS:?} still acts after {:?}",
            begin.elapsed()
        );
        reaches(site.host("web"), SocketAddr::new(PEER.into(), PEER_ECHO));
        if acts()? {
            meanwhile()?;
        }
    }
    site.finished(run, FINISHED)
}

#[test]
fn a_cut_peer_is_not_heard_by_any_destination_and_groups_are_said_not_to_be_covered() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("multicast", &["web"])?;
    let web = Heart::of(&site, "web", Ipv4Addr::new(192, 0, 2, 1))?;
    let peer = Heart::of(&site, "peer", PEER)?;
    for destination in [GROUP, BROADCAST] {
        wait::until("heartbeats arrive", SOON, || {
            Ok(web.beats(&peer, destination) && peer.beats(&web, destination))
        })?;
    }

    for (fault, params) in [
        ("network.partition", json!({"to": [PEER]})),
        ("network.loss", json!({"to": [PEER], "percent": 100, "direction": "both"})),
    ] {
        let plan = site.plan("web", fault, &params)?;
        ensure!(plan.to_string().contains(NOT_COVERED), "{fault}: the plan does not say it: {plan}");
        let run = site.attack("web", fault, &params, LASTS)?;
        let mut sent = 0;
        let run = over(&site, &run, || {
            for destination in [GROUP, BROADCAST] {
                let (heard, reached) = (peer.beats(&web, destination), web.beats(&peer, destination));
                // The fault may have ended between the look and the heartbeat.
                let acts = site.run(&run)?["injections"][0]["state"] == "holding";
                ensure!(
                    !acts || (!heard && reached),
                    "{fault} {destination}: heard {heard}, reached {reached}"
                );
                sent += u64::from(reached);
            }
            Ok(())
        })?;
        let effect = &run["injections"][0]["effect"];
        let note = effect["note"].as_str().context("a note")?;
        ensure!(sent > 0 && note.contains(NOT_COVERED), "{fault}: {sent} heartbeats left: {effect}");
    }

    // Who names the group covers it, and nothing is left to say.
    let params = json!({"to": [PEER, GROUP], "direction": "out"});
    let plan = site.plan("web", "network.partition", &params)?;
    ensure!(!plan.to_string().contains(NOT_COVERED), "{plan}");
    let run = site.attack("web", "network.partition", &params, LASTS)?;
    let run = over(&site, &run, || {
        let reached = web.beats(&peer, GROUP);
        let acts = site.run(&run)?["injections"][0]["state"] == "holding";
        ensure!(!acts || !reached, "the group is reached although it is named");
        Ok(())
    })?;
    let effect = &run["injections"][0]["effect"];
    ensure!(
        effect["state"] == "confirmed" && !effect.to_string().contains(NOT_COVERED),
        "{effect}"
    );
    wait::until("heartbeats arrive again", SOON, || Ok(web.beats(&peer, GROUP)))?;
    site.is_clean("web")
}

#[test]
fn a_delay_holds_what_a_peer_sends_to_a_group() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("multicast-delay", &["web"])?;
    let web = Heart::of(&site, "web", Ipv4Addr::new(192, 0, 2, 1))?;
    let peer = Heart::of(&site, "peer", PEER)?;
    wait::until("heartbeats arrive", SOON, || Ok(peer.beats(&web, GROUP)))?;
    // Longer than a listener waits.
    let params = json!({"to": [PEER], "delay": "600ms", "direction": "in"});
    let run = site.attack("web", "network.delay", &params, LASTS)?;
    let mut tries = 0;
    over(&site, &run, || {
        let heard = peer.beats(&web, GROUP);
        let acts = site.run(&run)?["injections"][0]["state"] == "holding";
        tries += 1;
        ensure!(!acts || !heard, "heartbeat {tries} is not late");
        Ok(())
    })?;
    ensure!(tries > 0, "no heartbeat was sent while the delay acted");
    wait::until("heartbeats arrive at once again", SOON, || Ok(peer.beats(&web, GROUP)))?;
    site.is_clean("web")
}
