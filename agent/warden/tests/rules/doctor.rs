//! What a host can do, kind by kind: their own answers, the policy's, and the journal's; an agent's warden says the same.
use agent_levers::JournalStore;
use agent_levers::fake::FakeHost;
use agent_view::{Feature, Presence};
use agent_warden::{Kinds, Policy, examine};
use proto_model::catalogue::FaultKind;
use proto_model::doctor::{Ability, Can, HostDoctor};

const KINDS: Kinds = Kinds {
    find: agent_faults::find,
    catalogue: agent_faults::catalogue,
};

fn full_doctor(host: &FakeHost) -> HostDoctor {
    examine(host, &Policy::default(), KINDS, Ok(&JournalStore::memory()))
}

fn without(feature: Feature, presence: Presence) -> HostDoctor {
    let host = FakeHost::new();
    host.set_presence(feature, presence);
    full_doctor(&host)
}

fn unknown() -> Presence {
    Presence::Unknown {
        why: "closed to us".into(),
        fix: "open it".into(),
    }
}

fn absent() -> Presence {
    Presence::Absent {
        why: "it is not there".into(),
        fix: "apt install it".into(),
    }
}

#[test]
fn a_host_that_has_everything_can_do_everything() {
    let found = full_doctor(&FakeHost::new());
    assert_eq!(found.can, Can::Yes, "{found:?}");
    assert_eq!(found.kinds.len(), agent_faults::registry().count());
    assert!(found.checks.iter().all(|check| check.ability.can == Can::Yes));
}

#[test]
fn what_is_missing_names_the_kinds_that_need_it_and_what_fixes_them() {
    let found = without(Feature::NetAdmin, absent());
    for kind in &found.kinds {
        let needs_it = kind.fault.family() == "network";
        assert_eq!(kind.ability.can == Can::No, needs_it, "{kind:?}");
        assert_eq!(kind.ability.fix.as_deref(), needs_it.then_some("apt install it"));
    }
    // Packets can be chosen by filters as well, but not cut off.
    let found = without(Feature::PacketRules, absent());
    assert_eq!(found.can, Can::No);
    let cannot = found.kinds.iter().filter(|kind| kind.ability.can == Can::No);
    assert_eq!(cannot.map(|kind| kind.fault.as_str()).collect::<Vec<_>>(), ["network.partition"]);
    let check = found.checks.iter().find(|check| check.name == "nf_tables").unwrap();
    assert_eq!(
        (check.ability.can, check.ability.why.as_deref()),
        (Can::No, Some("it is not there"))
    );
}

#[test]
fn what_comes_when_it_is_used_is_there_and_what_was_not_seen_is_not_evaluated() {
    assert_eq!(without(Feature::PacketQueues, Presence::Loadable).can, Can::Yes);
    let found = without(Feature::Groups, unknown());
    assert_eq!(found.can, Can::NotEvaluated);
    assert!(found.kinds.iter().all(|kind| kind.ability.can != Can::No));
    assert!(found.kinds.iter().any(|kind| kind.ability.why.as_deref() == Some("closed to us")));
}

#[test]
fn what_the_host_does_not_allow_does_not_count() {
    let host = FakeHost::new();
    host.set_presence(Feature::PacketRules, absent());
    let policy = Policy::parse("[faults]\nallow = [\"cpu.*\"]\n", std::path::Path::new("agent.toml")).unwrap();
    let found = examine(&host, &policy, KINDS, Ok(&JournalStore::memory()));
    assert_eq!(found.can, Can::Yes);
    assert!(found.kinds.iter().all(|kind| kind.allowed == (kind.fault.family() == "cpu")));
}

#[test]
fn without_a_journal_nothing_can_be_done_and_without_a_look_nothing_is_said_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mirror) = (dir.path().join("disk"), dir.path().join("mirror"));
    let journal_store = JournalStore::open(&disk, &mirror).unwrap();
    std::fs::remove_dir(&disk).unwrap();
    let found = examine(&FakeHost::new(), &Policy::default(), KINDS, Ok(&journal_store));
    assert!(found.kinds.iter().all(|kind| kind.ability.can == Can::No), "{found:?}");
    let journal = found.checks.iter().find(|check| check.name == "journal").unwrap();
    let fix = journal.ability.fix.as_deref().unwrap();
    assert!(fix.contains(&format!("ls -ld {}", disk.display())), "{fix}");
    assert!(found.kinds.iter().all(|kind| kind.ability.fix.as_deref() == Some(fix)), "{found:?}");
    let unseen = Ability::not_evaluated("no agent has run here", "systemctl start fracas-agent");
    let found = examine(&FakeHost::new(), &Policy::default(), KINDS, Err(unseen));
    let journal = found.checks.iter().find(|check| check.name == "journal").unwrap();
    assert_eq!((found.can, journal.ability.can), (Can::NotEvaluated, Can::NotEvaluated));
    assert_eq!(found.kinds[0].ability.fix.as_deref(), Some("systemctl start fracas-agent"));
}

#[test]
fn without_a_guardian_nothing_can_be_done_as_nothing_is_admitted() {
    let found = without(Feature::Guardian, absent());
    assert_eq!(found.can, Can::No);
    for kind in &found.kinds {
        assert_eq!(kind.ability.can, Can::No, "{kind:?}");
        assert!(kind.ability.why.as_ref().unwrap().contains("(guardian)"), "{kind:?}");
    }
}

/// What a host loses with each of its parts: the kinds that cannot be injected, and those done otherwise.
const CONSEQUENCES: [(Feature, &str, &str); 30] = [
    (Feature::Root, "cpu.burn memory.hog network.delay", "disk.fill network.loss"),
    (Feature::Kill, "", "process.kill process.pause"),
    (Feature::NetAdmin, "network.delay network.loss network.partition", ""),
    (Feature::NetRaw, "", "network.delay network.loss"),
    (
        Feature::Ptrace,
        "",
        "memory.hog network.delay network.loss process.kill process.pause",
    ),
    (Feature::DacOverride, "", "disk.fill"),
    (Feature::DacReadSearch, "", "disk.fill"),
    (Feature::SysResource, "", "disk.fill"),
    (Feature::IpcLock, "", "memory.hog"),
    (Feature::ChangeUser, "cpu.burn memory.hog", "disk.fill network.delay network.loss"),
    (Feature::Groups, "cpu.burn memory.hog network.delay", "disk.fill network.loss"),
    (Feature::Controllers, "", "cpu.burn memory.hog"),
    (Feature::PacketRules, "network.partition", "network.delay network.loss"),
    (Feature::RandomRules, "", "network.loss"),
    (Feature::PacketQueues, "", "network.delay network.loss"),
    (Feature::SocketGroups, "", "network.delay network.loss network.partition"),
    (Feature::Netem, "", "network.delay network.loss"),
    (Feature::Tbf, "", ""),
    (Feature::Ifb, "", "network.delay network.loss"),
    (Feature::Clsact, "", "network.delay network.loss"),
    (Feature::ClsBpf, "", "network.delay network.loss"),
    (Feature::BpfPrograms, "", "network.delay network.loss"),
    (Feature::Mirred, "", "network.delay network.loss"),
    (Feature::SeLinux, "*", ""),
    (Feature::AppArmor, "*", ""),
    (Feature::Lockdown, "", ""),
    (Feature::Clock, "", ""),
    (Feature::ClockSteps, "", ""),
    (Feature::Guardian, "*", ""),
    (Feature::LastGuard, "", ""),
];

#[test]
fn each_missing_part_has_its_consequence_and_its_fix() {
    let mut every: Vec<String> = agent_faults::registry().map(|fault| fault.kind().to_string()).collect();
    every.sort_unstable();
    let every = every.join(" ");
    for (feature, required, used) in CONSEQUENCES {
        let found = without(feature, absent());
        let check = found.checks.iter().find(|check| check.name == feature.name()).unwrap();
        let names = |kinds: &[FaultKind]| {
            let mut names: Vec<&str> = kinds.iter().map(FaultKind::as_str).collect();
            names.sort_unstable();
            names.join(" ")
        };
        let required = if required == "*" { &every } else { required };
        assert_eq!(
            (names(&check.required_by).as_str(), names(&check.used_by).as_str()),
            (required, used),
            "{feature:?}"
        );
        assert_eq!((check.ability.can, check.ability.fix.as_deref()), (Can::No, Some("apt install it")));
        assert!(check.consequence().is_some());
        for kind in &found.kinds {
            let lost = required.contains(kind.fault.as_str());
            assert_eq!(kind.ability.can != Can::Yes, lost, "{feature:?}: {kind:?}");
            let said = lost || used.contains(kind.fault.as_str());
            assert!(
                !said || kind.ability.fix.as_deref() == Some("apt install it"),
                "{feature:?}: {kind:?}"
            );
        }
    }
}

#[test]
fn what_is_unknown_is_never_green() {
    for (feature, required, used) in CONSEQUENCES {
        let found = without(feature, unknown());
        let check = found.checks.iter().find(|check| check.name == feature.name()).unwrap();
        assert_eq!(check.ability.can, Can::NotEvaluated, "{feature:?}");
        assert_eq!(check.ability.fix.as_deref(), Some("open it"), "{feature:?}");
        for kind in &found.kinds {
            let name = kind.fault.as_str();
            if required == "*" || required.contains(name) {
                assert_eq!(kind.ability.can, Can::NotEvaluated, "{feature:?}: {kind:?}");
                assert_eq!(kind.ability.fix.as_deref(), Some("open it"), "{feature:?}: {kind:?}");
            } else if used.contains(name) {
                assert!(kind.ability.why.as_ref().unwrap().contains("closed to us"), "{feature:?}: {kind:?}");
            }
        }
        assert!(required.is_empty() || found.can != Can::Yes, "{feature:?}");
    }
}

#[test]
fn a_confined_agent_can_do_nothing_for_sure() {
    let found = without(Feature::SeLinux, absent());
    assert_eq!(found.can, Can::NotEvaluated);
    for kind in &found.kinds {
        assert_eq!(kind.ability.can, Can::NotEvaluated, "{kind:?}");
        assert_eq!(kind.ability.why.as_deref(), Some("selinux may deny it"));
    }
}
