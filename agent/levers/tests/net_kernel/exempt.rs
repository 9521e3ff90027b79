//! DHCP on the real kernel: no cut takes an answer to this host or a request of it, in either family.

use std::net::{IpAddr, UdpSocket};

use agent_levers::{Direction, TrafficSpec};

use crate::world::*;
use crate::{add, remove};

fn udp_at(address: &str, port: u16) -> UdpSocket {
    let address: IpAddr = address.parse().expect("an address");
    let socket = UdpSocket::bind((address, port)).expect("bind");
    socket.set_read_timeout(Some(SOON)).expect("limit the wait");
    socket
}

#[test]
fn no_cut_takes_dhcp_in_either_family_or_direction() {
    run(|world| {
        for (peer, here, server, client) in [(PEER4, HERE4, 67, 68), (PEER6, HERE6, 547, 546)] {
            let (ours, theirs) = (udp_at(here, client), world.in_far(|| udp_at(peer, server)));
            let (near, far) = (udp(here), world.in_far(|| udp(peer)));
            for direction in [Direction::Out, Direction::In, Direction::Both] {
                let injection = add(&TrafficSpec { direction, ..cut(&[peer]) });
                assert!(arrives(&ours, &theirs), "{peer} {direction:?}: a request to the DHCP server");
                assert!(arrives(&theirs, &ours), "{peer} {direction:?}: the server's answer");
                assert_eq!(
                    arrives(&near, &far),
                    !direction.covers_out(),
                    "{peer} {direction:?}: another port, out"
                );
                assert_eq!(
                    arrives(&far, &near),
                    !direction.covers_in(),
                    "{peer} {direction:?}: another port, in"
                );
                remove(&injection).unwrap();
            }
        }
    });
}
