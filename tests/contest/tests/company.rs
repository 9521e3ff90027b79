//! Two attacks on one host: each does what was asked to its own packets and nothing to others, one ends without the other, what conflicts is refused.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_contest::{Site, connects_in, echoes, impossible};
use tests_harness::{Cmd, wait};

const LONG: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(15);
const DELAY: Duration = Duration::from_millis(100);
/// Far more than a bridge between namespaces takes, on a busy machine too.
const NOTHING: Duration = Duration::from_millis(60);
const ECHOES: usize = 400;
/// As many at once as a socket's buffer surely holds.
const AT_ONCE: u16 = 100;
/// A fifth of them, give or take five standard deviations.
const LOST: std::ops::RangeInclusive<usize> = 40..=120;

struct Three {
    site: Site,
    slow: IpAddr,
    lossy: IpAddr,
    other: IpAddr,
    queues: String,
}

impl Three {
    fn start() -> Result<Self> {
        let site = Site::start("company", &["web", "cache", "client"])?;
        let of = |host| site.documented(host, "192.0.2.0/24");
        let (slow, lossy, other) = (of("cache")?, of("client")?, of("peer")?);
        let queues = queues(&site)?;
        Ok(Self {
            slow,
            lossy,
            other,
            queues,
            site,
        })
    }

    /// The best of three, so that a busy moment of the machine is no delay.
    fn takes(&self, to: IpAddr) -> Result<Duration> {
        let times = (0..3).map(|_| connects_in(self.site.host("web"), SocketAddr::new(to, 80)));
        let times = times.collect::<Result<Vec<_>>>()?;
        Ok(times.into_iter().min().unwrap_or_default())
    }

    fn lost(&self, to: IpAddr) -> Result<usize> {
        let rounds = 0..ECHOES / usize::from(AT_ONCE);
        let back = rounds.map(|_| echoes(self.site.host("web"), to, AT_ONCE));
        Ok(ECHOES - back.sum::<Result<usize>>()?)
    }

    fn is_slow(&self) -> Result<bool> {
        Ok(self.takes(self.slow)? >= DELAY)
    }

    fn is_lossy(&self) -> Result<bool> {
        Ok(LOST.contains(&self.lost(self.lossy)?))
    }

    fn the_others_feel_nothing(&self) -> Result<()> {
        let (took, lost) = (self.takes(self.other)?, self.lost(self.other)?);
        ensure!(
            took < NOTHING && lost == 0,
            "to {} it takes {took:?}, and {lost} of {ECHOES} are lost",
            self.other
        );
        ensure!(queues(&self.site)? == self.queues, "the interface's queues are not as before");
        Ok(())
    }
}

fn queues(site: &Site) -> Result<String> {
    site.host("web").exec(Cmd::new("tc").args(["-d", "qdisc", "show"]))?.ok()
}

#[test]
fn two_attacks_share_an_interface_and_end_apart() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let three = Three::start()?;
    let site = &three.site;
    let delay = site.attack("web", "network.delay", &json!({"delay": "100ms", "to": [three.slow]}), LONG)?;
    let loss = site.attack("web", "network.loss", &json!({"percent": 20, "to": [three.lossy]}), LONG)?;
    wait::until("the one peer is slow", SOON, || three.is_slow())?;
    let lossy = wait::until("the other loses packets", SOON, || three.is_lossy());
    lossy.with_context(|| {
        format!(
            "{:?} lost, {:?}",
            three.lost(three.lossy),
            site.run(&loss).map(|run| run.to_string())
        )
    })?;
    ensure!(three.lost(three.slow)? == 0, "the slow one loses packets");
    three.the_others_feel_nothing()?;

    let again = [
        "attack",
        "network.delay",
        "delay=1s",
        &format!("to={}", three.slow),
        "--on",
        "web",
        "--for",
        "20s",
    ];
    let refused = site.lab.fracas(&again)?;
    let told = format!("{}{}", refused.stdout, refused.stderr);
    ensure!(
        !refused.success() && told.contains("conflict"),
        "the same packets twice: {refused:?}"
    );

    site.lab.fracas(&["stop", &delay])?.ok()?;
    ensure!(site.finished(&delay, SOON)?["cleanup"] == "proven");
    ensure!(
        !three.is_slow()? && three.is_lossy()?,
        "stopping the delay touched the loss, or not the delay"
    );
    let holding = site.run(&loss)?;
    ensure!(holding["injections"][0]["state"] == "holding", "{holding}");
    three.the_others_feel_nothing()?;

    site.lab.fracas(&["stop", &loss])?.ok()?;
    ensure!(site.finished(&loss, SOON)?["cleanup"] == "proven");
    ensure!(three.lost(three.lossy)? == 0, "packets are lost after the stop");
    site.all_clean()
}
