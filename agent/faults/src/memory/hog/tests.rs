//! What `memory.hog` refuses, takes and says, on a host of paper; how it is taken is tried on the real kernel.

use agent_journal::Opened;
use agent_levers::fake::FakeHost;
use agent_levers::{Exemptions, JournalStore, PullContext};
use proto_model::id::InjectionId;
use serde_json::Value;

use super::*;
use crate::paper::Keeps;

fn params(value: Value) -> Result<HogParams, Problems> {
    let parsed = crate::params::parse_params::<HogParams>(&value)?;
    Hog::validate(&parsed).map(|()| parsed)
}

fn ask(host: &FakeHost, value: Value, policy: u64) -> Result<Preflight, Refusal> {
    let protection = Keeps {
        memory: policy,
        ..Keeps::default()
    };
    let scene = Scene {
        view: host,
        protection: &protection,
        seed: 1,
        duration_ms: 60_000,
    };
    Hog::preflight(&params(value).unwrap(), &scene)
}

#[test]
fn bad_amounts_are_named_with_what_would_be_right() {
    for (bad, path) in [
        (json!({}), "params.amount"),
        (json!({"amount": "1MiB"}), "params.amount"),
        (json!({"amount": "0%"}), "params.amount"),
        (json!({"amount": 50}), "params.amount"),
        (json!({"amount": "1GiB", "rate": "1B"}), "params.rate"),
        (json!({"amount": "1GiB", "on_oom": "never"}), "params.on_oom"),
    ] {
        assert_eq!(params(bad.clone()).unwrap_err().0[0].path, path, "{bad}");
    }
    let defaults = params(json!({"amount": "1GiB"})).unwrap();
    assert_eq!(
        (defaults.reserve, defaults.mode, defaults.lock),
        (half_gibibyte(), Mode::Add, false)
    );
}

#[test]
fn more_than_there_is_less_the_reserve_is_refused() {
    // 8 GiB, of which 6 are available.
    let host = FakeHost::new();
    assert!(ask(&host, json!({"amount": "5632MiB"}), 0).is_ok());
    let refusal = ask(&host, json!({"amount": "5633MiB"}), 0).unwrap_err();
    assert_eq!(refusal.allowed.as_deref(), Some("16MiB..5632MiB"));
    let refusal = ask(&host, json!({"amount": "50%", "reserve": "0B"}), 3 << 30).unwrap_err();
    assert_eq!(refusal.allowed.as_deref(), Some("0.2%..37.5%"));
    let refusal = ask(&host, json!({"amount": "95%", "mode": "total"}), 0).unwrap_err();
    assert_eq!(refusal.allowed.as_deref(), Some("0.0%..93.8%"));
    assert!(ask(&host, json!({"amount": "90%", "mode": "total"}), 0).is_ok());
}

#[test]
fn who_else_kills_and_whose_memory_it_is_are_said_before() {
    let host = FakeHost::new();
    let mut killer = host.process(1_200).unwrap().unwrap();
    killer.name = "earlyoom".to_owned();
    host.add_process(killer);
    host.set_memory(Memory {
        total: 4 << 30,
        available: 3 << 30,
        swap_total: 1 << 30,
        is_quota: true,
    });
    let said = ask(&host, json!({"amount": "25%"}), 0).unwrap();
    assert_eq!(said.touches, ["memory: 1GiB more, of the quota's 4GiB"]);
    assert!(
        said.warnings[0].contains("earlyoom") && said.warnings[1].contains("swaps"),
        "{said:?}"
    );
    host.hang_programs([1_100]);
    let in_part = ask(&host, json!({"amount": "25%"}), 0).unwrap();
    assert_eq!(in_part.warnings, said.warnings, "the kernel keeps the names of those that hang");
    host.hang_programs(2_000..2_008);
    let unknown = ask(&host, json!({"amount": "25%"}), 0).unwrap();
    let warning = &unknown.warnings[0];
    assert!(
        warning.contains("earlyoom") && warning.contains("not known") && warning.contains("no answer"),
        "{warning}"
    );
    host.hang_programs([]);
    let past = ask(&host, json!({"amount": "20%", "mode": "total"}), 0).unwrap();
    assert!(past.warnings.iter().any(|w| w.contains("already")), "{past:?}");
}

/// A hog on a fake host, and two looks apart by this long with this much memory.
struct Acting {
    host: FakeHost,
    effect: HogEffect,
}

impl Acting {
    fn new(value: Value) -> Self {
        let host = FakeHost::new();
        let injection = InjectionId::generate();
        let opened = Opened {
            injection: injection.clone(),
            run: String::new(),
            kind: Hog::KIND.to_owned(),
            params: Value::Null,
            boot_id: host.boot_id(),
            opened_boot_ms: 0,
            deadline_boot_ms: u64::MAX,
            plan_digest: String::new(),
        };
        let mut journal = JournalStore::memory().create(opened).unwrap();
        let context = PullContext {
            injection,
            kind: Hog::KIND.to_owned(),
            seed: 1,
            deadline_boot_ms: u64::MAX,
            gate_ms: 0,
            exemptions: Exemptions::default(),
        };
        let mut hands = host.clone();
        let mut levers = Levers::new(&mut journal, &mut hands, &host, context);
        let protection = Keeps::default();
        let scene = Scene {
            view: &host,
            protection: &protection,
            seed: 1,
            duration_ms: 60_000,
        };
        let effect = Hog::apply(&params(value).unwrap(), &scene, &mut levers).unwrap();
        Self { host, effect }
    }

    fn has(&self, mebi: u64) {
        let has = ProcessMemory {
            pss: mebi * MEBI,
            ..ProcessMemory::default()
        };
        self.host.set_worker_memory(self.effect.worker.pid, has);
    }

    fn looks(&self, before: u64, after_ms: u64, now: u64) -> Option<Observation> {
        self.has(before);
        let (none, first) = Hog::observe(&self.effect, &self.host, None).unwrap();
        assert_eq!(none, None);
        self.host.advance(after_ms);
        self.has(now);
        Hog::observe(&self.effect, &self.host, Some(&first)).unwrap().0
    }

    fn state(&self, before: u64, after_ms: u64, now: u64) -> Option<EffectState> {
        self.looks(before, after_ms, now).map(|observation| observation.state)
    }
}

#[test]
fn within_a_percent_is_confirmed_and_growing_is_not_judged() {
    let hog = Acting::new(json!({"amount": "1000MiB"}));
    assert_eq!(hog.state(1_000, 2_000, 995), Some(EffectState::Confirmed));
    assert_eq!(hog.state(500, 2_000, 800), None);
    assert_eq!(hog.state(800, 2_000, 800), Some(EffectState::Mismatch));
    assert_eq!(hog.state(1_100, 2_000, 1_100), Some(EffectState::Mismatch));
}

#[test]
fn a_leak_is_held_against_the_clock() {
    let hog = Acting::new(json!({"amount": "1000MiB", "rate": "100MiB"}));
    let observation = hog.looks(100, 5_000, 480).unwrap();
    assert_eq!(
        (observation.state, observation.asked),
        (EffectState::Confirmed, Some((500 * MEBI) as f64))
    );
    assert_eq!(hog.state(480, 60_000, 480), Some(EffectState::Mismatch));
    assert_eq!(hog.state(1_000, 1_000, 1_000), Some(EffectState::Confirmed));
}

#[test]
fn total_counts_what_others_use_and_past_it_is_nothing() {
    let hog = Acting::new(json!({"amount": "50%", "mode": "total"}));
    assert!(!hog.effect.noop);
    assert_eq!(hog.state(2_048, 2_000, 2_048), Some(EffectState::Confirmed));
    let past = Acting::new(json!({"amount": "20%", "mode": "total"}));
    assert!(past.effect.noop);
    let observation = past.looks(5, 2_000, 5).unwrap();
    assert_eq!(observation.state, EffectState::Confirmed);
    assert!(observation.note.unwrap().contains("already past"));
}

#[test]
fn what_is_missing_has_its_reason() {
    let hog = Acting::new(json!({"amount": "4GiB"}));
    hog.host.set_memory(Memory {
        total: 8 << 30,
        available: (512 + 3_000) << 20,
        ..Memory::default()
    });
    let observation = hog.looks(3_000, 2_000, 3_000).unwrap();
    assert!(observation.note.unwrap().contains("stays free"));
    let locked = Acting::new(json!({"amount": "100MiB", "lock": true}));
    let observation = locked.looks(100, 2_000, 100).unwrap();
    assert_eq!(observation.state, EffectState::Mismatch);
    assert!(observation.note.unwrap().contains("locked"));
}

#[test]
fn the_end_of_the_worker_is_told_by_what_ended_it() {
    for (on_oom, mode) in [("error", "add"), ("accepted", "add"), ("accepted", "total")] {
        let hog = Acting::new(json!({"amount": "100MiB", "on_oom": on_oom, "mode": mode}));
        assert_eq!(Hog::alive(&hog.effect, &hog.host), Ok(()));
        hog.host.out_of_memory(hog.effect.worker.pid);
        let alive = Hog::alive(&hog.effect, &hog.host);
        match on_oom {
            "error" => assert!(alive.unwrap_err().contains("want of memory")),
            _ => {
                assert_eq!(alive, Ok(()));
                let (_, first) = Hog::observe(&hog.effect, &hog.host, None).unwrap();
                let (observation, _) = Hog::observe(&hog.effect, &hog.host, Some(&first)).unwrap();
                let observation = observation.unwrap();
                assert_eq!((observation.state, observation.measured), (EffectState::Mismatch, Some(0.0)));
                assert!(observation.note.unwrap().contains("killed the worker for want of memory"));
            }
        }
        let shot = Acting::new(json!({"amount": "100MiB", "on_oom": on_oom, "mode": mode}));
        shot.host.kill(shot.effect.worker.pid);
        assert!(Hog::alive(&shot.effect, &shot.host).unwrap_err().ends_with("is gone"));
    }
}
