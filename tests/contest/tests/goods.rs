//! Memory and disks at their limits: who is killed when memory is short, what stays free, and undoing on a full disk.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_contest::impossible;
use tests_harness::lab::AGENT;
use tests_harness::{Cmd, Host, Lab, LabPlan, Then, wait};

const MEBI: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(15);
const FINISHED: Duration = Duration::from_secs(60);
/// A host that keeps nothing for itself: what is kept here all the same is kept by the program.
const NOTHING_KEPT: &str = "[reserve]\nmemory = \"0B\"\ndisk = \"0B\"\ndisk_percent = 0\n";
const WEB: &str = "web";

struct Ground(Lab);

impl Ground {
    /// One host, prepared before its agent starts.
    fn new(name: &str, rules: &str, prepare: impl FnOnce(&Host) -> Result<()>) -> Result<Self> {
        let plan = LabPlan::new(name, "contest").rules(rules).host(WEB, "target");
        let lab = plan.create()?;
        prepare(lab.host(WEB))?;
        lab.start_controller()?;
        lab.join(WEB)?;
        lab.all_connected()?;
        Ok(Self(lab))
    }

    fn host(&self) -> &Host {
        self.0.host(WEB)
    }

    /// The run's id, once the fault acts.
    fn attack(&self, fault: &str, words: &[&str], lasts: &str) -> Result<String> {
        let line = [&["attack", fault], words, &["--on", WEB, "--for", lasts, "--detach"]].concat();
        let run = self.0.json(&line)?;
        let id = run["id"].as_str().context("a run has an id")?.to_owned();
        let acts = wait::until(
            format_args!("{fault} acts"),
            SOON,
            || Ok(self.injection(&id)?["state"] == "holding"),
        );
        acts.with_context(|| format!("{:?}", self.run(&id).map(|run| run.to_string())))?;
        Ok(id)
    }

    fn refused(&self, fault: &str, words: &[&str]) -> Result<String> {
        let line = [&["attack", fault], words, &["--on", WEB, "--for", "10s"]].concat();
        let said = self.0.fracas(&line)?;
        ensure!(!said.success(), "not refused: {said:?}");
        Ok(said.stderr + &said.stdout)
    }

    fn run(&self, id: &str) -> Result<Value> {
        self.0.json(&["runs", "show", id])
    }

    fn injection(&self, id: &str) -> Result<Value> {
        Ok(self.run(id)?["injections"][0].clone())
    }

    fn finished(&self, id: &str) -> Result<Value> {
        let over = || Ok(Some(self.run(id)?).filter(|run| run["state"] == "finished"));
        Ok(wait::for_some("the run is finished", FINISHED, over)?.0)
    }

    fn workers(&self) -> Result<Vec<i32>> {
        let ours = self.host().processes_named("fracas-worker")?.into_iter();
        let works = ours.filter(|process| process.state != 'Z' && process.command.iter().any(|word| word == "worker"));
        Ok(works.map(|process| process.pid).collect())
    }

    /// Of the one worker.
    fn worker_memory(&self) -> Result<u64> {
        let pid = *self.workers()?.first().context("a worker runs")?;
        let rollup = self.host().read(&format!("/proc/{pid}/smaps_rollup"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("a Pss line")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
    }

    fn hog(&self, words: &[&str], mebi: u64) -> Result<String> {
        let id = self.attack("memory.hog", &[words, &["reserve=0B"]].concat(), "60s")?;
        wait::until(format_args!("{mebi} MiB are taken"), SOON, || {
            Ok(self.worker_memory()? >= mebi * MEBI)
        })?;
        Ok(id)
    }

    /// Everybody but workers, to see whom memory's end took.
    fn others(&self) -> Result<Vec<i32>> {
        let workers = self.workers()?;
        let all = self.host().processes()?.into_iter().filter(|process| process.state != 'Z');
        Ok(all.map(|process| process.pid).filter(|pid| !workers.contains(pid)).collect())
    }
}

/// Needs so much memory itself, and says at its end how much it had. One process alone: while the kernel takes the first victim's
/// memory back, a second one that asks at that moment can cost it a second victim.
fn hungry(mebi: u64) -> Cmd {
    Cmd::sh(format!("dd if=/dev/zero bs={mebi}M count=1 iflag=fullblock of=/dev/null 2>&1"))
}

#[test]
fn when_memory_is_short_the_worker_goes_first_and_it_is_told() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let ground = Ground::new("oom", NOTHING_KEPT, |host| host.limit_memory(400 * MEBI))?;
    for on_oom in ["error", "accepted"] {
        let id = ground.hog(&["amount=150MiB", &format!("on_oom={on_oom}")], 148)?;
        let before = ground.others()?;
        let fed = ground.host().exec(hungry(300))?.ok()?;
        ensure!(fed.contains(&format!("{} bytes", 300 * MEBI)), "the hungry one got {fed}");
        ensure!(ground.workers()?.is_empty(), "the worker lives: memory was never short");
        let after = ground.others()?;
        ensure!(
            before.iter().all(|pid| after.contains(pid)),
            "somebody else was killed: {before:?} {after:?}"
        );
        if on_oom == "error" {
            let gone = || Ok(ground.injection(&id)?["state"] == "undone");
            wait::until("the fault without its worker is undone", Duration::from_secs(6), gone)?;
            let run = ground.finished(&id)?;
            ensure!(
                run["injections"][0]["ended_by"] == "ended_early" && run["verdict"] == "error",
                "{run}"
            );
            ensure!(run.to_string().contains("want of memory"), "the reason is not told: {run}");
        } else {
            let told = || {
                let effect = ground.injection(&id)?["effect"].clone();
                let killed = effect["note"].to_string().contains("killed the worker for want of memory");
                Ok(killed && effect["state"] == "mismatch" && effect["measured"] == 0.0)
            };
            wait::until("the kill is told, and that nothing is held", SOON, told)?;
            ensure!(ground.injection(&id)?["state"] == "holding", "it ended although that was accepted");
            ground.0.fracas(&["stop", &id])?.ok()?;
            ensure!(ground.finished(&id)?["cleanup"] == "proven");
        }
    }
    Ok(())
}

#[test]
fn in_total_memory_is_given_back_when_others_need_it_and_more_than_there_is_is_refused() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let ground = Ground::new("total", NOTHING_KEPT, |host| host.limit_memory(500 * MEBI))?;
    let refusal = ground.refused("memory.hog", &["amount=490MiB", "reserve=64MiB"])?;
    ensure!(refusal.contains("64MiB stay free") && refusal.contains("16MiB.."), "{refusal}");
    let id = ground.hog(&["amount=60%", "mode=total"], 150)?;
    let is_full = || Ok(ground.host().memory_used()?.abs_diff(300 * MEBI) < 10 * MEBI);
    wait::until("memory is used to 60 %", SOON, is_full)?;
    let had = ground.worker_memory()?;
    let bytes = 100 * MEBI;
    let holds = Cmd::sh(format!("(head -c {bytes} /dev/zero; sleep 60) | tail -c {bytes} >/dev/null"));
    let sink = File::options().write(true).open("/dev/null")?;
    let _other = ground.host().background(&holds, &sink)?;
    wait::until("the worker gives back what another takes", SOON, || {
        Ok(ground.worker_memory()? < had - 90 * MEBI && is_full()?)
    })?;
    ground.0.fracas(&["stop", &id])?.ok()?;
    ensure!(ground.finished(&id)?["cleanup"] == "proven");
    ensure!(ground.host().memory_used()? < 200 * MEBI, "memory is not free again");
    Ok(())
}

#[test]
fn the_volume_of_our_own_journal_keeps_its_reserve() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let ground = Ground::new("journal", NOTHING_KEPT, |host| host.mount_disk("/var/lib/fracas", 400 * MEBI))?;
    let refusal = ground.refused("disk.fill", &["path=/var/lib/fracas", "used=100"])?;
    ensure!(refusal.contains("64MiB must stay free"), "{refusal}");
    let before = ground.host().space("/var/lib/fracas")?;
    let id = ground.attack("disk.fill", &["path=/var/lib/fracas", "free=70MiB"], "60s")?;
    let left = ground.host().space("/var/lib/fracas")?.available;
    ensure!((65 * MEBI..=70 * MEBI).contains(&left), "{left} bytes are free");
    ground.0.fracas(&["stop", &id])?.ok()?;
    ensure!(ground.finished(&id)?["cleanup"] == "proven");
    let after = ground.host().space("/var/lib/fracas")?.available;
    ensure!(after.abs_diff(before.available) < MEBI, "{before:?} before, {after} free after");
    Ok(())
}

#[test]
fn a_disk_without_a_byte_left_is_emptied_all_the_same() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let ground = Ground::new("full", NOTHING_KEPT, |host| host.mount_disk("/srv", 300 * MEBI))?;
    let host = ground.host();
    for killed in [false, true] {
        let id = ground.attack("disk.fill", &["path=/srv", "free=0B"], "60s")?;
        // What allocating left in pieces, and every inode.
        let fill = "cat /dev/zero >/srv/filler 2>/dev/null; i=0; while true >/srv/n$i; do i=$((i+1)); done 2>/dev/null; true";
        host.exec(Cmd::sh(fill))?.ok()?;
        ensure!(host.space("/srv")?.available == 0);
        if killed {
            host.kill9(AGENT, tests_harness::Then::StartsAgain)?;
        } else {
            ground.0.fracas(&["stop", &id])?.ok()?;
        }
        let run = ground.finished(&id)?;
        ensure!(run["cleanup"] == "proven" && run["injections"][0]["state"] == "undone", "{run}");
        let left = host.exec(Cmd::sh(
            "ls -A /srv | grep -c fracas; rm -f /srv/filler; find /srv -name 'n*' -delete",
        ))?;
        ensure!(left.stdout.trim() == "0" && host.space("/srv")?.available > 250 * MEBI, "{left:?}");
        ground.0.all_connected()?;
    }
    Ok(())
}

#[test]
fn a_killed_worker_ends_a_growing_file() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let ground = Ground::new("grows", NOTHING_KEPT, |host| host.mount_disk("/srv", 300 * MEBI))?;
    let id = ground.attack("disk.fill", &["path=/srv", "amount=200MiB", "rate=5MiB"], "60s")?;
    let worker = *ground.workers()?.first().context("a worker runs")?;
    ground.host().signal(worker, nix::libc::SIGKILL)?;
    wait::until("the fault is undone", Duration::from_secs(6), || {
        Ok(ground.injection(&id)?["state"] == "undone")
    })?;
    let run = ground.finished(&id)?;
    ensure!(
        run["injections"][0]["ended_by"] == "ended_early" && run["cleanup"] == "proven",
        "{run}"
    );
    ensure!(run.to_string().contains("is gone"), "the reason is not told: {run}");
    Ok(())
}

#[test]
fn a_file_that_was_moved_ends_the_fault_and_is_removed_where_it_is_by_the_guardian_too() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let ground = Ground::new("moved", NOTHING_KEPT, |host| host.mount_disk("/srv", 300 * MEBI))?;
    let host = ground.host();
    host.exec(Cmd::sh("mkdir -p /srv/deep/below"))?.ok()?;
    let before = host.space("/srv")?;
    for agent_dies in [false, true] {
        let id = ground.attack("disk.fill", &["path=/srv", "amount=200MiB"], "60s")?;
        ensure!(host.space("/srv")?.used >= before.used + 200 * MEBI, "nothing is filled");
        host.exec(Cmd::sh("mv /srv/.fracas-* /srv/deep/below/elsewhere"))?.ok()?;
        if agent_dies {
            host.kill9(AGENT, Then::StaysDown)?;
        }
        let free = || Ok(host.space("/srv")?.used.abs_diff(before.used) < MEBI);
        wait::until("the space is free again", Duration::from_secs(10), free)?;
        let left = host.exec(Cmd::sh("find /srv -type f"))?.ok()?;
        ensure!(left.trim().is_empty(), "files are left: {left}");
        if agent_dies {
            ground.0.start_agent(WEB)?;
        }
        let run = ground.finished(&id)?;
        ensure!(run["cleanup"] == "proven", "{run}");
        let told = ground.0.fracas(&["runs", "events", &id])?.ok()?;
        ensure!(told.contains("/srv/deep/below/elsewhere"), "where it was is not told: {told}");
    }
    Ok(())
}
