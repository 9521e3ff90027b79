//! What any process needs is used up on the whole host while faults act: process ids, descriptors, processors; all is undone in time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::shell::{BEGIN, main_pid, signal_controller};
use super::trial::{Before, injection};
use super::{Case, Extent, Figures};
use crate::site::{LASTS, Site};

pub(super) const CASES: [Case; 3] = [
    Case {
        name: "pids",
        what: "there is no process id left",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, &PIDS),
    },
    Case {
        name: "descriptors",
        what: "no file can be opened any more, first by the agent and then on the whole host",
        extent: Extent::Long,
        run: descriptors,
    },
    Case {
        name: "processors",
        what: "every processor is kept busy by processes of the highest priority, and by a fault",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, &PROCESSORS),
    },
];

/// The bound where processors, process ids or descriptors are used up.
const EXHAUSTED: Duration = Duration::from_secs(6);
/// By how much an effect may be gone before its lease ends, for the sake of how often the script looks and how times are rounded.
const EARLY_S: f64 = 1.0;
/// Longer than the script watches.
const GIVE_UP: Duration = Duration::from_secs(240);

/// What is used up, by the name that the script knows.
struct Resource {
    name: &'static str,
    /// What the script must get each time that it tries to have more.
    refusal: &'static str,
    burn: &'static str,
}

const PIDS: Resource = Resource {
    name: "pids",
    refusal: "EAGAIN",
    burn: "cpu.burn percent=20",
};
const DESCRIPTORS: Resource = Resource {
    name: "descriptors",
    refusal: "ENFILE",
    burn: "cpu.burn percent=20",
};
const PROCESSORS: Resource = Resource {
    name: "processors",
    refusal: "busy",
    burn: "cpu.burn",
};

/// What is held while a resource is used up: how it is typed, and how it shows to a process that starts no other.
struct Held {
    fault: &'static str,
    look: &'static str,
    /// `ID` stands for the injection's id.
    at: &'static str,
}

const HELD: [Held; 5] = [
    Held {
        fault: "memory.hog amount=64MiB",
        look: "exists",
        at: "/sys/fs/cgroup/fracas-ID",
    },
    Held {
        fault: "disk.fill amount=100MiB path=/var/tmp rate=50MiB",
        look: "exists",
        at: "/var/tmp/.fracas-ID",
    },
    Held {
        fault: "process.pause unit=nginx",
        look: "frozen",
        at: "/sys/fs/cgroup/system.slice/nginx.service/cgroup.events",
    },
    Held {
        fault: "network.partition direction=out protocol=udp to=db6",
        look: "refused",
        at: "DB6",
    },
    Held {
        fault: "network.delay delay=200ms protocol=icmp to=db4",
        look: "link",
        at: "fracas",
    },
];
const SCRIPT: &str = "/run/fracas-test-exhaust.py";

/// What the script prints: all times in seconds since boot.
#[derive(Debug, Deserialize)]
struct Watched {
    /// What the line of the shell has printed.
    said: String,
    /// Injections whose effects were not there in the beginning.
    idle: Vec<String>,
    begin: f64,
    /// How often the script had which answer.
    answers: BTreeMap<String, u64>,
    gone: BTreeMap<String, f64>,
}

fn descriptors(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    at_own_limit(site, figures)?;
    exhausted(site, figures, &DESCRIPTORS)
}

/// Takes from the agent, whose process id is `$pid`, every descriptor that it does not have open: its limit becomes the lowest free number
/// of some looks.
const LOWER: &str = "prlimit --pid $pid --nofile --output SOFT --noheadings --raw >/run/fracas-test-limit; least=65536; \
    for look in $(seq 20); do free=0; while [ -L /proc/$pid/fd/$free ]; do free=$((free + 1)); done; \
    if [ $free -lt $least ]; then least=$free; fi; sleep 0.05; done; prlimit --pid $pid --nofile=$least:";
const LIFT: &str = "prlimit --pid $pid --nofile=$(cat /run/fracas-test-limit): && rm /run/fracas-test-limit";

/// The kernel exempts the agent from the host's limit, but not from its own: there it refuses, says why, and lives.
fn at_own_limit(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let before = Before::look(site)?;
    let pid = site.machine().sh(&main_pid("fracas-agent"))?.ok()?;
    let with_pid = |line: &str| format!("pid={}; {line}", pid.trim());
    site.machine().sh(&with_pid(LOWER))?.ok()?;
    let refusal = Refusal::expect(site, figures, "the agent has no descriptor left")?;
    site.machine().sh(&with_pid(LIFT))?.ok()?;
    // An agent that cannot read its halt counts as halted, and the controller may have heard of that before it asks.
    ensure!(
        refusal.is_of_the_journal("Too many open files") || refusal.is_of_a_halt(),
        "the fault was refused for another reason: {refusal:?}"
    );
    let now = site.machine().sh(&main_pid("fracas-agent"))?.ok()?;
    ensure!(now == pid, "the agent has ended: its pid was {} and is {}", pid.trim(), now.trim());
    site.ready()?;
    before.expect(site)
}

fn exhausted(site: &mut Site, figures: &mut Figures<'_>, resource: &Resource) -> Result<()> {
    let name = resource.name;
    site.ready()?;
    let before = Before::look(site)?;
    site.machine().put(SCRIPT, include_str!("../../guest/exhaust.py"))?;
    let burn = Held {
        fault: resource.burn,
        look: "exists",
        at: "/sys/fs/cgroup/fracas-ID",
    };
    // Last, since it slows down what comes after it.
    let held: Vec<&Held> = HELD.iter().chain([&burn]).collect();
    let (mut runs, mut ids) = (Vec::new(), Vec::new());
    for one in &held {
        let words: Vec<&str> = one.fault.split_whitespace().collect();
        let run = site.attack(&words, LASTS)?;
        ids.push(injection(site, &run)?["id"].as_str().context("an injection has an id")?.to_owned());
        runs.push(run);
    }
    let db6 = site.neighbour().v6().to_string();
    let look = |(one, id): (&&Held, &String)| json!({"id": id, "look": one.look, "at": one.at.replace("ID", id).replace("DB6", &db6)});
    let looks = json!(held.iter().zip(&ids).map(look).collect::<Vec<_>>()).to_string();
    let printed = site
        .machine()
        .exec(&["python3", SCRIPT, name, &looks, &silence()], b"", GIVE_UP)?
        .ok()?;
    site.machine().sh(&signal_controller("CONT"))?.ok()?;
    let watched: Watched = serde_json::from_str(&printed)?;
    let ends = lease_ends(&watched.said)?;
    ensure!(
        watched.idle.is_empty(),
        "some faults did not act when there were no {name} left: {watched:?}"
    );
    ensure!(
        watched.answers.keys().eq([resource.refusal]),
        "there were {name} left, or another reason than {}: {watched:?}",
        resource.refusal
    );
    for (one, id) in held.iter().zip(&ids) {
        let kind = one.fault.split(' ').next().unwrap_or_default();
        let end = ends.get(id).with_context(|| format!("{kind} has a lease"))?;
        let gone = watched
            .gone
            .get(id)
            .with_context(|| format!("{kind} was not undone: {watched:?}"))?;
        // The end is rather too early than too late, so that nothing seems gone before it.
        ensure!(gone - end > -EARLY_S, "{kind} was gone {:.1} s before its lease ended", end - gone);
        let late = Duration::try_from_secs_f64(gone - end).unwrap_or_default();
        figures.add(format!("{kind} is gone after its lease, with no {name} left"), late, EXHAUSTED);
    }
    let last = watched.gone.values().fold(watched.begin, |last, gone| last.max(*gone));
    figures.note(
        format!("there were no {name} left"),
        Duration::try_from_secs_f64(last - watched.begin)?,
    );
    site.machine().sh(&format!("rm {SCRIPT}"))?.ok()?;
    site.ready()?;
    before.expect(site)?;
    expect_leases_lost(site, &runs)
}

/// Nothing but its lease has ended an injection.
fn expect_leases_lost(site: &Site, runs: &[String]) -> Result<()> {
    for run in runs {
        let run = site.finished(run)?;
        let injection = &run["injections"][0];
        ensure!(
            injection["ended_by"] == "lease_lost",
            "{} was ended by {}, not with its lease: {run:#}",
            injection["fault"],
            injection["ended_by"]
        );
    }
    Ok(())
}

/// Stops the controller, so that every fault ends without a command, and prints a time before that and what the agent holds then.
fn silence() -> String {
    let stop = signal_controller("STOP");
    format!("{stop}; {BEGIN}; echo $begin; fracas-agent status -o json")
}

/// When each injection's lease ends, in seconds since boot, by what the silence has printed; rather too early than too late.
fn lease_ends(printed: &str) -> Result<BTreeMap<String, f64>> {
    let (now, status) = printed.split_once('\n').context("a time and a status")?;
    let (now, status): (f64, Value) = (now.parse()?, serde_json::from_str(status)?);
    let active = status["active"].as_array().context("a status lists what is active")?;
    let end = |one: &Value| {
        Some((
            one["injection"].as_str()?.to_owned(),
            now + one["lease_left_ms"].as_f64()? / 1_000.0,
        ))
    };
    Ok(active.iter().filter_map(end).collect())
}
