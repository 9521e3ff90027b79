//! Connections whose address this host translates (DNAT), on the real kernel: a peer is met by either of its addresses, and counted once;
//! others are met by the address in the packet alone.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use agent_levers::{Direction, Exemptions, Fate, Lose, TrafficSpec};
use agent_view::TrafficCounters;

use crate::world::*;
use crate::{add, add_sparing, counters, only, remove};

/// A peer, and the address by which it is dialled.
const DIALLED: [(&str, &str); 2] = [(PEER4, "10.99.0.77"), (PEER6, "fd99::77")];
const PORT: u16 = 7_400;
const DATAGRAMS: u32 = 400;
const EVERY_WAY: [Direction; 3] = [Direction::Out, Direction::In, Direction::Both];

fn at(dialled: &str, port: u16) -> SocketAddr {
    SocketAddr::new(dialled.parse().expect("an address"), port)
}

/// From here on what is sent to the dialled address and port goes to the server. False, and said so, where there is no nft tool.
fn translate(dialled: SocketAddr, protocol: &str, server: SocketAddr) -> bool {
    translate_at("output", dialled, protocol, server)
}

/// The same of what passes this hook.
fn translate_at(hook: &str, dialled: SocketAddr, protocol: &str, server: SocketAddr) -> bool {
    let family = if dialled.is_ipv4() { "ip" } else { "ip6" };
    let chain = format!("add table inet other; add chain inet other {hook} {{ type nat hook {hook} priority -100; }}");
    let dialled = format!("{family} daddr {} {protocol} dport {}", dialled.ip(), dialled.port());
    nft(&format!("{chain}; add rule inet other {hook} {dialled} dnat {family} to {server}")).is_some()
}

fn spec(peer: &str, direction: Direction) -> TrafficSpec {
    TrafficSpec { direction, ..cut(&[peer]) }
}

#[test]
fn a_cut_peer_is_gone_by_the_address_that_is_dialled_and_by_its_own() {
    run(|world| {
        for (peer, dialled) in DIALLED {
            let (server, at) = (world.serve_far(peer, 0), at(dialled, PORT));
            if !translate(at, "tcp", server) {
                return;
            }
            for named in [dialled, peer] {
                for direction in EVERY_WAY {
                    let mut open = connect(at).expect("the address is translated");
                    echoes(&mut open).unwrap();
                    let injection = add(&spec(named, direction));
                    assert!(stalls(connect(at)), "{named} {direction:?}: a new connection");
                    assert!(stalls(echoes(&mut open)), "{named} {direction:?}: an open connection");
                    let seen = counters(&injection);
                    assert!(seen.hit_packets >= 2, "{named} {direction:?}: {seen:?}");
                    assert_eq!(seen.passed.packets, 0, "{named} {direction:?}: {seen:?}");
                    remove(&injection).unwrap();
                    echoes(&mut connect(at).unwrap()).unwrap();
                }
            }
        }
    });
}

#[test]
fn ports_are_those_that_are_dialled_or_those_of_the_peer() {
    run(|world| {
        for (peer, dialled) in DIALLED {
            let (server, other, at) = (world.serve_far(peer, 0), world.serve_far(peer, 0), at(dialled, PORT));
            if !translate(at, "tcp", server) {
                return;
            }
            let both = if server.is_ipv4() { "10.99.0.0/24" } else { "fd99::/64" };
            // The kernel tracks connections once there was one.
            echoes(&mut connect(at).expect("the address is translated")).unwrap();
            for port in [PORT, server.port()] {
                let injection = add(&TrafficSpec {
                    ports: only(port),
                    ..cut(&[both])
                });
                assert!(stalls(connect(at)), "{both} port {port}");
                echoes(&mut connect(other).unwrap()).unwrap();
                let seen = counters(&injection);
                assert!(seen.hit_packets > 0 && seen.passed.packets == 0, "{both} port {port}: {seen:?}");
                remove(&injection).unwrap();
            }
            // The host that is dialled is left alone although its peer is not.
            let spared = add(&TrafficSpec {
                except: networks(&[dialled]),
                ..cut(&[both])
            });
            echoes(&mut connect(at).unwrap()).unwrap();
            assert!(stalls(connect(server)), "{both} except {dialled}");
            remove(&spared).unwrap();
        }
    });
}

/// How many of the datagrams arrive, and what was counted of them.
fn lose_half(named: &str, direction: Direction, (from, at, to): (&UdpSocket, SocketAddr, &UdpSocket)) -> (u64, TrafficCounters) {
    let lose = Lose {
        per_million: 500_000,
        sink: 0xe124,
    };
    let injection = add(&TrafficSpec {
        fate: Fate::Lose(lose),
        ..spec(named, direction)
    });
    let mut arrived = 0;
    for _ in 0..DATAGRAMS {
        from.send_to(b"x", at).expect("the sender does not learn of a loss");
        arrived += received(to);
    }
    until("every datagram has arrived or is lost", || {
        arrived += received(to);
        arrived + counters(&injection).hit_packets >= u64::from(DATAGRAMS)
    });
    let seen = counters(&injection);
    remove(&injection).unwrap();
    (arrived, seen)
}

/// Takes what a socket that does not block holds, and counts it.
fn received(to: &UdpSocket) -> u64 {
    let mut count = 0;
    while count < u64::from(DATAGRAMS) && to.recv(&mut [0; 8]).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn every_packet_meets_a_loss_once_whatever_address_is_named() {
    run(|world| {
        for (peer, dialled) in DIALLED {
            let (there, at) = (world.in_far(|| udp(peer)), at(dialled, PORT));
            let server = there.local_addr().unwrap();
            if !translate(at, "udp", server) {
                return;
            }
            let near = udp(if server.is_ipv4() { HERE4 } else { HERE6 });
            there.set_nonblocking(true).unwrap();
            near.set_nonblocking(true).unwrap();
            let both = if server.is_ipv4() { "10.99.0.0/24" } else { "fd99::/64" };
            // The kernel tracks connections once there was one, and answers come by the one that was opened.
            near.send_to(b"x", at).unwrap();
            until("the address is translated", || received(&there) == 1);
            let ways = [
                (Direction::Out, (&near, at, &there)),
                (Direction::In, (&there, near.local_addr().unwrap(), &near)),
            ];
            for (direction, way) in ways {
                for named in [dialled, peer, both] {
                    let (arrived, seen) = lose_half(named, direction, way);
                    let what = format!("{named} {direction:?}: {arrived} of {DATAGRAMS}, {seen:?}");
                    assert_eq!(seen.met_packets, u64::from(DATAGRAMS), "{what}");
                    assert_eq!(seen.passed.packets, arrived, "{what}");
                    assert_eq!(seen.hit_packets, u64::from(DATAGRAMS) - arrived, "{what}");
                    // Four deviations of luck.
                    assert!((160..=240).contains(&arrived), "{what}");
                }
            }
        }
    });
}

#[test]
fn the_kernel_ends_a_cut_of_translated_connections_when_it_is_not_renewed() {
    const GATE: Duration = Duration::from_millis(800);
    /// The kernel counts in ticks.
    const TICK: Duration = Duration::from_millis(10);
    const LATE: Duration = Duration::from_secs(3);
    run(|world| {
        for (peer, dialled) in DIALLED {
            let (server, at) = (world.serve_far(peer, 0), at(dialled, PORT));
            if !translate(at, "tcp", server) {
                return;
            }
            for named in [dialled, peer] {
                for direction in [Direction::Out, Direction::In] {
                    let mut open = connect(at).expect("the address is translated");
                    echoes(&mut open).unwrap();
                    let begun = Instant::now();
                    let injection = add(&TrafficSpec {
                        gate_ms: GATE.as_millis() as u64,
                        ..spec(named, direction)
                    });
                    assert!(stalls(echoes(&mut open)), "{named} {direction:?}: an open connection");
                    until("a new connection comes through", || connect(at).is_ok());
                    let ended = begun.elapsed();
                    assert!((GATE - TICK..LATE).contains(&ended), "{named} {direction:?}: {ended:?}");
                    until("the open connection goes on", || open.read_exact(&mut [0]).is_ok());
                    let seen = counters(&injection);
                    assert!(!seen.gate_open && seen.passed.packets > 0, "{named} {direction:?}: {seen:?}");
                    assert!(remove(&injection).unwrap());
                }
            }
        }
    });
}

/// A socket whose connection is tracked and not translated, since this host translates another address; nothing where it cannot.
fn untranslated(world: &World, here: &str, host: &str, dialled: &str) -> Option<UdpSocket> {
    let (there, near) = (world.in_far(|| udp(host)), udp(here));
    let server = there.local_addr().unwrap();
    if !translate(at(dialled, PORT), "udp", server) {
        return None;
    }
    near.connect(server).unwrap();
    near.send(b"x").unwrap();
    there.recv(&mut [0; 8]).expect("nothing acts yet");
    Some(near)
}

#[test]
fn a_router_that_is_no_peer_is_heard_about_connections_to_one() {
    run(|world| {
        for ((peer, dialled), (router, here)) in DIALLED.into_iter().zip([(OTHER4, HERE4), (OTHER6, HERE6)]) {
            let Some(near) = untranslated(world, here, peer, dialled) else {
                return;
            };
            let (from, server) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
            let injection = add(&cut(&[peer]));
            world.in_far(|| send_unreachable(router, from, server));
            let heard = near.recv(&mut [0; 8]).unwrap_err();
            assert_eq!(heard.kind(), ErrorKind::ConnectionRefused, "{router}: {heard}");
            let seen = counters(&injection);
            assert_eq!((seen.hit_packets, seen.passed.packets), (0, 0), "{router}: {seen:?}");
            // The same of the peer is cut.
            world.in_far(|| send_unreachable(peer, from, server));
            assert!(stalls(near.recv(&mut [0; 8])), "{peer} is heard");
            let seen = counters(&injection);
            assert_eq!((seen.hit_packets, seen.passed.packets), (1, 0), "{peer}: {seen:?}");
            remove(&injection).unwrap();
        }
    });
}

#[test]
fn a_router_that_is_a_peer_is_heard_about_connections_to_an_exception() {
    run(|world| {
        for ((host, dialled), (router, here)) in DIALLED.into_iter().zip([(OTHER4, HERE4), (OTHER6, HERE6)]) {
            let Some(near) = untranslated(world, here, host, dialled) else {
                return;
            };
            let (from, server) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
            let except = TrafficSpec {
                except: networks(&[host]),
                ..cut(&[router, host])
            };
            let protected = Exemptions {
                networks: networks(&[host]),
                ..Exemptions::default()
            };
            for (spec, exemptions) in [(&except, &Exemptions::default()), (&cut(&[router]), &protected)] {
                let injection = add_sparing(spec, exemptions);
                world.in_far(|| send_unreachable(router, from, server));
                let heard = near.recv(&mut [0; 8]).unwrap_err();
                assert_eq!(heard.kind(), ErrorKind::ConnectionRefused, "{router}: {heard}");
                let seen = counters(&injection);
                assert_eq!((seen.hit_packets, seen.passed.packets), (0, 0), "{router}: {seen:?}");
                remove(&injection).unwrap();
            }
            // What it reports about a host that is no exception is cut like everything else of a peer.
            let injection = add(&cut(&[router]));
            world.in_far(|| send_unreachable(router, from, server));
            assert!(stalls(near.recv(&mut [0; 8])), "{router} is heard");
            let seen = counters(&injection);
            assert_eq!((seen.hit_packets, seen.passed.packets), (1, 0), "{router}: {seen:?}");
            remove(&injection).unwrap();
        }
    });
}

/// Nothing of this connection, which was opened before, and of a new one is met or counted.
fn assert_spared(at: SocketAddr, open: &mut TcpStream, (spec, exemptions): (&TrafficSpec, &Exemptions), what: &str) {
    let injection = add_sparing(spec, exemptions);
    echoes(open).unwrap_or_else(|e| panic!("{what}: a connection that is open: {e}"));
    let mut new = connect(at).unwrap_or_else(|e| panic!("{what}: a new connection: {e}"));
    echoes(&mut new).unwrap_or_else(|e| panic!("{what}: the new connection: {e}"));
    let seen = counters(&injection);
    assert_eq!((seen.hit_packets, seen.passed.packets), (0, 0), "{what}: {seen:?}");
    remove(&injection).unwrap();
}

#[test]
fn an_exception_a_protected_network_and_the_controller_are_spared_by_both_addresses() {
    run(|world| {
        for (peer, dialled) in DIALLED {
            let (server, at) = (world.serve_far(peer, 0), at(dialled, PORT));
            if !translate(at, "tcp", server) {
                return;
            }
            let mut open = connect(at).expect("the address is translated");
            echoes(&mut open).unwrap();
            // What leaves is known by the dialled address alone until it is tracked.
            let only_in = [Direction::In];
            for (named, spared, directions) in [
                (peer, at, &EVERY_WAY[..]),
                (peer, server, &EVERY_WAY[..]),
                (dialled, at, &EVERY_WAY[..]),
                (dialled, server, &only_in[..]),
            ] {
                let network = networks(&[&spared.ip().to_string()]);
                for direction in directions {
                    let cut = spec(named, *direction);
                    let what = |sort: &str| format!("{named} {direction:?}: {sort} {spared}");
                    let except = TrafficSpec {
                        except: network.clone(),
                        ..cut.clone()
                    };
                    assert_spared(at, &mut open, (&except, &Exemptions::default()), &what("except"));
                    let protected = Exemptions {
                        networks: network.clone(),
                        ..Exemptions::default()
                    };
                    assert_spared(at, &mut open, (&cut, &protected), &what("the network of"));
                    let controller = Exemptions {
                        controllers: vec![spared],
                        ..Exemptions::default()
                    };
                    assert_spared(at, &mut open, (&cut, &controller), &what("the controller at"));
                }
            }
        }
    });
}

#[test]
fn ssh_and_protected_ports_are_spared_by_the_port_that_is_dialled_and_by_the_peers() {
    const SSH: u16 = 22;
    const PROTECTED: u16 = 7_401;
    run(|world| {
        for (peer, dialled) in DIALLED {
            let (server, sshd) = (world.serve_far(peer, 0), world.serve_far(peer, SSH));
            for (port, server, spared) in [
                (SSH, server, SSH),
                (PORT, sshd, SSH),
                (PROTECTED, server, PROTECTED),
                (PROTECTED, server, server.port()),
            ] {
                let at = at(dialled, port);
                if !translate(at, "tcp", server) {
                    return;
                }
                let exemptions = Exemptions {
                    ports: if spared == SSH { Vec::new() } else { only(spared) },
                    ..Exemptions::default()
                };
                let mut open = connect(at).expect("the address is translated");
                echoes(&mut open).unwrap();
                for named in [dialled, peer] {
                    for direction in EVERY_WAY {
                        // What leaves is known by the dialled port alone until it is tracked.
                        if named == dialled && spared != port && direction.covers_out() {
                            continue;
                        }
                        let what = format!("{named} {direction:?}: {spared} of {port} to {}", server.port());
                        assert_spared(at, &mut open, (&spec(named, direction), &exemptions), &what);
                    }
                }
            }
        }
    });
}

#[test]
fn ssh_to_a_port_of_this_host_that_is_redirected_is_spared_on_its_way_in() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (server, ssh) = (serve(here, 0), at(here, 22));
            if !translate_at("prerouting", ssh, "tcp", server) {
                return;
            }
            let mut open = world.in_far(|| connect_from(peer, ssh)).expect("the port is redirected");
            echoes(&mut open).unwrap();
            let injection = add(&spec(peer, Direction::In));
            echoes(&mut open).unwrap_or_else(|e| panic!("{peer}: a session that is open: {e}"));
            let mut new = world.in_far(|| connect_from(peer, ssh)).expect("a new session");
            echoes(&mut new).unwrap();
            let seen = counters(&injection);
            assert_eq!((seen.hit_packets, seen.passed.packets), (0, 0), "{peer}: {seen:?}");
            remove(&injection).unwrap();
        }
    });
}
