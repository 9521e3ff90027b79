//! Sends a batch to netfilter and reads whether the kernel has carried it out; what the batch holds is decided elsewhere.

use std::io;

use agent_view::net::{Netfilter, NetfilterError, messages, refusal};
use nix::sys::socket::{MsgFlags, send};

/// Sends a batch whose messages are numbered from `first_seq` and waits for the acknowledgement of message `last`,
/// or for the first refusal: then the kernel has done nothing of the whole batch.
pub(super) fn commit(kernel: &mut Netfilter, batch: &[u8], first_seq: u32, last: usize) -> Result<(), NetfilterError> {
    send(kernel.raw_fd(), batch, MsgFlags::empty()).map_err(|errno| NetfilterError::Io {
        action: "send to netfilter",
        source: errno.into(),
    })?;
    let mut done = false;
    loop {
        // Refusals come in the order of the messages, but that of the whole batch comes after its acknowledgements.
        let flags = if done { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
        let answer = match kernel.receive(flags) {
            Err(NetfilterError::Io { source, .. }) if done && source.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            answer => answer?,
        };
        for message in messages(answer) {
            let message = message?;
            let index = usize::try_from(message.seq.wrapping_sub(first_seq)).unwrap_or(usize::MAX);
            if index > last.saturating_add(1) || i32::from(message.kind) != libc::NLMSG_ERROR {
                continue;
            }
            match refusal(&message) {
                Some(NetfilterError::Refused { errno, words, .. }) => {
                    return Err(NetfilterError::Refused {
                        errno,
                        words,
                        index: Some(index),
                    });
                }
                Some(other) => return Err(other),
                None => done |= index == last,
            }
        }
    }
}
