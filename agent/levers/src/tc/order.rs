//! Sends one request that changes links, queues or filters, and reads whether the kernel has carried it out; it composes none.

use agent_view::net::{framed, messages, refusal};
use agent_view::tc::{Route, RouteError};
use netlink_bindings::traits::NetlinkRequest;
use nix::sys::socket::{MsgFlags, send};

/// Carried out, or refused and nothing was changed.
pub(super) fn order<R: NetlinkRequest>(kernel: &mut Route, request: &R) -> Result<(), RouteError> {
    let seq = kernel.next_seq();
    send(kernel.raw_fd(), &framed(request, seq)?, MsgFlags::empty()).map_err(|errno| RouteError::Io {
        action: "send to the kernel",
        source: errno.into(),
    })?;
    loop {
        for message in messages(kernel.receive()?) {
            let message = message?;
            if message.seq != seq {
                continue;
            }
            match i32::from(message.kind) {
                libc::NLMSG_ERROR => return refusal(&message).map_or(Ok(()), |error| Err(error.into())),
                libc::NLMSG_DONE => return Ok(()),
                _ => {}
            }
        }
    }
}
