//! What any process needs is used up on the whole host while faults act: process ids, descriptors, processors; all is undone in time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::shell::{BEGIN, main_pid};
use super::trial::{Before, injection};
use super::{Case, Extent, Figures};
use crate::site::{LASTS, Site};

pub(super) const CASES: [Case; 3] = [
    Case {
        name: "pids",
        what: "there is no process id left",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, "pids", "cpu.burn percent=20"),
    },
    Case {
        name: "descriptors",
        what: "no file can be opened any more",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, "descriptors", "cpu.burn percent=20"),
    },
    Case {
        name: "processors",
        what: "every processor is kept busy by processes of the highest priority, and by a fault",
        extent: Extent::Long,
        run: |site, figures| exhausted(site, figures, "processors", "cpu.burn"),
    },
];

/// The bound where processors, process ids or descriptors are used up.
const EXHAUSTED: Duration = Duration::from_secs(6);
/// Longer than the script watches.
const GIVE_UP: Duration = Duration::from_secs(240);

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
    /// Injections whose effects were not there in the beginning.
    idle: Vec<String>,
    begin: f64,
    exhausted: bool,
    gone: BTreeMap<String, f64>,
}

fn exhausted(site: &mut Site, figures: &mut Figures<'_>, resource: &str, burn: &'static str) -> Result<()> {
    site.ready()?;
    let before = Before::look(site)?;
    site.machine().put(SCRIPT, include_str!("../../guest/exhaust.py"))?;
    let burn = Held {
        fault: burn,
        look: "exists",
        at: "/sys/fs/cgroup/fracas-ID",
    };
    // Last, since it slows down what comes after it.
    let held: Vec<&Held> = HELD.iter().chain([&burn]).collect();
    let mut ids = Vec::new();
    for one in &held {
        let words: Vec<&str> = one.fault.split_whitespace().collect();
        let run = site.attack(&words, LASTS)?;
        ids.push(injection(site, &run)?["id"].as_str().context("an injection has an id")?.to_owned());
    }
    let db6 = site.neighbour().v6().to_string();
    let look = |(one, id): (&&Held, &String)| json!({"id": id, "look": one.look, "at": one.at.replace("ID", id).replace("DB6", &db6)});
    let looks = json!(held.iter().zip(&ids).map(look).collect::<Vec<_>>()).to_string();
    let ends = lease_ends(site)?;
    let printed = site.machine().exec(&["python3", SCRIPT, resource, &looks], b"", GIVE_UP)?.ok()?;
    site.machine().sh(&signal_controller("CONT"))?.ok()?;
    let watched: Watched = serde_json::from_str(&printed)?;
    ensure!(
        watched.idle.is_empty(),
        "some faults did not act when there were no {resource} left: {watched:?}"
    );
    ensure!(watched.exhausted, "there were {resource} left: {watched:?}");
    for (one, id) in held.iter().zip(&ids) {
        let kind = one.fault.split(' ').next().unwrap_or_default();
        let end = ends.get(id).with_context(|| format!("{kind} has a lease"))?;
        let gone = watched
            .gone
            .get(id)
            .with_context(|| format!("{kind} was not undone: {watched:?}"))?;
        let late = Duration::try_from_secs_f64(gone - end).unwrap_or_default();
        figures.add(format!("{kind} is gone after its lease, with no {resource} left"), late, EXHAUSTED);
    }
    let last = watched.gone.values().fold(watched.begin, |last, gone| last.max(*gone));
    figures.note(
        format!("there were no {resource} left"),
        Duration::try_from_secs_f64(last - watched.begin)?,
    );
    site.machine().sh(&format!("rm {SCRIPT}"))?.ok()?;
    site.ready()?;
    before.expect(site)
}

/// Stopped where it is, the controller renews no lease, so that every fault ends without a command.
fn signal_controller(signal: &str) -> String {
    format!("kill -{signal} $({})", main_pid("fracas-controller"))
}

/// Silences the controller, and returns when each injection's lease ends, in seconds since boot; rather too early than too late.
fn lease_ends(site: &Site) -> Result<BTreeMap<String, f64>> {
    let silence = signal_controller("STOP");
    let line = format!("{silence}; {BEGIN}; echo $begin; fracas-agent status -o json");
    let printed = site.machine().sh(&line)?.ok()?;
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
