//! What cannot be undone, on real processes: confirmed by a person, done, told in full, and nothing of ours left afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_contest::{Site, VICTIM, impossible, irreversible};
use tests_harness::lab::AGENT;
use tests_harness::{Cmd, Host, Then, wait};

const SOON: Duration = Duration::from_secs(20);
const FINISHED: Duration = Duration::from_secs(60);
const LASTS: Duration = Duration::from_secs(8);
const LONG: &str = "60s";

#[test]
fn each_example_is_spent_with_its_consequences_and_leaves_nothing_of_ours() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("spent", &["web"])?;
    for fault in irreversible() {
        for example in fault.describe().examples {
            let kind = fault.kind();
            println!("{kind}: {}", example.says);
            let before = victim(site.host("web"))?;
            let run = site.finished(&site.attack("web", kind.as_str(), &example.params, LASTS)?, FINISHED)?;
            is_spent(&run, "duration_elapsed").with_context(|| format!("{kind} ({})", example.says))?;
            let told = consequences(&run).join("\n");
            ensure!(told.contains(&format!("(pid {before}, start time ")), "{told}");
            ensure!(
                run["injections"][0]["effect"]["state"] == "confirmed" && run["exit_code"] == 0,
                "{run}"
            );
            site.host("web").processes()?.iter().try_for_each(|p| {
                ensure!(p.pid != before || p.state == 'Z', "the victim {before} lives");
                Ok(())
            })?;
            supervised_again(&site)?;
        }
    }
    site.all_clean()
}

#[test]
fn nothing_starts_that_nobody_confirmed() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("unconfirmed", &["web"])?;
    let before = victim(site.host("web"))?;
    let line = ["attack", "process.kill", "name=redis-server", "--on", "web", "--for", "5s"];
    let said = site.lab.fracas(&line)?;
    ensure!(said.code() == Some(5) && said.stderr.contains("--confirm-irreversible"), "{said:?}");
    ensure!(said.stderr.contains("IRREVERSIBLE steps[0] process.kill"), "{said:?}");
    ensure!(victim(site.host("web"))? == before, "the victim was ended");
    site.all_clean()
}

#[test]
fn grace_children_and_rounds() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("rounds", &["web"])?;
    let host = site.host("web");
    ignored_term_is_followed_by_kill(&site, host)?;
    descendants_go_with_their_parent(&site, host)?;
    rounds_end_every_replacement(&site, host)
}

fn ignored_term_is_followed_by_kill(site: &Site, host: &Host) -> Result<()> {
    host.exec(Cmd::sh("cp /bin/bash /run/tmp/stubborn; mkfifo /run/tmp/silence"))?
        .ok()?;
    let script = "trap '' TERM; exec 3<>/run/tmp/silence; while :; do read -t 1 -u 3; done";
    let first = host.start("stubborn", &Cmd::new("/run/tmp/stubborn").args(["-c", script]))?;
    let run = attack(site, &["name=stubborn", "grace=3s", "--for", "8s"])?;
    let acts = || Ok(site.run(&run)?["injections"][0]["state"] == "holding");
    wait::until("TERM was sent", SOON, acts)?;
    ensure!(lives(host, first)?, "TERM was enough");
    let run = site.finished(&run, FINISHED)?;
    is_spent(&run, "duration_elapsed")?;
    ensure!(!lives(host, first)?, "it outlives KILL");
    let told = consequences(&run);
    let signals: Vec<&str> = told
        .iter()
        .filter_map(|line| line.split_once(" was sent"))
        .map(|(signal, _)| signal)
        .collect();
    ensure!(signals == ["TERM", "KILL"], "{told:?}");
    host.kill9("stubborn", Then::StaysDown)
}

fn descendants_go_with_their_parent(site: &Site, host: &Host) -> Result<()> {
    host.exec(Cmd::sh("cp /bin/bash /run/tmp/tree"))?.ok()?;
    let script = "(sleep 100001 & wait) & sleep 100001 & wait";
    let top = host.start("tree", &Cmd::new("/run/tmp/tree").args(["-c", script]))?;
    let sleepers = || -> Result<Vec<i32>> {
        let all = host.processes_named("sleep")?.into_iter();
        let ours = all.filter(|p| p.state != 'Z' && p.command.iter().any(|word| word == "100001"));
        Ok(ours.map(|p| p.pid).collect())
    };
    wait::until("the tree has grown", SOON, || Ok(sleepers()?.len() == 2))?;
    let before = sleepers()?;
    let run = site.finished(
        &attack(site, &["name=tree", "pick=oldest", "children=true", "signal=KILL", "--for", "5s"])?,
        FINISHED,
    )?;
    is_spent(&run, "duration_elapsed")?;
    for pid in before.iter().chain([&top]) {
        ensure!(!lives(host, *pid)?, "{pid} of the tree lives");
        ensure!(consequences(&run).join(" ").contains(&format!("(pid {pid},")), "{run}");
    }
    host.kill9("tree", Then::StaysDown)?;
    sleepers()?.into_iter().try_for_each(|pid| host.signal(pid, nix::libc::SIGKILL))
}

fn rounds_end_every_replacement(site: &Site, host: &Host) -> Result<()> {
    let first = victim(host)?;
    let run = site.finished(
        &attack(site, &["name=redis-server", "signal=KILL", "every=1s", "--for", "8s"])?,
        FINISHED,
    )?;
    is_spent(&run, "duration_elapsed")?;
    let told = consequences(&run);
    let ended: Vec<&String> = told
        .iter()
        .filter(|line| line.starts_with("KILL was sent to redis-server"))
        .collect();
    let replaced: Vec<&String> = told
        .iter()
        .filter(|line| line.contains("was replaced by pid") && line.ends_with(" ms"))
        .collect();
    ensure!(ended.len() >= 3 && replaced.len() >= 2, "{told:?}");
    ensure!(ended[0].contains(&format!("(pid {first},")), "{told:?}");
    let proof = site.lab.json(&["runs", "show", run["id"].as_str().unwrap_or_default()])?;
    ensure!(proof["hosts"][0]["cleanliness"] == "clean", "{proof}");
    let report = site.lab.fracas(&["runs", "report", run["id"].as_str().unwrap_or_default()])?;
    ensure!(
        report.stdout.contains("changed for good") && report.stdout.contains("was replaced by pid"),
        "{report:?}"
    );
    supervised_again(site)
}

#[test]
fn every_end_of_the_rounds_is_spent_and_nothing_is_ended_after_it() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("ends", &["web"])?;
    let host = site.host("web");
    let stop = |run: &str| site.lab.fracas(&["stop", run])?.ok().map(drop);
    let halt = |_: &str| site.lab.fracas(&["halt", "--reason", "enough"])?.ok().map(drop);
    let lose = |_: &str| host.kill9(AGENT, Then::StartsAgain);
    let ways: [(&str, Way<'_>); 3] = [("stop", &stop), ("halt", &halt), ("guardian", &lose)];
    for (ended_by, end) in ways {
        let run = attack(&site, &["name=redis-server", "signal=KILL", "every=1s", "--for", LONG])?;
        let acts = || Ok(site.run(&run)?["injections"][0]["state"] == "holding");
        wait::until("it acts", SOON, acts)?;
        end(&run)?;
        if ended_by == "guardian" {
            site.lab.all_connected()?;
        }
        let run = site.finished(&run, FINISHED)?;
        is_spent(&run, ended_by)?;
        let survivor = wait::for_some("the supervisor has started it again", SOON, || Ok(victim(host).ok()))?.0;
        // Two rounds would have come by now.
        std::thread::sleep(Duration::from_millis(2_500));
        ensure!(lives(host, survivor)?, "a round came after the end by {ended_by}");
        if ended_by == "halt" {
            site.lab.fracas(&["release", "--reason", "on"])?.ok()?;
        }
    }
    supervised_again(&site)?;
    site.all_clean()
}

/// How a run of this id is made to end.
type Way<'a> = &'a dyn Fn(&str) -> Result<()>;

/// Orders a kill that is confirmed and leaves it alone; the run's id.
fn attack(site: &Site, words: &[&str]) -> Result<String> {
    let fixed = ["attack", "process.kill", "--on", "web", "--confirm-irreversible", "--detach"];
    let line: Vec<&str> = fixed[..2].iter().chain(words).chain(&fixed[2..]).copied().collect();
    let run = site.lab.json(&line)?;
    Ok(run["id"].as_str().context("a run has an id")?.to_owned())
}

fn is_spent(run: &Value, ended_by: &str) -> Result<()> {
    let injection = &run["injections"][0];
    ensure!(injection["state"] == "spent" && injection["ended_by"] == ended_by, "{run}");
    ensure!(
        run["cleanup"] == "proven" && run["hosts"][0]["residue"] == serde_json::json!([]),
        "{run}"
    );
    ensure!(run["verdict"] != "passed" && !consequences(run).is_empty(), "{run}");
    Ok(())
}

fn consequences(run: &Value) -> Vec<String> {
    let list = run["hosts"][0]["consequences"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect()
}

fn victim(host: &Host) -> Result<i32> {
    let victims = host.processes_named(VICTIM)?;
    let living = victims.iter().filter(|p| p.state != 'Z').map(|p| p.pid).min();
    living.context("a victim lives")
}

fn lives(host: &Host, pid: i32) -> Result<bool> {
    Ok(host.processes()?.iter().any(|p| p.pid == pid && p.state != 'Z'))
}

/// The victim's supervisor has it back, and children that lost their parent are put away: they are the fault's doing, not ours.
fn supervised_again(site: &Site) -> Result<()> {
    let host = site.host("web");
    let back = || Ok(host.service("victim")?.pid.is_some() && victim(host).is_ok());
    wait::until("the supervisor has started it again", SOON, back)?;
    let orphans = host
        .processes_named("sleep")?
        .into_iter()
        .filter(|p| p.parent == 1 && p.state != 'Z');
    orphans.map(|p| p.pid).try_for_each(|pid| host.signal(pid, nix::libc::SIGKILL))
}
