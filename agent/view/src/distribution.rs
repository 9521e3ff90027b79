//! Which distribution this is, and the commands that fix things there; nothing is run or installed here.

use std::path::Path;

use crate::text;

/// Boots by ostree have this file: their packages are layered.
const OSTREE: &str = "/run/ostree-booted";
const UNIFIED: &str = "systemd.unified_cgroup_hierarchy=1";
const GRUB: &str = "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub";

/// The family of this system, as far as packages and boot parameters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    Debian,
    Ubuntu,
    /// Red Hat Enterprise Linux 8 and later, what is built from it, and Fedora.
    RedHat,
    /// Version 7 of them and of Oracle Linux, whose kernels have all their modules in one package.
    RedHat7,
    /// Version 8 and later.
    OracleLinux,
    AmazonLinux2,
    AmazonLinux,
    /// Fedora CoreOS, RHEL for Edge and others that boot images.
    Ostree,
    Suse,
    /// SUSE systems with a read-only root, which are updated by snapshots.
    SuseTransactional,
    Other,
}

impl Distribution {
    pub(crate) fn here() -> Self {
        let release = ["/etc/os-release", "/usr/lib/os-release"];
        let text = release.into_iter().find_map(|path| text::read_if_there(path).ok().flatten());
        Self::of(&text.unwrap_or_default(), Path::new(OSTREE).exists())
    }

    /// By ID first, then by ID_LIKE, from the nearest relative to the farthest.
    fn of(release: &str, ostree: bool) -> Self {
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim().trim_matches(['"', '\''])
        };
        let ids = std::iter::once(value("ID")).chain(value("ID_LIKE").split_whitespace());
        let major = value("VERSION_ID").split('.').next().unwrap_or_default();
        let family = ids.filter_map(|id| Self::of_id(id, major)).next().unwrap_or(Self::Other);
        match family {
            Self::RedHat | Self::RedHat7 | Self::OracleLinux if ostree => Self::Ostree,
            family => family,
        }
    }

    fn of_id(id: &str, major: &str) -> Option<Self> {
        let family = match id {
            "debian" => Self::Debian,
            "ubuntu" => Self::Ubuntu,
            "fedora" => Self::RedHat,
            "rhel" | "centos" | "rocky" | "almalinux" | "ol" if major == "7" => Self::RedHat7,
            "ol" => Self::OracleLinux,
            "rhel" | "centos" | "rocky" | "almalinux" => Self::RedHat,
            "amzn" if major == "2" => Self::AmazonLinux2,
            "amzn" => Self::AmazonLinux,
            "opensuse-microos" | "opensuse-leap-micro" | "sle-micro" | "sl-micro" | "suse-microos" => Self::SuseTransactional,
            "sles" | "sles_sap" | "sled" | "suse" => Self::Suse,
            id if id.starts_with("opensuse") => Self::Suse,
            _ => return None,
        };
        Some(family)
    }

    pub(crate) fn installs(self, package: &str) -> Option<String> {
        let command = match self {
            Self::Debian | Self::Ubuntu => format!("apt install {package}"),
            Self::RedHat | Self::OracleLinux | Self::AmazonLinux => format!("dnf install {package}"),
            Self::RedHat7 | Self::AmazonLinux2 => format!("yum install {package}"),
            Self::Ostree => format!("rpm-ostree install {package} && systemctl reboot"),
            Self::Suse => format!("zypper install {package}"),
            Self::SuseTransactional => format!("transactional-update pkg install {package} && systemctl reboot"),
            Self::Other => return None,
        };
        Some(command)
    }

    /// Puts back the files of a package of ours, which comes as a file and from no repository.
    pub(crate) fn reinstalls(self, package: &str) -> String {
        let rpm = format!("./{package}-*.rpm");
        match self {
            Self::Debian | Self::Ubuntu => format!("apt install --reinstall ./{package}_*.deb"),
            Self::RedHat | Self::OracleLinux | Self::AmazonLinux => format!("dnf reinstall {rpm}"),
            Self::RedHat7 | Self::AmazonLinux2 => format!("yum reinstall {rpm}"),
            Self::Ostree => format!("rpm-ostree uninstall {package} && rpm-ostree install {rpm} && systemctl reboot"),
            Self::Suse => format!("zypper install --force {rpm}"),
            Self::SuseTransactional => format!("transactional-update pkg install --force {rpm} && systemctl reboot"),
            Self::Other => format!("install {package} again, from its deb or rpm"),
        }
    }

    /// The package with the modules that the running kernel's own package leaves out, or another kernel that has them.
    pub(crate) fn kernel_modules(self, release: &str) -> Option<String> {
        let package = match self {
            // Flavours for one hypervisor have no package with more modules.
            Self::Ubuntu if release.ends_with("-kvm") => return self.boots("linux-image-generic"),
            Self::Ubuntu => format!("linux-modules-extra-{release}"),
            // Every module is in the kernel's package; the flavours for clouds have fewer.
            Self::Debian => return self.boots("linux-image-$(dpkg --print-architecture)"),
            Self::OracleLinux if release.contains("uek") => format!("kernel-uek-modules-extra-{release}"),
            Self::RedHat | Self::OracleLinux | Self::Ostree => format!("kernel-modules-extra-{release}"),
            Self::RedHat7 if release.contains("uek") => return self.boots("kernel-uek"),
            Self::RedHat7 | Self::AmazonLinux2 => return self.boots("kernel"),
            // The first kernel of Amazon Linux 2023 was 6.1; later ones have their version in their name.
            Self::AmazonLinux => match release.split('.').take(2).collect::<Vec<_>>().join(".").as_str() {
                "6.1" => format!("kernel-modules-extra-{release}"),
                version => format!("kernel{version}-modules-extra-{release}"),
            },
            // kernel-default-base, which images for clouds have, leaves out most of the modules; the two exclude each other.
            Self::Suse => return self.boots("--force-resolution kernel-default"),
            Self::SuseTransactional => "kernel-default".to_owned(),
            Self::Other => return None,
        };
        self.installs(&package)
    }

    fn boots(self, kernel: &str) -> Option<String> {
        self.installs(kernel).map(|install| format!("{install} && reboot"))
    }

    /// What keeps the clock synchronised.
    pub(crate) fn time_service(self) -> Option<String> {
        let install = self.installs("chrony")?;
        Some(match self {
            // The package starts it.
            Self::Debian | Self::Ubuntu => install,
            Self::Ostree | Self::SuseTransactional => format!("{install}, then systemctl enable --now chronyd"),
            _ => format!("{install} && systemctl enable --now chronyd"),
        })
    }

    /// The boot with the unified hierarchy of control groups (cgroup v2) alone.
    pub(crate) fn unified_groups(self) -> Option<String> {
        Some(match self {
            Self::Debian | Self::Ubuntu => format!("{GRUB} && update-grub && reboot"),
            Self::RedHat | Self::OracleLinux | Self::AmazonLinux => {
                format!("grubby --update-kernel=ALL --args={UNIFIED} && reboot")
            }
            // Their systemd 219 cannot.
            Self::RedHat7 | Self::AmazonLinux2 => return None,
            Self::Ostree => format!("rpm-ostree kargs --append={UNIFIED} && systemctl reboot"),
            Self::Suse => format!("{GRUB} && grub2-mkconfig -o /boot/grub2/grub.cfg && reboot"),
            Self::SuseTransactional => format!("{GRUB} && transactional-update grub.cfg && systemctl reboot"),
            Self::Other => format!("add {UNIFIED} to the kernel's command line, and reboot"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of /etc/os-release as the distributions ship them, a running kernel, and the command for a missing module.
    const RELEASES: [(&str, &str, Option<&str>); 24] = [
        (
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
            "6.1.0-31-cloud-amd64",
            Some("apt install linux-image-$(dpkg --print-architecture) && reboot"),
        ),
        (
            "PRETTY_NAME=\"Debian GNU/Linux trixie/sid\"\nNAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=trixie\nID=debian\n",
            "6.12.9-amd64",
            Some("apt install linux-image-$(dpkg --print-architecture) && reboot"),
        ),
        (
            "PRETTY_NAME=\"Ubuntu 24.04.2 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n",
            "6.8.0-1021-aws",
            Some("apt install linux-modules-extra-6.8.0-1021-aws"),
        ),
        (
            "NAME=\"Ubuntu\"\nVERSION_ID=\"20.04\"\nID=ubuntu\nID_LIKE=debian\n",
            "5.4.0-1126-kvm",
            Some("apt install linux-image-generic && reboot"),
        ),
        (
            "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n",
            "6.8.0-51-generic",
            Some("apt install linux-modules-extra-6.8.0-51-generic"),
        ),
        (
            "PRETTY_NAME=\"Raspbian GNU/Linux 11\"\nID=raspbian\nID_LIKE=debian\nVERSION_ID=\"11\"\n",
            "6.1.21",
            Some("apt install linux-image-$(dpkg --print-architecture) && reboot"),
        ),
        (
            "NAME=\"Red Hat Enterprise Linux\"\nVERSION=\"9.4 (Plow)\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.4\"\n",
            "5.14.0-427.13.1.el9_4.x86_64",
            Some("dnf install kernel-modules-extra-5.14.0-427.13.1.el9_4.x86_64"),
        ),
        (
            "NAME=\"Red Hat Enterprise Linux Server\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"7.9\"\n",
            "3.10.0-1160.el7.x86_64",
            Some("yum install kernel && reboot"),
        ),
        (
            "NAME=\"CentOS Stream\"\nID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"9\"\n",
            "5.14.0-1.el9.x86_64",
            Some("dnf install kernel-modules-extra-5.14.0-1.el9.x86_64"),
        ),
        (
            "NAME=\"CentOS Linux\"\nID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n",
            "3.10.0-1160.el7.x86_64",
            Some("yum install kernel && reboot"),
        ),
        (
            "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"8.10\"\n",
            "4.18.0-553.el8_10.x86_64",
            Some("dnf install kernel-modules-extra-4.18.0-553.el8_10.x86_64"),
        ),
        (
            "NAME=\"AlmaLinux\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.5\"\n",
            "5.14.0-503.el9.aarch64",
            Some("dnf install kernel-modules-extra-5.14.0-503.el9.aarch64"),
        ),
        (
            "NAME=\"Fedora Linux\"\nVERSION=\"41 (Server Edition)\"\nID=fedora\nVERSION_ID=41\n",
            "6.12.8-200.fc41.x86_64",
            Some("dnf install kernel-modules-extra-6.12.8-200.fc41.x86_64"),
        ),
        (
            "NAME=\"Oracle Linux Server\"\nID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.3\"\n",
            "5.15.0-200.131.27.el9uek.x86_64",
            Some("dnf install kernel-uek-modules-extra-5.15.0-200.131.27.el9uek.x86_64"),
        ),
        (
            "NAME=\"Oracle Linux Server\"\nVERSION=\"7.9\"\nID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"7.9\"\n",
            "5.4.17-2136.307.3.1.el7uek.x86_64",
            Some("yum install kernel-uek && reboot"),
        ),
        (
            "NAME=\"Oracle Linux Server\"\nVERSION=\"7.9\"\nID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"7.9\"\n",
            "3.10.0-1160.el7.x86_64",
            Some("yum install kernel && reboot"),
        ),
        (
            "NAME=\"Amazon Linux\"\nVERSION=\"2023\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n",
            "6.1.119-129.201.amzn2023.x86_64",
            Some("dnf install kernel-modules-extra-6.1.119-129.201.amzn2023.x86_64"),
        ),
        (
            "NAME=\"Amazon Linux\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n",
            "6.12.20-23.97.amzn2023.aarch64",
            Some("dnf install kernel6.12-modules-extra-6.12.20-23.97.amzn2023.aarch64"),
        ),
        (
            "NAME=\"Amazon Linux\"\nVERSION=\"2\"\nID=\"amzn\"\nID_LIKE=\"centos rhel fedora\"\nVERSION_ID=\"2\"\n",
            "5.10.230-223.885.amzn2.x86_64",
            Some("yum install kernel && reboot"),
        ),
        (
            "NAME=\"SLES\"\nVERSION=\"15-SP6\"\nVERSION_ID=\"15.6\"\nID=\"sles\"\nID_LIKE=\"suse\"\n",
            "6.4.0-150600.21-default",
            Some("zypper install --force-resolution kernel-default && reboot"),
        ),
        (
            "NAME=\"openSUSE Leap\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n",
            "6.4.0-150600.21-default",
            Some("zypper install --force-resolution kernel-default && reboot"),
        ),
        (
            "NAME=\"openSUSE MicroOS\"\nID=\"opensuse-microos\"\nID_LIKE=\"suse opensuse opensuse-tumbleweed\"\nVERSION_ID=\"20250101\"\n",
            "6.12.6-1-default",
            Some("transactional-update pkg install kernel-default && systemctl reboot"),
        ),
        ("NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.21.0\n", "6.12.8-0-virt", None),
        ("", "6.8", None),
    ];

    #[test]
    fn each_distribution_has_its_own_command_for_a_missing_module() {
        for (text, release, command) in RELEASES {
            assert_eq!(Distribution::of(text, false).kernel_modules(release).as_deref(), command, "{text}");
        }
    }

    #[test]
    fn packages_of_ours_are_installed_anew_as_each_distribution_does_it() {
        for (text, command) in [
            ("ID=ubuntu\n", "apt install --reinstall ./x_*.deb"),
            ("ID=rocky\nVERSION_ID=9.5\n", "dnf reinstall ./x-*.rpm"),
            ("ID=centos\nVERSION_ID=7\n", "yum reinstall ./x-*.rpm"),
            ("ID=sles\nVERSION_ID=15.6\n", "zypper install --force ./x-*.rpm"),
            (
                "ID=opensuse-microos\n",
                "transactional-update pkg install --force ./x-*.rpm && systemctl reboot",
            ),
            ("ID=alpine\n", "install x again, from its deb or rpm"),
        ] {
            assert_eq!(Distribution::of(text, false).reinstalls("x"), command, "{text}");
        }
        let layered = Distribution::of("ID=fedora\nVERSION_ID=41\n", true).reinstalls("x");
        assert!(layered.ends_with("rpm-ostree install ./x-*.rpm && systemctl reboot"), "{layered}");
    }

    #[test]
    fn systems_that_boot_images_layer_their_packages() {
        let text = "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=41\nVARIANT_ID=coreos\n";
        assert_eq!(
            Distribution::of(text, true).kernel_modules("6.12.8").as_deref(),
            Some("rpm-ostree install kernel-modules-extra-6.12.8 && systemctl reboot")
        );
        // The same file on a machine that boots images says nothing of a distribution that does not know them.
        assert_eq!(Distribution::of("ID=debian\n", true), Distribution::Debian);
    }

    #[test]
    fn clocks_and_groups_are_fixed_as_each_distribution_does_it() {
        for (text, clock, groups) in [
            ("ID=debian\n", "apt install chrony", "update-grub && reboot"),
            ("ID=ubuntu\n", "apt install chrony", "update-grub && reboot"),
            (
                "ID=rocky\nVERSION_ID=8.10\n",
                "dnf install chrony && systemctl enable --now chronyd",
                "grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1 && reboot",
            ),
            (
                "ID=sles\nVERSION_ID=15.6\n",
                "zypper install chrony && systemctl enable --now chronyd",
                "grub2-mkconfig -o /boot/grub2/grub.cfg && reboot",
            ),
        ] {
            let distribution = Distribution::of(text, false);
            assert_eq!(distribution.time_service().as_deref(), Some(clock), "{text}");
            assert!(distribution.unified_groups().unwrap().ends_with(groups), "{text}");
        }
        for id in ["centos", "ol"] {
            let old = Distribution::of(&format!("ID=\"{id}\"\nVERSION_ID=\"7.9\"\n"), false);
            let clock = old.time_service().unwrap_or_default();
            assert!(clock.starts_with("yum install chrony"), "{id}: {clock}");
            assert_eq!(old.unified_groups(), None, "{id}");
        }
        assert_eq!(Distribution::Other.time_service(), None);
    }
}
