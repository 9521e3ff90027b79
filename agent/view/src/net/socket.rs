//! Asking the kernel's netfilter, and its own words when it refuses. It sends nothing but questions and never waits without a limit.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use netlink_bindings::builtin::NlmsgerrAttrs;
use netlink_bindings::nftables::{Nfgenmsg, Request};
use netlink_bindings::traits::{NetlinkRequest, Protocol};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The kernel answers while it takes the request; this only ends a wait for an answer that was lost.
const ANSWER_SECONDS: i64 = 5;
/// As often as a listing is read again when somebody changed the rules meanwhile.
const LISTING_TRIES: u32 = 50;
/// The kernel fills at most 32 KiB per answer.
const ANSWER_BYTES: usize = 32 * 1024;
/// Enough for a batch with thousands of networks.
const BATCH_BYTES: libc::c_int = 8 * 1024 * 1024;
const HEADER: usize = 16;

/// Why the kernel did not answer, or said no.
#[derive(Debug, thiserror::Error)]
pub enum NetfilterError {
    #[error("this kernel has no nf_tables")]
    Absent,
    #[error("{}{}", io::Error::from_raw_os_error(*errno), words.as_ref().map(|w| format!(": {w}")).unwrap_or_default())]
    Refused {
        errno: i32,
        /// What the kernel adds in words.
        words: Option<String>,
        /// Which message of the batch, from 0.
        index: Option<usize>,
    },
    #[error("the packet rules were changed by others all the time, {LISTING_TRIES} tries")]
    Restless,
    #[error("the kernel's answer is not understood: {0}")]
    Garbled(&'static str),
    #[error("{action}")]
    Io {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl NetfilterError {
    fn io(action: &'static str, errno: Errno) -> Self {
        Self::Io {
            action,
            source: errno.into(),
        }
    }

    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(libc::ENOENT)
    }
}

impl From<NetfilterError> for io::Error {
    fn from(error: NetfilterError) -> Self {
        let kind = match &error {
            NetfilterError::Absent => io::ErrorKind::Unsupported,
            NetfilterError::Refused { errno, .. } => io::Error::from_raw_os_error(*errno).kind(),
            NetfilterError::Io { source, .. } => source.kind(),
            NetfilterError::Restless => io::ErrorKind::ResourceBusy,
            NetfilterError::Garbled(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// A socket to netfilter of the calling thread's network namespace, and of that one for good.
#[derive(Debug)]
pub struct Netfilter {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

/// One netlink message of an answer.
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub body: &'a [u8],
}

impl Netfilter {
    /// Opens it, and makes sure that nf_tables is there.
    pub(super) fn open() -> Result<Self, NetfilterError> {
        let opened = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        );
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ESOCKTNOSUPPORT) => return Err(NetfilterError::Absent),
            Err(errno) => return Err(NetfilterError::io("open a netlink socket to netfilter", errno)),
        };
        let limit = TimeVal::seconds(ANSWER_SECONDS);
        setsockopt(&fd, sockopt::ReceiveTimeout, &limit).map_err(|e| NetfilterError::io("limit the wait for netfilter", e))?;
        // Older kernels lack these two: then only the kernel's words are missing.
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        // Without the right to it a small batch still fits.
        let _ = set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BATCH_BYTES);
        let _ = set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BATCH_BYTES);
        let mut kernel = Self {
            fd,
            seq: 1,
            buffer: vec![0; ANSWER_BYTES],
        };
        kernel.generation()?;
        Ok(kernel)
    }

    /// The number of the rules' generation: it changes with every change, anybody's.
    pub fn generation(&mut self) -> Result<u32, NetfilterError> {
        let request = Request::new().op_getgen_do(&Nfgenmsg::new());
        let answers = match self.ask(&request, |(_, generation)| generation.get_id().ok()) {
            Err(NetfilterError::Refused { errno, .. }) if errno == libc::EINVAL || errno == libc::EOPNOTSUPP => {
                return Err(NetfilterError::Absent);
            }
            answers => answers?,
        };
        answers.first().copied().ok_or(NetfilterError::Garbled("it names no generation"))
    }

    /// Asks, and reads every answer through `read`; starts anew when the rules changed while they were listed. It cannot change
    /// any: the kernel takes changes of rules in a batch alone.
    pub fn ask<R: NetlinkRequest, T>(
        &mut self,
        request: &R,
        read: impl for<'a> Fn(R::ReplyType<'a>) -> Option<T>,
    ) -> Result<Vec<T>, NetfilterError> {
        for _ in 0..LISTING_TRIES {
            if let Some(answers) = self.ask_once(request, &read)? {
                return Ok(answers);
            }
        }
        Err(NetfilterError::Restless)
    }

    fn ask_once<R: NetlinkRequest, T>(
        &mut self,
        request: &R,
        read: &impl for<'a> Fn(R::ReplyType<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetfilterError> {
        let seq = self.next_seq(1);
        self.send(&framed(request, seq)?)?;
        let (mut answers, mut consistent) = (Vec::new(), true);
        loop {
            for message in messages(self.receive(MsgFlags::empty())?) {
                let message = message?;
                if message.seq != seq {
                    continue;
                }
                consistent &= message.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR => return refusal(&message).map_or(Ok(consistent.then_some(answers)), Err),
                    libc::NLMSG_DONE => return Ok(consistent.then_some(answers)),
                    _ => answers.extend(read(R::decode_reply(message.body))),
                }
            }
        }
    }

    /// Numbers for messages.
    pub fn next_seq(&mut self, count: u32) -> u32 {
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(count).max(1);
        seq
    }

    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetfilterError> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())
            .map(|_| ())
            .map_err(|e| NetfilterError::io("send to netfilter", e))
    }

    /// The next messages for this socket.
    pub fn receive(&mut self, flags: MsgFlags) -> Result<&[u8], NetfilterError> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags | MsgFlags::MSG_TRUNC) {
                Ok(length) => return self.buffer.get(..length).ok_or(NetfilterError::Garbled("it is too long")),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(NetfilterError::io("receive netfilter's answer", errno)),
            }
        }
    }
}

/// A request as one netlink message.
pub fn framed<R: NetlinkRequest>(request: &R, seq: u32) -> Result<Vec<u8>, NetfilterError> {
    let Protocol::Raw { request_type, .. } = request.protocol() else {
        return Err(NetfilterError::Garbled("the question is not plain netlink"));
    };
    let flags = request.flags() | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let length = u32::try_from(HEADER + request.payload().len()).map_err(|_| NetfilterError::Garbled("the question is too long"))?;
    let mut bytes = Vec::with_capacity(HEADER + request.payload().len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(request_type.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(request.payload());
    Ok(bytes)
}

/// The netlink messages in what was received.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Result<Message<'_>, NetfilterError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let parsed = parse(bytes);
        bytes = parsed.as_ref().map_or(&[], |(_, rest)| *rest);
        Some(parsed.map(|(message, _)| message).ok_or(NetfilterError::Garbled("it is cut short")))
    })
}

fn parse(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let message = Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        seq: u32_at(bytes, 8)?,
        body: bytes.get(HEADER..length)?,
    };
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((message, &bytes[next..]))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// The refusal in an error message; `None` when it is an acknowledgement.
pub fn refusal(message: &Message<'_>) -> Option<NetfilterError> {
    let Some(code) = u32_at(message.body, 0) else {
        return Some(NetfilterError::Garbled("it is an error without a number"));
    };
    let errno = (code as i32).wrapping_neg();
    (errno != 0).then(|| NetfilterError::Refused {
        errno,
        words: words(message),
        index: None,
    })
}

/// After the number comes the request: its header only when the answer is capped, else all of it; then the words.
fn words(message: &Message<'_>) -> Option<String> {
    if message.flags & libc::NLM_F_ACK_TLVS as u16 == 0 {
        return None;
    }
    let capped = message.flags & libc::NLM_F_CAPPED as u16 != 0;
    let request = if capped {
        HEADER
    } else {
        usize::try_from(u32_at(message.body, 4)?).ok()?
    };
    let attributes = message.body.get((4 + request).next_multiple_of(4)..)?;
    let text = NlmsgerrAttrs::new(attributes).get_msg().ok()?;
    Some(text.to_string_lossy().into_owned())
}

pub(crate) fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the call, and the pointer and size describe one c_int that outlives it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_message(code: i32, flags: u16, tail: &[u8]) -> Vec<u8> {
        let mut body = code.to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        body.extend(tail);
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(2_u16.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let mut tail = 11_u16.to_ne_bytes().to_vec();
        tail.extend(1_u16.to_ne_bytes());
        tail.extend(b"no way\0");
        let bytes = error_message(-libc::EBUSY, (libc::NLM_F_CAPPED | libc::NLM_F_ACK_TLVS) as u16, &tail);
        let message = messages(&bytes).next().unwrap().unwrap();
        let error = refusal(&message).unwrap();
        assert_eq!(error.errno(), Some(libc::EBUSY));
        assert!(error.to_string().ends_with(": no way"), "{error}");
    }

    #[test]
    fn an_acknowledgement_is_no_refusal_and_torn_answers_are_errors() {
        let bytes = error_message(0, 0, &[]);
        assert!(refusal(&messages(&bytes).next().unwrap().unwrap()).is_none());
        assert!(messages(&bytes[..20]).next().unwrap().is_err());
        assert!(messages(&[1, 2, 3]).next().unwrap().is_err());
        assert!(messages(&[0; 16]).next().unwrap().is_err());
        assert_eq!(messages(&[]).count(), 0);
    }
}
