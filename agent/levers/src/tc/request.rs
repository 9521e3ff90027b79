//! What the requests about filters have in common: their head, a program that matches nothing, and how a refusal is told.

use agent_view::tc::RouteError;
use agent_view::tc::listing::Hook;
use netlink_bindings::tc::Tcmsg;

use super::assembler::Assembler;
use crate::error::OpsError;

pub(super) fn filter_head(link: u32, hook: Hook, preference: u16, protocol: u16) -> Tcmsg {
    let mut head = Tcmsg::new();
    head.ifindex = link.cast_signed();
    head.parent = hook.parent();
    head.info = u32::from(preference) << 16 | u32::from(protocol.to_be());
    head
}

/// A program that matches no packet.
pub(super) fn never() -> Vec<u64> {
    let mut code = Assembler::default();
    code.set(0, 0);
    code.exit();
    code.finish().unwrap_or_default()
}

pub(super) fn refused(action: &str, error: RouteError) -> OpsError {
    OpsError::new(action, error.into())
}
