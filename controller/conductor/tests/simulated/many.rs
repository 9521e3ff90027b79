//! Runs over many hosts: what they cost grows with the hosts, and no time limit is used up by their number.

use std::time::{Duration, Instant};

use proto_model::verdict::{Cleanup, Verdict};

use crate::fleet::Sim;
use crate::plans::{attack, experiment, fault, wait};

const HOSTS: usize = 5_000;
/// A machine that is busy with other tests is not even.
const SLACK: Duration = Duration::from_secs(5);

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("h{number}")).collect()
}

/// What a run over so many hosts takes, checked to be proven soon after its last undo.
fn run_over(count: usize) -> (u64, Duration) {
    let names = names(count);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (started, sim) = (Instant::now(), Sim::new(&attack(&names, 20_000)));
    let ended = sim.finish(60_000);
    assert_eq!(ended.run.cleanup, Cleanup::Proven, "{:?}", ended.run.reasons);
    let last = ended.run.injections.iter().filter_map(|i| i.ended_at).max().unwrap();
    let proven = ended.run.finished_at.unwrap().since(last);
    assert!(proven < 2_000, "judged {proven} ms after the last undo");
    let (steps, took) = (ended.sim.steps, started.elapsed());
    println!("{count} hosts: {steps} inputs in {took:?}");
    (steps, took)
}

#[test]
fn five_thousand_hosts_are_proven_and_judged_soon_after_their_last_undo() {
    let (_, few) = run_over(HOSTS / 5);
    let (steps, many) = run_over(HOSTS);
    // Preflight, order, applied, windows, ending, undone, proof: some inputs for each host, and the beats.
    assert!(steps < 12 * HOSTS as u64 + 2_000, "{steps} inputs");
    // Five times the hosts take five times as long, and with the square of them twenty-five times.
    assert!(many < few * 15 + SLACK, "{HOSTS} hosts took {many:?}, a fifth of them {few:?}");
}

#[test]
fn proofs_that_take_longer_than_the_limit_one_after_the_other_are_all_waited_for() {
    let names = names(500);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sim = Sim::new(&attack(&names, 10_000));
    // All of them together take 50 s; the limit for one of them is 30 s.
    sim.proofs_per_beat = 1;
    let ended = sim.finish(120_000);
    assert_eq!(ended.run.cleanup, Cleanup::Proven, "{:?}", ended.run.reasons);
    assert!(ended.sim.elapsed() > 50_000);
}

#[test]
fn the_smallest_setting_that_is_accepted_is_decided_whatever_the_beats_are() {
    for number in 0..20_i64 {
        let mut plan = experiment(&["web"], vec![fault(0, &["web"], 6_000), wait(1, 100)]);
        let hypothesis = plan.hypothesis.as_mut().unwrap();
        (hypothesis.before_ms, hypothesis.after_ms) = (3_000, 3_000);
        let mut sim = Sim::new(&plan);
        sim.jitter = (100 * (number * 7 % 10), 100 * (number % 5));
        let jitter = sim.jitter;
        let ended = sim.finish(60_000);
        assert_eq!(ended.run.verdict, Some(Verdict::Passed), "{jitter:?}: {:?}", ended.run.reasons);
    }
}
