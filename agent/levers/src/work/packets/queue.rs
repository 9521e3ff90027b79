//! Reads NFQUEUEs over one netlink socket and tells the kernel what becomes of each packet; what to tell is decided elsewhere.
//!
//! Numbers and layouts are those of include/uapi/linux/netfilter/nfnetlink_queue.h.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

const PACKET: u16 = 3 << 8;
const VERDICT: u16 = 3 << 8 | 1;
const CONFIG: u16 = 3 << 8 | 2;
const VERDICT_UP_TO: u16 = 3 << 8 | 3;
const CONFIG_COMMAND: u16 = 1;
const CONFIG_COPY: u16 = 2;
const CONFIG_LENGTH: u16 = 3;
const CONFIG_MASK: u16 = 4;
const CONFIG_FLAGS: u16 = 5;
const COMMAND_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// What overflows passes instead of being dropped.
const FLAG_FAIL_OPEN: u32 = 1;
/// Large packets come whole, their checksums not ready.
const FLAG_WHOLE: u32 = 1 << 2;
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const PACKET_MARK: u16 = 3;
const PACKET_OUT_INTERFACE: u16 = 6;
const PACKET_PAYLOAD: u16 = 10;
const PACKET_LENGTH: u16 = 13;
const PACKET_PRIORITY: u16 = 21;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const HEADERS: usize = 20;
/// The longest message: a packet of 64 KiB with its attributes.
const MESSAGE: usize = 72 * 1024;
/// Messages that the kernel keeps for us while we do something else.
const BACKLOG: usize = 16 << 20;
/// Verdicts are sent together, up to so many bytes.
const TOGETHER: usize = 16 * 1024;
const ANSWER_SECONDS: i64 = 5;
/// Packets that are read before something else is done.
pub(crate) const AT_ONCE: usize = 128;
/// As much of a packet as an attribute holds.
pub(crate) const ALL: u32 = 65_531;

/// How the kernel should hand over the packets of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Bytes of each packet that are copied.
    pub copied: u32,
    /// Packets that may wait for a verdict.
    pub length: u32,
    /// Large packets come whole; otherwise the kernel splits them and computes their checksums.
    pub whole: bool,
}

/// A packet that waits for its verdict.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub queue: u16,
    pub id: u32,
    /// The interface by which it was about to leave; 0 when it comes in.
    pub out_interface: u32,
    pub mark: u32,
    pub priority: u32,
    /// As much as was copied.
    pub bytes: &'a [u8],
    /// Bytes of the whole packet.
    pub length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
}

pub(crate) struct QueueSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    verdicts: Vec<u8>,
}

impl QueueSocket {
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS))?;
        setsockopt(&fd, sockopt::RcvBufForce, &BACKLOG)?;
        // An overflow is the kernel's to handle: it lets packets pass, and we need not hear of it.
        crate::work::set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 1)?;
        Ok(Self {
            fd,
            buffer: vec![0; MESSAGE],
            verdicts: Vec::with_capacity(2 * TOGETHER),
        })
    }

    /// Takes the queue, which must be read by nobody else.
    pub fn take(&mut self, queue: u16, terms: Terms) -> io::Result<()> {
        self.configure(queue, CONFIG_COMMAND, &[COMMAND_BIND, 0, 0, 0])?;
        let mut copy = terms.copied.to_be_bytes().to_vec();
        copy.push(COPY_PACKET);
        self.configure(queue, CONFIG_COPY, &copy)?;
        self.configure(queue, CONFIG_LENGTH, &terms.length.to_be_bytes())?;
        let flags = FLAG_FAIL_OPEN | if terms.whole { FLAG_WHOLE } else { 0 };
        let mut message = begin(CONFIG, libc::NLM_F_ACK, queue);
        attribute(&mut message, CONFIG_FLAGS, &flags.to_be_bytes());
        attribute(&mut message, CONFIG_MASK, &(FLAG_FAIL_OPEN | FLAG_WHOLE).to_be_bytes());
        self.insist(message)
    }

    fn configure(&mut self, queue: u16, what: u16, value: &[u8]) -> io::Result<()> {
        let mut message = begin(CONFIG, libc::NLM_F_ACK, queue);
        attribute(&mut message, what, value);
        self.insist(message)
    }

    /// Sends and waits for the kernel's word on it; nothing is queued to us before the last of these.
    fn insist(&mut self, message: Vec<u8>) -> io::Result<()> {
        send(self.fd.as_raw_fd(), &finished(message), MsgFlags::empty())?;
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let answer = &self.buffer[..length];
            let kind = u16_ne(answer, 4).unwrap_or(0);
            if i32::from(kind) != libc::NLMSG_ERROR {
                continue;
            }
            let code = u32_ne(answer, 16).ok_or(io::ErrorKind::InvalidData)?.cast_signed();
            return if code == 0 {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(-code))
            };
        }
    }

    /// Hands over the packets that are there, at most [`AT_ONCE`]; how many there were.
    pub fn receive(&mut self, mut each: impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let mut seen = 0;
        while seen < AT_ONCE {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => {
                    let messages = self.buffer.get(..length).unwrap_or_default();
                    seen += packets(messages).map(&mut each).count();
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(seen)
    }

    /// Sent with the next [`Self::flush`].
    pub fn decide(&mut self, queue: u16, id: u32, verdict: Verdict) -> io::Result<()> {
        self.say(VERDICT, queue, id, verdict)
    }

    /// The same for every packet of the queue up to this one.
    pub fn decide_up_to(&mut self, queue: u16, id: u32, verdict: Verdict) -> io::Result<()> {
        self.say(VERDICT_UP_TO, queue, id, verdict)
    }

    fn say(&mut self, kind: u16, queue: u16, id: u32, verdict: Verdict) -> io::Result<()> {
        let mut message = begin(kind, 0, queue);
        let verdict = match verdict {
            Verdict::Accept => NF_ACCEPT,
            Verdict::Drop => NF_DROP,
        };
        attribute(&mut message, VERDICT_HEADER, &[verdict.to_be_bytes(), id.to_be_bytes()].concat());
        self.verdicts.extend(finished(message));
        if self.verdicts.len() >= TOGETHER { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        if !self.verdicts.is_empty() {
            let sent = send(self.fd.as_raw_fd(), &self.verdicts, MsgFlags::empty());
            self.verdicts.clear();
            sent?;
        }
        Ok(())
    }
}

impl AsFd for QueueSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn begin(kind: u16, flags: libc::c_int, queue: u16) -> Vec<u8> {
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or(0);
    let mut message = vec![0; 4];
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    // Any family, version 0, and the queue's number.
    message.extend([0, 0]);
    message.extend(queue.to_be_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn finished(mut message: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(0);
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// The packets in a datagram of the kernel's; what is not understood is left out, and the kernel's limit of the queue lets it go.
fn packets(mut bytes: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    std::iter::from_fn(move || {
        loop {
            let length = usize::try_from(u32_ne(bytes, 0)?).ok()?;
            let message = bytes.get(..length).filter(|m| m.len() >= HEADERS)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if u16_ne(message, 4) == Some(PACKET)
                && let Some(packet) = packet(message)
            {
                return Some(packet);
            }
        }
    })
}

fn packet(message: &[u8]) -> Option<Packet<'_>> {
    let mut packet = Packet {
        queue: u16::from_be_bytes([message[18], message[19]]),
        id: 0,
        out_interface: 0,
        mark: 0,
        priority: 0,
        bytes: &[],
        length: 0,
    };
    let (mut rest, mut has_id, mut whole) = (&message[HEADERS..], false, None);
    while let (Some(length), Some(kind)) = (u16_ne(rest, 0), u16_ne(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        match kind & 0x3fff {
            PACKET_HEADER => (packet.id, has_id) = (u32_be(value)?, true),
            PACKET_MARK => packet.mark = u32_be(value)?,
            PACKET_OUT_INTERFACE => packet.out_interface = u32_be(value)?,
            PACKET_PRIORITY => packet.priority = u32_be(value)?,
            PACKET_LENGTH => whole = usize::try_from(u32_be(value)?).ok(),
            PACKET_PAYLOAD => packet.bytes = value,
            _ => {}
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    packet.length = whole.unwrap_or(packet.bytes.len());
    has_id.then_some(packet)
}

fn u16_ne(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_ne(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u32_be(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8], whole: Option<u32>) -> Vec<u8> {
        let mut message = begin(PACKET, 0, 33_000);
        attribute(&mut message, PACKET_HEADER, &[0, 0, 1, 2, 8, 0, 3]);
        attribute(&mut message, PACKET_OUT_INTERFACE, &5_u32.to_be_bytes());
        attribute(&mut message, PACKET_MARK, &9_u32.to_be_bytes());
        attribute(&mut message, PACKET_PAYLOAD, payload);
        if let Some(whole) = whole {
            attribute(&mut message, PACKET_LENGTH, &whole.to_be_bytes());
        }
        finished(message)
    }

    #[test]
    fn packets_are_read_with_all_that_is_told_of_them() {
        let both = [message(b"abcde", None), message(b"abc", Some(60_000))].concat();
        let read: Vec<Packet> = packets(&both).collect();
        assert_eq!(read.len(), 2);
        let first = read[0];
        assert_eq!((first.queue, first.id, first.out_interface, first.mark), (33_000, 258, 5, 9));
        assert_eq!((first.bytes, first.length), (&b"abcde"[..], 5));
        assert_eq!(read[1].length, 60_000);
    }

    #[test]
    fn torn_and_strange_messages_are_left_out() {
        let whole = message(b"abcde", None);
        for end in 0..whole.len() {
            assert!(packets(&whole[..end]).count() == 0, "{end}");
        }
        assert_eq!(packets(&[0; 64]).count(), 0);
        let mut strange = whole.clone();
        strange[4] = 99;
        assert_eq!(packets(&[strange, whole].concat()).count(), 1);
    }
}
