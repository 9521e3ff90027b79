//! Every kind, every example, a crash at every step: nothing of ours is left, and what can be undone is as it was. Nothing here knows a kind by name.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use agent_faults::{AnyFault, Protection, Scene, registry};
use agent_journal::{JournalError, Opened, Outcome};
use agent_levers::fake::{CrashPlan, FakeHost, Footprint};
use agent_levers::{Exemptions, Journal, JournalStore, Levers, PullContext, RewindReport, Undo, UndoLog, prove, rewind};
use agent_view::{Feature, HostView, Presence, Process, Volume};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::injection::{Cleanliness, EndedBy};
use proto_model::peer::Network;
use serde_json::Value;

const DURATION_MS: u64 = 60_000;
/// Parts of the kernel for which there is a substitute.
const LACKING: [Feature; 1] = [Feature::Netem];
/// Crash points that are tried side by side: some kinds look at the host for a while before they act.
const SIDE_BY_SIDE: usize = 32;
/// More steps than any life has.
const MOST_STEPS: u64 = 2_000;

struct Unprotected;

impl Protection for Unprotected {
    fn process(&self, process: &Process) -> Option<String> {
        (process.pid == 1 || process.kernel_thread).then(|| "it is always protected".to_owned())
    }

    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Vec::new())
    }

    fn interface(&self, _name: &str) -> Option<String> {
        None
    }

    fn port(&self, _port: u16) -> Option<String> {
        None
    }

    fn path(&self, _path: &Path, _volume: &Volume) -> Option<String> {
        None
    }

    fn memory_reserve(&self) -> u64 {
        0
    }

    fn disk_reserve(&self, _volume: &Volume) -> u64 {
        0
    }
}

/// One kind with one of its examples.
#[derive(Clone)]
struct Case {
    fault: &'static dyn AnyFault,
    kind: FaultKind,
    params: Value,
    /// What its host has not.
    lacking: Option<Feature>,
}

/// Every example on an ordinary host, and on one that lacks something where another engine does it then.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for fault in registry() {
        for example in fault.describe().examples {
            let params = fault.check(&example.params).expect("an example is valid");
            let case = |lacking| Case {
                fault,
                kind: fault.kind(),
                params: params.clone(),
                lacking,
            };
            let ordinary = case(None).engine();
            let others = LACKING.map(|feature| case(Some(feature)));
            cases.push(case(None));
            cases.extend(
                others
                    .into_iter()
                    .filter(|other| other.engine().is_some_and(|engine| Some(engine) != ordinary)),
            );
        }
    }
    assert!(!cases.is_empty(), "no kind is registered");
    cases
}

impl Case {
    fn host(&self, plan: &CrashPlan) -> FakeHost {
        let host = FakeHost::with_plan(plan);
        if let Some(feature) = self.lacking {
            let (why, fix) = ("it is not there".to_owned(), "add it".to_owned());
            host.set_presence(feature, Presence::Absent { why, fix });
        }
        host
    }

    fn engine(&self) -> Option<String> {
        let scene = Scene {
            view: &self.host(&CrashPlan::new()),
            protection: &Unprotected,
            seed: 7,
            duration_ms: DURATION_MS,
        };
        self.fault.preflight(&self.params, &scene).ok()?.engine
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} without {:?}", self.kind, self.params, self.lacking)
    }
}

/// A host with its journals, as one agent process after another sees them.
struct World {
    plan: CrashPlan,
    host: FakeHost,
    journal_store: JournalStore,
    id: InjectionId,
    before: Footprint,
}

impl World {
    fn new(case: &Case) -> Self {
        let plan = CrashPlan::new();
        let host = case.host(&plan);
        Self {
            before: host.footprint(),
            journal_store: JournalStore::memory_with(&plan),
            host,
            plan,
            id: InjectionId::generate(),
        }
    }

    fn open(&self, case: &Case) -> Result<Journal, String> {
        let now = self.host.boot_ms();
        let opened = Opened {
            injection: self.id.clone(),
            run: "suite".to_owned(),
            kind: case.kind.to_string(),
            params: case.params.clone(),
            boot_id: self.host.boot_id(),
            opened_boot_ms: now,
            deadline_boot_ms: now + DURATION_MS,
            plan_digest: String::new(),
        };
        self.journal_store.create(opened).map_err(|e| e.to_string())
    }

    fn apply(&self, case: &Case, log: &mut dyn UndoLog) -> Result<Value, String> {
        let scene = Scene {
            view: &self.host,
            protection: &Unprotected,
            seed: 7,
            duration_ms: DURATION_MS,
        };
        let context = PullContext {
            injection: self.id.clone(),
            kind: case.kind.to_string(),
            seed: 7,
            deadline_boot_ms: self.host.boot_ms() + DURATION_MS,
            gate_ms: 15_000,
            exemptions: Exemptions::default(),
        };
        let mut hands = self.host.clone();
        let mut levers = Levers::new(log, &mut hands, &self.host, context);
        case.fault.apply(&case.params, &scene, &mut levers).map_err(|e| e.to_string())
    }

    fn rewind(&self, journal: &mut Journal) -> RewindReport {
        rewind(journal, &mut self.host.clone(), &self.host)
    }

    /// A whole injection without a mishap, or as far as it comes.
    fn live(&self, case: &Case) -> Result<(), String> {
        let mut journal = self.open(case)?;
        let applied = self.apply(case, &mut journal);
        if let Ok(effect) = &applied {
            journal.applied(effect).map_err(|e| e.to_string())?;
        }
        self.finish(&mut journal, EndedBy::DurationElapsed)?;
        applied.map(|_| ())
    }

    fn finish(&self, journal: &mut Journal, by: EndedBy) -> Result<(), String> {
        // As the warden does: an end that cannot be recorded is no reason to leave a fault.
        let _ = journal.ending(by);
        let rewound = self.rewind(journal);
        if let Some(failure) = rewound.failures.first() {
            return Err(format!("{}: {}", failure.undo, failure.error));
        }
        let outcome = Outcome {
            ended_by: by,
            undone_by: "agent".to_owned(),
            undo_ms: 0,
            drift: rewound.drift,
        };
        journal.closed(&outcome).map_err(|e| e.to_string())
    }

    /// What the next process does with what the last one left.
    fn rescue(&self) -> Result<(), String> {
        self.plan.restart();
        for id in self.journal_store.ids().map_err(|e| e.to_string())? {
            let mut journal = self.journal_store.lock(&id, Duration::from_secs(1)).map_err(|e| e.to_string())?;
            if journal.history().is_open() {
                self.finish(&mut journal, EndedBy::Rescue)?;
            }
        }
        Ok(())
    }

    /// The oracle: nothing owned, everything touched restored, and the host as a whole as it was.
    fn judge(&self) -> Result<(), String> {
        let ids = self.journal_store.ids().map_err(|e| e.to_string())?;
        let histories: Vec<_> = ids
            .iter()
            .map(|id| self.journal_store.read(id).map_err(|e| e.to_string()))
            .collect::<Result<_, _>>()?;
        if let Some(open) = histories.iter().find(|h| h.is_open()) {
            return Err(format!("the journal of {} is still open", open.opened.injection));
        }
        let proof = prove(&histories, &[], &self.host);
        if proof.result != Cleanliness::Clean || !proof.drift.is_empty() {
            return Err(format!("{:?} {:?} drift {:?}", proof.owned_left, proof.not_restored, proof.drift));
        }
        let mut after = self.host.footprint();
        if histories.iter().any(|history| history.is_spent()) {
            // What was done for good must be declared, process by process; all the rest is as it was.
            let told = proof.consequences.join("\n");
            let lost = self.before.processes.iter().filter(|(pid, _)| !after.processes.contains_key(pid));
            for (pid, state) in lost.map(|(pid, state)| (*pid, *state)).collect::<Vec<_>>() {
                if told.contains(&format!("(pid {pid},")) {
                    after.processes.insert(pid, state);
                }
            }
        }
        if after == self.before {
            Ok(())
        } else {
            Err(format!("before {:?}\nafter  {after:?}", self.before))
        }
    }
}

/// Runs `check` for each point, side by side, and gathers what went wrong.
fn at_every_point(points: impl IntoIterator<Item = u64>, check: impl Fn(u64) -> Result<(), String> + Sync) -> Vec<String> {
    let points: Vec<u64> = points.into_iter().collect();
    let mut wrong = Vec::new();
    for chunk in points.chunks(SIDE_BY_SIDE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = chunk.iter().map(|point| scope.spawn(|| check(*point))).collect();
            wrong.extend(
                threads
                    .into_iter()
                    .filter_map(|thread| thread.join().expect("a check does not panic").err()),
            );
        });
    }
    wrong
}

fn steps_of(case: &Case) -> u64 {
    let world = World::new(case);
    world
        .live(case)
        .unwrap_or_else(|why| panic!("{case} does not work on an ordinary host: {why}"));
    world
        .judge()
        .unwrap_or_else(|why| panic!("{case} leaves something without any mishap: {why}"));
    assert!(world.plan.points() < MOST_STEPS, "{case}");
    world.plan.points()
}

#[test]
fn a_crash_at_any_step_leaves_nothing() {
    for case in cases() {
        let steps = steps_of(&case);
        let wrong = at_every_point(1..=steps, |point| {
            let world = World::new(&case);
            world.plan.crash_at(point);
            // Where it crashes it fails; at the very last step everything was done already.
            let _ = world.live(&case);
            let crashed = world.plan.crashed().ok_or_else(|| format!("step {point} was never reached"))?;
            world
                .rescue()
                .and_then(|()| world.judge())
                .map_err(|why| format!("crash at step {point}, {crashed}: {why}"))
        });
        assert!(wrong.is_empty(), "{case}: {}", wrong.join("\n"));
        println!("{case}: {steps} crash points");
    }
}

#[test]
fn a_second_crash_while_the_first_is_put_right_leaves_nothing() {
    for case in cases() {
        let rescue_steps = {
            let world = World::new(&case);
            let (mut journal, _) = held(&world, &case);
            world.plan.restart();
            world.finish(&mut journal, EndedBy::Rescue).expect("a rescue works");
            world.plan.points()
        };
        let wrong = at_every_point(1..=rescue_steps, |point| {
            let world = World::new(&case);
            drop(held(&world, &case));
            for again in 0..3_u64 {
                // Each rescue gets a little further than the one before.
                world.plan.crash_at(point + again);
                let _ = rescue_until_crash(&world);
            }
            world
                .rescue()
                .and_then(|()| world.judge())
                .map_err(|why| format!("rescues crash from step {point} on: {why}"))
        });
        assert!(wrong.is_empty(), "{case}: {}", wrong.join("\n"));
    }
}

#[test]
fn each_single_undo_may_fail_once() {
    for case in cases() {
        let mut failed = BTreeSet::new();
        for n in 1..MOST_STEPS {
            let world = World::new(&case);
            let (mut journal, undos) = held(&world, &case);
            world.host.fail_nth_undo(n);
            let first = world.finish(&mut journal, EndedBy::Stop);
            if !world.host.undo_has_failed() {
                break;
            }
            // Where it was what ends the effect early, the undo itself has done it.
            if let Err(why) = first {
                failed.insert(why);
                assert!(journal.history().is_open(), "{case}: closed although undo {n} failed");
                let pending = journal.history().pending().count();
                assert!(
                    (1..=undos).contains(&pending),
                    "{case}: {pending} of {undos} undos are due after undo {n} failed"
                );
                world
                    .finish(&mut journal, EndedBy::Stop)
                    .unwrap_or_else(|why| panic!("{case}: undo {n} again: {why}"));
            }
            world
                .judge()
                .unwrap_or_else(|why| panic!("{case}: after undo {n} failed once: {why}"));
        }
        assert!(
            !failed.is_empty() || !case.fault.reversal().is_full(),
            "{case} has no undo that could fail"
        );
    }
}

#[test]
fn nothing_is_pulled_once_an_end_is_recorded() {
    for case in cases() {
        let world = World::new(&case);
        let mut journal = world.open(&case).expect("a journal");
        journal.ending(EndedBy::Stop).expect("recorded");
        assert!(world.apply(&case, &mut journal).is_err(), "{case}");
        assert_eq!(world.host.footprint(), world.before, "{case}");
        assert!(world.host.calls().is_empty(), "{case}");
    }
}

#[test]
fn what_others_did_meanwhile_is_left_alone() {
    for case in cases() {
        let world = World::new(&case);
        let (mut journal, _) = held(&world, &case);
        // Everybody whom the fault touched ends by itself before the undo.
        let touched: Vec<u32> = journal.history().intents.iter().flat_map(|(_, undo)| victims(undo)).collect();
        touched.iter().for_each(|pid| world.host.kill(*pid));
        world
            .finish(&mut journal, EndedBy::Stop)
            .unwrap_or_else(|why| panic!("{case}: {why}"));
        let proof = prove(&[journal.history()], &[], &world.host);
        assert_eq!(proof.result, Cleanliness::Clean, "{case}: {proof:?}");
    }
}

/// A planted bug: whoever acts before the undo is on paper leaves something at some crash point, and the oracle sees it.
#[test]
fn acting_before_the_record_is_caught() {
    for case in cases() {
        let steps = steps_of(&case);
        let caught = at_every_point(1..=steps, |point| {
            let world = World::new(&case);
            world.plan.crash_at(point);
            let _ = late_life(&world, &case);
            world.rescue().and_then(|()| world.judge())
        });
        assert!(
            !caught.is_empty(),
            "{case}: the suite does not see that undos are recorded too late"
        );
    }
}

/// Applied in full and holding; also how many undos it has.
fn held(world: &World, case: &Case) -> (Journal, usize) {
    let mut journal = world.open(case).unwrap_or_else(|why| panic!("{case}: {why}"));
    let effect = world.apply(case, &mut journal).unwrap_or_else(|why| panic!("{case}: {why}"));
    journal.applied(&effect).expect("recorded");
    let undos = journal.history().intents.len();
    let spent = journal.history().is_spent();
    assert_eq!(
        spent,
        !case.fault.reversal().is_full(),
        "{case}: what has no way back is declared, and nothing else"
    );
    assert!(undos > 0 || spent, "{case} recorded no undo");
    (journal, undos)
}

/// A rescue in a process that is to crash, so nothing is restarted first.
fn rescue_until_crash(world: &World) -> Result<(), String> {
    let mut journal = world
        .journal_store
        .lock(&world.id, Duration::from_secs(1))
        .map_err(|e| e.to_string())?;
    if journal.history().is_open() {
        world.finish(&mut journal, EndedBy::Rescue)?;
    }
    Ok(())
}

fn victims(undo: &Undo) -> Vec<u32> {
    match undo {
        Undo::ResumeProcesses(undo) => undo.victims.iter().map(|v| v.pid).collect(),
        _ => Vec::new(),
    }
}

/// Says that the undo is recorded, and records it only after the deeds.
struct LateLog<'a> {
    journal: &'a mut Journal,
    due: Vec<Undo>,
    done: Vec<String>,
}

impl UndoLog for LateLog<'_> {
    fn intend(&mut self, undo: Undo) -> Result<u32, JournalError> {
        self.due.push(undo);
        Ok(self.due.len() as u32)
    }

    fn declare(&mut self, consequences: Vec<String>) -> Result<(), JournalError> {
        self.done.extend(consequences);
        Ok(())
    }

    fn undos(&self) -> Vec<Undo> {
        self.due.clone()
    }

    fn is_ending(&self) -> bool {
        self.journal.is_ending()
    }
}

fn late_life(world: &World, case: &Case) -> Result<(), String> {
    let mut journal = world.open(case)?;
    let mut log = LateLog {
        journal: &mut journal,
        due: Vec::new(),
        done: Vec::new(),
    };
    let effect = world.apply(case, &mut log)?;
    let (due, done) = (std::mem::take(&mut log.due), std::mem::take(&mut log.done));
    for undo in due {
        journal.intend(undo).map_err(|e| e.to_string())?;
    }
    if !done.is_empty() {
        journal.declare(done).map_err(|e| e.to_string())?;
    }
    journal.applied(&effect).map_err(|e| e.to_string())?;
    world.finish(&mut journal, EndedBy::DurationElapsed)
}
