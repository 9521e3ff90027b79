//! Links, queues and filters as the kernel lists them, anybody's; nothing here changes them.

use std::ffi::CStr;

use netlink_bindings::rt_link::{self, IfinfoFlags, Ifinfomsg};
use netlink_bindings::tc::{Attrs, IterableActAttrs, IterableAttrs, OptionsMsg, Request, Tcmsg};
use proto_model::id::InjectionId;

use super::names;
use super::socket::{Route, RouteError};

/// The parent of a clsact (and of the older ingress queue) in the kernel's numbering.
pub const CLSACT_PARENT: u32 = 0xffff_fff1;
/// The parent of a link's own queue.
pub const ROOT: u32 = 0xffff_ffff;

/// Where a filter of a clsact meets packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Out,
    In,
}

impl Hook {
    pub const BOTH: [Self; 2] = [Self::Out, Self::In];

    /// The parent that names it.
    pub fn parent(self) -> u32 {
        match self {
            Self::Out => 0xffff_fff3,
            Self::In => 0xffff_fff2,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Such as `ifb`; none for hardware.
    pub kind: Option<String>,
    pub loopback: bool,
}

impl Link {
    /// An ifb by one of our names.
    pub fn is_ours(&self) -> bool {
        self.kind.as_deref() == Some("ifb") && names::is_link(&self.name)
    }
}

/// A queueing discipline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub link: u32,
    pub parent: u32,
    pub kind: String,
    /// Packets that wait in it now.
    pub waiting: u32,
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub dropped: u64,
}

/// One filter, or a preference that holds none (then its handle is zero).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub link: u32,
    pub hook: Hook,
    pub chain: u32,
    pub preference: u16,
    /// An EtherType.
    pub protocol: u16,
    pub handle: u32,
    pub kind: String,
    pub name: Option<String>,
    /// The number of its eBPF program.
    pub program: Option<u32>,
    /// What its first action has seen.
    pub packets: u64,
    pub bytes: u64,
}

impl Filter {
    pub fn injection(&self) -> Option<InjectionId> {
        names::injection_of(self.name.as_deref()?)
    }

    pub fn is_mark(&self) -> bool {
        self.chain == names::MARK_CHAIN && self.name.as_deref() == Some(names::MARK)
    }

    fn place(&self) -> (Hook, u32, u16) {
        (self.hook, self.chain, self.preference)
    }
}

/// The filters that are not ours.
pub fn foreign_filters(filters: &[Filter]) -> Vec<&Filter> {
    let real: Vec<&Filter> = filters.iter().filter(|f| f.handle != 0).collect();
    let ours = |filter: &Filter| filter.is_mark() || filter.injection().is_some();
    let empty = |filter: &&Filter| filter.handle == 0 && !real.iter().any(|other| other.place() == filter.place());
    let foreign = real.iter().copied().filter(|filter| !ours(filter));
    foreign.chain(filters.iter().filter(empty)).collect()
}

pub fn links(kernel: &mut Route) -> Result<Vec<Link>, RouteError> {
    let request = rt_link::Request::new().op_getlink_dump(&Ifinfomsg::new());
    kernel.ask(&request, |(head, link)| {
        let kind = link.get_linkinfo().ok().and_then(|info| info.get_kind().ok());
        Some(Link {
            index: u32::try_from(head.ifi_index).ok()?,
            name: text(link.get_ifname().ok()?),
            kind: kind.map(text),
            loopback: head.ifi_flags & IfinfoFlags::Loopback as u32 != 0,
        })
    })
}

/// Of every link of the namespace.
pub fn queues(kernel: &mut Route) -> Result<Vec<Queue>, RouteError> {
    kernel.ask(&Request::new().op_getqdisc_dump(&Tcmsg::new()), |(head, queue)| {
        let stats = queue.get_stats2().ok();
        let basic = stats.as_ref().and_then(|s| s.get_basic().ok()).unwrap_or_default();
        let held = stats.as_ref().and_then(|s| s.get_queue().ok()).unwrap_or_default();
        Some(Queue {
            link: u32::try_from(head.ifindex).ok()?,
            parent: head.parent,
            kind: text(queue.get_kind().ok()?),
            waiting: held.qlen,
            sent_packets: basic.packets.into(),
            sent_bytes: basic.bytes,
            dropped: held.drops.into(),
        })
    })
}

/// Indexes of the links that have a clsact or an ingress queue.
pub fn links_with_hooks(kernel: &mut Route) -> Result<Vec<u32>, RouteError> {
    let queues = queues(kernel)?;
    let hooks = queues.iter().filter(|queue| queue.parent == CLSACT_PARENT);
    Ok(hooks.map(|queue| queue.link).collect())
}

/// Both hooks of a clsact, every chain; empty when there is no such link or no clsact on it.
pub fn filters(kernel: &mut Route, link: u32) -> Result<Vec<Filter>, RouteError> {
    let mut found = Vec::new();
    for hook in Hook::BOTH {
        let mut head = Tcmsg::new();
        head.ifindex = link.cast_signed();
        head.parent = hook.parent();
        let listed = kernel.ask(&Request::new().op_gettfilter_dump(&head), |(head, filter)| {
            filter_of(link, hook, &head, &filter)
        });
        match listed {
            Ok(listed) => found.extend(listed),
            Err(error) if error.is_gone() || error.errno() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn filter_of(link: u32, hook: Hook, head: &Tcmsg, filter: &IterableAttrs<'_>) -> Option<Filter> {
    let bpf = filter.clone().find_map(|attribute| match attribute {
        Ok(Attrs::Options(OptionsMsg::Bpf(bpf))) => Some(bpf),
        _ => None,
    });
    let action = bpf.as_ref().and_then(|b| b.get_act().ok()).and_then(|mut list| list.next());
    let (packets, bytes) = action.map_or((0, 0), |action| seen_by(&action));
    Some(Filter {
        link,
        hook,
        chain: filter.get_chain().unwrap_or(0),
        // The upper half is the preference, the lower the protocol in the network's byte order.
        preference: u16::try_from(head.info >> 16).ok()?,
        protocol: u16::from_be((head.info & 0xffff) as u16),
        handle: head.handle,
        kind: text(filter.get_kind().ok()?),
        name: bpf.as_ref().and_then(|b| b.get_name().ok()).map(text),
        program: bpf.as_ref().and_then(|b| b.get_id().ok()),
        packets,
        bytes,
    })
}

fn seen_by(action: &IterableActAttrs<'_>) -> (u64, u64) {
    let basic = action.get_stats().and_then(|stats| stats.get_basic());
    basic.map_or((0, 0), |basic| (basic.packets.into(), basic.bytes))
}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(handle: u32, preference: u16, name: Option<&str>) -> Filter {
        Filter {
            link: 2,
            hook: Hook::Out,
            chain: 0,
            preference,
            protocol: 0x0800,
            handle,
            kind: "bpf".into(),
            name: name.map(Into::into),
            program: None,
            packets: 0,
            bytes: 0,
        }
    }

    #[test]
    fn strangers_are_filters_without_our_name_and_preferences_without_any() {
        let ours = names::filter_of(&InjectionId::generate());
        let mark = Filter {
            chain: names::MARK_CHAIN,
            ..filter(1, 1, Some(names::MARK))
        };
        let all = [filter(0, 7, None), filter(9, 7, Some(&ours)), mark];
        assert!(foreign_filters(&all).is_empty());
        let forged = [filter(1, 1, Some(names::MARK))];
        assert_eq!(foreign_filters(&forged).len(), 1, "our mark lies in its own chain only");
        let some = [filter(0, 7, None), filter(9, 7, Some("cilium")), filter(0, 8, None)];
        assert_eq!(foreign_filters(&some).len(), 2);
    }
}
