//! Fields of a packet and of its tracked connection, and the expressions that load them into registers; nothing is compared here.

use netlink_bindings::nftables::{CtDirection, CtKeys, PayloadBase, PushExprListAttrs, Registers};
use netlink_bindings::traits::Pusher;

/// Where what is loaded begins.
pub(super) const REGISTER: u32 = Registers::Reg1 as u32;

/// An IP version, by netfilter's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// The first register behind an address that begins in the first of all.
    pub fn next_register(self) -> u32 {
        match self {
            Self::V4 => Registers::Reg3201 as u32,
            Self::V6 => Registers::Reg3204 as u32,
        }
    }
}

/// A field of a packet, or of the connection that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Source(Family),
    Destination(Family),
    SourcePort,
    DestinationPort,
    IcmpType,
    /// Where the connection was opened to, before any translation.
    Opened(Family),
    OpenedPort,
    /// Where the connection's answers come from, before they are translated back.
    Answered(Family),
    AnsweredPort,
}

impl Field {
    pub fn is_of_connection(self) -> bool {
        self.place().is_none()
    }

    /// In the packet; `None` for what the kernel knows of its connection.
    fn place(self) -> Option<(PayloadBase, u32, u32)> {
        Some(match self {
            Self::Source(Family::V4) => (PayloadBase::NetworkHeader, 12, 4),
            Self::Destination(Family::V4) => (PayloadBase::NetworkHeader, 16, 4),
            Self::Source(Family::V6) => (PayloadBase::NetworkHeader, 8, 16),
            Self::Destination(Family::V6) => (PayloadBase::NetworkHeader, 24, 16),
            Self::SourcePort => (PayloadBase::TransportHeader, 0, 2),
            Self::DestinationPort => (PayloadBase::TransportHeader, 2, 2),
            Self::IcmpType => (PayloadBase::TransportHeader, 0, 1),
            Self::Opened(_) | Self::OpenedPort | Self::Answered(_) | Self::AnsweredPort => return None,
        })
    }

    fn known(self) -> (CtKeys, CtDirection) {
        match self {
            Self::Opened(Family::V4) => (CtKeys::DstIp, CtDirection::Original),
            Self::Opened(Family::V6) => (CtKeys::DstIp6, CtDirection::Original),
            Self::Answered(Family::V4) => (CtKeys::SrcIp, CtDirection::Reply),
            Self::Answered(Family::V6) => (CtKeys::SrcIp6, CtDirection::Reply),
            Self::AnsweredPort => (CtKeys::ProtoSrc, CtDirection::Reply),
            _ => (CtKeys::ProtoDst, CtDirection::Original),
        }
    }
}

pub(super) fn load<P: Pusher>(list: PushExprListAttrs<P>, field: Field) -> PushExprListAttrs<P> {
    load_to(list, field, REGISTER)
}

pub(super) fn load_to<P: Pusher>(list: PushExprListAttrs<P>, field: Field, register: u32) -> PushExprListAttrs<P> {
    match field.place() {
        Some(place) => payload(list, place, register),
        None => {
            let (key, direction) = field.known();
            let tracked = list.nested_elem().nested_data_ct().push_dreg(register).push_key(key as u32);
            tracked.push_direction(direction as u8).end_nested().end_nested()
        }
    }
}

pub(super) fn payload<P: Pusher>(
    list: PushExprListAttrs<P>,
    (base, offset, length): (PayloadBase, u32, u32),
    register: u32,
) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_payload()
        .push_dreg(register)
        .push_base(base as u32)
        .push_offset(offset)
        .push_len(length)
        .end_nested()
        .end_nested()
}
