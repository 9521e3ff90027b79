//! The packet engine on the real kernel, in a thread of the test: what is held comes later, whole, and nothing of it is lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_levers::ops::TrafficOps;
use agent_levers::work::packets::{Delay, Distribution, GilbertElliott, Harm, PacketWork, run as work};
use agent_levers::{Direction, Fate, Queues, TrafficSpec};
use agent_view::{HostView, LinuxView};
use proto_model::id::InjectionId;

use crate::world::*;
use crate::{add, counters, hands, remove};

pub const HELD: Duration = Duration::from_millis(100);
/// What an ordinary machine, with others on it, may be late.
pub const LATE: Duration = Duration::from_millis(40);

/// An engine that works in a thread, and the rules that feed it.
pub struct Engine {
    injection: InjectionId,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

impl Engine {
    fn start(harm: Harm, spec: TrafficSpec) -> Self {
        let queues = Queues::choose(&InjectionId::generate(), spec.direction, &[]).expect("free queues");
        let order = PacketWork {
            queues,
            harm,
            seed: 1,
            probe: None,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || work(&order, &|| told.load(Ordering::Relaxed)));
        let view = LinuxView::new();
        until("the queues are read", || {
            let read = view.packet_queues().expect("look");
            queues.numbers().all(|number| read.iter().any(|queue| queue.number == number))
        });
        let fate = Fate::Queue(queues);
        Self {
            injection: add(&TrafficSpec { fate, ..spec }),
            stop,
            thread: Some(thread),
        }
    }

    pub fn hold(held: Duration, spec: TrafficSpec) -> Self {
        let delay = Delay {
            delay_us: held.as_micros() as u64,
            jitter_us: 0,
            distribution: Distribution::Uniform,
            correlation: 0.0,
        };
        Self::start(Harm::Delay(delay), spec)
    }

    /// As an undo does it: the rules first, then the worker.
    pub fn stop(mut self) {
        assert!(remove(&self.injection).expect("remove"));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap().expect("the engine ends well");
    }

    /// The last of them.
    pub fn end(self) {
        self.stop();
        assert!(hands().remove_idle_table().expect("the table"), "nobody reads a queue");
    }
}

fn toward(peer: &str, direction: Direction) -> TrafficSpec {
    TrafficSpec { direction, ..cut(&[peer]) }
}

/// A byte there and back.
pub fn round_trip(stream: &mut std::net::TcpStream) -> Duration {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    echoes(stream).expect("an echo");
    begun.elapsed()
}

#[track_caller]
fn about(seen: Duration, asked: Duration, what: &str) {
    assert!(seen >= asked && seen < asked + LATE, "{what}: {seen:?} of {asked:?}");
}

#[test]
fn packets_of_each_way_and_family_are_held_and_others_are_not() {
    run(|world| {
        for (peer, other) in [(PEER4, OTHER4), (PEER6, OTHER6)] {
            let mut open = connect(world.serve_far(peer, 0)).unwrap();
            let mut beside = connect(world.serve_far(other, 0)).unwrap();
            for (direction, times) in [(Direction::Out, 1), (Direction::In, 1), (Direction::Both, 2)] {
                let engine = Engine::hold(HELD, toward(peer, direction));
                let mut seen: Vec<Duration> = (0..5).map(|_| round_trip(&mut open)).collect();
                seen.sort_unstable();
                about(seen[2], HELD * times, &format!("{peer} {direction:?}"));
                assert!(round_trip(&mut beside) < LATE, "{other} is not meant");
                let counted = counters(&engine.injection);
                assert!(counted.hit_packets >= 5 && counted.passed.packets > 0, "{counted:?}");
                engine.end();
                assert!(round_trip(&mut open) < LATE, "{peer} afterwards");
            }
        }
    });
}

#[test]
fn datagrams_longer_than_the_interface_takes_arrive_whole() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            let (there, near) = (world.in_far(|| udp(peer)), udp(here));
            for direction in [Direction::Out, Direction::In] {
                let engine = Engine::hold(Duration::from_millis(20), toward(peer, direction));
                for length in [1, 1_400, 1_472, 1_473, 9_000, 65_000] {
                    let sent: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
                    let (from, to) = if direction == Direction::Out {
                        (&near, &there)
                    } else {
                        (&there, &near)
                    };
                    from.send_to(&sent, to.local_addr().unwrap()).unwrap();
                    let mut buffer = vec![0; 70_000];
                    let (received, _) = to
                        .recv_from(&mut buffer)
                        .unwrap_or_else(|e| panic!("{peer} {direction:?} {length}: {e}"));
                    assert!(
                        buffer[..received] == sent,
                        "{peer} {direction:?}: {length} bytes came as {received}"
                    );
                }
                engine.end();
            }
        }
    });
}

#[test]
fn nothing_that_is_held_is_lost_at_the_end() {
    run(|world| {
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            for direction in [Direction::Out, Direction::In] {
                let (there, near) = (world.in_far(|| udp(peer)), udp(here));
                let engine = Engine::hold(Duration::from_secs(30), toward(peer, direction));
                let (from, to) = if direction == Direction::Out {
                    (&near, &there)
                } else {
                    (&there, &near)
                };
                for number in 0..100_u8 {
                    from.send_to(&[number], to.local_addr().unwrap()).unwrap();
                }
                assert!(to.recv(&mut [0; 8]).is_err(), "they are held");
                let begun = Instant::now();
                engine.end();
                for number in 0..100_u8 {
                    let mut buffer = [0; 8];
                    to.recv(&mut buffer)
                        .unwrap_or_else(|e| panic!("{peer} {direction:?}: packet {number} is lost: {e}"));
                    assert_eq!(buffer[0], number, "in their order");
                }
                assert!(begun.elapsed() < Duration::from_secs(2));
            }
        }
    });
}

#[test]
fn tcp_carries_much_through_a_delay() {
    run(|world| {
        for (peer, direction) in [(PEER4, Direction::Out), (PEER6, Direction::Out), (PEER4, Direction::In)] {
            let server = world.serve_far(peer, 0);
            let engine = Engine::hold(Duration::from_millis(20), toward(peer, direction));
            let rate = bulk(server);
            println!("{peer} {direction:?}: {rate:.0} Mbit/s at 20 ms");
            // 2.3 Mbit/s is what a hold at the output hook carries.
            assert!(rate > 20.0, "{peer} {direction:?}: {rate} Mbit/s");
            engine.end();
        }
    });
}

/// Megabits per second to a server that reads everything and echoes it.
fn bulk(server: SocketAddr) -> f64 {
    let mut stream = connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    const BYTES: usize = 24 << 20;
    let begun = Instant::now();
    let reading = std::thread::spawn(move || {
        let (mut buffer, mut seen) = (vec![0; 1 << 16], 0);
        while seen < BYTES {
            seen += reader.read(&mut buffer).expect("an echo");
        }
    });
    let block = vec![7; 1 << 16];
    for _ in 0..BYTES / block.len() {
        stream.write_all(&block).expect("send");
    }
    reading.join().unwrap();
    BYTES as f64 * 8.0 / 1e6 / begun.elapsed().as_secs_f64()
}

#[test]
fn losses_come_in_the_bursts_that_were_asked_for() {
    run(|world| {
        const SENT: u32 = 10_000;
        let model = GilbertElliott::correlated(0.2, 0.8);
        for (peer, here) in [(PEER4, HERE4), (PEER6, HERE6)] {
            for direction in [Direction::Out, Direction::In] {
                let (there, near) = (world.in_far(|| udp(peer)), udp(here));
                let engine = Engine::start(Harm::Loss(model), toward(peer, direction));
                let (from, to) = if direction == Direction::Out {
                    (&near, &there)
                } else {
                    (&there, &near)
                };
                let arrived = numbered(from, to, SENT);
                let lost = f64::from(SENT) - arrived.len() as f64;
                let share = lost / f64::from(SENT);
                // Bursts of five make luck three times as wide as for single packets.
                assert!((share - 0.2).abs() < 0.04, "{peer} {direction:?}: {share}");
                let bursts = arrived.windows(2).filter(|pair| pair[1] > pair[0] + 1).count() as f64;
                assert!(
                    (4.0..9.0).contains(&(lost / bursts)),
                    "{peer} {direction:?}: bursts of {}",
                    lost / bursts
                );
                let counted = counters(&engine.injection);
                assert_eq!(counted.passed.packets, arrived.len() as u64, "{counted:?}");
                engine.end();
            }
        }
    });
}

/// Sends numbered packets slowly enough for nobody else to lose any; which arrive.
fn numbered(from: &UdpSocket, to: &UdpSocket, count: u32) -> Vec<u32> {
    let (address, mut arrived, mut buffer) = (to.local_addr().unwrap(), Vec::new(), [0; 8]);
    let view = LinuxView::new();
    to.set_nonblocking(true).unwrap();
    for number in 0..count {
        from.send_to(&number.to_be_bytes(), address).unwrap();
        while to.recv(&mut buffer).is_ok() {
            arrived.push(u32::from_be_bytes(buffer[..4].try_into().unwrap()));
        }
        if number % 20 == 0 {
            until("every packet was decided on", || {
                view.packet_queues().unwrap().iter().all(|queue| queue.waiting == 0)
            });
        }
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        if to.recv(&mut buffer).is_ok() {
            arrived.push(u32::from_be_bytes(buffer[..4].try_into().unwrap()));
        }
    }
    arrived
}

#[test]
fn packets_flow_at_once_when_the_engine_is_gone() {
    run(|world| {
        let mut open = connect(world.serve_far(PEER4, 0)).unwrap();
        let mut engine = Engine::hold(HELD, toward(PEER4, Direction::Both));
        about(round_trip(&mut open), HELD * 2, "while it works");
        engine.stop.store(true, Ordering::Relaxed);
        engine.thread.take().unwrap().join().unwrap().unwrap();
        assert!(
            round_trip(&mut open) < LATE,
            "nobody reads the queues any more, and the rules are still there"
        );
        assert!(remove(&engine.injection).unwrap());
        assert!(hands().remove_idle_table().unwrap());
    });
}
