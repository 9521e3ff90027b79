//! What a rule looks at and does, and its encoding as nf_tables expressions; it knows nothing of injections.

use std::ffi::CStr;

use netlink_bindings::nftables::{
    CmpOps, CtKeys, MetaKeys, NumgenTypes, PayloadBase, PushExprListAttrs, RangeOps, Registers, RejectInetCode, RejectTypes,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};

use super::field::{Family, Field, REGISTER, load, load_to, payload};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;
/// ARPHRD_LOOPBACK of include/uapi/linux/if_arp.h.
const LOOPBACK_TYPE: u16 = 772;
const INTERFACE_NAME: usize = 16;
const TCP_FLAGS_OFFSET: u32 = 13;
/// FIN, SYN, RST and ACK: of these only SYN is set in the segment that opens a connection.
const TCP_FLAGS_OPENING: u8 = 0x17;
const TCP_FLAG_SYN: u8 = 0x02;
const TCP_FLAG_RST: u8 = 0x04;
/// Of include/uapi/linux/netfilter/nf_conntrack_common.h: the destination of the connection was changed, its address or its port.
const IPS_DST_NAT: u32 = 0x20;

/// The verdicts we use; the numbers are the kernel's (include/uapi/linux/netfilter/nf_tables.h).
const VERDICT_DROP: u32 = 0;
const VERDICT_JUMP: i32 = -3;
const VERDICT_RETURN: i32 = -5;

/// The priority of a packet that a worker of ours sends again; its low bits carry the one it had.
///
/// A priority and no mark: a mark takes part in routing, and a packet would leave by another way than it would have.
pub(crate) const SENT_AGAIN: u32 = 0x0fc5_fac0;
/// The bits of a priority that are kept: the kernel's own classes, TC_PRIO_BESTEFFORT to TC_PRIO_MAX.
pub(crate) const PRIORITY_KEPT: u32 = 0xf;

/// One condition; a rule needs all of its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match {
    Family(Family),
    Protocol(u8),
    /// By the interface's type, so that a renamed one is loopback still. `out` tells which side is looked at.
    Loopback {
        out: bool,
    },
    Interface {
        out: bool,
        name: String,
    },
    Is(Field, Vec<u8>),
    Within(Field, Vec<u8>, Vec<u8>),
    InSet(Field, String),
    /// The set holds this address and this port, one after the other.
    EndpointInSet(Family, Field, Field, String),
    /// The packet belongs to a tracked connection, and goes the way of its answers or of its first packet.
    Tracked {
        answer: bool,
    },
    /// The destination of the packet's connection is translated (DNAT).
    Translated,
    /// The set holds the group, at this level, of the socket that sends the packet or is to get it.
    SocketIn {
        level: u32,
        set: String,
    },
    /// The gate holds the packet's family.
    GateOpen(String),
    /// A TCP segment that resets a connection.
    TcpReset,
    /// A TCP segment that asks for a new connection.
    TcpOpening,
    /// So many of a million packets, by luck.
    Chance(u32),
    /// Sent again by a worker of ours, which says so by the packet's priority.
    SentAgain,
}

/// What becomes of a packet that meets every condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Only counted.
    GoOn,
    Return,
    Jump(String),
    Drop,
    Reject,
    Reset,
    /// To this queue; past it when nobody reads there.
    Queue(u16),
    /// To this queue that nobody reads: gone, and nobody is told.
    Sink(u16),
    /// Returns with the priority that the packet had before it was sent again.
    Unmark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub matches: Vec<Match>,
    pub counted: bool,
    pub end: End,
}

impl Rule {
    pub fn new(matches: Vec<Match>, end: End) -> Self {
        Self {
            matches,
            counted: false,
            end,
        }
    }

    pub fn counted(matches: Vec<Match>, end: End) -> Self {
        Self {
            matches,
            counted: true,
            end,
        }
    }

    /// The kernel's expressions that this rule is made of, for the message when it lacks one.
    pub fn needs(&self) -> &'static str {
        match self.end {
            _ if self.matches.iter().any(Match::is_of_connection) => "ct, meta, bitwise, cmp and lookup",
            _ if self.matches.iter().any(|condition| matches!(condition, Match::SocketIn { .. })) => {
                "socket cgroupv2 (Linux 5.13), lookup and counter, besides what it needs for everybody's packets"
            }
            End::Reject | End::Reset => "meta, payload, cmp, lookup, counter and reject",
            End::Queue(_) | End::Sink(_) => "meta, payload, cmp, lookup, counter, numgen, and queue or target NFQUEUE revision 3",
            _ => "meta, payload, cmp, range, lookup, bitwise, counter and immediate",
        }
    }

    /// Appends the rule's expressions.
    pub fn encode<P: Pusher>(&self, mut list: PushExprListAttrs<P>, queue_by: QueueBy) -> PushExprListAttrs<P> {
        for condition in &self.matches {
            list = condition.encode(list);
        }
        if self.counted {
            list = list
                .nested_elem()
                .nested_data_counter()
                .push_bytes(0)
                .push_packets(0)
                .end_nested()
                .end_nested();
        }
        self.end.encode(list, queue_by)
    }
}

impl Match {
    /// Whether it asks what is known of the packet's connection.
    fn is_of_connection(&self) -> bool {
        match self {
            Self::Tracked { .. } | Self::Translated => true,
            Self::Is(field, _) | Self::InSet(field, _) | Self::EndpointInSet(_, field, _, _) => field.is_of_connection(),
            _ => false,
        }
    }

    fn encode<P: Pusher>(&self, list: PushExprListAttrs<P>) -> PushExprListAttrs<P> {
        match self {
            Self::Family(family) => equal(meta(list, MetaKeys::Nfproto), &[family.number()]),
            Self::Protocol(number) => equal(meta(list, MetaKeys::L4Proto), &[*number]),
            Self::Loopback { out } => {
                let key = if *out { MetaKeys::Oiftype } else { MetaKeys::Iftype };
                equal(meta(list, key), &LOOPBACK_TYPE.to_ne_bytes())
            }
            Self::Interface { out, name } => {
                let key = if *out { MetaKeys::Oifname } else { MetaKeys::Iifname };
                let mut padded = name.as_bytes().to_vec();
                padded.resize(INTERFACE_NAME, 0);
                equal(meta(list, key), &padded)
            }
            Self::Is(field, value) => equal(load(list, *field), value),
            Self::Within(field, from, to) => within(load(list, *field), from, to),
            Self::InSet(field, set) => look_up(load(list, *field), set),
            Self::EndpointInSet(family, address, port, set) => {
                let list = load(list, *address);
                look_up(load_to(list, *port, family.next_register()), set)
            }
            Self::Tracked { answer } => equal(connection(list, CtKeys::Direction), &[u8::from(*answer)]),
            Self::Translated => equal(masked(connection(list, CtKeys::Status), IPS_DST_NAT), &IPS_DST_NAT.to_ne_bytes()),
            Self::SocketIn { level, set } => look_up(socket_group(list, *level), set),
            Self::GateOpen(set) => look_up(meta(list, MetaKeys::Nfproto), set),
            Self::TcpReset => tcp_flags(list, TCP_FLAG_RST, TCP_FLAG_RST),
            Self::TcpOpening => tcp_flags(list, TCP_FLAGS_OPENING, TCP_FLAG_SYN),
            Self::Chance(per_million) => chance(list, *per_million),
            Self::SentAgain => equal(masked(meta(list, MetaKeys::Priority), !PRIORITY_KEPT), &SENT_AGAIN.to_ne_bytes()),
        }
    }
}

impl End {
    fn encode<P: Pusher>(&self, list: PushExprListAttrs<P>, queue_by: QueueBy) -> PushExprListAttrs<P> {
        match self {
            Self::GoOn => list,
            Self::Return => verdict(list, VERDICT_RETURN as u32, None),
            Self::Jump(chain) => verdict(list, VERDICT_JUMP as u32, Some(chain)),
            Self::Drop => verdict(list, VERDICT_DROP, None),
            Self::Reject => list
                .nested_elem()
                .nested_data_reject()
                .push_type(RejectTypes::IcmpxUnreach as u32)
                .push_icmp_code(RejectInetCode::IcmpxPortUnreach as u8)
                .end_nested()
                .end_nested(),
            Self::Reset => list
                .nested_elem()
                .nested_data_reject()
                .push_type(RejectTypes::TcpRst as u32)
                .push_icmp_code(0)
                .end_nested()
                .end_nested(),
            Self::Queue(number) => queue(list, *number, QUEUE_BYPASS, queue_by),
            Self::Sink(number) => queue(list, *number, 0, queue_by),
            Self::Unmark => {
                let kept = masked(meta(list, MetaKeys::Priority), PRIORITY_KEPT);
                let set = kept.nested_elem().nested_data_meta().push_key(MetaKeys::Priority as u32);
                verdict(set.push_sreg(REGISTER).end_nested().end_nested(), VERDICT_RETURN as u32, None)
            }
        }
    }
}

/// How a rule says that a packet goes to a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum QueueBy {
    /// nf_tables' own, with the attributes number, total and flags; the bindings do not have it.
    #[default]
    Expression,
    /// That of iptables, which kernels have that lack the former. No kernel loads it for us: its family has no such prefix.
    Target,
}

impl QueueBy {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Expression => Self::Target,
            Self::Target => Self::Expression,
        }
    }
}

/// NFTA_LOOKUP_SREG of include/uapi/linux/netfilter/nf_tables.h; the bindings number it wrongly (3), so it is written by hand.
const LOOKUP_SOURCE: u16 = 2;
/// NFT_SOCKET_CGROUPV2.
const SOCKET_CGROUP: u32 = 3;
/// Packets of which a chance is taken.
const MILLION: u32 = 1_000_000;
/// NFQ_FLAG_BYPASS of include/uapi/linux/netfilter/xt_NFQUEUE.h, and NFT_QUEUE_FLAG_BYPASS.
const QUEUE_BYPASS: u16 = 1;
const QUEUE_REVISION: u32 = 3;
/// Attributes of a byteorder expression, which the bindings do not have: source, destination, operation, length, size.
const HOST_TO_NETWORK: [(u16, u32); 5] = [(1, REGISTER), (2, REGISTER), (3, 1), (4, 4), (5, 4)];
const EXPRESSION_DATA: u16 = 2;
const EXPRESSION_DATA_NESTED: u16 = EXPRESSION_DATA | 1 << 15;
const ATTRIBUTE_U32: u16 = 8;

fn meta<P: Pusher>(list: PushExprListAttrs<P>, key: MetaKeys) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_meta()
        .push_key(key as u32)
        .push_dreg(REGISTER)
        .end_nested()
        .end_nested()
}

/// NFTA_SOCKET_KEY, NFTA_SOCKET_DREG and NFTA_SOCKET_LEVEL of include/uapi/linux/netfilter/nf_tables.h, which the bindings do not have.
fn socket_group<P: Pusher>(list: PushExprListAttrs<P>, level: u32) -> PushExprListAttrs<P> {
    by_hand(list, c"socket", &[(1, SOCKET_CGROUP), (2, REGISTER), (3, level)])
}

/// An expression whose attributes are all 32 bits wide.
fn by_hand<P: Pusher>(list: PushExprListAttrs<P>, name: &CStr, attributes: &[(u16, u32)]) -> PushExprListAttrs<P> {
    let mut expression = list.nested_elem().push_name(name);
    let length = u16::try_from(attributes.len()).unwrap_or(0) * ATTRIBUTE_U32;
    push_header(expression.as_vec_mut(), EXPRESSION_DATA_NESTED, length);
    for (attribute, value) in attributes {
        push_header(expression.as_vec_mut(), *attribute, 4);
        expression.as_vec_mut().extend(value.to_be_bytes());
    }
    expression.end_nested()
}

/// What the kernel knows of the packet's connection. Its direction is 0 for packets that go as the first one, 1 for the answers.
fn connection<P: Pusher>(list: PushExprListAttrs<P>, key: CtKeys) -> PushExprListAttrs<P> {
    let known = list.nested_elem().nested_data_ct().push_dreg(REGISTER);
    known.push_key(key as u32).end_nested().end_nested()
}

fn equal<P: Pusher>(list: PushExprListAttrs<P>, value: &[u8]) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_cmp()
        .push_sreg(REGISTER)
        .push_op(CmpOps::Eq as u32)
        .nested_data()
        .push_value(value)
        .end_nested()
        .end_nested()
        .end_nested()
}

fn within<P: Pusher>(list: PushExprListAttrs<P>, from: &[u8], to: &[u8]) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_range()
        .push_sreg(REGISTER)
        .push_op(RangeOps::Eq as u32)
        .nested_from_data()
        .push_value(from)
        .end_nested()
        .nested_to_data()
        .push_value(to)
        .end_nested()
        .end_nested()
        .end_nested()
}

fn look_up<P: Pusher>(list: PushExprListAttrs<P>, set: &str) -> PushExprListAttrs<P> {
    let mut lookup = list.nested_elem().nested_data_lookup().push_set_bytes(set.as_bytes());
    push_header(lookup.as_vec_mut(), LOOKUP_SOURCE, 4);
    lookup.as_vec_mut().extend(REGISTER.to_be_bytes());
    lookup.end_nested().end_nested()
}

/// The kernel's number is in the machine's byte order, and comparing is by bytes.
fn chance<P: Pusher>(list: PushExprListAttrs<P>, per_million: u32) -> PushExprListAttrs<P> {
    let numgen = list.nested_elem().nested_data_numgen();
    // The bindings write this register in the machine's byte order; the kernel reads it big-endian.
    let numgen = numgen.push_dreg(REGISTER.to_be()).push_modulus(MILLION);
    let list = numgen.push_type(NumgenTypes::Random as u32).end_nested().end_nested();
    let swapped = by_hand(list, c"byteorder", &HOST_TO_NETWORK);
    let below = swapped.nested_elem().nested_data_cmp().push_sreg(REGISTER);
    let below = below.push_op(CmpOps::Lt as u32).nested_data();
    below.push_value(&per_million.to_be_bytes()).end_nested().end_nested().end_nested()
}

fn queue<P: Pusher>(list: PushExprListAttrs<P>, number: u16, flags: u16, by: QueueBy) -> PushExprListAttrs<P> {
    match by {
        QueueBy::Expression => queue_by_expression(list, number, flags),
        QueueBy::Target => queue_by_target(list, number, flags),
    }
}

fn queue_by_expression<P: Pusher>(list: PushExprListAttrs<P>, number: u16, flags: u16) -> PushExprListAttrs<P> {
    let mut queue = list.nested_elem().push_name(c"queue");
    let buffer = queue.as_vec_mut();
    let data = push_nested_header(buffer, EXPRESSION_DATA);
    for (attribute, value) in (1_u16..).zip([number, 1, flags]) {
        push_header(buffer, attribute, 2);
        buffer.extend(value.to_be_bytes());
    }
    finalize_nested_header(buffer, data);
    queue.end_nested()
}

fn queue_by_target<P: Pusher>(list: PushExprListAttrs<P>, number: u16, flags: u16) -> PushExprListAttrs<P> {
    // struct xt_NFQ_info_v3: the first queue, how many, flags; padded to eight bytes.
    let info: Vec<u8> = [number, 1, flags, 0].into_iter().flat_map(u16::to_ne_bytes).collect();
    let target = list.nested_elem().nested_data_target().push_name(c"NFQUEUE");
    target.push_rev(QUEUE_REVISION).push_info(&info).end_nested().end_nested()
}

fn masked<P: Pusher>(list: PushExprListAttrs<P>, mask: u32) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_bitwise()
        .push_sreg(REGISTER)
        .push_dreg(REGISTER)
        .push_len(4)
        .nested_mask()
        .push_value(&mask.to_ne_bytes())
        .end_nested()
        .nested_xor()
        .push_value(&[0; 4])
        .end_nested()
        .end_nested()
        .end_nested()
}

fn tcp_flags<P: Pusher>(list: PushExprListAttrs<P>, mask: u8, are: u8) -> PushExprListAttrs<P> {
    let masked = payload(list, (PayloadBase::TransportHeader, TCP_FLAGS_OFFSET, 1), REGISTER)
        .nested_elem()
        .nested_data_bitwise()
        .push_sreg(REGISTER)
        .push_dreg(REGISTER)
        .push_len(1)
        .nested_mask()
        .push_value(&[mask])
        .end_nested()
        .nested_xor()
        .push_value(&[0])
        .end_nested()
        .end_nested()
        .end_nested();
    equal(masked, &[are])
}

fn verdict<P: Pusher>(list: PushExprListAttrs<P>, code: u32, chain: Option<&str>) -> PushExprListAttrs<P> {
    let mut verdict = list
        .nested_elem()
        .nested_data_immediate()
        .push_dreg(Registers::RegVerdict as u32)
        .nested_data()
        .nested_verdict()
        .push_code(code);
    if let Some(chain) = chain {
        verdict = verdict.push_chain_bytes(chain.as_bytes());
    }
    verdict.end_nested().end_nested().end_nested().end_nested()
}
