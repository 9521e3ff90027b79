//! What `disk.fill` refuses, makes and says, on a host of paper; how a real volume takes it is tried on the real kernel.

use agent_journal::Opened;
use agent_levers::fake::FakeHost;
use agent_levers::{Exemptions, JournalStore, PullContext, Undo};
use agent_view::{FileSeen, Presence};
use proto_model::id::InjectionId;
use proto_model::injection::EffectState;

use super::*;
use crate::paper::Keeps;

fn params(value: Value) -> Result<FillParams, Problems> {
    let parsed = crate::params::parse_params::<FillParams>(&value)?;
    Fill::validate(&parsed).map(|()| parsed)
}

fn scene<'a>(host: &'a FakeHost, protection: &'a Keeps) -> Scene<'a> {
    Scene {
        view: host,
        protection,
        seed: 1,
        duration_ms: 60_000,
    }
}

fn refused(host: &FakeHost, value: Value, keeps: &Keeps) -> Refusal {
    Fill::preflight(&params(value).unwrap(), &scene(host, keeps)).unwrap_err()
}

/// Applied on a host whose /var is 10 GiB, half full; also the ways back it recorded.
fn applied(host: &FakeHost, value: Value) -> (FillEffect, Vec<Undo>) {
    let injection = InjectionId::generate();
    let opened = Opened {
        injection: injection.clone(),
        run: String::new(),
        kind: Fill::KIND.to_owned(),
        params: Value::Null,
        boot_id: host.boot_id(),
        opened_boot_ms: 0,
        deadline_boot_ms: u64::MAX,
        plan_digest: String::new(),
    };
    let mut journal = JournalStore::memory().create(opened).unwrap();
    let context = PullContext {
        injection,
        kind: Fill::KIND.to_owned(),
        seed: 1,
        deadline_boot_ms: u64::MAX,
        gate_ms: 0,
        exemptions: Exemptions::default(),
    };
    let mut hands = host.clone();
    let mut levers = Levers::new(&mut journal, &mut hands, host, context);
    let effect = Fill::apply(&params(value).unwrap(), &scene(host, &Keeps::default()), &mut levers).unwrap();
    (effect, journal.history().intents.iter().map(|(_, undo)| undo.clone()).collect())
}

#[test]
fn exactly_one_goal_and_an_absolute_path() {
    for (bad, path) in [
        (json!({"path": "/var"}), "params"),
        (json!({"path": "/var", "used": 90, "free": "1GiB"}), "params"),
        (json!({"path": "var", "used": 90}), "params.path"),
        (json!({"path": "/var", "used": 101}), "params.used"),
        (json!({"path": "/var", "amount": 5}), "params.amount"),
        (json!({"path": "/var", "amount": "5GiB", "rate": "1kB"}), "params.rate"),
        (json!({"used": 90}), "params.path"),
    ] {
        assert_eq!(params(bad.clone()).unwrap_err().0[0].path, path, "{bad}");
    }
}

#[test]
fn the_reserve_of_the_host_or_of_the_injection_stays_free() {
    let host = FakeHost::new();
    let keeps = Keeps {
        disk: 1 << 30,
        ..Keeps::default()
    };
    let refusal = refused(&host, json!({"path": "/var/tmp", "used": 95}), &keeps);
    assert_eq!((refusal.path.as_str(), refusal.allowed.as_deref()), ("params.used", Some("..90%")));
    let refusal = refused(&host, json!({"path": "/var/tmp", "free": "1023MiB"}), &keeps);
    assert_eq!((refusal.path.as_str(), refusal.allowed.as_deref()), ("params.free", Some("1GiB..")));
    let refusal = refused(&host, json!({"path": "/var/tmp", "amount": "50%", "reserve": "2GiB"}), &keeps);
    assert_eq!(
        (refusal.path.as_str(), refusal.allowed.as_deref()),
        ("params.amount", Some("..3GiB"))
    );
    let fits = params(json!({"path": "/var/tmp", "used": 90})).unwrap();
    Fill::preflight(&fits, &scene(&host, &keeps)).unwrap();
}

#[test]
fn space_that_is_not_its_own_needs_to_be_allowed_by_name() {
    let host = FakeHost::new();
    let volume = |kind: &str, thin| Volume {
        kind: kind.to_owned(),
        thin,
        ..host.volume(Path::new("/var")).unwrap().unwrap()
    };
    for (volume, word) in [
        (volume("tmpfs", false), "tmpfs"),
        (volume("btrfs", false), "cow"),
        (volume("ext4", true), "thin"),
        (volume("nfs4", false), "network"),
    ] {
        host.set_volume(volume);
        let refusal = refused(&host, json!({"path": "/var", "amount": "1GiB"}), &Keeps::default());
        assert!(refusal.message.contains(&format!("allow={word}")), "{refusal}");
        let allowed = params(json!({"path": "/var", "amount": "1GiB", "allow": [word]})).unwrap();
        let said = Fill::preflight(&allowed, &scene(&host, &Keeps::default())).unwrap();
        assert_eq!(said.warnings.len(), 1);
    }
}

#[test]
fn what_a_worker_has_to_take_is_refused_where_none_can_be_started() {
    for feature in WORKER {
        let host = FakeHost::new();
        let absent = Presence::Absent {
            why: format!("no {}", feature.name()),
            fix: "add it".to_owned(),
        };
        host.set_presence(*feature, absent);
        for by_worker in [
            json!({"path": "/var", "amount": "1GiB", "rate": "16MiB"}),
            json!({"path": "/run", "amount": "16MiB", "allow": ["tmpfs"]}),
        ] {
            let refusal = refused(&host, by_worker, &Keeps::default());
            assert_eq!(refusal.code, "unsupported", "without {}: {refusal}", feature.name());
        }
        let at_once = params(json!({"path": "/var", "amount": "1GiB"})).unwrap();
        Fill::preflight(&at_once, &scene(&host, &Keeps::default())).unwrap();
    }
}

#[test]
fn a_volume_that_is_memory_is_held_against_the_reserve_of_memory_too() {
    let host = FakeHost::new();
    let keeps = Keeps {
        memory: (6 << 30) - 512 * MEBI,
        ..Keeps::default()
    };
    let asks = |amount: &str| json!({"path": "/run", "amount": amount, "allow": ["tmpfs"]});
    let refusal = refused(&host, asks("513MiB"), &keeps);
    assert_eq!(
        (refusal.path.as_str(), refusal.allowed.as_deref()),
        ("params.amount", Some("..512MiB"))
    );
    assert!(
        refusal.message.contains("of memory are available") && refusal.message.contains("(reserve.memory of this host's agent.toml)"),
        "{refusal}"
    );
    let fits = Fill::preflight(&params(asks("512MiB")).unwrap(), &scene(&host, &keeps)).unwrap();
    assert!(fits.warnings.iter().any(|said| said.contains("/run is memory")), "{fits:?}");
    // Beyond the volume itself, the volume is what is short.
    let refusal = refused(&host, asks("2GiB"), &Keeps::default());
    assert!(
        refusal.message.contains("are free") && !refusal.message.contains("of memory"),
        "{refusal}"
    );
    assert!(
        refusal
            .message
            .contains("(reserve.disk and reserve.disk_percent of this host's agent.toml)"),
        "{refusal}"
    );
    let mut own = asks("2GiB");
    own["reserve"] = json!("3GiB");
    let refusal = refused(&host, own, &Keeps::default());
    assert!(
        refusal.message.ends_with("3GiB must stay free (the parameter reserve)"),
        "{refusal}"
    );
}

#[test]
fn memory_is_taken_by_a_worker_that_knows_the_reserve() {
    let host = FakeHost::new();
    let (effect, _) = applied(&host, json!({"path": "/run", "amount": "64MiB", "allow": ["tmpfs"]}));
    assert!(effect.worker.is_some());
    let order = host.workers().into_values().next().unwrap().params;
    assert_eq!(order["memory_reserve"], json!(0));
}

#[test]
fn where_nothing_can_be_made_is_said_before() {
    let host = FakeHost::new();
    let var = host.volume(Path::new("/var")).unwrap().unwrap();
    let ward = Keeps {
        path: Some("/var/lib/db".into()),
        ..Keeps::default()
    };
    let refusal = refused(&host, json!({"path": "/var/lib/db/x", "amount": "1GiB"}), &ward);
    assert_eq!((refusal.code.as_str(), refusal.path.as_str()), ("protected", "params.path"));
    for wrong in [
        Volume {
            is_folder: false,
            ..var.clone()
        },
        Volume {
            read_only: true,
            ..var.clone()
        },
        Volume {
            used: 0,
            available: 0,
            ..var
        },
    ] {
        host.set_volume(wrong);
        let refusal = refused(&host, json!({"path": "/var", "amount": "1GiB"}), &Keeps::default());
        assert_eq!((refusal.code.as_str(), refusal.path.as_str()), ("invalid_params", "params.path"));
    }
    host.set_volume(Volume {
        read_only: true,
        ..host.volume(Path::new("/")).unwrap().unwrap()
    });
    let refusal = refused(&host, json!({"path": "/srv", "amount": "1GiB"}), &Keeps::default());
    assert_eq!(refusal.message, "/ is mounted read-only");
    for point in ["/var", "/"] {
        host.unmount(Path::new(point));
    }
    assert!(
        refused(&host, json!({"path": "/srv", "amount": "1GiB"}), &Keeps::default())
            .message
            .contains("no /srv")
    );
}

#[test]
fn what_the_agents_own_unit_forbids_is_not_blamed_on_the_host() {
    let host = FakeHost::new();
    host.keep_from_writing(Path::new("/var"));
    let refusal = refused(&host, json!({"path": "/var/tmp", "amount": "1GiB"}), &Keeps::default());
    assert_eq!((refusal.code.as_str(), refusal.path.as_str()), ("invalid_params", "params.path"));
    for part in [
        "/var is read-only for this agent, not for the host",
        "ProtectSystem=",
        "systemctl edit fracas-agent fracas-guard fracas-rescue",
        "ReadWritePaths=/var/tmp",
    ] {
        assert!(refusal.message.contains(part), "{part}: {refusal}");
    }
}

#[test]
fn it_allocates_at_once_and_leaves_the_rest_to_a_worker() {
    let host = FakeHost::new();
    let (effect, undos) = applied(&host, json!({"path": "/var/tmp", "used": 90}));
    assert_eq!((effect.worker.is_none(), undos.len()), (true, 2));
    assert_eq!(host.volume(Path::new("/var")).unwrap().unwrap().percent_used(), 90.0);
    let (slow, undos) = applied(&host, json!({"path": "/var/tmp", "amount": "64MiB", "rate": "16MiB"}));
    assert!(slow.worker.is_some() && matches!(undos.last(), Some(Undo::EmptyGroup(_))));
    let order = host.workers().into_values().next().unwrap().params;
    assert_eq!((&order["bytes"], &order["rate"]), (&json!(64 * MEBI), &json!(16 * MEBI)));
    host.refuse_to_allocate();
    let (written, _) = applied(&host, json!({"path": "/var/tmp", "amount": "64MiB"}));
    assert!(written.worker.is_some());
}

#[test]
fn a_fuller_volume_is_left_alone_and_that_is_confirmed() {
    let host = FakeHost::new();
    let (effect, undos) = applied(&host, json!({"path": "/var/tmp", "used": 30}));
    assert!(effect.noop && effect.ballast.is_none() && undos.is_empty() && host.calls().is_empty());
    assert_eq!(Fill::alive(&effect, &host), Ok(()));
    let observation = observed(&host, &effect, 1_000);
    assert_eq!((observation.state, observation.measured), (EffectState::Confirmed, Some(50.0)));
    assert!(observation.note.unwrap().contains("past the target"));
}

fn observed(host: &FakeHost, effect: &FillEffect, after_ms: u64) -> Observation {
    let (none, first) = Fill::observe(effect, host, None).unwrap();
    assert_eq!(none, None);
    host.advance(after_ms);
    Fill::observe(effect, host, Some(&first)).unwrap().0.unwrap()
}

#[test]
fn two_fills_in_one_folder_add_up() {
    let host = FakeHost::new();
    let (one, _) = applied(&host, json!({"path": "/var/tmp", "amount": "1GiB"}));
    assert_eq!(observed(&host, &one, 1_000).measured, Some((1_u64 << 30) as f64));
    let (two, _) = applied(&host, json!({"path": "/var/tmp", "amount": "2GiB"}));
    let observation = observed(&host, &two, 1_000);
    assert_eq!(
        (observation.state, observation.measured),
        (EffectState::Confirmed, Some((2_u64 << 30) as f64))
    );
    let first_again = observed(&host, &one, 1_000);
    assert_eq!(first_again.state, EffectState::Confirmed);
    assert!(first_again.note.unwrap().contains("others have taken 2GiB"));
}

#[test]
fn a_file_that_is_taken_away_ends_it() {
    let host = FakeHost::new();
    let (effect, _) = applied(&host, json!({"path": "/var/tmp", "amount": "1GiB"}));
    let path = effect.ballast.clone().unwrap().path;
    let ours = host.file(&path).unwrap().unwrap();
    host.set_file(&path, Some(FileSeen { allocated: 0, ..ours }));
    assert_eq!(Fill::alive(&effect, &host), Ok(()));
    assert_eq!(observed(&host, &effect, 1_000).state, EffectState::Mismatch);
    host.set_file(&path, None);
    assert!(Fill::alive(&effect, &host).unwrap_err().contains("not there any more"));
    let (slow, _) = applied(&host, json!({"path": "/var/tmp", "amount": "64MiB", "rate": "16MiB"}));
    host.kill(slow.worker.as_ref().unwrap().pid);
    assert!(Fill::alive(&slow, &host).unwrap_err().contains("the worker"));
}
