//! What no cut takes on the real kernel, in either family: DHCP, and the controller wherever it is and however it is reached.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use agent_levers::ops::TrafficOps;
use agent_levers::{Direction, Exemptions, TrafficSpec};

use crate::world::*;
use crate::{add, add_sparing, counters, hands, remove};

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

fn everything(direction: Direction) -> TrafficSpec {
    TrafficSpec {
        direction,
        ..cut(&["0.0.0.0/0", "::/0"])
    }
}

#[test]
fn a_cut_follows_the_controller_to_where_it_is_now() {
    run(|world| {
        for (peer, other) in [(PEER4, OTHER4), (PEER6, OTHER6)] {
            let (first, second) = (world.serve_far(peer, 0), world.serve_far(other, 0));
            let exemptions = Exemptions {
                controllers: vec![first],
                ..Exemptions::default()
            };
            let injection = add_sparing(&everything(Direction::Both), &exemptions);
            assert!(connect(first).is_ok() && stalls(connect(second)), "{peer}");
            hands().replace_controllers(&injection, &[second]).unwrap();
            assert!(connect(second).is_ok() && stalls(connect(first)), "{peer}");
            hands().replace_controllers(&injection, &[]).unwrap();
            assert!(stalls(connect(first)) && stalls(connect(second)), "{peer}");
            remove(&injection).unwrap();
        }
    });
}

#[test]
fn a_controller_behind_a_translated_address_is_spared_in_every_direction() {
    run(|world| {
        let chain = "add table inet other; add chain inet other out { type nat hook output priority -100; }";
        if nft(chain).is_none() {
            return;
        }
        for (peer, dialled, family) in [(PEER4, "10.99.0.77", "ip"), (PEER6, "fd99::77", "ip6")] {
            let server = world.serve_far(peer, 0);
            let controller = SocketAddr::new(dialled.parse().unwrap(), 7_400);
            nft(&format!(
                "add rule inet other out {family} daddr {dialled} tcp dport 7400 dnat {family} to {server}"
            ));
            let mut open = connect(controller).expect("the address is translated");
            echoes(&mut open).unwrap();
            let exemptions = Exemptions {
                controllers: vec![controller],
                ..Exemptions::default()
            };
            for direction in [Direction::Out, Direction::In, Direction::Both] {
                let injection = add_sparing(&everything(direction), &exemptions);
                echoes(&mut open).unwrap_or_else(|e| panic!("{peer} {direction:?}: the session: {e}"));
                let mut new = connect(controller).unwrap_or_else(|e| panic!("{peer} {direction:?}: a new session: {e}"));
                echoes(&mut new).unwrap();
                assert_eq!(counters(&injection).passed.packets, 0, "{peer} {direction:?}");
                assert!(stalls(connect(server)), "{peer} {direction:?}: the same server by its own address");
                remove(&injection).unwrap();
            }
        }
    });
}
