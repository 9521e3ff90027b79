//! What `cpu.burn` takes as parameters, and what it says of what it measured.

use agent_view::GroupId;

use super::*;

fn params(value: serde_json::Value) -> Result<BurnParams, Problems> {
    let parsed = crate::params::parse_params::<BurnParams>(&value)?;
    Burn::validate(&parsed).map(|()| parsed)
}

fn effect(mode: Mode) -> BurnEffect {
    let group = GroupId("fracas-x".to_owned());
    BurnEffect {
        worker: WorkerHandle { pid: 9, group },
        percent: 60.0,
        mode,
        cpus: vec![0, 1],
        noop: false,
    }
}

fn seen(group_usec: u64, busy: u64, total: u64) -> Seen {
    let ticks = [0, 1].map(|cpu| CpuTicks { cpu, busy, total }).to_vec();
    Seen {
        group_usec: Some(group_usec),
        ticks,
        threads: Vec::new(),
    }
}

fn with_threads(mut seen: Seen, usec: [u64; 2]) -> Seen {
    let thread = |(cpu, usec): (u32, u64)| ThreadTime { cpu, tid: 100 + cpu, usec };
    seen.threads = [0, 1].into_iter().zip(usec).map(thread).collect();
    seen
}

#[test]
fn one_core_that_gets_less_is_no_confirmation_whatever_the_mean() {
    let compared = |usec: [u64; 2]| {
        let old = with_threads(seen(0, 0, 0), [0, 0]);
        let new = with_threads(seen(usec.iter().sum(), 70, 100), usec);
        compare(&effect(Mode::Add), &old, &new, 5_000)
    };
    assert_eq!(compared([3_000_000, 3_050_000]).state, EffectState::Confirmed);
    let uneven = compared([4_000_000, 2_000_000]);
    assert_eq!((uneven.state, uneven.measured), (EffectState::Mismatch, Some(60.0)));
    assert_eq!(uneven.note.as_deref(), Some("core 1 has 40.0 percent"));
}

#[test]
fn defaults_are_everything_of_every_core() {
    let defaults = params(json!({})).unwrap();
    assert_eq!((defaults.percent.0, defaults.cores, defaults.mode), (100.0, Cores::All, Mode::Add));
}

#[test]
fn what_is_out_of_range_is_named_with_its_range() {
    for bad in [json!({"percent": 0}), json!({"percent": 101}), json!({"percent": "0%"})] {
        let problems = params(bad).unwrap_err();
        assert_eq!(
            (problems.0[0].path.as_str(), problems.0[0].allowed.as_deref()),
            ("params.percent", Some("1..100"))
        );
    }
    assert_eq!(params(json!({"cores": 0})).unwrap_err().0[0].path, "params.cores");
    assert_eq!(
        params(json!({"cores": 3, "pin": "0-1"})).unwrap_err().0[0].allowed.as_deref(),
        Some("1..2")
    );
    let mode = params(json!({"mode": "most"})).unwrap_err();
    assert_eq!(mode.0[0].path, "params.mode");
    assert!(mode.0[0].allowed.as_deref().unwrap().contains("total"));
}

#[test]
fn cores_are_taken_from_the_pinned_and_usable_ones() {
    let pick = |value, usable: &[u32]| chosen(&params(value).unwrap(), usable);
    assert_eq!(pick(json!({"cores": 1}), &[2, 3]), Ok(vec![2]));
    assert_eq!(pick(json!({"pin": "3", "cores": "all"}), &[2, 3]), Ok(vec![3]));
    assert_eq!(pick(json!({"cores": 3}), &[2, 3]).unwrap_err().allowed.as_deref(), Some("1..2"));
    assert_eq!(pick(json!({"pin": "0"}), &[2, 3]).unwrap_err().path, "params.pin");
}

#[test]
fn two_points_are_confirmed_and_more_is_a_mismatch() {
    let old = seen(0, 0, 0);
    let within = compare(&effect(Mode::Add), &old, &seen(6_160_000, 60, 100), 5_000);
    assert_eq!((within.state, within.measured), (EffectState::Confirmed, Some(61.6)));
    let beyond = compare(&effect(Mode::Add), &old, &seen(5_700_000, 60, 100), 5_000);
    assert_eq!((beyond.state, beyond.note), (EffectState::Mismatch, None));
}

#[test]
fn a_saturated_host_is_said_to_be_the_reason() {
    let observation = compare(&effect(Mode::Add), &seen(0, 0, 0), &seen(4_000_000, 100, 100), 5_000);
    assert_eq!(observation.state, EffectState::Confirmed);
    let note = observation.note.unwrap();
    assert!(note.contains("cannot be reached") && note.contains("others took 60"), "{note}");
    let free = compare(&effect(Mode::Add), &seen(0, 0, 0), &seen(4_000_000, 90, 100), 5_000);
    assert_eq!(free.state, EffectState::Mismatch, "the cores had more to give");
}

#[test]
fn a_host_already_past_the_target_confirms_that_nothing_was_added() {
    let observation = compare(&effect(Mode::Total), &seen(0, 0, 0), &seen(50_000, 90, 100), 5_000);
    assert_eq!(observation.state, EffectState::Confirmed);
    assert!(observation.note.unwrap().contains("nothing was added"));
    let ours = compare(&effect(Mode::Total), &seen(0, 0, 0), &seen(5_000_000, 90, 100), 5_000);
    assert_eq!(ours.state, EffectState::Mismatch);
}

#[test]
fn a_group_without_accounting_is_unknown() {
    let mut new = seen(0, 60, 100);
    new.group_usec = None;
    assert_eq!(compare(&effect(Mode::Add), &seen(0, 0, 0), &new, 5_000).state, EffectState::Unknown);
}

#[test]
fn a_quota_above_the_agent_is_the_most_that_can_be_asked() {
    let asked = |percent: u32, cores: usize, quota| fits_quota(&params(json!({"percent": percent})).unwrap(), cores, quota);
    assert!(asked(25, 4, 1.0).is_ok() && asked(100, 2, 2.0).is_ok());
    let refusal = asked(50, 4, 1.5).unwrap_err();
    assert_eq!(
        (refusal.path.as_str(), refusal.allowed.as_deref()),
        ("params.percent", Some("1..37"))
    );
    assert!(
        refusal.message.contains("2.00 cores") && refusal.message.contains("1.50"),
        "{refusal}"
    );
    assert_eq!(asked(1, 64, 0.5).unwrap_err().allowed, None);
    let host = agent_levers::fake::FakeHost::new();
    host.set_cpu_quota(Some(1.0));
    let keeps = crate::paper::Keeps::default();
    let scene = Scene {
        view: &host,
        protection: &keeps,
        seed: 1,
        duration_ms: 10_000,
    };
    let told = Burn::preflight(&params(json!({"percent": 25})).unwrap(), &scene).unwrap();
    assert!(told.touches.iter().any(|what| what.contains("quota of 1.00 cores")), "{told:?}");
    assert_eq!(
        Burn::preflight(&params(json!({})).unwrap(), &scene).unwrap_err().path,
        "params.percent"
    );
}
