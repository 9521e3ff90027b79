//! What a kind says that it stands on, and its preflight, agree: what is surely missing is refused before anything is touched.

use std::path::Path;

use agent_faults::{Protection, Scene, registry};
use agent_levers::fake::FakeHost;
use agent_view::{Feature, Presence, Process, Volume};
use proto_model::doctor::Can;
use proto_model::peer::Network;

struct Unprotected;

impl Protection for Unprotected {
    fn process(&self, _process: &Process) -> Option<String> {
        None
    }
    fn networks(&self) -> Vec<Network> {
        Vec::new()
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

/// Parts of the kernel without which packets cannot be chosen at all.
const PACKETS: [Feature; 2] = [Feature::PacketRules, Feature::NetAdmin];

#[test]
fn every_network_fault_is_refused_where_the_kernel_lacks_what_it_needs() {
    for feature in PACKETS {
        let host = FakeHost::new();
        let why = format!("no {}", feature.name());
        let mend = Some("apt install it".to_owned());
        host.set_presence(feature, Presence::Absent { why: why.clone(), mend });
        let scene = Scene {
            view: &host,
            protection: &Unprotected,
            seed: 1,
            duration_ms: 60_000,
        };
        for fault in registry().filter(|fault| fault.kind().family() == "network") {
            assert_eq!(fault.ability(&host).can, Can::No, "{}", fault.kind());
            for example in fault.describe().examples {
                let refusal = fault.preflight(&example.params, &scene).unwrap_err();
                assert_eq!(
                    (refusal.code.as_str(), refusal.path.as_str()),
                    ("unsupported", "fault"),
                    "{}",
                    fault.kind()
                );
                assert!(
                    refusal.message.contains(&why) && refusal.message.contains("apt install it"),
                    "{refusal}"
                );
            }
        }
    }
}

#[test]
fn doubt_refuses_nothing() {
    let host = FakeHost::new();
    for feature in Feature::ALL {
        host.set_presence(feature, Presence::Unknown { why: "closed".into() });
    }
    let scene = Scene {
        view: &host,
        protection: &Unprotected,
        seed: 1,
        duration_ms: 60_000,
    };
    for fault in registry() {
        assert_ne!(fault.ability(&host).can, Can::No, "{}", fault.kind());
        for example in fault.describe().examples {
            let refusal = fault.preflight(&example.params, &scene).err();
            assert!(
                refusal.as_ref().is_none_or(|refusal| refusal.code != "unsupported"),
                "{}: {refusal:?}",
                fault.kind()
            );
        }
    }
}
