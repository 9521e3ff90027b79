//! Delay and loss by netem, measured with the clock of an application; on kernels that have it.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use agent_levers::ops::PathOps;
use agent_levers::work::packets::{Delay, Distribution, GilbertElliott};
use agent_levers::{Direction, Shape};
use agent_view::{Feature, Features, LinuxView, Presence};

use crate::support::*;
use crate::world::*;

const DELAY: Duration = Duration::from_millis(40);
const ROUNDS: usize = 25;

/// Runs the test where the kernel has netem.
fn run_with_netem(test: impl FnOnce(&World) + Send + 'static) {
    if let Presence::Absent { why, .. } = presence(Feature::Netem) {
        return tests_notes::unavailable("sch_netem", &why);
    }
    run(test);
}

fn presence(feature: Feature) -> Presence {
    LinuxView::new().presence(feature)
}

fn hold(us: u64) -> Delay {
    Delay {
        delay_us: us,
        jitter_us: 0,
        distribution: Distribution::Uniform,
        correlation: 0.0,
    }
}

fn delay(us: u64) -> Shape {
    Shape::Delay(hold(us))
}

/// The time of one datagram, in order.
fn times(from: &UdpSocket, at: &UdpSocket) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            assert!(arrives(from, at), "a datagram was lost");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times
}

fn median(from: &UdpSocket, at: &UdpSocket) -> Duration {
    times(from, at)[ROUNDS / 2]
}

#[test]
fn the_kernel_says_what_it_can() {
    let seen = Feature::ALL.map(|feature| (feature.name(), presence(feature)));
    println!("{seen:?}");
    if tests_notes::lacks_root("to see every capability of the kernel") {
        return;
    }
    for feature in [
        Feature::Ifb,
        Feature::Clsact,
        Feature::ClsBpf,
        Feature::BpfPrograms,
        Feature::Mirred,
    ] {
        let seen = presence(feature);
        assert!(
            matches!(seen, Presence::Present | Presence::Loadable),
            "{}: {seen:?}",
            feature.name()
        );
    }
}

#[test]
fn a_delay_is_felt_out_and_in_in_both_families_and_by_nobody_else() {
    run_with_netem(|world| {
        for root in ["", "htb", "fq_codel"] {
            if root == "htb" {
                give_near_a_root();
            } else if !root.is_empty() {
                tc(&format!("qdisc replace dev near0 root handle 2: {root}"));
            }
            let before = footprint();
            for (peer, other, here) in [(PEER4, OTHER4, HERE4), (PEER6, OTHER6, HERE6)] {
                let (there, beside, near) = (world.in_far(|| udp(peer)), world.in_far(|| udp(other)), udp(here));
                for (direction, ways) in [(Direction::Out, [1, 0]), (Direction::In, [0, 1]), (Direction::Both, [1, 1])] {
                    let usual = [median(&near, &there), median(&there, &near)];
                    let mut spec = to(&[peer], delay(40_000));
                    spec.packets.direction = direction;
                    let path = Path::make(&spec);
                    let delayed = [median(&near, &there), median(&there, &near)];
                    let others = median(&near, &beside);
                    println!("{root:9}{peer:10} {direction:?}: before {usual:?}, delayed {delayed:?}, others {others:?}");
                    for (n, way) in ways.into_iter().enumerate() {
                        let more = delayed[n].saturating_sub(usual[n]);
                        let expected = DELAY * way;
                        assert!(
                            more + DELAY / 2 > expected && more < expected + DELAY / 2,
                            "{more:?}, not {expected:?}"
                        );
                    }
                    assert!(others < DELAY / 2, "{others:?}");
                    assert_eq!(path.remove(), 0);
                    assert_as_before(&before);
                }
            }
            println!("root queue {root:?} afterwards: {}", tc("qdisc show dev near0").trim());
        }
    });
}

#[test]
fn jitter_spreads_delays_by_every_distribution() {
    run_with_netem(|world| {
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        for distribution in [Distribution::Uniform, Distribution::Normal, Distribution::Pareto] {
            let shape = Shape::Delay(Delay {
                jitter_us: 10_000,
                distribution,
                ..hold(40_000)
            });
            let path = Path::make(&to(&[PEER4], shape));
            println!(
                "{}",
                tc(&format!("qdisc show dev {}", agent_view::tc::names::link_of(&path.injection))).trim()
            );
            let times = times(&near, &there);
            let (least, most) = (times[1], times[ROUNDS - 2]);
            println!("{distribution:?}: {least:?} to {most:?}, median {:?}", times[ROUNDS / 2]);
            assert!(most - least > Duration::from_millis(5), "{times:?}");
            path.remove();
        }
    });
}

#[test]
fn a_share_of_packets_is_lost_and_counted() {
    run_with_netem(|world| {
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        let models = [
            GilbertElliott::correlated(0.2, 0.0),
            GilbertElliott::correlated(0.2, 0.3),
            // A third of the time in the bad state, where half is lost.
            GilbertElliott {
                p: 0.1,
                r: 0.2,
                lost_in_bad: 0.5,
                lost_in_good: 0.0,
            },
        ];
        for loss in models {
            let shape = Shape::Loss(loss);
            let path = Path::make(&to(&[PEER4], shape));
            println!(
                "{}",
                tc(&format!("qdisc show dev {}", agent_view::tc::names::link_of(&path.injection))).trim()
            );
            let (mut sent, mut came) = (0_u64, 0_u64);
            for _ in 0..100 {
                for _ in 0..20 {
                    near.send_to(b"x", there.local_addr().unwrap()).unwrap();
                    sent += 1;
                }
                there.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                while there.recv(&mut [0; 8]).is_ok() {
                    came += 1;
                }
            }
            let seen = path.counters();
            println!("{loss:?}: {came} of {sent} came; {seen:?}");
            assert_eq!(seen.led_packets, sent);
            assert_eq!(seen.dropped_packets, sent - came);
            let share = (sent - came) as f64 / sent as f64;
            assert!((0.12..0.28).contains(&share), "{share}");
            path.remove();
        }
    });
}

#[test]
fn a_delay_ends_in_the_kernel_and_what_is_under_way_still_arrives() {
    run_with_netem(|world| {
        let (there, near) = (world.in_far(|| udp(PEER4)), udp(HERE4));
        let path = Path::make_with(&to(&[PEER4], delay(100_000)), agent_levers::Exemptions::default(), 600);
        let begun = Instant::now();
        let felt = || {
            let begun = Instant::now();
            assert!(arrives(&near, &there));
            begun.elapsed() >= Duration::from_millis(90)
        };
        assert!(felt());
        until("the kernel ends it", || !felt());
        println!("no process renewed: it ended {:?} after it was opened for 600 ms", begun.elapsed());
        assert!(begun.elapsed() >= Duration::from_millis(590) && begun.elapsed() < Duration::from_millis(1_500));
        assert!(hands().renew_path(&path.injection, 1_000).is_err());
        path.remove();

        let path = Path::make(&to(&[PEER4], delay(200_000)));
        let came = time_of(10, &there, || {
            for _ in 0..10 {
                near.send_to(b"x", there.local_addr().unwrap()).unwrap();
            }
            assert_eq!(path.remove(), 0, "none is dropped");
        });
        println!("ten datagrams under way came within {came:?}");
    });
}
