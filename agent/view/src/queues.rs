//! Who reads which NFQUEUE in the calling thread's network namespace, as the kernel lists it; it binds none.

use crate::error::ViewError;
use crate::text;

/// One line per queue that somebody reads; absent where the kernel has no such queues.
const LISTING: &str = "/proc/thread-self/net/netfilter/nfnetlink_queue";

/// An NFQUEUE that somebody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketQueue {
    pub number: u16,
    /// Packets in it that nobody has decided on yet.
    pub waiting: u64,
}

pub(crate) fn queues() -> Result<Vec<PacketQueue>, ViewError> {
    Ok(text::read_if_there(LISTING)?.map(|listing| parse(&listing)).unwrap_or_default())
}

/// Number, reader, packets waiting, and more that is not needed.
fn parse(listing: &str) -> Vec<PacketQueue> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let number = fields.next()?.parse().ok()?;
        let waiting = fields.nth(1)?.parse().ok()?;
        Some(PacketQueue { number, waiting })
    };
    listing.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_queue() {
        let listing = "    7   4242     3 2 65531     0     0       12  1\n33000 4243 0 1 0 0 0 0 1\nnonsense\n";
        let queues = parse(listing);
        assert_eq!(
            queues,
            [(7, 3), (33_000, 0)].map(|(number, waiting)| PacketQueue { number, waiting })
        );
    }
}
