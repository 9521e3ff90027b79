//! The real guardian at the agent's side: without one that has shown a sign of life, the agent is not guarded.

use std::time::{Duration, Instant};

use agent_daemon::guardian_handle::Keeper;
use agent_warden::Guardian;
use rustix::process::{Pid, Signal, kill_process};

use crate::agent::{PROGRAM, guardian_of, is_root, paths, wait_until};

const WATCHDOG: Duration = Duration::from_millis(1_500);
const READY_WITHIN: Duration = Duration::from_secs(10);

/// An agent's signs of life, each a new one, so that the guardian does not take this process for one that hangs.
struct Ticks(Instant);

impl Ticks {
    fn tick(&self, keeper: &mut Keeper) {
        keeper.tick(u64::try_from(self.0.elapsed().as_micros()).unwrap() + 1);
    }

    fn until(&self, keeper: &mut Keeper, is: impl Fn(&Keeper) -> bool) -> bool {
        wait_until(READY_WITHIN, || {
            self.tick(keeper);
            is(keeper)
        })
    }
}

#[test]
fn an_agent_is_guarded_only_while_a_guardian_lives_that_has_shown_a_sign_of_life() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    std::fs::create_dir_all(&paths.run_dir).unwrap();
    let (mut keeper, ticks) = (Keeper::new(PROGRAM.into(), paths, WATCHDOG).unwrap(), Ticks(Instant::now()));
    let own = std::process::id();
    assert!(!keeper.is_guarded(), "no guardian was started yet");
    ticks.tick(&mut keeper);
    assert!(!keeper.is_guarded(), "a guardian was started and has shown no sign of life");
    assert!(ticks.until(&mut keeper, Keeper::is_guarded), "the guardian shows a sign of life");

    let first = guardian_of(own).unwrap();
    kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::KILL).unwrap();
    // Without a tick: an order that comes right after the guardian's death must find it dead.
    assert!(
        wait_until(READY_WITHIN, || !keeper.is_guarded()),
        "its death is seen without a tick"
    );
    let replaced = |_: &Keeper| guardian_of(own).is_some_and(|pid| pid != first);
    assert!(ticks.until(&mut keeper, replaced), "another guardian is started");
    assert!(ticks.until(&mut keeper, Keeper::is_guarded));

    keeper.leave(true);
    assert!(!keeper.is_guarded());
    assert!(
        wait_until(READY_WITHIN, || guardian_of(own).is_none()),
        "the guardian leaves with a clean agent"
    );
}
