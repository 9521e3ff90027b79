//! Paths for the tests, their counters, and what the tc tool says; the tests themselves are elsewhere.

use agent_levers::ops::PathOps;
use agent_levers::{ClsactPlace, ClsactRemoval, Direction, Exemptions, LinuxOps, Packets, PathOpening, PathSpec, Rate, Shape};
use agent_view::tc::{counters, interfaces_to, names, our_paths};
use agent_view::{Clsact, PathCounters};
use proto_model::id::InjectionId;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{arrives, ip, networks};

/// Long enough for every test that does not wait for the kernel's own end.
const LONG_MS: u64 = 60_000;
pub const PREFERENCE: u16 = 10;
/// The longest that closed connections may go on with their last packets.
const SETTLED: Duration = Duration::from_secs(10);

pub fn hands() -> LinuxOps {
    LinuxOps::new("/nonexistent".into())
}

/// A bandwidth that no test reaches: packets take the path and nothing happens to them.
pub const WIDE: Shape = Shape::Rate(Rate {
    bytes_per_second: 1_000_000_000,
    burst_bytes: 1_000_000,
});

pub fn narrow(bytes_per_second: u64) -> Shape {
    Shape::Rate(Rate {
        bytes_per_second,
        burst_bytes: 2_000,
    })
}

pub fn to(peers: &[&str], shape: Shape) -> PathSpec {
    PathSpec {
        packets: Packets {
            peers: networks(peers),
            except: Vec::new(),
            ports: Vec::new(),
            local_ports: Vec::new(),
            protocol: None,
            interface: None,
            direction: Direction::Out,
        },
        shape,
    }
}

/// A path as a lever makes it, without a journal.
pub struct Path {
    pub injection: InjectionId,
    pub clsacts: Vec<ClsactPlace>,
}

impl Path {
    pub fn make(spec: &PathSpec) -> Self {
        Self::make_with(spec, Exemptions::default(), LONG_MS)
    }

    pub fn make_with(spec: &PathSpec, exemptions: Exemptions, gate_ms: u64) -> Self {
        let path = Self::prepare(spec);
        path.open(spec, exemptions, gate_ms);
        path
    }

    /// Scaffolds and the link, without filters.
    pub fn prepare(spec: &PathSpec) -> Self {
        let interfaces = interfaces_to(&spec.packets.peers, spec.packets.interface.as_deref()).expect("look");
        let place = |interface: &agent_view::PathInterface| ClsactPlace {
            interface: interface.name.clone(),
            index: interface.index,
            was_absent: interface.clsact == Clsact::Absent,
        };
        let clsacts: Vec<ClsactPlace> = interfaces
            .iter()
            .filter(|i| matches!(i.clsact, Clsact::Absent | Clsact::Ours))
            .map(place)
            .collect();
        for place in clsacts.iter().filter(|place| place.was_absent) {
            done(hands().add_clsact(place));
        }
        let injection = InjectionId::generate();
        done(hands().make_path(&injection, &spec.shape));
        Self { injection, clsacts }
    }

    pub fn open(&self, spec: &PathSpec, exemptions: Exemptions, gate_ms: u64) {
        let opening = PathOpening {
            interfaces: interfaces_to(&spec.packets.peers, spec.packets.interface.as_deref()).expect("look"),
            preference: PREFERENCE,
            exemptions,
            gate_ms,
        };
        assert!(!opening.interfaces.is_empty(), "no interface leads to the peers");
        done(hands().open_path(&self.injection, spec, &opening));
    }

    pub fn counters(&self) -> PathCounters {
        counters(&self.injection).expect("look").expect("the path is there")
    }

    /// How many packets were led into it while this was done.
    pub fn led_by(&self, action: impl FnOnce()) -> u64 {
        let before = self.settled();
        action();
        self.counters().led_packets - before
    }

    /// The count of packets that were led into it, once no packet comes any more: connections that were closed before still say so.
    fn settled(&self) -> u64 {
        let deadline = Instant::now() + SETTLED;
        let mut before = self.counters().led_packets;
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.counters().led_packets;
            if now == before {
                return now;
            }
            assert!(
                Instant::now() < deadline,
                "packets are still led into the path after {SETTLED:?}: {before}, then {now}"
            );
            before = now;
        }
    }

    /// Whether a datagram takes the path. It arrives all the same.
    pub fn takes(&self, from: &UdpSocket, to: &UdpSocket) -> bool {
        let led = self.led_by(|| assert!(arrives(from, to), "a datagram was lost"));
        assert!(led <= 1, "{led} packets for one datagram");
        led == 1
    }

    /// As `rewind` does it; packets that were dropped.
    pub fn remove(&self) -> u64 {
        done(hands().close_path(&self.injection));
        let dropped = done(hands().drain_path(&self.injection, 1_500));
        done(hands().remove_path(&names::link_of(&self.injection)));
        for place in &self.clsacts {
            done(hands().remove_clsact(place));
        }
        dropped
    }

    pub fn remove_clsacts(&self) -> Vec<ClsactRemoval> {
        self.clsacts.iter().map(|place| done(hands().remove_clsact(place))).collect()
    }
}

pub fn done<T>(result: Result<T, agent_levers::OpsError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}: {}", error.source))
}

/// What the tc tool prints.
pub fn tc(arguments: &str) -> String {
    let output = Command::new("tc")
        .args(arguments.split(' '))
        .stderr(Stdio::piped())
        .output()
        .expect("start tc");
    assert!(
        output.status.success(),
        "tc {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every queue and filter of the interface, and every link, as the tools list them; numbers that count are left out.
pub fn footprint() -> String {
    let links = Command::new("ip").args(["-o", "link"]).output().expect("start ip");
    let names = String::from_utf8_lossy(&links.stdout)
        .lines()
        .filter_map(|line| line.split(": ").nth(1).map(str::to_owned))
        .collect::<Vec<String>>();
    let listed = ["qdisc show", "filter show dev near0 egress", "filter show dev near0 ingress"].map(tc);
    format!("{names:?}\n{}", listed.join("\n"))
}

/// Nothing of ours is there, by our own list and by the tools'.
pub fn assert_as_before(before: &str) {
    assert_eq!(our_paths().expect("look"), Vec::new());
    assert_eq!(footprint(), before);
}

/// A root queue that must stay as it is.
pub fn give_near_a_root() {
    ip("link set near0 txqueuelen 1000");
    tc("qdisc add dev near0 root handle 1: htb default 10");
    tc("class add dev near0 parent 1: classid 1:10 htb rate 10gbit");
}

/// How long until so many datagrams have come.
pub fn time_of(count: usize, to: &UdpSocket, send: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    send();
    for n in 0..count {
        let came = to.recv(&mut [0; 2_048]);
        assert!(came.is_ok(), "datagram {n} of {count}: {came:?} after {:?}", begun.elapsed());
    }
    begun.elapsed()
}
