//! The program that decides, packet by packet, which take the path: written as eBPF instructions, loaded elsewhere.
//!
//! Whatever a packet lacks or cannot be read means that it is not led into the path. The deadline is in a map and not in the
//! program, so that a renewed lease changes one number: no filter is replaced, no packet can slip between two of them, and
//! what the filters counted goes on counting.

use std::net::{IpAddr, SocketAddr};

use agent_view::tc::listing::Hook;
use proto_model::quantity::PortRange;

use super::assembler::{Assembler, FRAME, Helper, Label, Register, Test, Width};
use crate::path::Packets;
use crate::traffic::{Exemptions, Protocol};

/// What a classifier answers for a packet that takes the path: the filter's own class, so its action.
const TAKE: i32 = -1;
const PASS: i32 = 0;

const TCP: i32 = 6;
const UDP: i32 = 17;
const ICMP: i32 = 1;
const ICMPV6: i32 = 58;
const SSH: u16 = 22;
/// DHCP's client and server ports, version 4 and 6.
const DHCP: [u16; 4] = [67, 68, 546, 547];
/// Listener discovery, routers and neighbours; version 2 listener reports.
const NEIGHBOUR_TYPES: [(i32, i32); 2] = [(130, 137), (143, 143)];
/// Headers of version 6 that may stand before the transport's: hop-by-hop, routing, destination options.
const OPTION_HEADERS: [i32; 3] = [0, 43, 60];
const FRAGMENT_HEADER: i32 = 44;
/// How many of them are looked past.
const MOST_HEADERS: usize = 4;

/// Where things lie on the program's stack, from its end.
const NETWORK_HEADER: i16 = -40;
const TRANSPORT: i16 = -48;
const KEY: i16 = -72;
const FIRST_ENTRY: i16 = -80;

/// Of the kernel's words about a packet (struct __sk_buff): the interface by which it came in, or none.
const CAME_IN_BY: i16 = 36;

/// Registers that outlive calls.
const PACKET: Register = 6;
const PROTOCOL: Register = 7;
/// Where the transport's header begins; later the remote port.
const OFFSET: Register = 8;
const REMOTE_PORT: Register = 8;
const LOCAL_PORT: Register = 9;

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn ether_type(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }

    pub fn address_bytes(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    pub fn is_of(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    fn header_bytes(self) -> i32 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Of the other side's address in the network header.
    fn remote_at(self, hook: Hook) -> i16 {
        let within = match (self, hook) {
            (Self::V4, Hook::In) => 12,
            (Self::V4, Hook::Out) => 16,
            (Self::V6, Hook::In) => 8,
            (Self::V6, Hook::Out) => 24,
        };
        NETWORK_HEADER + within
    }
}

/// Descriptors of the maps that a program reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maps {
    pub deadline: i32,
    pub peers: i32,
    pub controllers: i32,
}

/// What a map of controllers holds an endpoint by; `None` when it is of the other family.
pub(super) fn endpoint_key(family: Family, endpoint: &SocketAddr) -> Option<Vec<u8>> {
    let address = match (endpoint.ip().to_canonical(), family) {
        (IpAddr::V4(v4), Family::V4) => v4.octets().to_vec(),
        (IpAddr::V6(v6), Family::V6) => v6.octets().to_vec(),
        _ => return None,
    };
    // The program compares the port as a number of this machine.
    Some([address, u32::from(endpoint.port()).to_ne_bytes().to_vec()].concat())
}

/// The program for one hook and family.
pub(super) fn program(
    family: Family,
    hook: Hook,
    packets: &Packets,
    exemptions: &Exemptions,
    maps: Maps,
) -> Result<Vec<u64>, &'static str> {
    let mut code = Assembler::default();
    let labels = Labels {
        pass: code.label(),
        meant: code.label(),
        without_transport: code.label(),
    };
    let mut classifier = Classifier {
        code,
        labels,
        family,
        hook,
        packets,
        exemptions,
    };
    classifier.deadline(maps.deadline);
    classifier.own();
    classifier.network_header();
    classifier.transport();
    classifier.always_spared();
    classifier.spared_endpoints(maps.controllers);
    classifier.ports();
    classifier.protocol();
    classifier.peers(maps.peers);
    classifier.code.finish()
}

struct Labels {
    /// The packet goes its normal way.
    pass: Label,
    /// Nothing spares it and its ports are right.
    meant: Label,
    /// A later fragment, or a header that is cut off: it has no ports.
    without_transport: Label,
}

struct Classifier<'a> {
    code: Assembler,
    labels: Labels,
    family: Family,
    hook: Hook,
    packets: &'a Packets,
    exemptions: &'a Exemptions,
}

impl Classifier<'_> {
    fn deadline(&mut self, map: i32) {
        let code = &mut self.code;
        code.copy(PACKET, 1);
        code.store_number(Width::Four, FRAME, FIRST_ENTRY, 0);
        code.map(1, map);
        code.address(2, FIRST_ENTRY);
        code.call(Helper::MapLookup);
        code.jump_if(0, Test::Equal, 0, self.labels.pass);
        code.load(Width::Eight, PROTOCOL, 0, 0);
        code.call(Helper::BootTimeNs);
        code.jump_if_register(0, Test::AtLeast, PROTOCOL, self.labels.pass);
    }

    /// What leaves was made on this host: a packet that is only passed on came in by some interface.
    fn own(&mut self) {
        if self.hook == Hook::Out {
            self.code.load(Width::Four, 1, PACKET, CAME_IN_BY);
            self.code.jump_if(1, Test::Differs, 0, self.labels.pass);
        }
    }

    fn network_header(&mut self) {
        self.code.set(2, 0);
        let bytes = self.family.header_bytes();
        self.load_bytes(NETWORK_HEADER, bytes, self.labels.pass);
        match self.family {
            Family::V4 => self.fourth(),
            Family::V6 => self.sixth(),
        }
    }

    fn fourth(&mut self) {
        let code = &mut self.code;
        code.load(Width::One, PROTOCOL, FRAME, NETWORK_HEADER + 9);
        code.load(Width::One, OFFSET, FRAME, NETWORK_HEADER);
        code.and(OFFSET, 0xf);
        code.shift_left(OFFSET, 2);
        code.load(Width::Two, 1, FRAME, NETWORK_HEADER + 6);
        code.swap_network16(1);
        code.and(1, 0x1fff);
        code.jump_if(1, Test::Differs, 0, self.labels.without_transport);
    }

    /// Past the headers that may stand before the transport's; packets with more of them than we follow have none.
    fn sixth(&mut self) {
        self.code.load(Width::One, PROTOCOL, FRAME, NETWORK_HEADER + 6);
        self.code.set(OFFSET, self.family.header_bytes());
        let done = self.code.label();
        for _ in 0..MOST_HEADERS {
            let (options, fragment, next) = (self.code.label(), self.code.label(), self.code.label());
            for header in OPTION_HEADERS {
                self.code.jump_if(PROTOCOL, Test::Equal, header, options);
            }
            self.code.jump_if(PROTOCOL, Test::Equal, FRAGMENT_HEADER, fragment);
            self.code.jump(done);

            self.code.place(options);
            self.code.copy(2, OFFSET);
            self.load_bytes(TRANSPORT, 4, self.labels.without_transport);
            self.code.load(Width::One, PROTOCOL, FRAME, TRANSPORT);
            self.code.load(Width::One, 1, FRAME, TRANSPORT + 1);
            self.code.add(1, 1);
            self.code.shift_left(1, 3);
            self.code.add_register(OFFSET, 1);
            self.code.jump(next);

            self.code.place(fragment);
            self.code.copy(2, OFFSET);
            self.load_bytes(TRANSPORT, 4, self.labels.without_transport);
            self.code.load(Width::One, PROTOCOL, FRAME, TRANSPORT);
            self.code.load(Width::Two, 1, FRAME, TRANSPORT + 2);
            self.code.swap_network16(1);
            self.code.and(1, 0xfff8);
            self.code.jump_if(1, Test::Differs, 0, self.labels.without_transport);
            self.code.add(OFFSET, 8);
            self.code.place(next);
        }
        self.code.place(done);
    }

    /// The first four bytes behind the headers: both ports, or an ICMP type.
    fn transport(&mut self) {
        self.code.copy(2, OFFSET);
        self.load_bytes(TRANSPORT, 4, self.labels.without_transport);
        let (source, destination) = match self.hook {
            Hook::Out => (LOCAL_PORT, REMOTE_PORT),
            Hook::In => (REMOTE_PORT, LOCAL_PORT),
        };
        for (register, at) in [(source, TRANSPORT), (destination, TRANSPORT + 2)] {
            self.code.load(Width::Two, register, FRAME, at);
            self.code.swap_network16(register);
        }
    }

    fn always_spared(&mut self) {
        if self.family == Family::V6 {
            let other = self.code.label();
            self.code.jump_if(PROTOCOL, Test::Differs, ICMPV6, other);
            self.code.load(Width::One, 1, FRAME, TRANSPORT);
            for (first, last) in NEIGHBOUR_TYPES {
                self.jump_within(1, first, last, self.labels.pass);
            }
            self.code.place(other);
        }
        let not_udp = self.code.label();
        self.code.jump_if(PROTOCOL, Test::Differs, UDP, not_udp);
        let destination = match self.hook {
            Hook::Out => REMOTE_PORT,
            Hook::In => LOCAL_PORT,
        };
        for port in DHCP {
            self.code.jump_if(destination, Test::Equal, port.into(), self.labels.pass);
        }
        self.code.place(not_udp);
        let not_tcp = self.code.label();
        self.code.jump_if(PROTOCOL, Test::Differs, TCP, not_tcp);
        for side in [REMOTE_PORT, LOCAL_PORT] {
            self.code.jump_if(side, Test::Equal, SSH.into(), self.labels.pass);
        }
        self.code.place(not_tcp);
    }

    fn spared_endpoints(&mut self, controllers: i32) {
        let other = self.code.label();
        self.code.jump_if(PROTOCOL, Test::Differs, TCP, other);
        self.store_address(KEY);
        self.code
            .store(Width::Four, FRAME, KEY + self.family.address_bytes() as i16, REMOTE_PORT);
        self.code.map(1, controllers);
        self.code.address(2, KEY);
        self.code.call(Helper::MapLookup);
        self.code.jump_if(0, Test::Differs, 0, self.labels.pass);
        self.code.place(other);
        if self.exemptions.ports.is_empty() {
            return;
        }
        let (has_ports, other) = (self.code.label(), self.code.label());
        self.code.jump_if(PROTOCOL, Test::Equal, TCP, has_ports);
        self.code.jump_if(PROTOCOL, Test::Differs, UDP, other);
        self.code.place(has_ports);
        for range in &self.exemptions.ports {
            for side in [REMOTE_PORT, LOCAL_PORT] {
                self.jump_within(side, range.first.into(), range.last.into(), self.labels.pass);
            }
        }
        self.code.place(other);
    }

    /// The ports that are meant; a packet without any is not meant then.
    fn ports(&mut self) {
        let packets = self.packets;
        if packets.ports.is_empty() && packets.local_ports.is_empty() {
            self.code.place(self.labels.without_transport);
            return;
        }
        let has_ports = self.code.label();
        self.code.jump_if(PROTOCOL, Test::Equal, TCP, has_ports);
        self.code.jump_if(PROTOCOL, Test::Differs, UDP, self.labels.pass);
        self.code.place(has_ports);
        self.one_of(REMOTE_PORT, &packets.ports);
        self.one_of(LOCAL_PORT, &packets.local_ports);
        self.code.jump(self.labels.meant);
        self.code.place(self.labels.without_transport);
        self.code.jump(self.labels.pass);
    }

    fn one_of(&mut self, port: Register, ranges: &[PortRange]) {
        if ranges.is_empty() {
            return;
        }
        let right = self.code.label();
        for range in ranges {
            self.jump_within(port, range.first.into(), range.last.into(), right);
        }
        self.code.jump(self.labels.pass);
        self.code.place(right);
    }

    fn protocol(&mut self) {
        self.code.place(self.labels.meant);
        let number = match (self.packets.protocol, self.family) {
            (None, _) => return,
            (Some(Protocol::Tcp), _) => TCP,
            (Some(Protocol::Udp), _) => UDP,
            (Some(Protocol::Icmp), Family::V4) => ICMP,
            (Some(Protocol::Icmp), Family::V6) => ICMPV6,
        };
        self.code.jump_if(PROTOCOL, Test::Differs, number, self.labels.pass);
    }

    /// The longest prefix that holds the other side's address says whether it is a peer.
    fn peers(&mut self, map: i32) {
        let bits = i32::try_from(self.family.address_bytes() * 8).unwrap_or(0);
        self.code.store_number(Width::Four, FRAME, KEY, bits);
        self.store_address(KEY + 4);
        let code = &mut self.code;
        code.map(1, map);
        code.address(2, KEY);
        code.call(Helper::MapLookup);
        code.jump_if(0, Test::Equal, 0, self.labels.pass);
        code.load(Width::Four, 1, 0, 0);
        code.jump_if(1, Test::Equal, 0, self.labels.pass);
        code.set(0, TAKE);
        code.exit();
        code.place(self.labels.pass);
        code.set(0, PASS);
        code.exit();
    }

    /// Copies the other side's address to the stack.
    fn store_address(&mut self, to: i16) {
        let from = self.family.remote_at(self.hook);
        for word in (0..self.family.address_bytes() as i16).step_by(4) {
            self.code.load(Width::Four, 1, FRAME, from + word);
            self.code.store(Width::Four, FRAME, to + word, 1);
        }
    }

    /// Copies bytes of the packet, from the offset in register 2 behind its link header, to the stack.
    fn load_bytes(&mut self, to: i16, bytes: i32, otherwise: Label) {
        /// Count from the network header (BPF_HDR_START_NET).
        const FROM_NETWORK_HEADER: i32 = 1;
        self.code.copy(1, PACKET);
        self.code.address(3, to);
        self.code.set(4, bytes);
        self.code.set(5, FROM_NETWORK_HEADER);
        self.code.call(Helper::LoadBytesRelative);
        self.code.jump_if(0, Test::Differs, 0, otherwise);
    }

    fn jump_within(&mut self, register: Register, first: i32, last: i32, to: Label) {
        let outside = self.code.label();
        self.code.jump_if(register, Test::Below, first, outside);
        self.code.jump_if(register, Test::AtMost, last, to);
        self.code.place(outside);
    }
}
