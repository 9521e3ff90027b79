//! Asking the kernel about links, queues, filters and routes; it sends nothing but questions and never waits without a limit.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use netlink_bindings::traits::{NetlinkRequest, Protocol};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::net::socket::{NetfilterError, framed, messages, refusal, set_option};

/// The kernel answers while it takes the request; this only ends a wait for an answer that was lost.
const ANSWER_SECONDS: i64 = 5;
/// As often as a listing is read again when it changed meanwhile.
const LISTING_TRIES: u32 = 50;
const ANSWER_BYTES: usize = 64 * 1024;
const RECEIVE_BYTES: libc::c_int = 4 * 1024 * 1024;
/// Requests of rtnetlink come in fours: new, delete, get, set. The kernel tells them apart by these bits as well.
const OPERATION: u16 = 3;
const GET: u16 = 2;

/// Why the kernel did not answer, or said no.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("{}{}", io::Error::from_raw_os_error(*errno), words.as_ref().map(|w| format!(": {w}")).unwrap_or_default())]
    Refused {
        errno: i32,
        /// What the kernel adds in words.
        words: Option<String>,
    },
    #[error("the request would change something, and agent-view only reads")]
    NotARead,
    #[error("the listing was changed by others all the time, {LISTING_TRIES} tries")]
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

impl RouteError {
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

    /// The thing, or the interface it was on, is not there.
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV))
    }
}

impl From<NetfilterError> for RouteError {
    fn from(error: NetfilterError) -> Self {
        match error {
            NetfilterError::Refused { errno, words, .. } => Self::Refused { errno, words },
            NetfilterError::Garbled(why) => Self::Garbled(why),
            NetfilterError::Io { action, source } => Self::Io { action, source },
            NetfilterError::Absent | NetfilterError::Restless => Self::Restless,
        }
    }
}

impl From<RouteError> for io::Error {
    fn from(error: RouteError) -> Self {
        let kind = match &error {
            RouteError::Refused { errno, .. } => io::Error::from_raw_os_error(*errno).kind(),
            RouteError::Io { source, .. } => source.kind(),
            RouteError::NotARead => io::ErrorKind::PermissionDenied,
            RouteError::Restless => io::ErrorKind::ResourceBusy,
            RouteError::Garbled(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// A socket to the network of the calling thread's namespace, and of that one for good.
#[derive(Debug)]
pub struct Route {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

impl Route {
    pub fn open() -> Result<Self, RouteError> {
        let opened = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        );
        let fd = opened.map_err(|e| RouteError::io("open a netlink socket", e))?;
        let limit = TimeVal::seconds(ANSWER_SECONDS);
        setsockopt(&fd, sockopt::ReceiveTimeout, &limit).map_err(|e| RouteError::io("limit the wait for the kernel", e))?;
        // Older kernels lack these: then only the kernel's words are missing.
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        let _ = set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BYTES);
        Ok(Self {
            fd,
            seq: 1,
            buffer: vec![0; ANSWER_BYTES],
        })
    }

    /// Asks, and reads every answer through `read` until the kernel says that it is done. A request that changes something is not sent.
    pub fn ask<R: NetlinkRequest, T>(
        &mut self,
        request: &R,
        read: impl for<'a> Fn(R::ReplyType<'a>) -> Option<T>,
    ) -> Result<Vec<T>, RouteError> {
        if !only_reads(request) {
            return Err(RouteError::NotARead);
        }
        for _ in 0..LISTING_TRIES {
            if let Some(answers) = self.ask_once(request, &read)? {
                return Ok(answers);
            }
        }
        Err(RouteError::Restless)
    }

    /// The number of the next message.
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn ask_once<R: NetlinkRequest, T>(
        &mut self,
        request: &R,
        read: &impl for<'a> Fn(R::ReplyType<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, RouteError> {
        let seq = self.next_seq();
        send(self.fd.as_raw_fd(), &framed(request, seq)?, MsgFlags::empty()).map_err(|e| RouteError::io("send to the kernel", e))?;
        let (mut answers, mut consistent) = (Vec::new(), true);
        loop {
            for message in messages(self.receive()?) {
                let message = message?;
                if message.seq != seq {
                    continue;
                }
                consistent &= message.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR => return refusal(&message).map_or(Ok(consistent.then_some(answers)), |e| Err(e.into())),
                    libc::NLMSG_DONE => return Ok(consistent.then_some(answers)),
                    _ => answers.extend(read(R::decode_reply(message.body))),
                }
            }
        }
    }

    /// The next messages for this socket.
    pub fn receive(&mut self) -> Result<&[u8], RouteError> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) => return self.buffer.get(..length).ok_or(RouteError::Garbled("it is too long")),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(RouteError::io("receive the kernel's answer", errno)),
            }
        }
    }
}

fn only_reads<R: NetlinkRequest>(request: &R) -> bool {
    matches!(request.protocol(), Protocol::Raw { request_type, .. } if request_type & OPERATION == GET)
}

#[cfg(test)]
mod tests {
    use netlink_bindings::rt_link::{self, Ifinfomsg};
    use netlink_bindings::tc::{self, Tcmsg};

    use super::*;

    #[test]
    fn a_request_that_changes_something_is_no_question() {
        let (link, queue) = (Ifinfomsg::new(), Tcmsg::new());
        assert!(only_reads(&rt_link::Request::new().op_getlink_dump(&link)));
        assert!(only_reads(&tc::Request::new().op_getqdisc_dump(&queue)));
        assert!(only_reads(&tc::Request::new().op_gettfilter_dump(&queue)));
        assert!(!only_reads(&rt_link::Request::new().op_newlink_do(&link)));
        assert!(!only_reads(&rt_link::Request::new().op_dellink_do(&link)));
        assert!(!only_reads(&tc::Request::new().op_newqdisc_do(&queue)));
        assert!(!only_reads(&tc::Request::new().op_deltfilter_do(&queue)));
    }
}
