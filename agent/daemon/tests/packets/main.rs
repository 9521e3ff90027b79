//! Faults of one interface at once, by the agent's own program as their worker: each touches its peers only, and goes on its own.

mod unit;
mod world;

use std::path::Path;
use std::time::Duration;

use agent_faults::{AnyFault, Look, Protection, Scene};
use agent_journal::Opened;
use agent_levers::{Exemptions, Journal, JournalStore, Levers, LinuxOps, PullContext, prove, rewind};
use agent_view::{GroupId, HostView, LinuxView, Process, Volume};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::injection::{Cleanliness, EffectState, EndedBy, Observation};
use proto_model::peer::Network;
use serde_json::{Value, json};
use tempfile::TempDir;
use world::{Far, median, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fracas-agent");
const GATE_MS: u64 = 60_000;
/// What the median of round trips may be off here, where others use the machine as well.
const OFF: Duration = Duration::from_millis(15);

struct Unprotected;

impl Protection for Unprotected {
    fn process(&self, _: &Process) -> Option<String> {
        None
    }
    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Vec::new())
    }
    fn interface(&self, _: &str) -> Option<String> {
        None
    }
    fn port(&self, _: u16) -> Option<String> {
        None
    }
    fn path(&self, _: &Path, _: &Volume) -> Option<String> {
        None
    }
    fn memory_reserve(&self) -> u64 {
        0
    }
    fn disk_reserve(&self, _: &Volume) -> u64 {
        0
    }
}

/// One fault that acts, with its journal.
struct Acting {
    id: InjectionId,
    fault: &'static dyn AnyFault,
    effect: Value,
    journal: Journal,
    hands: LinuxOps,
    view: LinuxView,
    last: Option<Look>,
    _dir: TempDir,
}

impl Acting {
    fn begin(kind: &str, params: Value) -> Self {
        let fault = agent_faults::find(&FaultKind::parse(kind).unwrap()).expect("it is registered");
        let params = fault.check(&params).unwrap_or_else(|problems| panic!("{problems}"));
        let (view, mut hands, id) = (LinuxView::new(), LinuxOps::new(PROGRAM.into()), InjectionId::generate());
        let dir = tempfile::tempdir().unwrap();
        let journal_store = JournalStore::open(&dir.path().join("journal"), &dir.path().join("mirror")).unwrap();
        let deadline_boot_ms = view.boot_ms() + GATE_MS;
        let opened = Opened {
            injection: id.clone(),
            run: "test".to_owned(),
            kind: kind.to_owned(),
            params: params.clone(),
            boot_id: view.boot_id(),
            opened_boot_ms: view.boot_ms(),
            deadline_boot_ms,
            plan_digest: String::new(),
        };
        let mut journal = journal_store.create(opened).unwrap();
        let context = PullContext {
            injection: id.clone(),
            kind: kind.to_owned(),
            seed: 1,
            deadline_boot_ms,
            gate_ms: GATE_MS,
            exemptions: Exemptions::default(),
        };
        let scene = Scene {
            view: &view,
            protection: &Unprotected,
            seed: 1,
            duration_ms: GATE_MS,
        };
        fault.preflight(&params, &scene).unwrap_or_else(|refusal| panic!("{refusal}"));
        let effect = fault.apply(&params, &scene, &mut Levers::new(&mut journal, &mut hands, &view, context));
        let effect = effect.unwrap_or_else(|error| panic!("{kind} {params}: {error}"));
        journal.applied(&effect).unwrap();
        let mut acting = Self {
            id,
            fault,
            effect,
            journal,
            hands,
            view,
            last: None,
            _dir: dir,
        };
        assert_eq!(acting.observed(), None, "the first look tells nothing");
        acting
    }

    fn observed(&mut self) -> Option<Observation> {
        let (observation, look) = self.fault.observe(&self.effect, &self.view, self.last.as_ref()).expect("observe");
        self.last = Some(look);
        observation
    }

    fn alive(&self) -> Result<(), String> {
        self.fault.alive(&self.effect, &self.view)
    }

    fn worker(&self) -> u32 {
        let members = self.view.group_members(&GroupId::of(&self.id)).unwrap();
        assert_eq!(members.len(), 1, "one worker");
        members[0]
    }

    /// As the warden ends it; nothing of it may be left.
    fn end(mut self) {
        self.journal.ending(EndedBy::Stop).unwrap();
        let rewound = rewind(&mut self.journal, &mut self.hands, &self.view);
        assert!(rewound.is_complete() && rewound.drift.is_empty(), "{rewound:?}");
        let others: Vec<InjectionId> = self.view.our_traffic().unwrap().into_iter().filter(|id| *id != self.id).collect();
        let proof = prove(&[self.journal.history()], &others, &self.view);
        let ours = proof.owned_left.iter().filter(|thing| thing.contains(self.id.as_str()));
        assert_eq!(ours.count(), 0, "{proof:?}");
        assert_ne!(proof.result, Cleanliness::Unproven, "{proof:?}");
    }
}

#[track_caller]
fn confirmed(acting: &mut Acting, what: &str) -> f64 {
    let observation = acting.observed().expect("a second look");
    assert_eq!(observation.state, EffectState::Confirmed, "{what}: {observation:?}");
    println!("{what}: {:?} {:?}", observation.measured, observation.note);
    observation.measured.unwrap()
}

#[test]
fn a_delay_and_a_loss_share_an_interface_and_go_one_by_one() {
    world::run(|world| {
        for [slow, lossy, plain] in Far::PEERS {
            let before = world::qdiscs();
            let far = world.answer();
            let mut delay = Acting::begin("network.delay", json!({"to": [slow], "delay": "100ms"}));
            let mut loss = Acting::begin("network.loss", json!({"to": [lossy], "percent": 20}));
            let asked = Duration::from_millis(100);
            let trips = far.ask(slow, 20, Duration::from_millis(600));
            assert_eq!(trips.len(), 20, "a delay loses nothing");
            let seen = median(&trips);
            assert!(seen >= asked && seen < asked + OFF, "{slow}: {seen:?}");
            let back = far.flood(lossy, 10_000);
            let lost = 100.0 - back as f64 / 100.0;
            assert!((lost - 20.0).abs() < 1.5, "{lossy}: {lost} percent");
            let trips = far.ask(plain, 200, Duration::from_millis(600));
            assert!(trips.len() == 200 && median(&trips) < OFF, "{plain} is nobody's peer");
            let told = confirmed(&mut delay, "delay");
            assert!((told - 100.0).abs() < 7.0, "{told}");
            confirmed(&mut loss, "loss");
            assert_eq!((delay.alive(), loss.alive()), (Ok(()), Ok(())));

            delay.end();
            assert!(median(&far.ask(slow, 20, Duration::from_millis(600))) < OFF, "{slow} is fast again");
            let back = far.flood(lossy, 2_000);
            assert!((1_500..1_700).contains(&back), "{lossy} goes on losing: {back} of 2000");
            confirmed(&mut loss, "loss alone");
            loss.end();
            assert_eq!(far.flood(lossy, 2_000), 2_000, "nothing is lost any more");
            assert_eq!(world::qdiscs(), before);
            assert!(!LinuxView::new().our_table().unwrap(), "the table is gone with the last");
        }
    });
}

#[test]
fn jitter_spreads_as_asked_and_what_nobody_sends_is_unexercised() {
    world::run(|world| {
        let far = world.answer();
        let [slow, ..] = Far::PEERS[0];
        let mut quiet = Acting::begin(
            "network.delay",
            json!({"to": [slow], "delay": "60ms", "jitter": "30ms", "distribution": "normal"}),
        );
        until("the probe was answered", || {
            std::thread::sleep(Duration::from_millis(300));
            let observation = quiet.observed().expect("a look");
            assert_eq!(
                observation.state,
                EffectState::Unexercised,
                "only our own packets met it: {observation:?}"
            );
            observation.measured.is_some()
        });
        let trips = far.ask_at_once(slow, 400);
        assert_eq!(trips.len(), 400);
        let ms: Vec<f64> = trips.iter().map(|trip| trip.as_secs_f64() * 1e3).collect();
        let mean = ms.iter().sum::<f64>() / ms.len() as f64;
        let spread = (ms.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / ms.len() as f64).sqrt();
        assert!(
            (mean - 60.0).abs() < 12.0 && (22.0..40.0).contains(&spread),
            "{mean:.1} ms, spread {spread:.1} ms"
        );
        quiet.end();
    });
}

/// Delays that are alike are a worker's on every kernel.
fn held_by_a_worker(peer: &str) -> Value {
    json!({"to": [peer], "delay": "300ms", "jitter": "1ms", "correlation": 50})
}

#[test]
fn a_worker_that_is_gone_or_does_not_move_is_told_of() {
    world::run(|world| {
        let far = world.answer();
        let [slow, ..] = Far::PEERS[1];
        let signal = |pid: u32, signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();

        let killed = Acting::begin("network.delay", held_by_a_worker(slow));
        signal(killed.worker(), nix::sys::signal::Signal::SIGKILL);
        until("packets flow", || median(&far.ask(slow, 3, Duration::from_millis(600))) < OFF);
        until("it is missed", || killed.alive().is_err_and(|why| why.contains("gone")));
        killed.end();

        let stopped = Acting::begin("network.delay", held_by_a_worker(slow));
        assert_eq!(stopped.alive(), Ok(()));
        signal(stopped.worker(), nix::sys::signal::Signal::SIGSTOP);
        until("it is missed", || stopped.alive().is_err_and(|why| why.contains("not moved")));
        assert!(far.ask(slow, 1, Duration::from_millis(600)).is_empty(), "packets wait for it");
        stopped.end();
        assert!(median(&far.ask(slow, 5, Duration::from_millis(600))) < OFF);
    });
}
