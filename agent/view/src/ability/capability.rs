//! Which capabilities this process has of those that its faults need, from /proc/self/status.

use super::presence::Presence;

const STATUS: &str = "/proc/self/status";

/// A capability by its number in include/uapi/linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capability {
    bit: u32,
    name: &'static str,
}

macro_rules! capabilities {
    ($($name:ident = $bit:literal),+ $(,)?) => {
        impl Capability {
            $(pub const $name: Self = Self { bit: $bit, name: concat!("CAP_", stringify!($name)) };)+
        }
    };
}

capabilities! {
    DAC_OVERRIDE = 1,
    DAC_READ_SEARCH = 2,
    KILL = 5,
    SETGID = 6,
    SETUID = 7,
    SETPCAP = 8,
    NET_ADMIN = 12,
    NET_RAW = 13,
    IPC_LOCK = 14,
    SYS_PTRACE = 19,
    SYS_RESOURCE = 24,
}

/// Whether all of them are effective; `status` is /proc/self/status, if it can be read.
pub(super) fn held(wanted: &[Capability], status: Option<&str>) -> Presence {
    let set = status.and_then(|status| {
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    let Some(set) = set else {
        return Presence::unknown(
            format!("the capabilities of this process cannot be read ({STATUS})"),
            format!("ls -l {STATUS}; where it is not there, mount -t proc proc /proc"),
        );
    };
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|capability| set >> capability.bit & 1 == 0)
        .map(|capability| capability.name)
        .collect();
    if missing.is_empty() {
        return Presence::Present;
    }
    let missing = missing.join(" ");
    Presence::absent(format!("this process lacks {missing} ({STATUS}, CapEff)"), allowing(&missing))
}

/// The change of the unit that leaves the agent these capabilities.
pub(super) fn allowing(names: &str) -> String {
    format!(
        "systemctl edit fracas-agent: below [Service] add CapabilityBoundingSet={names}, without a line that empties it later; then systemctl restart fracas-agent"
    )
}

pub(super) fn status_path() -> &'static str {
    STATUS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named_with_the_line_that_allows_it() {
        let status = |set: u64| format!("Name:\tx\nCapInh:\t0\nCapEff:\t{set:016x}\n");
        let all = status(u64::MAX >> 23);
        let cases = [
            (&[Capability::KILL][..], 1 << 5, None),
            (&[Capability::KILL], 0, Some("CAP_KILL")),
            (&[Capability::NET_RAW], 1 << 12, Some("CAP_NET_RAW")),
            (
                &[Capability::SETUID, Capability::SETGID, Capability::SETPCAP],
                1 << 6,
                Some("CAP_SETUID CAP_SETPCAP"),
            ),
        ];
        for (wanted, set, missing) in cases {
            assert_eq!(held(wanted, Some(&all)), Presence::Present);
            match (held(wanted, Some(&status(set))), missing) {
                (Presence::Present, None) => {}
                (Presence::Absent { why, fix }, Some(missing)) => {
                    assert!(why.contains(&format!("lacks {missing} (")), "{why}");
                    assert!(fix.contains(&format!("CapabilityBoundingSet={missing},")));
                }
                other => panic!("{other:?}"),
            }
        }
        for unreadable in [None, Some("Name:\tx\n"), Some("CapEff:\tnone\n")] {
            assert!(matches!(held(&[Capability::KILL], unreadable), Presence::Unknown { .. }));
        }
    }
}
