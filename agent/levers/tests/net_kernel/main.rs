//! The rules on the real kernel: what flows, what does not, and that nothing is left; in namespaces of the test's own only.

mod engine;
mod exempt;
mod groups;
mod loss;
mod orphans;
mod translated;
mod world;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_levers::ops::TrafficOps;
use agent_levers::{Direction, Exemptions, LinuxOps, OpsError, PacketFate, Protocol, TrafficSpec};
use agent_view::TrafficCounters;
use agent_view::net::{our_table, our_traffic, traffic};
use proto_model::id::InjectionId;
use proto_model::quantity::PortRange;

use world::*;

fn hands() -> LinuxOps {
    LinuxOps::new("/nonexistent".into())
}

fn remove(injection: &InjectionId) -> Result<bool, OpsError> {
    hands().remove_traffic(injection)
}

fn counters(injection: &InjectionId) -> TrafficCounters {
    traffic(injection).expect("look").expect("the rules are there")
}

fn add(spec: &TrafficSpec) -> InjectionId {
    add_sparing(spec, &Exemptions::default())
}

fn add_sparing(spec: &TrafficSpec, exemptions: &Exemptions) -> InjectionId {
    let injection = InjectionId::generate();
    hands()
        .add_traffic(&injection, spec, exemptions)
        .unwrap_or_else(|error| panic!("{error}: {}", error.source));
    injection
}

fn only(port: u16) -> Vec<PortRange> {
    vec![PortRange { first: port, last: port }]
}

#[test]
fn a_dropped_peer_is_gone_in_both_families_and_ways_and_comes_back() {
    run(|world| {
        for (peer, other, here) in [(PEER4, OTHER4, HERE4), (PEER6, OTHER6, HERE6)] {
            let (server, bystander) = (world.serve_far(peer, 0), world.serve_far(other, 0));
            let inbound = serve(here, 0);
            let mut open = connect(server).unwrap();
            echoes(&mut open).unwrap();
            let mut from_there = world.in_far(|| connect_from(peer, inbound)).unwrap();
            echoes(&mut from_there).unwrap();

            let injection = add(&cut(&[peer]));
            assert!(stalls(connect(server)), "{peer}: a new connection");
            assert!(stalls(echoes(&mut open)), "{peer}: an open connection");
            assert!(
                stalls(world.in_far(|| connect_from(peer, inbound))),
                "{peer}: a connection from there"
            );
            assert!(stalls(echoes(&mut from_there)), "{peer}: an open connection from there");
            echoes(&mut connect(bystander).unwrap()).unwrap();
            let seen = counters(&injection);
            assert!(seen.hit_packets >= 4 && seen.hit_bytes > 0 && seen.gate_open, "{seen:?}");
            assert_eq!(seen.passed.packets, 0, "{seen:?}");

            assert!(remove(&injection).unwrap());
            echoes(&mut connect(server).unwrap()).unwrap();
            until("the open connection goes on", || open.read_exact(&mut [0]).is_ok());
            until("the one from there goes on", || from_there.read_exact(&mut [0]).is_ok());
            assert_eq!(traffic(&injection).unwrap(), None);
        }
    });
}

#[test]
fn reject_refuses_new_connections_at_once() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (server, inbound) = (world.serve_far(peer, 0), serve(here, 0));
            let spec = TrafficSpec {
                fate: PacketFate::Reject.into(),
                ..cut(&[peer])
            };
            let injection = add(&spec);
            let begun = Instant::now();
            assert!(refused(connect(server)), "{peer}: out");
            assert!(begun.elapsed() < SOON, "at once");
            assert!(refused(connect_within(here, server, SOON)), "{peer}: out, by a call that blocks");
            assert!(refused(world.in_far(|| connect_from(peer, inbound))), "{peer}: in");
            let (answered, silent) = (world.in_far(|| udp(peer)), udp(here));
            answered.connect(silent.local_addr().unwrap()).unwrap();
            let told = answered.send(b"x").and_then(|_| answered.recv(&mut [0; 8]));
            assert_eq!(
                told.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionRefused,
                "{peer}: udp from there"
            );
            assert!(counters(&injection).hit_packets >= 2);
            assert_eq!(counters(&injection).passed.packets, 0);
            remove(&injection).unwrap();
            connect(server).unwrap();
        }
    });
}

#[test]
fn reset_ends_open_connections_and_refuses_new_ones() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (server, inbound) = (world.serve_far(peer, 0), serve(here, 0));
            let mut open = connect(server).unwrap();
            echoes(&mut open).unwrap();
            let mut from_there = world.in_far(|| connect_from(peer, inbound)).unwrap();
            echoes(&mut from_there).unwrap();
            let spec = TrafficSpec {
                fate: PacketFate::Reset.into(),
                ..cut(&[peer])
            };
            let injection = add(&spec);
            assert!(refused(connect(server)), "{peer}: a new one");
            assert!(
                refused(world.in_far(|| connect_from(peer, inbound))),
                "{peer}: a new one from there"
            );
            for stream in [&mut open, &mut from_there] {
                let error = echoes(stream).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{peer}: {error}");
            }
            let (there, back) = (world.in_far(|| udp(peer)), udp(here));
            assert!(!arrives(&back, &there), "what is not tcp vanishes");
            assert_eq!(counters(&injection).passed.packets, 0);
            remove(&injection).unwrap();
            assert!(arrives(&back, &there));
        }
    });
}

#[test]
fn only_the_named_way_is_cut() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (there, near) = (world.in_far(|| udp(peer)), udp(here));
            for (direction, out, back) in [(Direction::Out, false, true), (Direction::In, true, false)] {
                let spec = TrafficSpec { direction, ..cut(&[peer]) };
                let injection = add(&spec);
                assert_eq!(arrives(&near, &there), out, "{direction:?} out");
                assert_eq!(arrives(&there, &near), back, "{direction:?} back");
                assert_eq!(counters(&injection).hit_packets, 1);
                remove(&injection).unwrap();
            }
        }
    });
}

#[test]
fn ports_protocol_interface_and_exceptions_are_honoured() {
    run(|world| {
        let (server, second) = (world.serve_far(PEER4, 0), world.serve_far(PEER4, 0));
        let with = |change: &dyn Fn(&mut TrafficSpec)| {
            let mut spec = cut(&["10.99.0.0/24", "fd99::/64"]);
            change(&mut spec);
            add(&spec)
        };
        let remote = with(&|spec| spec.ports = only(server.port()));
        assert!(stalls(connect(server)) && connect(second).is_ok(), "remote ports");
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        assert!(arrives(&near, &there), "another udp port");
        assert_eq!(counters(&remote).passed.packets, 0, "only what is meant is counted");
        remove(&remote).unwrap();

        let (mine, other) = (serve(HERE4, 0), serve(HERE4, 0));
        let local = with(&|spec| spec.local_ports = only(mine.port()));
        assert!(stalls(world.in_far(|| connect_from(PEER4, mine))), "local port");
        assert!(world.in_far(|| connect_from(PEER4, other)).is_ok() && connect(server).is_ok());
        remove(&local).unwrap();

        let udp_only = with(&|spec| spec.protocol = Some(Protocol::Udp));
        assert!(connect(server).is_ok() && !arrives(&near, &there), "protocol udp");
        remove(&udp_only).unwrap();
        let tcp_only = with(&|spec| spec.protocol = Some(Protocol::Tcp));
        assert!(stalls(connect(server)) && arrives(&near, &there), "protocol tcp");
        remove(&tcp_only).unwrap();

        let elsewhere = with(&|spec| spec.interface = Some("other0".into()));
        assert!(connect(server).is_ok(), "another interface");
        remove(&elsewhere).unwrap();
        let here = with(&|spec| spec.interface = Some("near0".into()));
        assert!(stalls(connect(server)), "this interface");
        remove(&here).unwrap();

        let except = with(&|spec| spec.except = networks(&[PEER4, "fd99::2/127"]));
        assert!(connect(server).is_ok(), "an exception");
        assert!(stalls(connect(world.serve_far(OTHER4, 0))), "no exception");
        assert!(connect(world.serve_far(OTHER6, 0)).is_ok(), "an exception");
        remove(&except).unwrap();
    });
}

#[test]
fn icmp_alone_can_be_cut() {
    run(|world| {
        let server = world.serve_far(PEER4, 0);
        assert!(pings(PEER4) && pings(PEER6));
        let spec = TrafficSpec {
            protocol: Some(Protocol::Icmp),
            ..cut(&[PEER4, PEER6])
        };
        let injection = add(&spec);
        assert!(!pings(PEER4) && !pings(PEER6));
        assert!(connect(server).is_ok());
        remove(&injection).unwrap();
        assert!(pings(PEER4) && pings(PEER6));
    });
}

#[test]
fn a_cut_of_everything_spares_what_keeps_the_host_reachable() {
    run(|world| {
        let (ssh, ssh6) = (world.serve_far(PEER4, 22), world.serve_far(PEER6, 22));
        let (sshd, controller) = (serve(HERE4, 22), world.serve_far(OTHER4, 0));
        let (server, kept) = (world.serve_far(PEER4, 0), world.serve_far(PEER4, 0));
        let (server6, near_net) = (world.serve_far(PEER6, 0), world.serve_far(OTHER6, 0));
        let (here, mut loopback) = (serve(HERE4, 0), connect(serve("127.0.0.1", 0)).unwrap());
        let exemptions = Exemptions {
            controllers: vec![controller],
            networks: networks(&[OTHER6]),
            ports: only(kept.port()),
        };
        let spec = cut(&["0.0.0.0/0", "::/0"]);
        let injection = add_sparing(&spec, &exemptions);
        ip("neigh flush dev near0");
        world.in_far(|| ip("neigh flush dev far0"));
        for reached in [ssh, ssh6, controller, kept, near_net, here] {
            echoes(&mut connect(reached).unwrap_or_else(|e| panic!("{reached}: {e}"))).unwrap();
        }
        assert!(world.in_far(|| connect_from(PEER4, sshd)).is_ok(), "the host's own sshd");
        echoes(&mut loopback).unwrap();
        assert!(stalls(connect(server)) && stalls(connect(server6)));
        let beside = world.in_far(|| serve(OTHER4, 0));
        assert!(stalls(connect(beside)), "another port of the controller's host");
        assert_eq!(counters(&injection).passed.packets, 0, "what is spared is not counted");
        remove(&injection).unwrap();
        connect(server).unwrap();
    });
}

#[test]
fn the_kernel_ends_it_when_nobody_renews_and_it_stays_ended() {
    run(|world| {
        let server = world.serve_far(PEER4, 0);
        let spec = TrafficSpec {
            gate_ms: 800,
            ..cut(&[PEER4])
        };
        let injection = add(&spec);
        let begun = Instant::now();
        assert!(stalls(connect(server)));
        until("the kernel lets it through", || connect(server).is_ok());
        assert!(begun.elapsed() >= Duration::from_millis(790), "not before its time");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(!counters(&injection).gate_open);
        assert!(counters(&injection).passed.packets > 0);
        let error = hands().renew_traffic(&injection, 60_000).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound, "{error}: {}", error.source);
        assert!(!counters(&injection).gate_open && connect(server).is_ok());
        assert!(remove(&injection).unwrap());
    });
}

#[test]
fn renewing_leaks_no_packet() {
    run(|world| {
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        let spec = TrafficSpec {
            gate_ms: 500,
            ..cut(&[PEER4])
        };
        let injection = add(&spec);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let flood = {
            let (stop, sent, to) = (stop.clone(), sent.clone(), there.local_addr().unwrap());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = near.send_to(b"x", to);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let begun = Instant::now();
        let mut renewals = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            hands().renew_traffic(&injection, 500).unwrap();
            renewals += 1;
        }
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        println!("{} packets, {renewals} renewals", sent.load(Ordering::Relaxed));
        assert!(renewals > 20);
        assert!(there.recv(&mut [0; 8]).is_err(), "a packet came through");
        let seen = counters(&injection);
        assert_eq!(seen.passed.packets, 0);
        assert!(seen.hit_packets >= sent.load(Ordering::Relaxed), "{seen:?}");
    });
}

#[test]
fn injections_compose_and_go_one_by_one() {
    run(|world| {
        let (server, other) = (world.serve_far(PEER4, 0), world.serve_far(OTHER4, 0));
        let first = add(&cut(&[PEER4]));
        let second = add(&cut(&["10.99.0.0/24"]));
        let mut expected = vec![first.clone(), second.clone()];
        expected.sort();
        assert_eq!(our_traffic().unwrap(), expected);
        assert!(
            hands().add_traffic(&first, &cut(&[OTHER4]), &Exemptions::default()).is_err(),
            "the same id twice"
        );
        assert!(remove(&second).unwrap());
        assert!(stalls(connect(server)) && connect(other).is_ok());
        assert!(
            !hands().remove_idle_table().unwrap() && our_table().unwrap(),
            "not while the first is there"
        );
        assert!(remove(&first).unwrap());
        assert!(!remove(&first).unwrap() && !remove(&second).unwrap(), "already gone");
        assert!(connect(server).is_ok() && our_traffic().unwrap().is_empty());
        assert!(!our_table().unwrap(), "the last takes the table along");
        assert!(hands().remove_idle_table().unwrap(), "already gone");
    });
}

#[test]
fn peers_are_replaced_while_it_acts() {
    run(|world| {
        let (server, other, other6) = (world.serve_far(PEER4, 0), world.serve_far(OTHER4, 0), world.serve_far(OTHER6, 0));
        let injection = add(&cut(&[PEER4]));
        hands()
            .replace_peers(&injection, &cut(&[OTHER4, "10.99.0.3/32", "fd99::3", "192.0.2.0/24"]))
            .unwrap();
        assert!(connect(server).is_ok() && stalls(connect(other)) && stalls(connect(other6)));
        hands().replace_peers(&injection, &cut(&["10.99.0.2/31"])).unwrap();
        assert!(stalls(connect(server)) && stalls(connect(other)) && connect(other6).is_ok());
        hands().replace_peers(&injection, &cut(&["0.0.0.0/0"])).unwrap();
        assert!(stalls(connect(server)) && counters(&injection).gate_open);
        let mut nobody = cut(&["10.99.0.0/24"]);
        nobody.peers.clear();
        assert!(
            hands().replace_peers(&injection, &nobody).is_err() && stalls(connect(server)),
            "nothing changed"
        );
        remove(&injection).unwrap();
        assert!(hands().replace_peers(&injection, &cut(&[PEER4])).is_err(), "no such injection");
    });
}

#[test]
fn tables_of_others_are_as_before_and_the_hosts_firewall_has_the_last_word() {
    run(|world| {
        let (server, blocked) = (world.serve_far(PEER4, 0), world.serve_far(PEER4, 0));
        let script = format!(
            "table inet mine {{ set known {{ type ipv4_addr; elements = {{ 192.0.2.1 }}; }}; \
             chain guard {{ type filter hook output priority 0; policy accept; tcp dport {} drop; }}; }}",
            blocked.port()
        );
        if nft(&script).is_none() {
            return;
        }
        let before = nft("list ruleset").unwrap();
        let spec = TrafficSpec {
            except: networks(&[PEER4]),
            ..cut(&["10.99.0.0/24"])
        };
        let injection = add(&spec);
        assert!(
            connect(server).is_ok() && stalls(connect(blocked)),
            "our exception opens nobody's door"
        );
        let listing = nft("list table inet fracas").unwrap();
        println!("{listing}");
        assert!(
            listing.contains(injection.as_str()) && listing.contains("10.99.0.0/24"),
            "{listing}"
        );
        remove(&injection).unwrap();
        assert!(hands().remove_idle_table().unwrap());
        assert_eq!(nft("list ruleset").unwrap(), before);
    });
}

#[test]
fn the_table_stays_while_somebody_hangs_on_it_or_listens_on_a_queue() {
    run(|_| {
        let injection = add(&cut(&[PEER4]));
        if nft("add chain inet fracas stranger").is_some() {
            assert!(remove(&injection).unwrap() && our_traffic().unwrap().is_empty());
            assert!(!hands().remove_idle_table().unwrap(), "somebody's chain");
            nft("delete chain inet fracas stranger");
            assert!(our_table().unwrap() && hands().remove_idle_table().unwrap());
        } else {
            remove(&injection).unwrap();
        }
        let Some(listener) = listen_on_a_queue() else {
            tests_notes::skip("this kernel has no NFQUEUE");
            return;
        };
        let injection = add(&cut(&[PEER4]));
        assert!(remove(&injection).unwrap() && our_table().unwrap());
        assert!(!hands().remove_idle_table().unwrap(), "a queue's packets would be lost");
        drop(listener);
        assert!(hands().remove_idle_table().unwrap());
    });
}

#[test]
fn thousands_of_networks_fit_and_a_refusal_names_the_deed_and_changes_nothing() {
    run(|world| {
        let server = world.serve_far(PEER4, 0);
        let mut spec = cut(&[PEER4]);
        let many: Vec<String> = (0..4_000).map(|n| format!("172.{}.{}.0/25", 16 + n / 256, n % 256)).collect();
        spec.peers
            .extend(many.iter().map(|text| proto_model::peer::Network::parse(text).unwrap()));
        spec.peers
            .extend((0..2_000).map(|n| proto_model::peer::Network::parse(&format!("2001:db8:{n:x}::/48")).unwrap()));
        let injection = add(&spec);
        assert!(stalls(connect(server)));
        let error = hands()
            .add_traffic(&injection, &cut(&[OTHER4]), &Exemptions::default())
            .unwrap_err();
        let text = format!("{error}: {}", error.source);
        assert!(text.contains(injection.as_str()) && text.contains("add the chain out_"), "{text}");
        assert_eq!(our_traffic().unwrap(), vec![injection.clone()]);
        assert!(remove(&injection).unwrap() && hands().remove_idle_table().unwrap());
    });
}

#[test]
fn many_hands_at_once_do_not_disturb_each_other() {
    run(|_| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                std::thread::spawn(move || {
                    for _ in 0..5 {
                        let injection = add(&cut(&[&format!("192.0.2.{worker}")]));
                        hands().renew_traffic(&injection, 30_000).unwrap();
                        assert!(counters(&injection).gate_open);
                        assert!(remove(&injection).unwrap());
                        hands().remove_idle_table().unwrap();
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(our_traffic().unwrap().is_empty());
        assert!(hands().remove_idle_table().unwrap() && !our_table().unwrap());
    });
}
