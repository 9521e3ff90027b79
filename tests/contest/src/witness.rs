//! Sees the effect of a fault from outside, as its victims would; it never asks the agent and changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proto_model::quantity::Millis;
use serde_json::Value;
use tests_harness::Host;

use crate::goods::{Disk, Memory};
use crate::net::{Line, connects_in, echoes, reaches};
use crate::site::{PEER, Site, VICTIM};

/// A window of accounting, and how many are looked at before giving up: others use the processors too.
const WINDOW: Duration = Duration::from_millis(1_500);
const WINDOWS: usize = 6;
/// What a window may be off from what was asked, in seconds of processor a second for each core.
const OFF_PER_CORE: f64 = 0.03;
/// The same of a core on which the work of everybody counts, which the fault follows with some delay.
const OFF_IN_ALL: f64 = 0.04;
/// A window counts only if this much of the machine was idle: else others, and not the fault, decide what is used.
const IDLE: f64 = 0.1;
const STILL: Duration = Duration::from_millis(400);

/// Echoes of one look: that none of them is lost while a tenth of all are is less likely than one in a thousand.
const SOME: u16 = 80;
/// Connections whose median is taken, and how often it is taken anew: others on the machine make it late, and never early.
const CONNECTIONS: usize = 15;
/// As many where delays differ by themselves: the median settles slowly.
const JITTERED_CONNECTIONS: usize = 60;
const TRIES: usize = 3;
/// What such a median may be off: this and two percent, and by luck as much as so many deviations of a median of jittered delays.
const OFF: Duration = Duration::from_millis(2);
const DEVIATIONS_OF_A_MEDIAN: f64 = 3.0;
/// 2,000 echoes: of a fifth that is lost the deviation is 0.9 points, and of losses in bursts up to 1.5.
const ROUNDS: usize = 25;
const LUCK: f64 = 5.0;

/// How one family shows what it does. A family that nobody can see from outside yet is believed its own observation.
pub enum Witness<'a> {
    Load {
        site: &'a Site,
        host: &'a Host,
        asked: Load,
    },
    Stillness {
        site: &'a Site,
        host: &'a Host,
    },
    Silence {
        from: &'a Host,
        to: SocketAddr,
        open: Option<Line>,
    },
    Slowness {
        from: &'a Host,
        to: SocketAddr,
        asked: Duration,
        connections: usize,
        off: Duration,
    },
    Gaps {
        from: &'a Host,
        to: IpAddr,
        percent: f64,
    },
    Memory(Memory<'a>),
    Disk(Disk<'a>),
    Word {
        site: &'a Site,
        run: String,
    },
}

/// What a host should use of its processors.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    seconds_per_second: f64,
    cores: f64,
    /// What the host's group uses without the fault.
    usual: f64,
    /// Only this core counts, with everybody's work on it.
    core: Option<u32>,
}

impl<'a> Witness<'a> {
    /// Call it before the fault: some things must be open by then.
    pub fn of(site: &'a Site, name: &str, fault: &str, params: &Value) -> Result<Self> {
        let host = site.host(name);
        match fault.split('.').next() {
            Some("cpu") => Ok(Self::Load {
                site,
                host,
                asked: Load::of(params).beside(host)?,
            }),
            Some("memory") => Ok(Self::Memory(Memory::before(site, host, params)?)),
            Some("disk") => Ok(Self::Disk(Disk::before(host, params)?)),
            Some("process") => Ok(Self::Stillness { site, host }),
            Some("network") if fault == "network.delay" => Self::slowness(site, name, params),
            Some("network") if fault == "network.loss" => Self::gaps(site, name, params),
            Some("network") => Self::silence(site, name, params),
            _ => Ok(Self::Word { site, run: String::new() }),
        }
    }

    fn silence(site: &'a Site, name: &str, params: &Value) -> Result<Self> {
        let to = params["to"][0].as_str().context("a network fault names its peers")?;
        let (from, to) = match first_port(&params["local_ports"]) {
            Some(port) => (PEER, SocketAddr::new(site.documented(name, to)?, port)),
            None => (
                name,
                SocketAddr::new(site.documented(PEER, to)?, first_port(&params["ports"]).unwrap_or(7000)),
            ),
        };
        let from = site.host(from);
        let mut open = Line::open(from, to)?;
        ensure!(open.answers(), "{to} does not answer {} before any fault", from.name());
        Ok(Self::Silence {
            from,
            to,
            open: Some(open),
        })
    }

    fn slowness(site: &'a Site, name: &str, params: &Value) -> Result<Self> {
        let to = params["to"][0].as_str().context("a network fault names its peers")?;
        let asked = params["delay"].as_str().context("a delay says how long")?;
        let asked = Millis::parse(asked)?.0 * if params["direction"] == "both" { 2 } else { 1 };
        let to = SocketAddr::new(site.documented(PEER, to)?, first_port(&params["ports"]).unwrap_or(7000));
        let asked = Duration::from_millis(asked);
        let jitter = params["jitter"].as_str().map_or(Ok(Millis(0)), Millis::parse)?;
        let connections = if jitter.0 == 0 { CONNECTIONS } else { JITTERED_CONNECTIONS };
        let alike = params["correlation"].as_f64().unwrap_or(0.0) / 100.0;
        let slowness = Self::Slowness {
            from: site.host(name),
            to,
            asked,
            connections,
            off: OFF + asked / 50 + luck_of_a_median(jitter, alike, connections),
        };
        ensure!(!slowness.sees()?, "{to} is slow before any fault");
        Ok(slowness)
    }

    fn gaps(site: &'a Site, name: &str, params: &Value) -> Result<Self> {
        let to = params["to"][0].as_str().context("a network fault names its peers")?;
        let share = |name: &str, otherwise: f64| params[name].as_f64().map_or(otherwise, |percent| percent / 100.0);
        let bad = share("p", 0.0) / (share("p", 0.0) + share("r", 1.0));
        let bursts = 100.0 * (bad * (1.0 - share("h", 0.0)) + (1.0 - bad) * (1.0 - share("k", 1.0)));
        let one_way = params["percent"].as_f64().unwrap_or(bursts);
        let both = 100.0 - (100.0 - one_way).powi(2) / 100.0;
        let gaps = Self::Gaps {
            from: site.host(name),
            to: site.documented(PEER, to)?,
            percent: if params["direction"] == "both" { both } else { one_way },
        };
        ensure!(!gaps.sees()?, "packets get lost before any fault");
        Ok(gaps)
    }

    /// For what only the run can tell of.
    pub fn told_run(&mut self, id: &str) {
        if let Self::Word { run, .. } = self {
            id.clone_into(run);
        }
    }

    /// Whether there is an effect at this moment.
    pub fn sees(&self) -> Result<bool> {
        match self {
            Self::Load { site, host, .. } => Ok(!site.workers(host.name())?.is_empty()),
            Self::Stillness { host, .. } => Ok(host.processes_named(VICTIM)?.iter().any(|process| process.state == 'T')),
            Self::Silence { from, to, .. } => Ok(!reaches(from, *to)),
            // A connection that is not accepted at all is slow as well.
            Self::Slowness { from, to, asked, .. } => Ok(connects_in(from, *to).map_or(true, |took| took > *asked / 2)),
            Self::Gaps { from, to, .. } => Ok(echoes(from, *to, SOME)? < usize::from(SOME)),
            Self::Memory(memory) => memory.sees(),
            Self::Disk(disk) => disk.sees(),
            Self::Word { site, run } => {
                let shown = site.run(run)?;
                let state = shown["injections"][0]["state"].as_str().unwrap_or_default().to_owned();
                Ok(["applying", "holding", "undoing", "undo_failed"].contains(&state.as_str()))
            }
        }
    }

    /// A closer look while the effect lasts: is it what was asked for?
    pub fn examines(&mut self) -> Result<()> {
        match self {
            Self::Load { host, asked, .. } => asked.is_used(host),
            Self::Stillness { site, host } => {
                let before = site.ticks(host);
                sleep(STILL);
                ensure!(site.ticks(host) == before, "the stopped victim goes on ticking");
                Ok(())
            }
            Self::Silence { open, to, .. } => {
                let mut open = open.take().context("a connection from before")?;
                ensure!(
                    !open.answers(),
                    "a connection to {to} that was open before goes on as if nothing were"
                );
                Ok(())
            }
            Self::Slowness {
                from,
                to,
                asked,
                connections,
                off,
            } => {
                let off = *off;
                let mut medians = Vec::new();
                for _ in 0..TRIES {
                    let mut took: Vec<Duration> = (0..*connections).filter_map(|_| connects_in(from, *to).ok()).collect();
                    took.sort_unstable();
                    let median = *took.get(took.len() / 2).context("connections while they are slow")?;
                    ensure!(median + off > *asked, "connections take {median:?}, and {asked:?} longer was asked");
                    if median < *asked + off {
                        return Ok(());
                    }
                    medians.push(median);
                }
                anyhow::bail!("connections take {medians:?}, and {asked:?} longer was asked")
            }
            Self::Gaps { from, to, percent } => {
                let back = (0..ROUNDS).map(|_| echoes(from, *to, SOME)).sum::<Result<usize>>()?;
                let sent = ROUNDS * usize::from(SOME);
                let lost = 100.0 * (sent - back) as f64 / sent as f64;
                ensure!(
                    (lost - *percent).abs() < LUCK,
                    "{lost:.1} percent of {sent} echoes were lost, not {percent:.1}"
                );
                Ok(())
            }
            Self::Memory(memory) => memory.is_as_asked(),
            Self::Disk(disk) => disk.is_as_asked(),
            Self::Word { site, run } => {
                let confirmed = || Ok(site.run(run)?["injections"][0]["effect"]["state"] == "confirmed");
                tests_harness::wait::until("the fault's own observation", Duration::from_secs(15), confirmed).map(drop)
            }
        }
    }

    /// A closer look afterwards: do things work again?
    pub fn recovers(&self) -> Result<()> {
        match self {
            Self::Stillness { site, host } => {
                let before = site.ticks(host);
                sleep(STILL);
                ensure!(site.ticks(host) > before, "the victim does not tick again");
                Ok(())
            }
            Self::Silence { from, to, .. } => {
                let mut line = Line::open(from, *to)?;
                ensure!(line.answers(), "{to} is not heard again");
                Ok(())
            }
            Self::Slowness { .. } | Self::Gaps { .. } => {
                ensure!(!self.sees()?, "packets are late or lost still");
                Ok(())
            }
            Self::Memory(memory) => {
                ensure!(memory.taken()? == 0, "a worker still has memory");
                Ok(())
            }
            Self::Disk(disk) => disk.is_back(),
            Self::Load { .. } | Self::Word { .. } => Ok(()),
        }
    }
}

impl Load {
    fn of(params: &Value) -> Self {
        let pinned = params["pin"].as_str().map(|list| list.split(',').count());
        let there = std::thread::available_parallelism().map_or(1, usize::from);
        let asked = params["cores"].as_u64().and_then(|cores| usize::try_from(cores).ok());
        let cores = asked.or(pinned).unwrap_or(there);
        let total = params["mode"] == "total";
        Self {
            seconds_per_second: params["percent"].as_f64().unwrap_or(100.0) / 100.0 * cores as f64,
            cores: cores as f64,
            usual: 0.0,
            core: params["pin"].as_str().filter(|_| total).and_then(|pin| pin.parse().ok()),
        }
    }

    /// With what the host uses by itself; the rest of a core counts as the fault's where all of it is asked for.
    fn beside(self, host: &Host) -> Result<Self> {
        if self.core.is_some() {
            return Ok(self);
        }
        let (start, before) = (Instant::now(), host.cpu_time()?);
        sleep(WINDOW);
        let usual = (host.cpu_time()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(Self { usual, ..self })
    }

    /// By the accounting of the host's group, or by the machine's own when the rest of a core counts as well.
    fn is_used(self, host: &Host) -> Result<()> {
        let off = if self.core.is_some() {
            OFF_IN_ALL
        } else {
            OFF_PER_CORE * self.cores
        };
        let mut seen = Vec::new();
        for _ in 0..WINDOWS {
            let (start, before, idle) = (Instant::now(), self.used(host)?, processors()?.idle);
            sleep(WINDOW);
            let over = |time: Duration| time.as_secs_f64() / start.elapsed().as_secs_f64();
            let share = over(self.used(host)?.saturating_sub(before)) - self.usual;
            let idle = over(processors()?.idle.saturating_sub(idle));
            if (share - self.seconds_per_second).abs() <= off {
                return Ok(());
            }
            seen.push(format!("{share:.2} while {idle:.2} were idle"));
            let others = self.core.is_some() || idle < IDLE;
            ensure!(
                others || share < self.seconds_per_second + 2.0 * off,
                "uses {share:.2} s of processor a second beside its usual {:.2}, more than {:.2}",
                self.usual,
                self.seconds_per_second
            );
        }
        anyhow::bail!(
            "uses {} s of processor a second of {:.2} asked, which no window came within {off:.2} of",
            seen.join(", "),
            self.seconds_per_second
        )
    }

    fn used(self, host: &Host) -> Result<Duration> {
        match self.core {
            None => host.cpu_time(),
            Some(core) => Ok(times(&format!("cpu{core} "))?.busy),
        }
    }
}

/// How long processors of the machine have been busy and idle.
struct Times {
    busy: Duration,
    idle: Duration,
}

fn processors() -> Result<Times> {
    times("cpu ")
}

fn times(name: &str) -> Result<Times> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix(name)).context("a line per core")?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // user, nice, system; then idle and iowait; then irq, softirq. A tick is 10 ms.
    let sum = |from: usize, count: usize| Duration::from_millis(ticks.iter().skip(from).take(count).sum::<u64>() * 10);
    Ok(Times {
        busy: sum(0, 3) + sum(5, 2),
        idle: sum(3, 2),
    })
}

/// How far the median of so many delays may be off by luck: a median deviates 1.25 times as much as a mean, and delays that are like the
/// one before count as fewer. The jitter is taken as the deviation, which of a uniform one it exceeds.
fn luck_of_a_median(jitter: Millis, alike: f64, connections: usize) -> Duration {
    let independent = connections as f64 * (1.0 - alike) / (1.0 + alike);
    Duration::from_millis(jitter.0).mul_f64(DEVIATIONS_OF_A_MEDIAN * 1.25 / independent.max(1.0).sqrt())
}

fn first_port(list: &Value) -> Option<u16> {
    let first = list.get(0)?;
    match first.as_u64() {
        Some(port) => u16::try_from(port).ok(),
        None => first.as_str()?.split('-').next()?.parse().ok(),
    }
}
