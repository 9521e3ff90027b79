//! Sends copies of packets again, by the interface and with the mark they had, so marked that our own rules let them pass.

use std::collections::BTreeMap;
use std::io;
use std::mem::size_of;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::fragment::split;
use crate::netfilter::expressions::{PRIORITY_KEPT, SENT_AGAIN};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, sockopt};

/// Packets of one system call.
const TOGETHER: usize = 64;
/// Bytes on their way to the interface.
const BACKLOG: usize = 16 << 20;
/// How long a full interface is waited for.
const FULL_MS: u16 = 5;
/// A control message with a packet's interface and source, of either family, in words so that it is aligned.
const CONTROL_WORDS: usize = 5;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// A whole packet from its network header on.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub bytes: Vec<u8>,
    pub out_interface: u32,
    pub mark: u32,
    pub priority: u32,
}

/// What became of parcels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub sent: u64,
    /// Refused by the kernel: by a firewall, for want of a route, since the interface is gone.
    pub refused: u64,
}

/// Raw sockets of both families in the network namespace of the thread that opened them.
pub(crate) struct Again {
    v4: Raw,
    v6: Option<Raw>,
    mtus: BTreeMap<u32, usize>,
    number: u32,
}

struct Raw {
    fd: OwnedFd,
    mark: u32,
    priority: u32,
}

enum Address {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

/// One message ready for the kernel; what it points to lives in the batch.
struct Letter {
    to: Address,
    control: [u64; CONTROL_WORDS],
    control_length: usize,
}

impl Again {
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            v4: Raw::open(AddressFamily::Inet)?,
            // A kernel without IPv6 has no such packets.
            v6: Raw::open(AddressFamily::Inet6).ok(),
            mtus: BTreeMap::new(),
            number: rand::random(),
        })
    }

    /// In this order; parcels of one family and marking travel together.
    pub fn send(&mut self, parcels: &[Parcel]) -> Sent {
        let mut all = Sent::default();
        let alike = |a: &Parcel, b: &Parcel| is_v6(a) == is_v6(b) && a.mark == b.mark && a.priority == b.priority;
        for group in parcels.chunk_by(alike) {
            for some in group.chunks(TOGETHER) {
                let sent = self.send_alike(some);
                all.sent += sent;
                all.refused += some.len() as u64 - sent;
            }
        }
        all
    }

    fn send_alike(&mut self, parcels: &[Parcel]) -> u64 {
        let Some(first) = parcels.first() else { return 0 };
        let raw = if is_v6(first) { self.v6.as_mut() } else { Some(&mut self.v4) };
        let Some(raw) = raw else { return 0 };
        if raw.mark_as(first.mark, first.priority).is_err() {
            return 0;
        }
        let (mut sent, mut next) = (0, 0);
        let mut too_long = Vec::new();
        while next < parcels.len() {
            match raw.send(&parcels[next..]) {
                Ok(count) => {
                    sent += count as u64;
                    next += count.max(1);
                }
                Err(errno) => {
                    if errno == Errno::EMSGSIZE {
                        too_long.push(next);
                    }
                    next += 1;
                }
            }
        }
        sent + too_long.into_iter().filter(|index| self.send_split(&parcels[*index])).count() as u64
    }

    /// The kernel splits behind its output hook; a raw socket does not.
    fn send_split(&mut self, parcel: &Parcel) -> bool {
        let v4 = &self.v4;
        let mtu = *self
            .mtus
            .entry(parcel.out_interface)
            .or_insert_with(|| mtu_of(v4, parcel.out_interface));
        self.number = self.number.wrapping_add(1);
        let Some(pieces) = split(&parcel.bytes, mtu, self.number) else {
            return false;
        };
        let pieces: Vec<Parcel> = pieces
            .into_iter()
            .map(|bytes| Parcel {
                bytes,
                out_interface: parcel.out_interface,
                mark: parcel.mark,
                priority: parcel.priority,
            })
            .collect();
        let raw = if is_v6(parcel) { self.v6.as_ref() } else { Some(&self.v4) };
        let Some(raw) = raw else { return false };
        pieces.iter().all(|piece| raw.send(std::slice::from_ref(piece)) == Ok(1))
    }
}

impl Raw {
    fn open(family: AddressFamily) -> io::Result<Self> {
        let protocol = nix::sys::socket::SockProtocol::Raw;
        let fd = nix::sys::socket::socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
        setsockopt(&fd, sockopt::SndBufForce, &BACKLOG)?;
        setsockopt(&fd, sockopt::Broadcast, &true)?;
        // Whatever is sent to raw sockets is not for us.
        setsockopt(&fd, sockopt::RcvBuf, &0)?;
        let mut raw = Self {
            fd,
            mark: 0,
            priority: PRIORITY_KEPT,
        };
        raw.mark_as(0, 0)?;
        Ok(raw)
    }

    fn mark_as(&mut self, mark: u32, priority: u32) -> io::Result<()> {
        let priority = SENT_AGAIN | (priority & PRIORITY_KEPT);
        if self.mark != mark {
            setsockopt(&self.fd, sockopt::Mark, &mark)?;
            self.mark = mark;
        }
        if self.priority != priority {
            crate::work::set_option(&self.fd, libc::SOL_SOCKET, libc::SO_PRIORITY, priority.cast_signed())?;
            self.priority = priority;
        }
        Ok(())
    }

    /// How many of them the kernel took; an error is about the first.
    fn send(&self, parcels: &[Parcel]) -> Result<usize, Errno> {
        let mut letters = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            match Letter::to(parcel) {
                Some(letter) => letters.push(letter),
                None if letters.is_empty() => return Err(Errno::EINVAL),
                None => break,
            }
        }
        match self.send_letters(parcels, &mut letters) {
            Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                let mut full = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut full, PollTimeout::from(FULL_MS));
                self.send_letters(parcels, &mut letters)
            }
            done => done,
        }
    }

    fn send_letters(&self, parcels: &[Parcel], letters: &mut [Letter]) -> Result<usize, Errno> {
        let mut parts: Vec<libc::iovec> = parcels
            .iter()
            .take(letters.len())
            .map(|parcel| libc::iovec {
                iov_base: parcel.bytes.as_ptr().cast_mut().cast(),
                iov_len: parcel.bytes.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = letters
            .iter_mut()
            .zip(&mut parts)
            .map(|(letter, part)| letter.message(part))
            .collect();
        let count = libc::c_uint::try_from(messages.len()).unwrap_or(0);
        // SAFETY: each message points to an address, a part and a control buffer that live in `letters`, `parts` and `parcels`
        // until after the call; the lengths are theirs, the kernel writes only `msg_len`, and `count` is the number of messages.
        let sent = unsafe { libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| Errno::last())
    }
}

impl Letter {
    /// To the packet's own destination by its own interface; the route is looked up with its own source.
    fn to(parcel: &Parcel) -> Option<Self> {
        let mut letter = Self {
            to: address(parcel)?,
            control: [0; CONTROL_WORDS],
            control_length: 0,
        };
        if is_v6(parcel) {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: parcel.bytes.get(8..24)?.try_into().ok()?,
                },
                ipi6_ifindex: parcel.out_interface,
            };
            letter.enclose(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &words_of_v6(&info));
        } else {
            let source = parcel.bytes.get(12..16)?;
            letter.enclose(libc::IPPROTO_IP, libc::IP_PKTINFO, &words_of_v4(parcel.out_interface, source));
        }
        Some(letter)
    }

    /// A control message as the kernel lays it out: length, level, type, data.
    fn enclose(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let mut bytes = (size_of::<libc::cmsghdr>() + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        self.control_length = bytes.len();
        for (word, chunk) in self.control.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
        }
    }

    fn message(&mut self, part: &mut libc::iovec) -> libc::mmsghdr {
        // SAFETY: all-zero bytes are a valid `mmsghdr`: null pointers and zero lengths.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let (name, length) = match &self.to {
            Address::V4(address) => ((&raw const *address).cast(), size_of::<libc::sockaddr_in>()),
            Address::V6(address) => ((&raw const *address).cast::<libc::c_void>(), size_of::<libc::sockaddr_in6>()),
        };
        message.msg_hdr.msg_name = name.cast_mut();
        message.msg_hdr.msg_namelen = length as _;
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = self.control.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = self.control_length as _;
        message
    }
}

fn words_of_v4(interface: u32, source: &[u8]) -> Vec<u8> {
    // struct in_pktinfo: the interface, the source by which the route is found, and an address that only answers have.
    [&interface.to_ne_bytes(), source, &[0; 4]].concat()
}

fn words_of_v6(info: &libc::in6_pktinfo) -> Vec<u8> {
    [&info.ipi6_addr.s6_addr[..], &info.ipi6_ifindex.to_ne_bytes()].concat()
}

fn is_v6(parcel: &Parcel) -> bool {
    parcel.bytes.first().is_some_and(|byte| byte >> 4 == 6)
}

fn address(parcel: &Parcel) -> Option<Address> {
    if is_v6(parcel) {
        let octets: [u8; 16] = parcel.bytes.get(24..V6_HEADER)?.try_into().ok()?;
        let address = Ipv6Addr::from(octets);
        let is_local = address.is_unicast_link_local() || address.is_multicast();
        return Some(Address::V6(libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: octets },
            sin6_scope_id: if is_local { parcel.out_interface } else { 0 },
        }));
    }
    let octets: [u8; 4] = parcel.bytes.get(16..V4_HEADER)?.try_into().ok()?;
    Some(Address::V4(libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(octets),
        },
        sin_zero: [0; 8],
    }))
}

/// What every interface takes when it cannot be asked.
const ORDINARY_MTU: usize = 1_280;

/// In the socket's own network namespace.
fn mtu_of(raw: &Raw, interface: u32) -> usize {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = interface.cast_signed();
    for question in [libc::SIOCGIFNAME, libc::SIOCGIFMTU] {
        // SAFETY: the descriptor is open, and both questions read and write one `ifreq`, which outlives the calls; the first
        // leaves the name there by which the second asks.
        if unsafe { libc::ioctl(raw.fd.as_raw_fd(), question as _, &raw mut request) } != 0 {
            return ORDINARY_MTU;
        }
    }
    // SAFETY: the second question was answered, so the kernel has written this field.
    usize::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(ORDINARY_MTU)
}
