//! Faults from start to end: their effects measured by other programs, undone in time, and the host as it was before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_harness::footprint::Footprint;
use tests_harness::{Cmd, wait};

use super::Figures;
use crate::machine::Machine;
use crate::site::{LASTS, Site};

/// From the operator's command to its answer, in an emulated machine whose processors may be what the fault keeps busy.
pub(super) const UNDONE: Duration = Duration::from_secs(20);
/// The bound for the agent itself, from docs/safety.md.
pub(super) const AGENT: Duration = Duration::from_secs(2);
const ACTS: Duration = Duration::from_secs(60);
/// Until the report of an undo, and the proof after it, have come to the controller.
const REPORTED: Duration = Duration::from_secs(30);
/// What an exchange that fails is measured as, in milliseconds.
const UNANSWERED: f64 = 2_000.0;
/// How an effect is measured: one number, larger while the fault acts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Measure {
    /// A line of `sh` on the host that prints it.
    Host(&'static str),
    /// Milliseconds from a request of the neighbour to the answer's first byte, on a connection to this port that is open already.
    Exchange { port: u16, request: &'static str },
    /// Percent of the host's echo requests that do not arrive at the neighbour.
    NotArrived,
}

/// Milliseconds of a round trip to the neighbour: the median of five. To its user: the kernel takes the time of an answer as it arrives,
/// before a worker holds it.
pub(super) const PING_MS: Measure =
    Measure::Host("ping -4 -U -c 5 -i 0.3 -W 3 db | sed -n 's/.*time=\\([0-9.]*\\).*/\\1/p' | sort -n | sed -n 3p");
pub(super) const PING6_MS: Measure =
    Measure::Host("ping -6 -U -c 5 -i 0.3 -W 3 db | sed -n 's/.*time=\\([0-9.]*\\).*/\\1/p' | sort -n | sed -n 3p");
/// Percent of echoes that do not come back.
pub(super) const PING_LOSS: Measure = Measure::Host("ping -4 -q -c 30 -i 0.1 -W 1 db | sed -n 's/.* \\([0-9.]*\\)% packet loss.*/\\1/p'");
pub(super) const PING6_LOSS: Measure = Measure::Host("ping -6 -q -c 30 -i 0.1 -W 1 db | sed -n 's/.* \\([0-9.]*\\)% packet loss.*/\\1/p'");
pub(super) const NGINX: Measure = Measure::Exchange {
    port: 80,
    request: "GET / HTTP/1.0\\r\\n\\r\\n",
};
pub(super) const REDIS: Measure = Measure::Exchange {
    port: 6379,
    request: "PING\\r\\n",
};
/// Asks for TLS, which PostgreSQL answers before anybody has signed in.
pub(super) const POSTGRES: Measure = Measure::Exchange {
    port: 5432,
    request: "\\0\\0\\0\\010\\004\\322\\026\\057",
};

impl Measure {
    pub fn take(self, site: &Site) -> Result<f64> {
        let printed = match self {
            Self::Host(line) => site.machine().sh(line)?,
            Self::Exchange { port, request } => site.neighbour().exec(exchange(site, port, request))?,
            Self::NotArrived => return not_arrived(site),
        };
        let number = printed.stdout.trim().parse();
        number.with_context(|| format!("measured {:?} {:?}", printed.stdout, printed.stderr))
    }
}

/// Three of them, of which the second is printed.
fn exchange(site: &Site, port: u16, request: &str) -> Cmd {
    let (web, seconds) = (site.machine().v4(), UNANSWERED / 1_000.0);
    let ask = format!(
        "exec 3<>/dev/tcp/{web}/{port} && begin=${{EPOCHREALTIME/./}} && printf \"{request}\" >&3 && read -r -N 1 -u 3 first && \
         end=${{EPOCHREALTIME/./}} && echo $(((end - begin) / 1000))"
    );
    Cmd::sh(format!(
        "for n in 1 2 3; do timeout {seconds} bash -c '{ask}' || echo {UNANSWERED}; done | sort -n | sed -n 2p"
    ))
    .env("LC_ALL", "C")
    .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
}

fn not_arrived(site: &Site) -> Result<f64> {
    const SENT: u32 = 5;
    let counter =
        "awk '/^Icmp:/ { if (column) print $column; else for (i = 2; i <= NF; i++) if ($i == \"InEchos\") column = i }' /proc/net/snmp";
    let arrived = || -> Result<f64> {
        let counted = site.neighbour().exec(Cmd::sh(counter))?.ok()?;
        counted.trim().parse().with_context(|| format!("echoes: {counted:?}"))
    };
    let before = arrived()?;
    // Whether they are answered is another question.
    site.machine().sh(&format!("ping -4 -q -c {SENT} -i 0.3 -W 1 db"))?;
    Ok(100.0 - 100.0 * (arrived()? - before) / f64::from(SENT))
}

/// A fault, and how its effect shows.
pub(super) struct Trial {
    /// As it is typed after `fracas attack`.
    fault: String,
    /// By how much each is larger while the fault acts, at least.
    effects: Vec<(Measure, f64)>,
    spared: Option<(Measure, f64)>,
    netem: bool,
}

impl Trial {
    pub fn new(fault: impl Into<String>, measure: Measure, more: f64) -> Self {
        Self {
            fault: fault.into(),
            effects: vec![(measure, more)],
            spared: None,
            netem: false,
        }
    }

    /// The fault shows in this as well.
    pub fn and(mut self, measure: Measure, more: f64) -> Self {
        self.effects.push((measure, more));
        self
    }

    /// The fault leaves this as it is: it grows by less than `less` while the fault acts.
    pub fn sparing(mut self, measure: Measure, less: f64) -> Self {
        self.spared = Some((measure, less));
        self
    }

    /// A queue of the kernel's does it.
    pub fn by_netem(mut self) -> Self {
        self.netem = true;
        self
    }

    fn kind(&self) -> &str {
        self.fault.split(' ').next().unwrap_or_default()
    }

    /// What is measured while no fault acts: the effects, and what is spared at last.
    fn measure(&self, site: &Site) -> Result<Vec<f64>> {
        let all = self.effects.iter().chain(&self.spared);
        all.map(|(measure, _)| measure.take(site))
            .collect::<Result<_>>()
            .context(self.fault.clone())
    }

    fn start(&self, site: &Site) -> Result<String> {
        let words: Vec<&str> = self.fault.split_whitespace().collect();
        site.attack(&words, LASTS)
    }

    fn expect_effects(&self, site: &Site, without: &[f64], figures: &mut Figures<'_>) -> Result<()> {
        for ((measure, more), without) in self.effects.iter().zip(without) {
            let begin = Instant::now();
            let acts = || Ok(Some(measure.take(site)?).filter(|with| with - without >= *more));
            let (with, _) = wait::for_some(format_args!("{}: {more} more than {without:.1}", self.fault), ACTS, acts)?;
            figures.note(format!("{} acts: {without:.1} became {with:.1}", self.fault), begin.elapsed());
        }
        let Some((measure, less)) = self.spared else { return Ok(()) };
        let without = without.last().copied().unwrap_or_default();
        let with = measure.take(site)?;
        ensure!(
            with - without < less,
            "{}: {measure:?} is to be spared, and {without:.1} became {with:.1}",
            self.fault
        );
        Ok(())
    }

    fn expect_none(&self, site: &Site, without: &[f64]) -> Result<()> {
        for ((measure, more), without) in self.effects.iter().zip(without) {
            let after = measure.take(site)?;
            ensure!(
                after - without < more / 2.0,
                "{}: the effect is still there after the stop: {without:.1} before, {after:.1} now",
                self.fault
            );
        }
        Ok(())
    }
}

/// What the host is like before a fault.
pub(super) struct Before {
    footprint: Footprint,
    network: String,
}

impl Before {
    pub fn look(site: &Site) -> Result<Self> {
        Self::look_at(site.machine())
    }

    pub fn look_at(machine: &Machine) -> Result<Self> {
        Ok(Self {
            footprint: machine.footprint()?,
            network: machine.network()?,
        })
    }

    /// The host is as it was, and proven clean; queues and rules are so to the letter.
    pub fn expect(&self, site: &Site) -> Result<()> {
        self.expect_of(site, site.machine())
    }

    /// The same of the machine that was looked at.
    pub fn expect_of(&self, site: &Site, machine: &Machine) -> Result<()> {
        machine.expect_footprint(&self.footprint)?;
        machine.expect_network(&self.network)?;
        site.host_ready_within(machine.name(), REPORTED)?;
        Ok(())
    }
}

/// One round after the other; the slowest undo of each kind is recorded.
pub(super) fn rounds(site: &Site, figures: &mut Figures<'_>, rounds: &[&[Trial]]) -> Result<()> {
    let mut slowest = Slowest::default();
    for trials in rounds {
        together(site, figures, &mut slowest, trials)?;
    }
    slowest.record(figures);
    Ok(())
}

/// All of them act at the same time, and then each is stopped.
pub(super) fn together(site: &Site, figures: &mut Figures<'_>, slowest: &mut Slowest, trials: &[Trial]) -> Result<()> {
    let before = Before::look(site)?;
    let without: Vec<Vec<f64>> = trials.iter().map(|trial| trial.measure(site)).collect::<Result<_>>()?;
    let runs: Vec<String> = trials.iter().map(|trial| trial.start(site)).collect::<Result<_>>()?;
    for (trial, without) in trials.iter().zip(&without) {
        trial.expect_effects(site, without, figures)?;
    }
    expect_netem(site, trials.iter().filter(|trial| trial.netem).count())?;
    for (trial, run) in trials.iter().zip(&runs) {
        let times = Times::of_stop(site, run)?;
        figures.note(format!("{}: undone by the agent", trial.fault), times.undone);
        slowest.add(trial.kind(), times);
    }
    for (trial, without) in trials.iter().zip(&without) {
        trial.expect_none(site, without)?;
    }
    before.expect(site)
}

/// How long the end of a run takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From the operator's command to its answer.
    answered: Duration,
    /// At the agent, as it reports.
    undone: Duration,
}

impl Times {
    fn of_stop(site: &Site, run: &str) -> Result<Self> {
        let begin = Instant::now();
        site.fracas(&["stop", run, "--reason", "measured"])?.ok()?;
        let answered = begin.elapsed();
        let undone = undone(site, run)?;
        Ok(Self { answered, undone })
    }

    fn record(self, figures: &mut Figures<'_>, name: &str) {
        figures.add(format!("{name} is undone after a stop"), self.answered, UNDONE);
        figures.add(format!("{name} is undone by the agent"), self.undone, AGENT);
    }
}

/// The longest times of each kind of fault.
#[derive(Debug, Default)]
pub(super) struct Slowest(BTreeMap<String, Times>);

impl Slowest {
    fn add(&mut self, kind: &str, times: Times) {
        let slowest = self.0.entry(kind.to_owned()).or_insert(times);
        slowest.answered = slowest.answered.max(times.answered);
        slowest.undone = slowest.undone.max(times.undone);
    }

    pub fn record(self, figures: &mut Figures<'_>) {
        for (kind, times) in self.0 {
            times.record(figures, &kind);
        }
    }
}

/// Stops a run, and records how long that takes.
pub(super) fn stop(site: &Site, figures: &mut Figures<'_>, name: &str, run: &str) -> Result<()> {
    Times::of_stop(site, run)?.record(figures, name);
    Ok(())
}

fn expect_netem(site: &Site, number: usize) -> Result<()> {
    let queues = site.machine().sh("tc qdisc show")?.ok()?;
    let found = queues.lines().filter(|line| line.contains("netem")).count();
    ensure!(found == number, "{number} queues of netem are expected: {queues}");
    Ok(())
}

/// How long the agent took to undo a run's injection, as it reports.
pub(super) fn undone(site: &Site, run: &str) -> Result<Duration> {
    let reported = || Ok(injection(site, run)?["undo_ms"].as_u64());
    let (ms, _) = wait::for_some(format_args!("the undo of {run} is reported"), REPORTED, reported)?;
    Ok(Duration::from_millis(ms))
}

/// The run's only injection, as its document has it.
pub(super) fn injection(site: &Site, run: &str) -> Result<Value> {
    let mut document: Value = serde_json::from_str(&site.fracas(&["runs", "show", run, "-o", "json"])?.ok()?)?;
    Ok(document["injections"][0].take())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn a_kind_is_recorded_with_its_longest_times() {
        let times = |answered, undone| Times {
            answered: Duration::from_millis(answered),
            undone: Duration::from_millis(undone),
        };
        let mut slowest = Slowest::default();
        slowest.add("network.loss", times(900, 10));
        slowest.add("network.loss", times(400, 2_100));
        slowest.add("cpu.burn", times(500, 20));
        let mut table = Table::default();
        slowest.record(&mut Figures {
            case: "losses",
            slack: 1,
            table: &mut table,
        });
        let rows: Vec<_> = table
            .of("losses")
            .map(|row| (row.what.as_str(), row.took.as_millis(), row.passed()))
            .collect();
        assert_eq!(
            rows,
            [
                ("cpu.burn is undone after a stop", 500, true),
                ("cpu.burn is undone by the agent", 20, true),
                ("network.loss is undone after a stop", 900, true),
                ("network.loss is undone by the agent", 2_100, false),
            ]
        );
    }
}
