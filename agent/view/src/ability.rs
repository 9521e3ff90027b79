//! Whether this host has what faults need: capabilities, groups, parts of the kernel, freedom from confinement, a clock. It changes nothing.

mod capability;
mod cgroups;
pub(crate) mod clock;
mod feature;
mod features;
mod guardian;
mod kernel;
mod last_guard;
mod presence;
mod security;

pub use feature::Feature;
pub use features::Features;
pub use presence::Presence;

use crate::hierarchy::Hierarchies;
use crate::tc::bpf::Program;
use crate::text;
use kernel::Kernel;
use security::Security;

pub(crate) fn presence(feature: Feature, hierarchies: &Hierarchies) -> Presence {
    match feature {
        Feature::Root => root(),
        Feature::Groups => cgroups::groups(hierarchies),
        Feature::Controllers => cgroups::controllers(hierarchies),
        Feature::BpfPrograms => programs(),
        Feature::SocketGroups => cgroups::socket_groups(hierarchies),
        Feature::SeLinux => Security::here().selinux(),
        Feature::AppArmor => Security::here().apparmor(),
        Feature::Lockdown => Security::here().lockdown(),
        Feature::Clock => clock::synchronised(),
        Feature::ClockSteps => clock::steps(),
        Feature::Guardian => guardian::detect(),
        Feature::LastGuard => last_guard::detect(),
        _ if !feature.capabilities().is_empty() => {
            let status = text::read_if_there(capability::status_path()).ok().flatten();
            capability::held(feature.capabilities(), status.as_deref())
        }
        _ => {
            let kernel = Kernel::here();
            let all = |parts: &&'static [feature::Part]| Presence::worst(parts.iter().map(|part| kernel.has(part)));
            Presence::best(feature.ways().iter().map(all))
        }
    }
}

fn root() -> Presence {
    if rustix::process::geteuid().is_root() {
        return Presence::Present;
    }
    Presence::absent("this process is not root", "sudo fracas-agent doctor")
}

/// Loads one that no packet ever meets: it is gone with its descriptor.
fn programs() -> Presence {
    match Program::try_out() {
        Ok(()) => Presence::Present,
        Err(error) => {
            let fix = match error.kind() {
                std::io::ErrorKind::PermissionDenied => capability::allowing("CAP_SYS_ADMIN CAP_BPF"),
                _ => "boot a kernel with CONFIG_BPF_SYSCALL=y (grep BPF /boot/config-$(uname -r))".to_owned(),
            };
            Presence::absent(
                format!("the kernel takes no program of ours for filters, or does not find it again (bpf: {error})"),
                fix,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn this_kernel_agrees_with_what_it_lets_us_read() {
        let hierarchies = Hierarchies::detect(Path::new("")).unwrap();
        for feature in Feature::ALL {
            let seen = presence(feature, &hierarchies);
            println!("{}: {seen:?}", feature.name());
            if let Presence::Absent { why, fix } | Presence::Unknown { why, fix } = seen {
                assert!(!why.is_empty() && !fix.is_empty(), "{}: {why}: {fix}", feature.name());
            }
        }
        // A process that can read our packet table, or knows that there is none, has nf_tables.
        if crate::net::kernel_has_tables() == Some(true) {
            let seen = presence(Feature::PacketRules, &hierarchies);
            assert!(matches!(seen, Presence::Present | Presence::Unknown { .. }), "{seen:?}");
        }
    }

    #[test]
    fn every_feature_has_one_way_to_be_looked_at_and_a_name_of_its_own() {
        let mut names: Vec<&str> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Feature::ALL.len());
        for feature in Feature::ALL {
            assert!(feature.capabilities().is_empty() || feature.ways().is_empty(), "{}", feature.name());
        }
    }
}
