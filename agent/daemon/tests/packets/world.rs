//! A host with three peers on one interface, in namespaces of the test's own; the machine's own network is never touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

const PATIENCE: Duration = Duration::from_secs(20);
/// Where peers answer.
const PORT: u16 = 7;
/// Datagrams on their way at once, fewer than a socket's buffer holds.
const AT_ONCE: usize = 50;

pub struct World {
    near: File,
    far: File,
}

/// The peers, which send back what they are sent.
pub struct Far;

impl Far {
    /// Of each family, three.
    pub const PEERS: [[&str; 3]; 2] = [["10.98.0.2", "10.98.0.3", "10.98.0.4"], ["fd98::2", "fd98::3", "fd98::4"]];
}

pub fn run(test: impl FnOnce(&World) + Send + 'static) {
    if tests_notes::lacks_root("to make network namespaces") {
        return;
    }
    if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
        tests_notes::skip("the ip tool (iproute2) is required to join namespaces");
        return;
    }
    if let Err(panic) = std::thread::spawn(|| test(&World::make())).join() {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    fn make() -> Self {
        let far = new_namespace();
        ip("link set lo up");
        let near = new_namespace();
        ip("link set lo up");
        let (process, fd) = (std::process::id(), far.as_raw_fd());
        ip(&format!("link add near0 type veth peer name far0 netns /proc/{process}/fd/{fd}"));
        ip("addr add 10.98.0.1/24 dev near0");
        ip("addr add fd98::1/64 dev near0 nodad");
        ip("link set near0 up");
        let world = Self { near, far };
        world.in_far(|| {
            for (peers, length) in Far::PEERS.into_iter().zip([24, 64]) {
                for peer in peers {
                    let nodad = if length == 64 { " nodad" } else { "" };
                    ip(&format!("addr add {peer}/{length} dev far0{nodad}"));
                }
            }
            ip("link set far0 up");
        });
        world
    }

    fn in_far<T>(&self, action: impl FnOnce() -> T) -> T {
        setns(&self.far, CloneFlags::CLONE_NEWNET).expect("enter far");
        let done = action();
        setns(&self.near, CloneFlags::CLONE_NEWNET).expect("return to near");
        done
    }

    /// Makes the peers answer, for as long as this process lives.
    pub fn answer(&self) -> Far {
        for peer in Far::PEERS.concat() {
            let Ok(socket) = self.in_far(|| UdpSocket::bind(address(peer))) else {
                continue;
            };
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            });
        }
        for peer in Far::PEERS.concat() {
            until("the peers answer", || Far.ask(peer, 1, Duration::from_millis(50)).len() == 1);
        }
        Far
    }
}

fn address(peer: &str) -> SocketAddr {
    SocketAddr::new(peer.parse().expect("an address"), PORT)
}

fn socket_to(peer: &str) -> UdpSocket {
    let any: IpAddr = if peer.contains(':') { [0_u16; 8].into() } else { [0_u8; 4].into() };
    let socket = UdpSocket::bind((any, 0)).expect("bind");
    socket.connect(address(peer)).expect("a way to the peer");
    socket
}

impl Far {
    /// Times of so many questions, one after the other; those that are not answered in time are left out.
    pub fn ask(&self, peer: &str, count: u32, within: Duration) -> Vec<Duration> {
        let socket = socket_to(peer);
        socket.set_read_timeout(Some(within)).expect("limit the wait");
        let mut trips = Vec::new();
        for number in 0..count {
            let begun = Instant::now();
            socket.send(&number.to_be_bytes()).expect("send");
            let mut answer = [0; 4];
            while socket.recv(&mut answer).is_ok() {
                if answer == number.to_be_bytes() {
                    trips.push(begun.elapsed());
                    break;
                }
            }
        }
        trips
    }

    /// The same, sent without waiting for the answers.
    pub fn ask_at_once(&self, peer: &str, count: u32) -> Vec<Duration> {
        let socket = socket_to(peer);
        socket.set_read_timeout(Some(Duration::from_millis(2))).expect("limit the wait");
        let (mut sent, mut trips, mut answer) = (BTreeMap::new(), Vec::new(), [0; 4]);
        let begun = Instant::now();
        while trips.len() < count as usize && begun.elapsed() < PATIENCE {
            let number = sent.len() as u32;
            if number < count {
                sent.insert(number, Instant::now());
                socket.send(&number.to_be_bytes()).expect("send");
            }
            if socket.recv(&mut answer).is_ok() {
                trips.push(sent[&u32::from_be_bytes(answer)].elapsed());
            }
        }
        trips
    }

    /// How many of so many datagrams come back; sent as fast as nobody else loses any.
    pub fn flood(&self, peer: &str, count: usize) -> usize {
        let socket = socket_to(peer);
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("limit the wait");
        let (mut back, mut answer) = (0, [0; 8]);
        for _ in 0..count / AT_ONCE {
            for _ in 0..AT_ONCE {
                socket.send(b"x").expect("a sender is not told of losses");
            }
            let mut these = 0;
            while these < AT_ONCE && socket.recv(&mut answer).is_ok() {
                these += 1;
            }
            back += these;
        }
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("limit the wait");
        while socket.recv(&mut answer).is_ok() {
            back += 1;
        }
        back
    }
}

fn new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
    File::open("/proc/thread-self/ns/net").expect("open the namespace")
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().expect("start ip");
    assert!(done.success(), "ip {arguments}");
}

/// Every qdisc of this namespace as the tool lists it; nothing, and said so, when this machine has no such tool.
pub fn qdiscs() -> String {
    match Command::new("tc").args(["qdisc", "show"]).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => {
            tests_notes::skip("tc (iproute2) is required to list qdiscs");
            String::new()
        }
    }
}

pub fn median(trips: &[Duration]) -> Duration {
    let mut trips = trips.to_vec();
    trips.sort_unstable();
    trips.get(trips.len() / 2).copied().unwrap_or(Duration::MAX)
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
