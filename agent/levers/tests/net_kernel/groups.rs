//! Only the traffic of one group (cgroup v2), on the real kernel: in groups of the test's own, which are gone with it.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agent_levers::ops::TrafficOps;
use agent_levers::{Direction, Exemptions, Fate, Lose, PacketFate, SocketGroups, TrafficSpec};
use agent_view::hierarchy::Version;
use agent_view::net::traffic;
use agent_view::{HostView, LinuxView, UnifiedGroup};
use proto_model::id::InjectionId;

use crate::engine::{Engine, HELD, LATE, round_trip};
use crate::world::*;
use crate::{add, counters, hands, remove};

/// A process is in one group at a time, and so are all of its threads.
static MOVING: Mutex<()> = Mutex::new(());

/// A group below the mount of the unified hierarchy.
struct Group {
    root: PathBuf,
    path: String,
}

impl Group {
    fn new() -> Option<Self> {
        Self::at(&format!("/fracas-test-{}", InjectionId::generate()))
    }

    fn at(path: &str) -> Option<Self> {
        let view = LinuxView::new();
        let Some(unified) = view.hierarchies().used().iter().find(|h| h.version == Version::V2) else {
            tests_notes::skip("no unified hierarchy of groups (cgroup v2) is mounted here");
            return None;
        };
        let group = Self {
            root: unified.root.clone(),
            path: path.to_owned(),
        };
        if let Err(error) = fs::create_dir(group.folder()) {
            tests_notes::skip(&format!("no group can be made in {}: {error}", group.root.display()));
            return None;
        }
        Some(group)
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.path[1..])
    }

    fn seen(&self) -> UnifiedGroup {
        LinuxView::new().unified_group(&self.path).expect("look").expect("it is there")
    }

    fn make_anew(&self) {
        fs::remove_dir(self.folder()).expect("remove the group");
        fs::create_dir(self.folder()).expect("make it anew");
    }

    /// A socket belongs to the group in which it was made, whoever uses it, and those that a listener accepts to the listener's.
    fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _alone = MOVING.lock().unwrap_or_else(PoisonError::into_inner);
        let own = fs::read_to_string("/proc/self/cgroup").expect("read our groups");
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("our own group");
        enter(&self.folder());
        let made = make();
        enter(&self.root.join(own));
        made
    }
}

fn enter(folder: &Path) {
    fs::write(folder.join("cgroup.procs"), std::process::id().to_string()).expect("enter a group");
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.folder());
    }
}

fn of(groups: &[&Group], spec: TrafficSpec) -> TrafficSpec {
    let seen: Vec<UnifiedGroup> = groups.iter().map(|group| group.seen()).collect();
    TrafficSpec {
        groups: Some(SocketGroups {
            level: seen[0].level,
            ids: seen.iter().map(|group| group.id).collect(),
        }),
        ..spec
    }
}

#[test]
fn only_the_groups_connections_are_cut_in_both_families_and_ways_and_come_back() {
    run(|world| {
        let Some(group) = Group::new() else { return };
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let server = world.serve_far(peer, 0);
            let (meant, other) = (group.within(|| serve(here, 0)), serve(here, 0));
            let (mut inside, mut outside) = (group.within(|| connect(server)).unwrap(), connect(server).unwrap());
            let mut to_meant = world.in_far(|| connect_from(peer, meant)).unwrap();
            let mut to_other = world.in_far(|| connect_from(peer, other)).unwrap();
            let all = [&mut inside, &mut outside, &mut to_meant, &mut to_other];
            all.into_iter().for_each(|stream| echoes(stream).unwrap());

            let injection = add(&of(&[&group], cut(&[peer])));
            assert!(stalls(group.within(|| connect(server))), "{peer}: a new connection");
            assert!(stalls(echoes(&mut inside)), "{peer}: an open connection");
            assert!(stalls(world.in_far(|| connect_from(peer, meant))), "{peer}: a new one from there");
            assert!(stalls(echoes(&mut to_meant)), "{peer}: an open one from there");
            let mut passing = [
                connect(server).unwrap(),
                world.in_far(|| connect_from(peer, other)).unwrap(),
                outside,
                to_other,
            ];
            passing.iter_mut().for_each(|stream| echoes(stream).expect("everybody else's"));
            let seen = counters(&injection);
            assert!(seen.hit_packets >= 4 && seen.gate_open, "{seen:?}");
            assert_eq!(seen.passed.packets, 0, "{seen:?}");

            assert!(remove(&injection).unwrap());
            assert_eq!(traffic(&injection).unwrap(), None);
            for stream in [&mut inside, &mut to_meant] {
                until("it goes on", || std::io::Read::read_exact(stream, &mut [0]).is_ok());
            }
            echoes(&mut group.within(|| connect(server)).unwrap()).unwrap();
        }
        assert!(hands().remove_idle_table().unwrap());
    });
}

#[test]
fn datagrams_are_told_apart_by_way_and_group_also_one_below_it() {
    run(|world| {
        let Some(group) = Group::new() else { return };
        let Some(below) = Group::at(&format!("{}/below", group.path)) else {
            return;
        };
        let Some(beside) = Group::new() else { return };
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let there = world.in_far(|| udp(peer));
            let sockets = [&group, &below, &beside].map(|group| group.within(|| udp(here)));
            for (direction, out, back) in [(Direction::Out, false, true), (Direction::In, true, false)] {
                let injection = add(&of(&[&group], TrafficSpec { direction, ..cut(&[peer]) }));
                for (socket, meant) in sockets.iter().zip([true, true, false]) {
                    assert_eq!(arrives(socket, &there), out || !meant, "{peer} {direction:?} out");
                    assert_eq!(arrives(&there, socket), back || !meant, "{peer} {direction:?} back");
                }
                assert_eq!(counters(&injection).hit_packets, 2, "{peer} {direction:?}");
                remove(&injection).unwrap();
            }
        }
    });
}

#[test]
fn the_groups_connections_are_reset_and_refused_and_others_are_not() {
    run(|world| {
        let Some(group) = Group::new() else { return };
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (server, meant) = (world.serve_far(peer, 0), group.within(|| serve(here, 0)));
            let mut open = [
                group.within(|| connect(server)).unwrap(),
                world.in_far(|| connect_from(peer, meant)).unwrap(),
            ];
            open.iter_mut().for_each(|stream| echoes(stream).unwrap());
            let mut other = connect(server).unwrap();
            let fate = PacketFate::Reset.into();
            let injection = add(&of(&[&group], TrafficSpec { fate, ..cut(&[peer]) }));
            assert!(refused(group.within(|| connect(server))), "{peer}: a new connection");
            assert!(refused(world.in_far(|| connect_from(peer, meant))), "{peer}: a new one from there");
            for stream in &mut open {
                let error = echoes(stream).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{peer}: {error}");
            }
            echoes(&mut other).unwrap();
            remove(&injection).unwrap();
        }
    });
}

/// What the kernel answers before there is a connection has no socket of the group yet: outward, a new connection from there opens, and stalls.
#[test]
fn a_cut_outward_lets_connections_from_there_open_and_nothing_more() {
    run(|world| {
        let Some(group) = Group::new() else { return };
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let meant = group.within(|| serve(here, 0));
            let direction = Direction::Out;
            let injection = add(&of(&[&group], TrafficSpec { direction, ..cut(&[peer]) }));
            let mut stream = world.in_far(|| connect_from(peer, meant)).expect("it opens");
            assert!(stalls(echoes(&mut stream)), "{peer}");
            remove(&injection).unwrap();
            until("it goes on", || std::io::Read::read_exact(&mut stream, &mut [0]).is_ok());
        }
    });
}

#[test]
fn a_group_that_is_made_anew_is_another_until_it_is_followed() {
    run(|world| {
        let Some(group) = Group::new() else { return };
        let server = world.serve_far(PEER4, 0);
        let mut first = group.within(|| connect(server)).unwrap();
        let spec = of(&[&group], cut(&[PEER4]));
        let before = group.seen();
        let injection = add(&spec);
        group.make_anew();
        assert_ne!(group.seen().id, before.id, "the kernel gives no number twice");
        let mut second = group.within(|| connect(server)).expect("nobody has followed yet");
        echoes(&mut second).unwrap();

        let ids = vec![before.id, group.seen().id];
        let level = before.level;
        let groups = Some(SocketGroups { level, ids });
        hands().replace_peers(&injection, &TrafficSpec { groups, ..spec }).unwrap();
        assert!(stalls(group.within(|| connect(server))), "a new connection of the new group");
        assert!(stalls(echoes(&mut second)), "an open one");
        assert!(stalls(echoes(&mut first)), "what is left of the old group");
        echoes(&mut connect(server).unwrap()).unwrap();
        if let Some(listed) = nft("list ruleset") {
            assert!(
                listed.contains(&format!("socket cgroupv2 level {level} @groups_{injection}")),
                "{listed}"
            );
            assert!(listed.contains("type cgroupsv2"), "{listed}");
        }
        assert!(remove(&injection).unwrap());
        assert_eq!(traffic(&injection).unwrap(), None);
        assert!(hands().remove_idle_table().unwrap(), "no set is left");
    });
}

#[test]
fn a_share_is_counted_of_the_groups_packets_only() {
    run(|world| {
        let Some(group) = Group::new() else { return };
        let (there, inside, outside) = (world.in_far(|| udp(PEER4)), group.within(|| udp(HERE4)), udp(HERE4));
        let lose = Lose {
            per_million: 1_000_000,
            sink: 0xe124,
        };
        let spec = TrafficSpec {
            fate: Fate::Lose(lose),
            direction: Direction::Out,
            ..cut(&[PEER4])
        };
        let injection = add(&of(&[&group], spec));
        for _ in 0..3 {
            assert!(!arrives(&inside, &there) && arrives(&outside, &there));
        }
        let seen = counters(&injection);
        assert_eq!((seen.met_packets, seen.hit_packets, seen.passed.packets), (3, 3, 0), "{seen:?}");
        remove(&injection).unwrap();
    });
}

#[test]
fn what_the_kernel_would_misunderstand_is_refused_and_nothing_is_added() {
    run(|_| {
        for (level, ids, says) in [
            (0, vec![7], "at level 0"),
            (256, vec![7], "at level 256"),
            (1, Vec::new(), "0 groups"),
        ] {
            let groups = Some(SocketGroups { level, ids });
            let injection = InjectionId::generate();
            let spec = TrafficSpec { groups, ..cut(&[PEER4]) };
            let error = hands().add_traffic(&injection, &spec, &Exemptions::default()).unwrap_err();
            assert!(error.source.to_string().contains(says), "{}", error.source);
            assert_eq!(traffic(&injection).unwrap(), None);
        }
    });
}

fn median(stream: &mut TcpStream) -> Duration {
    let mut seen: Vec<Duration> = (0..5).map(|_| round_trip(stream)).collect();
    seen.sort_unstable();
    seen[2]
}

#[test]
fn two_groups_are_held_apart_on_the_way_to_one_peer() {
    run(|world| {
        let (Some(slow), Some(slower)) = (Group::new(), Group::new()) else {
            return;
        };
        for peer in [PEER4, PEER6] {
            let server = world.serve_far(peer, 0);
            let streams = [&slow, &slower].map(|group| group.within(|| connect(server)).unwrap());
            let ([mut first, mut second], mut outside) = (streams, connect(server).unwrap());
            let one = Engine::hold(HELD, of(&[&slow], cut(&[peer])));
            let other = Engine::hold(HELD * 2, of(&[&slower], cut(&[peer])));
            for (stream, asked) in [(&mut first, HELD * 2), (&mut second, HELD * 4)] {
                let seen = median(stream);
                assert!(seen >= asked && seen < asked + LATE, "{peer}: {seen:?} of {asked:?}");
            }
            assert!(median(&mut outside) < LATE, "{peer}: everybody else's");
            other.stop();
            one.end();
            assert!(median(&mut first) < LATE && median(&mut second) < LATE, "{peer} afterwards");
        }
    });
}
