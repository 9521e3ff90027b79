//! Times the way to a peer as any program of this host would, by its own clock: an echo, or a connection that is closed at once.
//!
//! It shares nothing with the engine but the process: what it measures was delayed by the rules, or was not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use serde::{Deserialize, Serialize};

use super::stats_page::Echoes;

/// Echoes before the fault acts, and how long they may take together.
const BEFORE: usize = 3;
const BEFORE_WITHIN: Duration = Duration::from_millis(300);
/// Between two questions; a connection is more of a bother to the peer than an echo.
const ECHO_EVERY: Duration = Duration::from_millis(200);
const CONNECT_EVERY: Duration = Duration::from_millis(500);
/// An answer may take as long as both ways are held, and this.
const ORDINARY: Duration = Duration::from_secs(1);
/// Round trips that are remembered.
const KEPT: usize = 32;
const STACK_BYTES: usize = 128 * 1024;
const V6_HEADER: usize = 40;
const TCP: u8 = 6;

/// Whom to ask, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    Echo(IpAddr),
    Connect(SocketAddr),
}

impl Probe {
    /// Packets that one question sends when it is answered at once: a connection is asked for, taken and reset.
    pub const MOST_SENT: u64 = 3;

    /// How often the kernel asks for a connection again within this time: after 1 s, and then after twice as long each time.
    fn repeats(self, within: Duration) -> u64 {
        match self {
            Self::Echo(_) => 0,
            Self::Connect(_) => u64::from((within.as_secs() + 1).ilog2()),
        }
    }
}

/// A thread that asks until its engine is dropped.
pub(crate) struct Prober {
    probe: Probe,
    shared: Arc<Shared>,
}

struct Shared {
    echoes: Mutex<Echoes>,
    /// The echo's identification, or the connection's own port: by it the engine knows our packets.
    mark: AtomicU16,
    over: AtomicBool,
}

impl Prober {
    /// Returns when the way was timed without the fault, or could not be.
    pub fn start(probe: Probe, longest_hold: Duration) -> io::Result<Self> {
        let by = match probe {
            Probe::Echo(to) => format!("echoes of {to}"),
            Probe::Connect(to) => format!("connections to {to}"),
        };
        let shared = Arc::new(Shared {
            echoes: Mutex::new(Echoes { by, ..Echoes::default() }),
            mark: AtomicU16::new(rand::random::<u16>().max(1)),
            over: AtomicBool::new(false),
        });
        let mut before = time_before(probe, &shared.mark);
        before.sort_unstable();
        shared.echoes.lock().unwrap_or_else(PoisonError::into_inner).before_us = before.get(before.len() / 2).copied();
        let asking = shared.clone();
        let thread = std::thread::Builder::new().name("probe".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || ask_on(probe, &asking, ORDINARY + longest_hold * 2))?;
        Ok(Self { probe, shared })
    }

    pub fn echoes(&self) -> Echoes {
        self.shared.echoes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this packet is one of ours, or the answer to one.
    pub fn sent(&self, packet: &[u8]) -> bool {
        let mark = self.shared.mark.load(Ordering::Relaxed).to_be_bytes();
        let Some((protocol, body)) = transport(packet) else { return false };
        match self.probe {
            Probe::Echo(_) => [1, 58].contains(&protocol) && body.get(4..6) == Some(&mark),
            Probe::Connect(_) => protocol == TCP && (body.get(..2) == Some(&mark) || body.get(2..4) == Some(&mark)),
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

fn transport(packet: &[u8]) -> Option<(u8, &[u8])> {
    match packet.first()? >> 4 {
        4 => Some((*packet.get(9)?, packet.get(usize::from(packet[0] & 0xf) * 4..)?)),
        6 => Some((*packet.get(6)?, packet.get(V6_HEADER..)?)),
        _ => None,
    }
}

fn time_before(probe: Probe, mark: &AtomicU16) -> Vec<u64> {
    let until = Instant::now() + BEFORE_WITHIN;
    let mut times = Vec::with_capacity(BEFORE);
    for number in 0..BEFORE {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        times.extend(ask(probe, mark, number as u16, left).map(|answer| micros(answer.after)));
    }
    times
}

fn ask_on(probe: Probe, shared: &Shared, patience: Duration) {
    let every = if matches!(probe, Probe::Echo(_)) {
        ECHO_EVERY
    } else {
        CONNECT_EVERY
    };
    let mut number = BEFORE as u16;
    while !shared.over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        shared.echoes.lock().unwrap_or_else(PoisonError::into_inner).sent += 1;
        let answer = ask(probe, &shared.mark, number, patience);
        number = number.wrapping_add(1);
        {
            let mut echoes = shared.echoes.lock().unwrap_or_else(PoisonError::into_inner);
            let again = probe.repeats(begun.elapsed());
            echoes.sent += again + answer.as_ref().map_or(0, |answer| answer.then_sent);
            echoes.came += again + u64::from(answer.is_some());
            echoes.asked += 1;
            if let Some(Answer { after, .. }) = answer {
                echoes.answered += 1;
                echoes.last_us.push(micros(after));
                let more = echoes.last_us.len().saturating_sub(KEPT);
                echoes.last_us.drain(..more);
            }
        }
        std::thread::sleep(every.saturating_sub(begun.elapsed()));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// An answer, and how many packets were sent after it.
struct Answer {
    after: Duration,
    then_sent: u64,
}

/// `None` when there is no answer in time, or it cannot be asked.
fn ask(probe: Probe, mark: &AtomicU16, number: u16, patience: Duration) -> Option<Answer> {
    match probe {
        Probe::Echo(to) => {
            let after = echo(to, mark.load(Ordering::Relaxed), number, patience).ok().flatten()?;
            Some(Answer { after, then_sent: 0 })
        }
        Probe::Connect(to) => connect(to, mark, patience).ok(),
    }
}

fn echo(to: IpAddr, mark: u16, number: u16, patience: Duration) -> io::Result<Option<Duration>> {
    let (socket, request, reply) = match to {
        IpAddr::V4(_) => (raw(AddressFamily::INET, ipproto::ICMP)?, 8_u8, 0_u8),
        IpAddr::V6(_) => (raw(AddressFamily::INET6, ipproto::ICMPV6)?, 128, 129),
    };
    let mut message = vec![request, 0, 0, 0];
    message.extend(mark.to_be_bytes());
    message.extend(number.to_be_bytes());
    // The kernel does it for version 6.
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let begun = Instant::now();
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddr::new(to, 0))?;
    let mut buffer = [0; 256];
    while let Some(left) = patience.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left.max(Duration::from_millis(1))))?;
        let Ok((length, _)) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()) else {
            continue;
        };
        let message = &buffer[..length];
        let message = if to.is_ipv4() {
            transport(message).map_or(&[][..], |(_, body)| body)
        } else {
            message
        };
        if message.first() == Some(&reply) && message.get(4..8) == Some(&[mark.to_be_bytes(), number.to_be_bytes()].concat()[..]) {
            return Ok(Some(begun.elapsed()));
        }
    }
    Ok(None)
}

fn raw(family: AddressFamily, protocol: rustix::net::Protocol) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?)
}

fn checksum(message: &[u8]) -> u16 {
    let words = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A refusal is an answer as well.
fn connect(to: SocketAddr, mark: &AtomicU16, patience: Duration) -> io::Result<Answer> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    rustix::net::bind(&socket, &any)?;
    let local = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    mark.store(local.port(), Ordering::Relaxed);
    // Closed by a reset: nothing of it stays at either end.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience.max(Duration::from_millis(1))))?;
    let begun = Instant::now();
    let then_sent = match rustix::net::connect(&socket, &to) {
        Ok(()) => Probe::MOST_SENT - 1,
        Err(rustix::io::Errno::CONNREFUSED) => 0,
        Err(errno) => return Err(errno.into()),
    };
    Ok(Answer {
        after: begun.elapsed(),
        then_sent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_answers_and_our_own_packets_are_known() {
        if tests_notes::lacks_root("to send echo requests") {
            return;
        }
        for to in ["127.0.0.1", "::1"] {
            let prober = Prober::start(Probe::Echo(to.parse().unwrap()), Duration::ZERO).unwrap();
            assert!(prober.echoes().before_us.is_some(), "{to}");
        }
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let prober = Prober::start(Probe::Connect(closed), Duration::ZERO).unwrap();
        assert!(prober.echoes().before_us.is_some(), "a refusal is an answer");
    }

    #[test]
    fn packets_are_ours_by_their_mark_only() {
        let shared = Arc::new(Shared {
            echoes: Mutex::default(),
            mark: AtomicU16::new(0x1234),
            over: AtomicBool::new(true),
        });
        let prober = Prober {
            probe: Probe::Connect("192.0.2.1:80".parse().unwrap()),
            shared: shared.clone(),
        };
        let mut packet = vec![0_u8; 40];
        (packet[0], packet[9], packet[20], packet[21]) = (0x45, TCP, 0x12, 0x34);
        assert!(prober.sent(&packet));
        packet[9] = 17;
        assert!(!prober.sent(&packet) && !prober.sent(&[]) && !prober.sent(&packet[..15]));
        let prober = Prober {
            probe: Probe::Echo("192.0.2.1".parse().unwrap()),
            shared,
        };
        (packet[9], packet[24], packet[25]) = (1, 0x12, 0x34);
        assert!(prober.sent(&packet));
    }
}
