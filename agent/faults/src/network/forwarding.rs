//! Whether this host passes packets of others on; it changes no setting.

use agent_view::HostView;

/// Where the kernel says whether it passes packets of others on.
const PASSES_ON: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

/// Whether the host passes packets of others on: containers, virtual machines, routed networks.
pub(super) fn forwards(view: &dyn HostView) -> bool {
    let is_on = |path: &&str| view.knob(path).is_ok_and(|value| value.is_some_and(|value| value != "0"));
    PASSES_ON.iter().any(is_on)
}
