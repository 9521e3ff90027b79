//! Connections made inside a host by the test's own process; nothing is started there and nothing is sent but lines of text.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
use tests_harness::Host;

/// Far longer than a round trip on a bridge, and shorter than TCP waits before it sends again.
const PATIENCE: Duration = Duration::from_millis(300);

/// An echo that is not back by then does not come.
const ECHOED: Duration = Duration::from_millis(200);

/// A connection that was open before anything happened.
#[derive(Debug)]
pub struct Line(TcpStream);

impl Line {
    /// Connects from a host's own network; an error when the other end does not answer at once.
    pub fn open(from: &Host, to: SocketAddr) -> Result<Self> {
        // The socket stays in the host's network when the thread has ended.
        let stream = inside(from, move || Ok(TcpStream::connect_timeout(&to, PATIENCE)?));
        let stream = stream.with_context(|| format!("connect from {} to {to}", from.name()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Whether a line that is sent comes back at once.
    pub fn answers(&mut self) -> bool {
        let mut heard = [0; 6];
        self.0.write_all(b"hello\n").is_ok() && self.0.read_exact(&mut heard).is_ok()
    }
}

/// How long a new connection takes; an error when the other end does not answer in time.
pub fn connects_in(from: &Host, to: SocketAddr) -> Result<Duration> {
    inside(from, move || {
        let begun = Instant::now();
        TcpStream::connect_timeout(&to, PATIENCE)?;
        Ok(begun.elapsed())
    })
}

/// How many of `count` echoes come back; all are sent at once.
pub fn echoes(from: &Host, to: IpAddr, count: u16) -> Result<usize> {
    inside(from, move || echoes_here(to, count))
}

fn echoes_here(to: IpAddr, count: u16) -> Result<usize> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8_u8, 0_u8),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ECHOED))?;
    let mark = rand::random::<u16>();
    for number in 0..count {
        let [a, b, c, d] = [mark.to_be_bytes(), number.to_be_bytes()].concat()[..] else {
            bail!("four bytes")
        };
        let sum = u32::from(request) * 256 + u32::from(mark) + u32::from(number);
        // The kernel does it for version 6.
        let [high, low] = (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes();
        let _ = rustix::net::sendto(
            &socket,
            &[request, 0, high, low, a, b, c, d],
            SendFlags::empty(),
            &SocketAddr::new(to, 0),
        );
    }
    let mut back = BTreeSet::new();
    let mut buffer = [0; 256];
    // Replies to others come here too, and must not keep the waiting up.
    let mut last = Instant::now();
    while back.len() < usize::from(count) && last.elapsed() < ECHOED {
        let Ok((length, _)) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()) else {
            break;
        };
        let message = if to.is_ipv4() {
            buffer.get(20..length)
        } else {
            buffer.get(..length)
        };
        if let Some([kind, _, _, _, a, b, c, d, ..]) = message
            && *kind == reply
            && [*a, *b] == mark.to_be_bytes()
        {
            back.insert([*c, *d]);
            last = Instant::now();
        }
    }
    Ok(back.len())
}

/// A socket of a host for datagrams to any host, groups and broadcast addresses too. At the unspecified address it hears what is sent to
/// the group as well, on the interface that has the address.
pub fn datagrams(host: &Host, at: SocketAddr, joined: Option<(Ipv4Addr, Ipv4Addr)>) -> Result<UdpSocket> {
    inside(host, move || {
        let socket = UdpSocket::bind(at)?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        if let Some((group, interface)) = joined {
            socket.join_multicast_v4(&group, &interface)?;
        }
        Ok(socket)
    })
}

/// Whether the datagram that is sent to an address is heard there at once. The sender may be refused.
pub fn hears(listener: &UdpSocket, from: &UdpSocket, to: SocketAddr) -> bool {
    let text = rand::random::<u64>().to_be_bytes();
    let _ = from.send_to(&text, to);
    let mut heard = [0; 8];
    // What others send arrives here too, and must not keep the waiting up.
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline
        && let Ok(length) = listener.recv(&mut heard)
    {
        if heard[..length] == text {
            return true;
        }
    }
    false
}

/// In a thread of its own that enters the host's network and ends there.
fn inside<T: Send + 'static>(host: &Host, action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let namespace = File::open(format!("/proc/{}/ns/net", host.init_pid())).context("open a host's network namespace")?;
    let enter = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("enter a host's network namespace")?;
        action()
    };
    std::thread::spawn(enter)
        .join()
        .map_err(|_| anyhow!("a thread in a host panicked"))?
}

/// Whether a new connection is accepted at once.
pub fn reaches(from: &Host, to: SocketAddr) -> bool {
    Line::open(from, to).is_ok()
}
