//! What installs packages on this system, for the commands that mend it; nothing is installed here.

use crate::text;

/// Who made this system, as far as its way of installing things goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    Debian,
    Ubuntu,
    RedHat,
    Suse,
    Other,
}

impl Distribution {
    pub(crate) fn here() -> Self {
        let release = ["/etc/os-release", "/usr/lib/os-release"];
        let text = release.into_iter().find_map(|path| text::read_if_there(path).ok().flatten());
        Self::of(&text.unwrap_or_default())
    }

    fn of(release: &str) -> Self {
        let value = |key: &str| release.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let words = format!("{} {}", value("ID=").trim_matches('"'), value("ID_LIKE=").trim_matches('"'));
        let has = |names: &[&str]| words.split_whitespace().any(|word| names.contains(&word));
        if has(&["ubuntu"]) {
            Self::Ubuntu
        } else if has(&["debian"]) {
            Self::Debian
        } else if has(&["fedora", "rhel", "centos"]) {
            Self::RedHat
        } else if has(&["suse", "opensuse", "sles"]) {
            Self::Suse
        } else {
            Self::Other
        }
    }

    pub(crate) fn installs(self, package: &str) -> Option<String> {
        let tool = match self {
            Self::Debian | Self::Ubuntu => "apt install",
            Self::RedHat => "dnf install",
            Self::Suse => "zypper install",
            Self::Other => return None,
        };
        Some(format!("{tool} {package}"))
    }

    /// The package with the modules that a small kernel leaves out.
    pub(crate) fn kernel_modules(self, release: &str) -> Option<String> {
        match self {
            Self::Ubuntu => self.installs(&format!("linux-modules-extra-{release}")),
            Self::Debian => Some("apt install linux-image-$(dpkg --print-architecture) && reboot".to_owned()),
            Self::RedHat => self.installs(&format!("kernel-modules-extra-{release}")),
            Self::Suse => Some("zypper install kernel-default && reboot".to_owned()),
            Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distribution_is_told_its_own_command() {
        for (text, command) in [
            ("ID=ubuntu\nID_LIKE=debian\n", Some("apt install linux-modules-extra-6.8")),
            (
                "ID=debian\n",
                Some("apt install linux-image-$(dpkg --print-architecture) && reboot"),
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Some("dnf install kernel-modules-extra-6.8"),
            ),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Some("zypper install kernel-default && reboot"),
            ),
            ("ID=alpine\n", None),
            ("", None),
        ] {
            assert_eq!(Distribution::of(text).kernel_modules("6.8").as_deref(), command, "{text}");
        }
        assert_eq!(Distribution::Suse.installs("chrony").as_deref(), Some("zypper install chrony"));
    }
}
