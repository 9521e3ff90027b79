//! Whether a security module of the kernel (SELinux, AppArmor, lockdown) stands in the agent's way, judged by what the kernel says of this process.

use super::presence::Presence;
use crate::distribution::Distribution;
use crate::text;

const ENFORCE: &str = "/sys/fs/selinux/enforce";
const LABEL: &str = "/proc/self/attr/current";
const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const APPARMOR_LABEL: &str = "/proc/self/attr/apparmor/current";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const MODULES: &str = "/sys/kernel/security/lsm";
const PROGRAM: &str = "/usr/bin/fracas-agent";

/// Domains that the usual policies confine in nothing. A service whose program is labelled `bin_t` runs in the first.
const UNCONFINED: [&str; 4] = ["unconfined_service_t", "unconfined_t", "initrc_t", "spc_t"];

/// The files in which the kernel says it; `None` for what is not there or cannot be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Security {
    /// /proc/filesystems: SELinux registers its own when it is in use.
    pub filesystems: Option<String>,
    pub enforce: Option<String>,
    pub label: Option<String>,
    pub apparmor_enabled: Option<String>,
    pub apparmor_label: Option<String>,
    pub lockdown: Option<String>,
    pub modules: Option<String>,
}

impl Security {
    pub fn here() -> Self {
        let read = |path: &str| {
            let text = text::read_if_there(path).ok().flatten()?;
            Some(text.trim_end_matches(['\0', '\n']).to_owned())
        };
        Self {
            filesystems: read("/proc/filesystems"),
            enforce: read(ENFORCE),
            label: read(LABEL),
            apparmor_enabled: read(APPARMOR_ENABLED),
            apparmor_label: read(APPARMOR_LABEL),
            lockdown: read(LOCKDOWN),
            modules: read(MODULES),
        }
    }

    pub fn selinux(&self) -> Presence {
        let Some(filesystems) = &self.filesystems else {
            return Presence::unknown(
                "whether SELinux is in use cannot be read (/proc/filesystems)",
                "ls -l /proc/filesystems; getenforce",
            );
        };
        if !filesystems.lines().any(|line| line.ends_with("selinuxfs")) {
            return Presence::described("not in use");
        }
        match (self.enforce.as_deref(), self.label.as_deref()) {
            (Some("0"), _) => Presence::described("permissive: it denies nothing"),
            (Some("1"), Some(label)) => enforced_on(label),
            (Some("1"), None) => Presence::unknown(
                format!("SELinux is enforcing, and this process's domain cannot be read ({LABEL})"),
                "ps -eZ | grep fracas-agent",
            ),
            _ => Presence::unknown(
                format!("SELinux is in use, and whether it enforces cannot be read ({ENFORCE})"),
                format!("getenforce; ls -l {ENFORCE}"),
            ),
        }
    }

    pub fn apparmor(&self) -> Presence {
        match self.apparmor_enabled.as_deref() {
            None | Some("N") => return Presence::described("not in use"),
            Some("Y") => {}
            Some(_) => {
                return Presence::unknown(
                    format!("whether AppArmor is in use cannot be understood ({APPARMOR_ENABLED})"),
                    format!("cat {APPARMOR_ENABLED}; aa-status"),
                );
            }
        }
        // Kernels before 5.8 have the common file alone.
        let label = self.apparmor_label.as_deref().or(self.label.as_deref());
        let Some(label) = label.filter(|label| !label.is_empty()) else {
            return Presence::unknown(
                format!("AppArmor is in use, and this process's profile cannot be read ({APPARMOR_LABEL})"),
                "aa-status",
            );
        };
        match label.rsplit_once(" (") {
            None if label == "unconfined" => Presence::described("in use; this agent is unconfined"),
            Some((profile, "complain)")) => Presence::described(format!("profile {profile} only logs (complain mode)")),
            Some((profile, "unconfined)")) => Presence::described(format!("profile {profile} confines nothing")),
            Some((profile, mode)) => Presence::absent(
                format!(
                    "profile {profile} confines this agent ({mode} mode, {APPARMOR_LABEL})",
                    mode = mode.trim_end_matches(')')
                ),
                format!(
                    "{} && aa-disable {PROGRAM} && systemctl restart fracas-agent",
                    Distribution::here()
                        .installs("apparmor-utils")
                        .unwrap_or_else(|| "install apparmor-utils".to_owned())
                ),
            ),
            None => Presence::unknown(
                format!("the profile {label:?} cannot be understood ({APPARMOR_LABEL})"),
                "aa-status",
            ),
        }
    }

    pub fn lockdown(&self) -> Presence {
        let Some(lockdown) = &self.lockdown else {
            return match &self.modules {
                Some(modules) if !modules.split(',').any(|module| module == "lockdown") => Presence::described("not in use"),
                _ => Presence::unknown(
                    format!("the kernel's lockdown cannot be read ({LOCKDOWN})"),
                    format!("cat {LOCKDOWN}; where it is not there, mount -t securityfs securityfs /sys/kernel/security"),
                ),
            };
        };
        let mode = lockdown
            .split_whitespace()
            .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        match mode {
            Some("none") => Presence::described("none"),
            Some(mode @ ("integrity" | "confidentiality")) => Presence::described(format!(
                "{mode}: only signed modules load, as those of distributions are; no fault needs another"
            )),
            _ => Presence::unknown(
                format!("the kernel's lockdown {lockdown:?} cannot be understood ({LOCKDOWN})"),
                format!("cat {LOCKDOWN}"),
            ),
        }
    }
}

fn enforced_on(label: &str) -> Presence {
    let Some(domain) = label.split(':').nth(2) else {
        return Presence::unknown(
            format!("the SELinux label {label:?} cannot be understood ({LABEL})"),
            "ps -eZ | grep fracas-agent",
        );
    };
    if UNCONFINED.contains(&domain) {
        return Presence::described(format!("enforcing; this agent runs as {domain}, which is unconfined"));
    }
    Presence::Absent {
        why: format!(
            "SELinux is enforcing and this agent runs as {domain}, whose policy may deny it what faults need ({LABEL}); as a service with the label bin_t it runs as unconfined_service_t"
        ),
        fix: format!("restorecon -v {PROGRAM} && systemctl restart fracas-agent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// The word that a doctor shows, and what it says besides.
    fn verdict(presence: Presence) -> (&'static str, String) {
        match presence {
            Presence::Described { detail } => ("yes", detail),
            Presence::Absent { why, fix } => ("no", format!("{why}; fix: {fix}")),
            Presence::Unknown { why, fix } => ("not evaluated", format!("{why}; fix: {fix}")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn selinux_is_judged_by_its_mode_and_this_agents_domain() {
        let on = "nodev\tsysfs\nnodev\tselinuxfs\n\text4\n";
        for (filesystems, enforce, label, word, says) in [
            (some("nodev\tsysfs\n"), None, some("unconfined"), "yes", "not in use"),
            (some(on), some("0"), None, "yes", "permissive"),
            (
                some(on),
                some("1"),
                some("system_u:system_r:unconfined_service_t:s0"),
                "yes",
                "unconfined_service_t, which is unconfined",
            ),
            (
                some(on),
                some("1"),
                some("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"),
                "yes",
                "unconfined",
            ),
            (
                some(on),
                some("1"),
                some("system_u:system_r:init_t:s0"),
                "no",
                "fix: restorecon -v /usr/bin/fracas-agent && systemctl restart fracas-agent",
            ),
            (some(on), some("1"), some("system_u:system_r:httpd_t:s0"), "no", "runs as httpd_t"),
            (some(on), some("1"), None, "not evaluated", "domain cannot be read"),
            (some(on), some("1"), some("nonsense"), "not evaluated", "cannot be understood"),
            (
                some(on),
                None,
                some("system_u:system_r:init_t:s0"),
                "not evaluated",
                "/sys/fs/selinux/enforce",
            ),
            (None, some("1"), None, "not evaluated", "/proc/filesystems"),
        ] {
            let security = Security {
                filesystems,
                enforce,
                label,
                ..Security::default()
            };
            let (found, text) = verdict(security.selinux());
            assert!(found == word && text.contains(says), "{security:?}: {found}: {text}");
        }
    }

    #[test]
    fn apparmor_is_judged_by_the_profile_of_this_agent() {
        for (enabled, own, common, word, says) in [
            (None, None, None, "yes", "not in use"),
            (some("N"), some("x (enforce)"), None, "yes", "not in use"),
            (some("Y"), some("unconfined"), None, "yes", "unconfined"),
            (some("Y"), None, some("unconfined"), "yes", "unconfined"),
            (some("Y"), some("fracas-agent (complain)"), None, "yes", "complain"),
            (some("Y"), some("fracas-agent (unconfined)"), None, "yes", "confines nothing"),
            (
                some("Y"),
                some("/usr/bin/fracas-agent (enforce)"),
                None,
                "no",
                "profile /usr/bin/fracas-agent confines this agent (enforce mode",
            ),
            (some("Y"), some("a (kill)"), None, "no", "aa-disable /usr/bin/fracas-agent"),
            (some("Y"), None, None, "not evaluated", "profile cannot be read"),
            (some("Y"), some("odd"), None, "not evaluated", "cannot be understood"),
            (some("?"), None, None, "not evaluated", "parameters/enabled"),
        ] {
            let security = Security {
                apparmor_enabled: enabled,
                apparmor_label: own,
                label: common,
                ..Security::default()
            };
            let (found, text) = verdict(security.apparmor());
            assert!(found == word && text.contains(says), "{security:?}: {found}: {text}");
        }
    }

    #[test]
    fn lockdown_names_its_mode_and_is_unknown_where_it_cannot_be_read() {
        for (lockdown, modules, word, says) in [
            (some("[none] integrity confidentiality"), None, "yes", "none"),
            (some("none [integrity] confidentiality"), None, "yes", "integrity: only signed"),
            (some("none integrity [confidentiality]"), None, "yes", "confidentiality"),
            (None, some("capability,yama,apparmor"), "yes", "not in use"),
            (None, some("lockdown,capability"), "not evaluated", "cannot be read"),
            (None, None, "not evaluated", "cannot be read"),
            (some("none integrity"), None, "not evaluated", "cannot be understood"),
        ] {
            let security = Security {
                lockdown,
                modules,
                ..Security::default()
            };
            let (found, text) = verdict(security.lockdown());
            assert!(found == word && text.contains(says), "{security:?}: {found}: {text}");
        }
    }
}
