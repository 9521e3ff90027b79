//! Each example on the real kernel, in a network namespace of its own with one route into the void; the machine's network is never touched.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_faults::{Answers, Look, Scene};
use agent_journal::JournalError;
use agent_levers::ops::TrafficOps;
use agent_levers::{Exemptions, Levers, LinuxOps, PullContext, RemoveTraffic, Undo, UndoLog};
use agent_view::{HostView, LinuxView};
use proto_model::id::InjectionId;
use proto_model::injection::{EffectState, Observation};
use serde_json::{Value, json};

use crate::partition;
use crate::protected::Protected;

/// Remembers what was intended.
#[derive(Default)]
struct Notes(Vec<Undo>);

impl UndoLog for Notes {
    fn intend(&mut self, undo: Undo) -> Result<u32, JournalError> {
        self.0.push(undo);
        Ok(0)
    }
    fn declare(&mut self, _consequences: Vec<String>) -> Result<(), JournalError> {
        Ok(())
    }
    fn undos(&self) -> Vec<Undo> {
        self.0.clone()
    }
    fn is_ending(&self) -> bool {
        false
    }
}

pub struct Acting {
    pub injection: InjectionId,
    pub effect: Value,
    view: LinuxView,
    hands: LinuxOps,
    notes: Notes,
    context: PullContext,
    last: Option<Look>,
}

impl Acting {
    pub fn begin(params: &Value, gate_ms: u64) -> Self {
        let (view, mut hands, mut notes) = (LinuxView::new(), LinuxOps::new("/nonexistent".into()), Notes::default());
        let injection = InjectionId::generate();
        let context = PullContext {
            injection: injection.clone(),
            kind: "network.partition".into(),
            seed: 1,
            deadline_boot_ms: u64::MAX,
            gate_ms,
            exemptions: Exemptions::default(),
        };
        let scene = Scene {
            view: &view,
            protection: &Protected,
            seed: 1,
            duration_ms: 60_000,
        };
        let mut levers = Levers::new(&mut notes, &mut hands, &view, context.clone());
        let effect = partition().apply(params, &scene, &mut levers).expect("apply");
        assert_eq!(
            notes.0,
            [Undo::from(RemoveTraffic {
                injection: injection.clone()
            })]
        );
        let mut acting = Self {
            injection,
            effect,
            view,
            hands,
            notes,
            context,
            last: None,
        };
        assert_eq!(acting.observed(), None, "the first look tells nothing");
        acting
    }

    pub fn follow(&mut self, params: &Value, answers: &Answers) {
        let mut levers = Levers::new(&mut self.notes, &mut self.hands, &self.view, self.context.clone());
        self.effect = partition().follow(params, &self.effect, answers, &mut levers).expect("follow");
    }

    fn observed(&mut self) -> Option<Observation> {
        let (observation, look) = partition().observe(&self.effect, &self.view, self.last.as_ref()).expect("observe");
        self.last = Some(look);
        observation
    }

    pub fn told(&mut self) -> (EffectState, Option<f64>, String) {
        let observation = self.observed().expect("a second look");
        (observation.state, observation.measured, observation.note.unwrap_or_default())
    }

    fn alive(&self) -> Result<(), String> {
        partition().alive(&self.effect, &self.view)
    }

    pub fn end(mut self) {
        assert!(self.hands.remove_traffic(&self.injection).expect("remove"));
        assert!(self.alive().unwrap_err().contains("gone"));
        assert_eq!(self.told().0, EffectState::Mismatch);
        assert!(self.hands.remove_idle_table().expect("remove the table"));
        assert!(!self.view.our_table().expect("look"));
    }
}

/// In a thread whose network has an interface that leads nowhere, or says why not.
pub fn in_the_void(test: impl FnOnce() + Send + 'static) {
    if tests_notes::lacks_root("to make network namespaces") {
        return;
    }
    if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
        tests_notes::skip("the ip tool (iproute2) is required to make interfaces");
        return;
    }
    let outcome = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        for arguments in [
            "link set lo up",
            "link add void0 type veth peer name void1",
            "link set void1 up",
            "link set void0 up",
            "addr add 203.0.113.1/24 dev void0",
            "neigh add 203.0.113.2 lladdr 02:00:00:00:00:02 dev void0",
            "route add default via 203.0.113.2",
        ] {
            let done = Command::new("ip").args(arguments.split(' ')).status().expect("start ip");
            assert!(done.success(), "ip {arguments}");
        }
        test();
    });
    if let Err(panic) = outcome.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn send(to: &str) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    let _ = socket.send_to(b"x", to);
}

#[test]
fn every_example_begins_acts_and_ends_without_a_trace() {
    in_the_void(|| {
        for example in partition().describe().examples {
            let mut acting = Acting::begin(&example.params, 60_000);
            assert_eq!(acting.told().0, EffectState::Unexercised, "{}", example.says);
            acting.alive().expect("it acts");
            acting.end();
        }
    });
}

#[test]
fn what_is_stopped_is_confirmed_and_what_comes_through_is_told() {
    in_the_void(|| {
        let mut acting = Acting::begin(&json!({"to": ["192.0.2.10"]}), 60_000);
        (0..10).for_each(|_| send("192.0.2.10:9"));
        send("192.0.2.11:9");
        let (state, measured, note) = acting.told();
        assert_eq!((state, measured), (EffectState::Confirmed, Some(100.0)), "{note}");
        assert!(note.contains("10 packets stopped, 0 came through"), "{note}");
        assert_eq!(acting.told().0, EffectState::Unexercised, "only what is new counts");
        acting.end();
    });
}

#[test]
fn a_fault_that_the_kernel_has_ended_is_a_mismatch_and_no_longer_alive() {
    in_the_void(|| {
        let mut acting = Acting::begin(&json!({"to": ["192.0.2.10"]}), 200);
        let begun = std::time::Instant::now();
        while acting.alive().is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it never ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(acting.alive().unwrap_err().contains("the kernel has ended it"));
        acting.told();
        send("192.0.2.10:9");
        let (state, measured, note) = acting.told();
        assert_eq!((state, measured), (EffectState::Mismatch, Some(0.0)), "{note}");
        assert!(note.contains("1 came through"), "{note}");
        acting.end();
    });
}
