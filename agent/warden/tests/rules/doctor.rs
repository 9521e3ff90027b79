//! What a host can do, told kind by kind: their own answers, the policy's, and the journal's; an agent's warden says the same.
use agent_levers::JournalStore;
use agent_levers::fake::FakeHost;
use agent_view::{Feature, Presence};
use agent_warden::{Kinds, Policy, examine};
use proto_model::doctor::{Can, HostDoctor};

const KINDS: Kinds = Kinds {
    find: agent_faults::find,
    catalogue: agent_faults::catalogue,
};

fn told(host: &FakeHost) -> HostDoctor {
    examine(host, &Policy::default(), KINDS, Ok(&JournalStore::memory()))
}

fn without(feature: Feature, presence: Presence) -> HostDoctor {
    let host = FakeHost::new();
    host.set_presence(feature, presence);
    told(&host)
}

fn absent() -> Presence {
    Presence::Absent {
        why: "it is not there".into(),
        mend: Some("apt install it".into()),
    }
}

#[test]
fn a_host_that_has_everything_can_do_everything() {
    let told = told(&FakeHost::new());
    assert_eq!(told.can, Can::Yes, "{told:?}");
    assert_eq!(told.kinds.len(), agent_faults::registry().count());
    assert!(told.checks.iter().all(|check| check.ability.can == Can::Yes));
}

#[test]
fn what_is_missing_names_the_kinds_that_need_it_and_what_mends_them() {
    let told = without(Feature::NetAdmin, absent());
    for kind in &told.kinds {
        let needs_it = kind.fault.family() == "network";
        assert_eq!(kind.ability.can == Can::No, needs_it, "{kind:?}");
        assert_eq!(kind.ability.mend.as_deref(), needs_it.then_some("apt install it"));
    }
    // Packets can be chosen by filters as well, but not cut off.
    let told = without(Feature::PacketRules, absent());
    assert_eq!(told.can, Can::No);
    let cannot = told.kinds.iter().filter(|kind| kind.ability.can == Can::No);
    assert_eq!(cannot.map(|kind| kind.fault.as_str()).collect::<Vec<_>>(), ["network.partition"]);
    let check = told.checks.iter().find(|check| check.name == "nf_tables").unwrap();
    assert_eq!(
        (check.ability.can, check.ability.why.as_deref()),
        (Can::No, Some("it is not there"))
    );
}

#[test]
fn what_comes_when_it_is_used_is_there_and_what_was_not_seen_is_not_evaluated() {
    assert_eq!(without(Feature::PacketQueues, Presence::Loadable).can, Can::Yes);
    let unknown = Presence::Unknown {
        why: "closed to us".into(),
    };
    let told = without(Feature::Groups, unknown);
    assert_eq!(told.can, Can::NotEvaluated);
    assert!(told.kinds.iter().all(|kind| kind.ability.can != Can::No));
    assert!(told.kinds.iter().any(|kind| kind.ability.why.as_deref() == Some("closed to us")));
}

#[test]
fn what_the_host_does_not_allow_does_not_count() {
    let host = FakeHost::new();
    host.set_presence(Feature::PacketRules, absent());
    let policy = Policy::parse("[faults]\nallow = [\"cpu.*\"]\n", std::path::Path::new("agent.toml")).unwrap();
    let told = examine(&host, &policy, KINDS, Ok(&JournalStore::memory()));
    assert_eq!(told.can, Can::Yes);
    assert!(told.kinds.iter().all(|kind| kind.allowed == (kind.fault.family() == "cpu")));
}

#[test]
fn without_a_journal_nothing_can_be_done_and_without_a_look_nothing_is_said_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mirror) = (dir.path().join("disk"), dir.path().join("mirror"));
    let journal_store = JournalStore::open(&disk, &mirror).unwrap();
    std::fs::remove_dir(&disk).unwrap();
    let told = examine(&FakeHost::new(), &Policy::default(), KINDS, Ok(&journal_store));
    assert!(told.kinds.iter().all(|kind| kind.ability.can == Can::No), "{told:?}");
    let told = examine(&FakeHost::new(), &Policy::default(), KINDS, Err("no agent has run here".into()));
    let journal = told.checks.iter().find(|check| check.name == "journal").unwrap();
    assert_eq!((told.can, journal.ability.can), (Can::Yes, Can::NotEvaluated));
}
