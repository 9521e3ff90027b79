//! The agent is lost in every way, and what it held is undone by somebody else.

use agent_levers::JournalStore;
use proto_model::id::InjectionId;
use proto_model::injection::EndedBy;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::time::{Duration, Instant};

use crate::agent::{Agent, Victim, guardian_of, is_root, wait_until};

/// The bound for an agent that was killed, or ended by SIGTERM.
const KILLED: Duration = Duration::from_secs(10);
/// The bound for an agent that hangs.
const HANGS: Duration = Duration::from_secs(20);

fn pausing(victim: &Victim) -> (Agent, InjectionId) {
    let agent = Agent::holding(&[("process.pause", json!({"pid": victim.child.id()}))]);
    let id = agent.applied();
    assert!(wait_until(Duration::from_secs(2), || victim.state() == 'T'), "{}", victim.state());
    (agent, id)
}

fn closed_by(agent: &Agent, id: &InjectionId) -> Option<EndedBy> {
    let paths = agent.paths();
    let journal_store = JournalStore::open(&paths.journal(), &paths.journal_mirror()).unwrap();
    journal_store.read(id).unwrap().closed.map(|outcome| outcome.ended_by)
}

#[test]
fn a_terminated_agent_undoes_what_it_holds() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-e");
    let (mut agent, id) = pausing(&victim);
    let guardian = guardian_of(agent.child.id()).unwrap();
    agent.signal(Signal::TERM);
    let mut ended = None;
    assert!(
        wait_until(KILLED, || {
            ended = agent.child.try_wait().unwrap();
            ended.is_some()
        }),
        "the agent does not end"
    );
    // At once: an agent that has ended with 0 has nothing left to undo, and its guardian has not done it.
    assert_ne!(victim.state(), 'T');
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    assert_eq!(closed_by(&agent, &id), Some(EndedBy::EndedEarly));
    assert!(
        wait_until(KILLED, || guardian_of(agent.child.id()) != Some(guardian)),
        "the guardian leaves with its agent"
    );
}

#[test]
fn a_killed_agent_is_replaced_by_its_guardian() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-a");
    let (mut agent, id) = pausing(&victim);
    let began = Instant::now();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    assert!(wait_until(KILLED, || victim.state() != 'T'));
    println!("killed agent: undone after {} ms", began.elapsed().as_millis());
    assert!(wait_until(KILLED, || closed_by(&agent, &id) == Some(EndedBy::Guardian)));
    assert!(
        wait_until(KILLED, || guardian_of(agent.child.id()).is_none()),
        "the guardian leaves when it is done"
    );
}

#[test]
fn a_stopped_agent_is_killed_and_replaced() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-b");
    let (mut agent, id) = pausing(&victim);
    let began = Instant::now();
    agent.signal(Signal::STOP);
    assert!(wait_until(HANGS, || victim.state() != 'T'));
    println!("stopped agent: undone after {} ms", began.elapsed().as_millis());
    assert!(wait_until(HANGS, || closed_by(&agent, &id) == Some(EndedBy::Guardian)));
    assert!(!agent.child.wait().unwrap().success(), "it was killed before anything was undone");
}

#[test]
fn a_killed_guardian_is_back_within_two_seconds_and_works() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-c");
    let (mut agent, _) = pausing(&victim);
    let first = guardian_of(agent.child.id()).unwrap();
    kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert!(wait_until(Duration::from_secs(2), || guardian_of(agent.child.id())
        .is_some_and(|pid| pid != first)));
    assert_eq!(victim.state(), 'T', "the fault goes on");
    // Wait until the new one has given a sign of life, then lose the agent.
    assert!(wait_until(Duration::from_secs(2), || guardian_of(agent.child.id()).is_some()));
    agent.child.kill().unwrap();
    assert!(wait_until(KILLED, || victim.state() != 'T'));
}

#[test]
fn agent_and_guardian_killed_together_are_made_good_by_rescue() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-d");
    let (mut agent, id) = pausing(&victim);
    let guardian = guardian_of(agent.child.id()).unwrap();
    agent.signal(Signal::STOP);
    kill_process(Pid::from_raw(guardian.cast_signed()).unwrap(), Signal::KILL).unwrap();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    assert_eq!(victim.state(), 'T', "nobody is left to undo it");
    let rescue = crate::manners::command(&agent.paths(), &["rescue"]);
    assert!(rescue.status.success(), "{rescue:?}");
    assert!(String::from_utf8_lossy(&rescue.stdout).contains(id.as_str()));
    assert!(wait_until(Duration::from_secs(1), || victim.state() != 'T'));
    assert_eq!(closed_by(&agent, &id), Some(EndedBy::Rescue));
    let again = crate::manners::command(&agent.paths(), &["rescue"]);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("nothing to undo"));
}

#[test]
fn a_rescue_without_patience_leaves_what_an_agent_holds_and_says_so_at_once() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-h");
    let (agent, id) = pausing(&victim);
    let began = Instant::now();
    let rescue = crate::manners::command(&agent.paths(), &["rescue", "--patience", "0"]);
    let took = began.elapsed();
    assert_eq!(rescue.status.code(), Some(1), "{rescue:?}");
    let said = String::from_utf8_lossy(&rescue.stdout);
    assert!(
        said.contains(&format!("left     {id}: another process holds its journal")),
        "{said}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(victim.state(), 'T', "the fault goes on");
}

#[test]
fn an_agent_that_does_not_start_for_want_of_its_users_undoes_what_another_left() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-h");
    let (mut agent, id) = pausing(&victim);
    let guardian = guardian_of(agent.child.id()).unwrap();
    agent.signal(Signal::STOP);
    kill_process(Pid::from_raw(guardian.cast_signed()).unwrap(), Signal::KILL).unwrap();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    assert_eq!(victim.state(), 'T', "no process is left to undo it");
    let paths = agent.paths();
    std::fs::write(&paths.config, "[users]\nsession = \"no-such-user\"\nworkers = \"no-such-user\"\n").unwrap();
    let run = crate::manners::command(&paths, &["run"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(wait_until(Duration::from_secs(1), || victim.state() != 'T'));
    assert_eq!(closed_by(&agent, &id), Some(EndedBy::Rescue));
}

#[test]
fn the_last_guard_leaves_a_running_agent_alone_and_undoes_what_it_left() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-g");
    let (mut agent, id) = pausing(&victim);
    let paths = agent.paths();
    let running = std::fs::File::create(paths.instance_lock()).unwrap();
    running.lock().unwrap();
    let mut watch = crate::manners::start(&paths, &["rescue", "--watch"]);
    let guardian = guardian_of(agent.child.id()).unwrap();
    agent.signal(Signal::STOP);
    kill_process(Pid::from_raw(guardian.cast_signed()).unwrap(), Signal::KILL).unwrap();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(victim.state(), 'T', "an agent runs, and it is for the agent to undo it");
    drop(running);
    assert!(wait_until(KILLED, || victim.state() != 'T'));
    assert!(wait_until(KILLED, || closed_by(&agent, &id) == Some(EndedBy::Rescue)));
    assert!(watch.try_wait().unwrap().is_none(), "its end is still to be told to the controller");
    std::fs::remove_dir_all(paths.journal()).unwrap();
    assert!(wait_until(KILLED, || watch
        .try_wait()
        .unwrap()
        .is_some_and(|status| status.success())));
}

#[test]
fn a_package_is_refused_while_an_agent_runs_and_not_because_of_the_last_guard() {
    if !is_root() {
        return;
    }
    let victim = Victim::named("fracas-victim-p");
    let (mut agent, _) = pausing(&victim);
    let paths = agent.paths();
    let guardian = guardian_of(agent.child.id()).unwrap();
    agent.signal(Signal::STOP);
    kill_process(Pid::from_raw(guardian.cast_signed()).unwrap(), Signal::KILL).unwrap();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    let running = std::fs::File::create(paths.instance_lock()).unwrap();
    running.lock().unwrap();
    let mut watch = crate::manners::start(&paths, &["rescue", "--watch"]);
    let refused = crate::manners::command(&paths, &["rescue", "--package"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    for part in [
        "an agent still runs".to_owned(),
        format!("process {} holds", std::process::id()),
        paths.instance_lock().display().to_string(),
        "Stop it".to_owned(),
    ] {
        assert!(said.contains(&part), "{said}");
    }
    assert_eq!(victim.state(), 'T', "an agent runs, and it is for the agent to undo it");
    drop(running);
    let clean = crate::manners::command(&paths, &["rescue", "--package"]);
    assert!(clean.status.success(), "{clean:?}");
    assert_ne!(victim.state(), 'T');
    assert!(watch.try_wait().unwrap().is_none(), "the last guard has run all the time");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_rescue_removes_what_belongs_to_no_journal_and_says_so() {
    if !is_root() {
        return;
    }
    let agent = Agent::holding(&[("cpu.burn", json!({"percent": 5, "cores": 1}))]);
    let id = agent.applied();
    let groups = || {
        let view = agent_view::LinuxView::with_group_root(&agent.paths().group_root);
        let folder = |hierarchy: &agent_view::hierarchy::Hierarchy| hierarchy.folder(&agent_view::GroupId::of(&id));
        view.hierarchies()
            .used()
            .iter()
            .map(folder)
            .filter(|folder| folder.is_dir())
            .count()
    };
    assert!(groups() > 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let strange = agent_daemon::paths::Paths {
        group_root: agent.paths().group_root,
        ..crate::agent::paths(elsewhere.path())
    };
    let rescue = crate::manners::command(&strange, &["rescue"]);
    let said = String::from_utf8_lossy(&rescue.stdout);
    assert!(
        rescue.status.success() && said.contains(&format!("removed  group fracas-{id}")),
        "{rescue:?}"
    );
    assert_eq!(groups(), 0);
}

#[test]
fn a_killed_worker_ends_its_fault_within_five_seconds_with_the_reason() {
    if !is_root() {
        return;
    }
    let agent = Agent::holding(&[("cpu.burn", json!({"percent": 5, "cores": 1}))]);
    let worker = agent.hear(Duration::from_secs(10), |r| match &r.fact {
        proto_model::injection::AgentFact::Applied(applied) => applied.effect["worker"]["pid"].as_u64(),
        _ => None,
    });
    let pid = Pid::from_raw(i32::try_from(worker.unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let reason = agent.hear(Duration::from_secs(5), |r| match &r.fact {
        proto_model::injection::AgentFact::Ending(ending) => Some(ending.clone()),
        _ => None,
    });
    let ending = reason.expect("no end was told in 5 s");
    assert_eq!(ending.ended_by, EndedBy::EndedEarly);
    assert!(ending.reason.unwrap().contains("is gone"));
}

#[test]
fn load_ends_with_the_agent_and_its_group_is_removed() {
    if !is_root() {
        return;
    }
    let mut agent = Agent::holding(&[("cpu.burn", json!({"percent": 5, "cores": 1}))]);
    let id = agent.applied();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    assert!(wait_until(KILLED, || closed_by(&agent, &id) == Some(EndedBy::Guardian)));
    let view = agent_view::LinuxView::with_group_root(&agent.paths().group_root);
    let groups = agent_view::HostView::our_groups(&view).unwrap();
    assert!(!groups.contains(&agent_view::GroupId::of(&id)), "{groups:?}");
}
