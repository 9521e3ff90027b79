//! A share of the packets lost by the kernel alone: how many, in which way, and that senders are not told.

use std::net::UdpSocket;

use agent_levers::ops::TrafficOps;
use agent_levers::{Direction, Fate, Lose, TrafficSpec};

use crate::world::*;
use crate::{add, counters, hands, remove};

const PACKETS: u32 = 10_000;
/// Sent before the receiver is asked, so that its buffer is not what loses them.
const AT_ONCE: u32 = 50;

/// How many of the packets arrive; none may be refused to the sender.
fn arrive(from: &UdpSocket, to: &UdpSocket) -> u32 {
    let address = to.local_addr().expect("an address");
    let mut arrived = 0;
    to.set_nonblocking(true).expect("do not wait");
    for round in 0..PACKETS / AT_ONCE {
        for _ in 0..AT_ONCE {
            from.send_to(b"x", address)
                .unwrap_or_else(|error| panic!("round {round}: the sender is told: {error}"));
        }
        // The cable hands a packet over while it is sent.
        while to.recv(&mut [0; 8]).is_ok() {
            arrived += 1;
        }
    }
    arrived
}

#[test]
fn of_ten_thousand_packets_as_many_are_lost_as_asked_and_nobody_is_told() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (there, near) = (world.in_far(|| udp(peer)), udp(here));
            for (percent, direction) in [(20.0, Direction::Out), (5.0, Direction::In), (50.0, Direction::Out)] {
                let spec = TrafficSpec {
                    fate: Fate::Lose(Lose {
                        per_million: (percent * 10_000.0) as u32,
                        sink: 0xe123,
                    }),
                    direction,
                    ..cut(&[peer])
                };
                let injection = add(&spec);
                let arrived = match direction {
                    Direction::In => arrive(&there, &near),
                    _ => arrive(&near, &there),
                };
                let lost = 100.0 * f64::from(PACKETS - arrived) / f64::from(PACKETS);
                // One point, and three deviations of luck where that is more.
                let luck = 300.0 * (percent / 100.0 * (1.0 - percent / 100.0) / f64::from(PACKETS)).sqrt();
                assert!(
                    (lost - percent).abs() <= luck.max(1.0),
                    "{peer} {direction:?}: {lost} of {percent} percent"
                );
                let seen = counters(&injection);
                assert_eq!(
                    (seen.met_packets, seen.passed.packets),
                    (u64::from(PACKETS), u64::from(arrived)),
                    "{seen:?}"
                );
                assert_eq!(seen.hit_packets, u64::from(PACKETS - arrived), "{seen:?}");
                remove(&injection).unwrap();
                assert!(arrives(&near, &there) && arrives(&there, &near));
            }
        }
        assert!(hands().remove_idle_table().unwrap());
    });
}
