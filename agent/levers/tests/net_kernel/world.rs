//! Two network namespaces joined by a cable, made for one test and gone with its thread; the machine's own network is never touched.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_levers::{Direction, PacketFate, TrafficSpec};
use nix::sched::{CloneFlags, setns, unshare};
use proto_model::peer::Network;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, netlink, sockopt};

/// Long enough for a packet over a cable in memory, short enough to wait for one that never comes.
pub const SOON: Duration = Duration::from_millis(300);
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The host under test is `near`; its thread lives there. Peers are addresses of `far`.
pub struct World {
    near: File,
    far: File,
}

/// Addresses of far: two hosts, each with both families.
pub const PEER4: &str = "10.99.0.2";
pub const OTHER4: &str = "10.99.0.3";
pub const PEER6: &str = "fd99::2";
pub const OTHER6: &str = "fd99::3";
pub const HERE4: &str = "10.99.0.1";
pub const HERE6: &str = "fd99::1";

/// Runs the test in a thread with a network of its own, or says why it cannot.
pub fn run(test: impl FnOnce(&World) + Send + 'static) {
    if tests_notes::lacks_root("to make network namespaces") {
        return;
    }
    if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
        tests_notes::skip("the ip tool (iproute2) is required to join namespaces");
        return;
    }
    let outcome = std::thread::spawn(|| test(&World::make())).join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    fn make() -> Self {
        let far = new_namespace();
        ip("link set lo up");
        let near = new_namespace();
        let world = Self { near, far };
        ip("link set lo up");
        ip(&format!(
            "link add near0 type veth peer name far0 netns /proc/{}/fd/{}",
            std::process::id(),
            world.far.as_raw_fd()
        ));
        ip(&format!("addr add {HERE4}/24 dev near0"));
        ip(&format!("addr add {HERE6}/64 dev near0 nodad"));
        world.in_far(|| {
            for address in [PEER4, OTHER4] {
                ip(&format!("addr add {address}/24 dev far0"));
            }
            for address in [PEER6, OTHER6] {
                ip(&format!("addr add {address}/64 dev far0 nodad"));
            }
            ip("link set far0 up");
        });
        ip("link set near0 up");
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (there, near) = (world.in_far(|| udp(peer)), udp(here));
            until("the cable carries", || arrives(&near, &there) && arrives(&there, &near));
        }
        world
    }

    /// Does this on the other side; sockets made there stay there.
    pub fn in_far<T>(&self, action: impl FnOnce() -> T) -> T {
        setns(&self.far, CloneFlags::CLONE_NEWNET).expect("enter far");
        let done = action();
        setns(&self.near, CloneFlags::CLONE_NEWNET).expect("return to near");
        done
    }

    /// An echo server at an address of far; any port when 0.
    pub fn serve_far(&self, address: &str, port: u16) -> SocketAddr {
        self.in_far(|| serve(address, port))
    }
}

fn new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
    File::open("/proc/thread-self/ns/net").expect("open the namespace")
}

/// A child inherits the namespace of the thread that starts it.
pub fn ip(arguments: &str) {
    let child = Command::new("ip")
        .args(arguments.split(' '))
        .stderr(Stdio::piped())
        .output()
        .expect("start ip");
    assert!(child.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&child.stderr));
}

/// What the nft tool answers; `None`, and said so, when this machine has none.
pub fn nft(script: &str) -> Option<String> {
    let child = Command::new("nft")
        .arg(script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output();
    let Ok(output) = child else {
        tests_notes::skip("nft (nftables) is required to read rules back");
        return None;
    };
    assert!(output.status.success(), "nft {script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An echo server where the calling thread is.
pub fn serve(address: &str, port: u16) -> SocketAddr {
    let address: IpAddr = address.parse().expect("an address");
    let listener = TcpListener::bind((address, port)).expect("listen");
    let at = listener.local_addr().expect("the server's address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
    at
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 || stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

pub fn connect(server: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, SOON)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// A byte there and back.
pub fn echoes(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

pub fn stalls<T>(result: std::io::Result<T>) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    result.is_err_and(|error| matches!(error.kind(), TimedOut | WouldBlock))
}

pub fn refused(result: std::io::Result<TcpStream>) -> bool {
    result.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A UDP socket that answers nothing and waits shortly.
pub fn udp(address: &str) -> UdpSocket {
    let address: IpAddr = address.parse().expect("an address");
    let socket = UdpSocket::bind((address, 0)).expect("bind");
    socket.set_read_timeout(Some(SOON)).expect("limit the wait");
    socket
}

/// Whether a datagram from one to the other arrives. The sender may be told at once that it may not.
pub fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    let _ = from.send_to(b"x", to.local_addr().expect("an address"));
    to.recv(&mut [0; 8]).is_ok()
}

pub fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| Network::parse(text).expect("a network")).collect()
}

/// Everything to and from the peers vanishes for a minute.
pub fn cut(peers: &[&str]) -> TrafficSpec {
    TrafficSpec {
        peers: networks(peers),
        except: Vec::new(),
        ports: Vec::new(),
        local_ports: Vec::new(),
        protocol: None,
        interface: None,
        groups: None,
        prober: None,
        direction: Direction::Both,
        fate: PacketFate::Drop.into(),
        gate_ms: 60_000,
    }
}

/// From that very address of far, since far has two.
pub fn connect_from(address: &str, server: SocketAddr) -> std::io::Result<TcpStream> {
    connect_within(address, server, SOON)
}

pub fn connect_within(address: &str, server: SocketAddr, limit: Duration) -> std::io::Result<TcpStream> {
    let from = SocketAddr::new(address.parse().expect("an address"), 0);
    let family = if from.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &from)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SOON))?;
    match rustix::net::connect(&socket, &server) {
        Err(rustix::io::Errno::INPROGRESS) => Err(std::io::ErrorKind::TimedOut.into()),
        connected => Ok(connected.map(|()| socket.into())?),
    }
}

/// One echo request with a socket of our own.
pub fn pings(peer: &str) -> bool {
    let to = SocketAddr::new(peer.parse().expect("an address"), 0);
    let (family, protocol, request, reply) = if to.is_ipv4() {
        (AddressFamily::INET, ipproto::ICMP, 8_u8, 0)
    } else {
        (AddressFamily::INET6, ipproto::ICMPV6, 128, 129)
    };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket");
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SOON)).expect("limit the wait");
    // Type, code, checksum (the kernel's own for version 6), identifier 1, sequence 1.
    let [high, low] = (!((u16::from(request) << 8) + 2)).to_be_bytes();
    let packet = [request, 0, high, low, 0, 1, 0, 1];
    let _ = rustix::net::sendto(&socket, &packet, SendFlags::empty(), &to);
    let begun = Instant::now();
    let mut buffer = [0; 128];
    while begun.elapsed() < SOON {
        if let Ok((length, _)) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            let message = if to.is_ipv4() { &buffer[20..length] } else { &buffer[..length] };
            if message.first() == Some(&reply) {
                return true;
            }
        }
    }
    false
}

/// Sends from this address of far what a router or a firewall answers to a UDP datagram that it does not pass on (port unreachable).
pub fn send_unreachable(router: &str, from: SocketAddr, to: SocketAddr) {
    let (family, protocol, kind) = if from.is_ipv4() {
        (AddressFamily::INET, ipproto::ICMP, [3_u8, 3])
    } else {
        (AddressFamily::INET6, ipproto::ICMPV6, [1, 4])
    };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket");
    let router = SocketAddr::new(router.parse().expect("an address"), 0);
    rustix::net::bind(&socket, &router).expect("bind");
    let mut message = [&kind[..], &[0; 6], quoted(from, to).as_slice()].concat();
    if from.is_ipv4() {
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    let near = SocketAddr::new(from.ip(), 0);
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &near).expect("send an ICMP error");
}

/// The head of a datagram of one byte, as an ICMP error quotes it.
fn quoted(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    const UDP: u8 = 17;
    let udp = [from.port().to_be_bytes(), to.port().to_be_bytes(), [0, 9], [0, 0]].concat();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let head = [0x45, 0, 0, 29, 0, 0, 0, 0, 64, UDP, 0, 0];
            [&head[..], &from.octets(), &to.octets(), udp.as_slice()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let head = [0x60, 0, 0, 0, 0, 9, UDP, 64];
            [&head[..], &from.octets(), &to.octets(), udp.as_slice()].concat()
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Binds queue 7 (NFQNL_MSG_CONFIG with NFQNL_CFG_CMD_BIND) until it is dropped.
pub fn listen_on_a_queue() -> Option<std::os::fd::OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::NETFILTER)).ok()?;
    let mut message = 28_u32.to_ne_bytes().to_vec();
    message.extend((3_u16 << 8 | 2).to_ne_bytes());
    message.extend(5_u16.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0, 0, 0, 7]);
    message.extend(8_u16.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes());
    message.extend([1, 0, 0, 0]);
    rustix::net::send(&socket, &message, SendFlags::empty()).ok()?;
    let mut answer = [0; 64];
    rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).ok()?;
    (answer[16..20] == [0; 4]).then_some(socket)
}
