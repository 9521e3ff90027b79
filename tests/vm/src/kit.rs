//! What is on a host's disk: the packages, the suite's own files and the script that sets the host up.

use std::fmt;

/// How much is installed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kit {
    /// For short runs.
    Small,
    /// For long runs: more services and file systems.
    Large,
}

/// Installed on every host besides the minimal system.
const PACKAGES: [&str; 17] = [
    "dbus",
    "e2fsprogs",
    "initramfs-tools",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "linux-image-cloud-amd64",
    "nftables",
    "nginx",
    "passwd",
    "procps",
    "python3",
    "redis-server",
    "systemd",
    "systemd-sysv",
    "udev",
];
/// Installed besides on hosts of long runs.
const MORE_PACKAGES: [&str; 7] = [
    "btrfs-progs",
    "firewalld",
    "libpam-systemd",
    "openssh-server",
    "postgresql",
    "python3-apt",
    "xfsprogs",
];
/// What the suite puts on every host: its path, its text and its mode.
pub const FILES: [(&str, &str, u32); 5] = [
    ("usr/local/lib/fracas-test/server.py", include_str!("../guest/server.py"), 0o755),
    ("usr/local/lib/fracas-test/network.sh", include_str!("../guest/network.sh"), 0o755),
    (
        "etc/systemd/system/fracas-test-server.service",
        include_str!("../guest/fracas-test-server.service"),
        0o644,
    ),
    (
        "etc/systemd/system/fracas-test-network.service",
        include_str!("../guest/fracas-test-network.service"),
        0o644,
    ),
    // No service starts while packages are installed; setup.sh removes it.
    ("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755),
];
/// Makes a host of the root that holds all of the above.
const SETUP: &str = include_str!("../guest/setup.sh");
/// What a host of long runs needs before that.
const MORE_SETUP: &str = include_str!("../guest/setup-large.sh");

impl Kit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    pub fn packages(self) -> Vec<&'static str> {
        let more: &[&str] = match self {
            Self::Small => &[],
            Self::Large => &MORE_PACKAGES,
        };
        [PACKAGES.as_slice(), more].concat()
    }

    /// The scripts that run inside the root, in this order.
    pub fn setup(self) -> &'static [&'static str] {
        match self {
            Self::Small => &[SETUP],
            Self::Large => &[MORE_SETUP, SETUP],
        }
    }
}

impl fmt::Display for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
