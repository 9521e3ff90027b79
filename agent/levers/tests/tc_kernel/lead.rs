//! Which packets are led into a path, and that all others are not.

use std::fs::File;
use std::os::fd::AsRawFd;

use agent_levers::ops::PathOps;
use agent_levers::{Direction, Exemptions, Packets, PathSpec, Protocol};
use agent_view::tc::interfaces_to;
use proto_model::quantity::PortRange;

use crate::support::*;
use crate::world::*;

fn only(port: u16) -> Vec<PortRange> {
    vec![PortRange { first: port, last: port }]
}

fn with(change: impl FnOnce(&mut Packets)) -> PathSpec {
    let mut spec = to(&["10.99.0.0/24", "fd99::/64"], WIDE);
    change(&mut spec.packets);
    spec
}

#[test]
fn packets_of_the_peers_take_the_path_in_both_families_and_ways() {
    run(|world| {
        give_near_a_root();
        let before = footprint();
        for (peer, other, here) in [(PEER4, OTHER4, HERE4), (PEER6, OTHER6, HERE6)] {
            let (there, beside, near) = (world.in_far(|| udp(peer)), world.in_far(|| udp(other)), udp(here));
            for (direction, out, back) in [
                (Direction::Out, true, false),
                (Direction::In, false, true),
                (Direction::Both, true, true),
            ] {
                let mut spec = to(&[peer], WIDE);
                spec.packets.direction = direction;
                let path = Path::make(&spec);
                assert_eq!(path.takes(&near, &there), out, "{peer} {direction:?} out");
                assert_eq!(path.takes(&there, &near), back, "{peer} {direction:?} back");
                assert!(!path.takes(&near, &beside) && !path.takes(&beside, &near), "{peer}: not a peer");
                let mut server = connect(world.serve_far(peer, 0)).unwrap();
                echoes(&mut server).unwrap();
                let roots = tc("qdisc show dev near0");
                assert!(roots.contains("qdisc htb 1: root"), "{roots}");
                assert_eq!(path.remove(), 0);
                assert_as_before(&before);
            }
        }
    });
}

#[test]
fn ports_protocol_interface_and_exceptions_are_honoured() {
    run(|world| {
        for (peer, other, here) in [(PEER4, OTHER4, HERE4), (PEER6, OTHER6, HERE6)] {
            let (there, second, near) = (world.in_far(|| udp(peer)), world.in_far(|| udp(peer)), udp(here));
            let (beside, server) = (world.in_far(|| udp(other)), world.serve_far(peer, 0));
            let port = |socket: &std::net::UdpSocket| socket.local_addr().unwrap().port();

            let remote = Path::make(&with(|packets| packets.ports = only(port(&there))));
            assert!(remote.takes(&near, &there) && !remote.takes(&near, &second), "{peer}: remote ports");
            remote.remove();
            let local = Path::make(&with(|packets| packets.local_ports = only(port(&near))));
            assert!(
                local.takes(&near, &there) && !local.takes(&udp(here), &there),
                "{peer}: local ports"
            );
            remote_and_local(&near, &there, port(&there), port(&near));
            local.remove();

            let tcp = Path::make(&with(|packets| packets.protocol = Some(Protocol::Tcp)));
            assert!(!tcp.takes(&near, &there), "{peer}: protocol tcp");
            assert!(tcp.led_by(|| drop(connect(server).unwrap())) > 0, "{peer}: protocol tcp");
            tcp.remove();
            let icmp = Path::make(&with(|packets| packets.protocol = Some(Protocol::Icmp)));
            assert!(
                !icmp.takes(&near, &there) && icmp.led_by(|| assert!(pings(peer))) > 0,
                "{peer}: icmp"
            );
            icmp.remove();

            let except = Path::make(&with(|packets| packets.except = networks(&[peer])));
            assert!(!except.takes(&near, &there) && except.takes(&near, &beside), "{peer}: an exception");
            except.remove();
            let named = Path::make(&with(|packets| packets.interface = Some("near0".into())));
            assert!(named.takes(&near, &there), "{peer}: this interface");
            named.remove();
        }
        assert!(
            interfaces_to(&networks(&["0.0.0.0/0"]), Some("lo")).unwrap().is_empty(),
            "never loopback"
        );
    });
}

fn remote_and_local(near: &std::net::UdpSocket, there: &std::net::UdpSocket, remote: u16, local: u16) {
    let both = |remote: u16, local: u16| {
        with(|packets| {
            packets.ports = vec![
                PortRange { first: 1, last: 1 },
                PortRange {
                    first: remote - 1,
                    last: remote + 1,
                },
            ];
            packets.local_ports = only(local);
        })
    };
    // A filter of the same preference with another handle is added before those that are there.
    let right = Path::make(&both(remote, local));
    assert!(right.takes(near, there));
    right.remove();
    let wrong = Path::make(&both(remote, local.wrapping_add(1)));
    assert!(!wrong.takes(near, there));
    wrong.remove();
}

#[test]
fn what_keeps_the_host_reachable_never_takes_a_path() {
    run(|world| {
        let mut spec = to(&["0.0.0.0/0", "::/0"], WIDE);
        spec.packets.direction = Direction::Both;
        let controllers = [world.serve_far(OTHER4, 0), world.serve_far(PEER6, 0)];
        let kept = world.serve_far(PEER4, 0);
        let exemptions = Exemptions {
            controllers: controllers.to_vec(),
            networks: networks(&[OTHER6]),
            ports: only(kept.port()),
        };
        let (ssh, ssh6, beside) = (world.serve_far(PEER4, 22), world.serve_far(PEER6, 22), world.serve_far(OTHER6, 0));
        let path = Path::make_with(&spec, exemptions, 60_000);
        ip("neigh flush dev near0");
        world.in_far(|| ip("neigh flush dev far0"));
        let led = path.led_by(|| {
            for server in [ssh, ssh6, controllers[0], controllers[1], kept, beside] {
                echoes(&mut connect(server).unwrap_or_else(|e| panic!("{server}: {e}"))).unwrap();
            }
        });
        assert_eq!(led, 0, "{}", tc("-s filter show dev near0 egress"));
        for other in [world.serve_far(PEER4, 0), world.in_far(|| serve(OTHER4, 0))] {
            let led = path.led_by(|| echoes(&mut connect(other).unwrap()).unwrap());
            assert!(led >= 4, "everything else takes it both ways: {led}");
        }
        let moved = world.serve_far(PEER4, 0);
        done(hands().replace_path_controllers(&path.injection, &[moved]));
        assert_eq!(
            path.led_by(|| echoes(&mut connect(moved).unwrap()).unwrap()),
            0,
            "where the controller is now"
        );
        let led = path.led_by(|| echoes(&mut connect(controllers[0]).unwrap()).unwrap());
        assert!(led >= 4, "where it was: {led}");
        path.remove();
    });
}

#[test]
fn listener_reports_behind_other_headers_pass_and_what_is_meant_behind_them_does_not() {
    run(|world| {
        let mut spec = to(&["::/0"], WIDE);
        spec.packets.direction = Direction::Both;
        let path = Path::make(&spec);
        let (there, near) = (world.in_far(|| udp(PEER6)), udp(HERE6));
        let led = path.led_by(|| {
            // Joining a group sends listener reports, which carry a hop-by-hop header.
            let group = "ff02::1234".parse().unwrap();
            near.join_multicast_v6(&group, 0).unwrap();
            near.leave_multicast_v6(&group, 0).unwrap();
        });
        assert_eq!(led, 0, "{}", tc("-s filter show dev near0 egress"));
        path.remove();

        let port = there.local_addr().unwrap().port();
        let path = Path::make(&with(|packets| packets.ports = only(port)));
        set_hop_by_hop_options(&near);
        assert!(path.takes(&near, &there), "a port behind a hop-by-hop header");
        path.remove();
    });
}

/// Every datagram of this socket gets a hop-by-hop header of padding.
fn set_hop_by_hop_options(socket: &std::net::UdpSocket) {
    use std::os::fd::AsRawFd;
    const IPV6_HOPOPTS: i32 = 54;
    let padding = [0_u8, 0, 1, 4, 0, 0, 0, 0];
    // SAFETY: the descriptor is open, and pointer and length describe bytes that outlive the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IPV6, IPV6_HOPOPTS, padding.as_ptr().cast(), 8) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn fragments_take_the_path_of_their_peer() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (there, near) = (world.in_far(|| udp(peer)), udp(here));
            let path = Path::make(&to(&[peer], WIDE));
            let led = path.led_by(|| {
                near.send_to(&[0; 4_000], there.local_addr().unwrap()).unwrap();
                assert_eq!(there.recv(&mut [0; 5_000]).unwrap(), 4_000);
            });
            assert_eq!(led, 3, "{peer}");
            path.remove();
        }
    });
}

#[test]
fn thousands_of_networks_fit_and_peers_are_replaced_while_it_acts() {
    run(|world| {
        let (there, beside, near) = (world.in_far(|| udp(PEER4)), world.in_far(|| udp(OTHER4)), udp(HERE4));
        let mut spec = to(&[PEER4], WIDE);
        for n in 0..5_000_u32 {
            let text = format!("10.{}.{}.0/24", 100 + n / 250, n % 250);
            spec.packets.peers.extend(networks(&[&text]));
        }
        spec.packets.interface = Some("near0".into());
        let path = Path::make(&spec);
        assert!(path.takes(&near, &there) && !path.takes(&near, &beside));

        let replace = |peers: &[&str], except: &[&str]| {
            let mut spec = to(peers, WIDE);
            spec.packets.except = networks(except);
            hands().replace_path_peers(&path.injection, &spec.packets, &Exemptions::default())
        };
        done(replace(&[OTHER4], &[]));
        assert!(!path.takes(&near, &there) && path.takes(&near, &beside));
        done(replace(&["10.99.0.0/24"], &[OTHER4]));
        assert!(path.takes(&near, &there) && !path.takes(&near, &beside));
        ip("link add other0 type veth peer name other1");
        ip("link set other0 up");
        ip("addr add 10.55.0.1/24 dev other0");
        let refused = replace(&["10.55.0.9"], &[]).unwrap_err();
        assert!(refused.source.to_string().contains("other0"), "{}", refused.source);
        assert!(path.takes(&near, &there), "nothing was changed");
        path.remove();
    });
}

/// Packets that this namespace has passed on.
fn passed_on() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("read the counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "ForwDatagrams");
    found.and_then(|(_, value)| value.parse().ok()).expect("a count")
}

#[test]
fn what_this_host_only_passes_on_takes_no_path() {
    const BEYOND: &str = "10.99.0.77";
    run(|world| {
        let near = File::open("/proc/thread-self/ns/net").expect("open the namespace");
        world.in_far(|| {
            let near = format!("/proc/{}/fd/{}", std::process::id(), near.as_raw_fd());
            ip(&format!("link add side1 type veth peer name side0 netns {near}"));
            ip("addr add 10.98.0.2/24 dev side1");
            ip("link set side1 up");
            ip(&format!("route add {BEYOND} via 10.98.0.1 dev side1"));
        });
        ip("addr add 10.98.0.1/24 dev side0");
        ip("link set side0 up");
        ip(&format!("neigh add {BEYOND} lladdr 02:00:00:00:00:77 dev near0"));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("pass packets on");
        let (other, own) = (world.in_far(|| udp("10.98.0.2")), udp(HERE4));
        let path = Path::make(&to(&[BEYOND], WIDE));
        let led = path.led_by(|| {
            until("a packet was passed on", || {
                other.send_to(b"x", (BEYOND, 9)).expect("send");
                passed_on() >= 5
            });
        });
        assert_eq!(led, 0, "of somebody else");
        assert_eq!(
            path.led_by(|| assert_eq!(own.send_to(b"x", (BEYOND, 9)).expect("send"), 1)),
            1,
            "our own"
        );
        path.remove();
    });
}
