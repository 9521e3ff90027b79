//! The queue in which a path delays, loses or slows packets, as a message to the kernel; nothing is sent here.

use netlink_bindings::tc::{OpNewqdiscDo, Request, TcNetemGemodel, TcNetemQopt, TcRatespec, TcTbfQopt, Tcmsg};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};

use super::distribution;
use crate::path::{Rate, Shape};
use crate::work::packets::{Delay, GilbertElliott};

const NS_PER_US: u64 = 1_000;
/// The scheduler's older unit: 64 ns.
const TICK_SHIFT: u32 = 6;
/// TC_LINKLAYER_ETHERNET: with it the kernel needs no table of rates.
const ETHERNET: u8 = 1;
/// Attributes of netem (include/uapi/linux/pkt_sched.h).
const NETEM_LOSS: u16 = 5;
const LOSS_GILBERT_ELLIOTT: u16 = 2;
/// How long a bandwidth lets packets wait before it drops more.
const LONGEST_QUEUE_MS: u64 = 400;

/// The root queue of a link.
pub(super) fn request(link: u32, shape: &Shape) -> OpNewqdiscDo<'static> {
    let mut head = Tcmsg::new();
    head.ifindex = link.cast_signed();
    head.parent = agent_view::tc::listing::ROOT;
    let mut request = Request::new().set_create().set_excl().op_newqdisc_do(&head);
    match shape {
        Shape::Rate(rate) => bandwidth(&mut request, *rate),
        Shape::Delay(delay) => later(&mut request, delay, shape.room_packets()),
        Shape::Loss(model) => losses(&mut request, model, shape.room_packets()),
    }
    request
}

fn later(request: &mut OpNewqdiscDo<'_>, delay: &Delay, room: u32) {
    let nanoseconds = |us: u64| i64::try_from(us.saturating_mul(NS_PER_US)).unwrap_or(i64::MAX);
    let ticks = |us: u64| u32::try_from(us.saturating_mul(NS_PER_US) >> TICK_SHIFT).unwrap_or(u32::MAX);
    let mut basic = TcNetemQopt::new();
    basic.latency = ticks(delay.delay_us);
    basic.jitter = ticks(delay.jitter_us);
    basic.limit = room;
    let options = request.encode().nested_options_netem(&basic);
    let options = options.push_latency64(nanoseconds(delay.delay_us));
    let mut options = options.push_jitter64(nanoseconds(delay.jitter_us));
    if let Some(table) = distribution::table(delay.distribution).filter(|_| delay.jitter_us > 0) {
        let bytes: Vec<u8> = table.iter().flat_map(|value| value.to_ne_bytes()).collect();
        options = options.push_delay_dist(&bytes);
    }
    options.end_nested();
}

/// The kernel's model has two states: to bad, to good, kept while bad, lost while good.
fn losses(request: &mut OpNewqdiscDo<'_>, of: &GilbertElliott, room: u32) {
    let mut basic = TcNetemQopt::new();
    basic.limit = room;
    let mut options = request.encode().nested_options_netem(&basic);
    let buffer = options.as_vec_mut();
    let mut model = TcNetemGemodel::new();
    let [p, r, h, k1] = [of.p, of.r, 1.0 - of.lost_in_bad, of.lost_in_good].map(share);
    (model.p, model.r, model.h, model.k1) = (p, r, h, k1);
    let loss = push_nested_header(buffer, NETEM_LOSS);
    push_header(buffer, LOSS_GILBERT_ELLIOTT, TcNetemGemodel::len() as u16);
    buffer.extend(model.as_slice());
    finalize_nested_header(buffer, loss);
    options.end_nested();
}

/// A share as a part of the whole range of 32 bits.
fn share(of: f64) -> u32 {
    (of * f64::from(u32::MAX)).round() as u32
}

fn bandwidth(request: &mut OpNewqdiscDo<'_>, rate: Rate) {
    let mut ratio = TcRatespec::new();
    ratio.linklayer = ETHERNET;
    ratio.rate = u32::try_from(rate.bytes_per_second).unwrap_or(u32::MAX);
    let waiting = rate.bytes_per_second.saturating_mul(LONGEST_QUEUE_MS) / 1_000;
    let mut basic = TcTbfQopt::new();
    basic.rate = ratio;
    basic.limit = u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(rate.burst_bytes);
    let options = request.encode().nested_options_tbf().push_parms(basic);
    let options = options.push_burst(rate.burst_bytes);
    options.push_rate64(rate.bytes_per_second).end_nested();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_32_bits() {
        assert_eq!(share(0.0), 0);
        assert_eq!(share(1.0), u32::MAX);
        assert_eq!(share(0.5), 2_147_483_648);
    }
}
