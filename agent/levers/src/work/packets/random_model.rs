//! Luck with memory: how long a packet is held and whether it is lost, one packet after another; it touches no packet.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::order::{Delay, Distribution, GilbertElliott};

/// As netem's tables end: no packet is further from the mean than four deviations.
const FURTHEST: f64 = 4.0;

/// Holding times of one direction.
#[derive(Debug)]
pub(crate) struct Holds {
    delay: Delay,
    luck: StdRng,
    /// The last draw, normally distributed; the next is like it as far as they are correlated.
    last: Option<f64>,
}

impl Holds {
    pub fn new(delay: Delay, seed: u64) -> Self {
        Self {
            delay,
            luck: StdRng::seed_from_u64(seed),
            last: None,
        }
    }

    /// Microseconds that the next packet is held.
    pub fn next_us(&mut self) -> u64 {
        if self.delay.jitter_us == 0 {
            return self.delay.delay_us;
        }
        let off = shape(self.delay.distribution, self.draw());
        let held = self.delay.delay_us as f64 + off * self.delay.jitter_us as f64;
        held.max(0.0).round() as u64
    }

    /// Correlating normal draws, and shaping them afterwards, keeps the spread as asked; mixing two uniform ones would narrow it.
    fn draw(&mut self) -> f64 {
        let like = self.delay.correlation.clamp(0.0, 1.0);
        let fresh = normal(&mut self.luck);
        let draw = match self.last {
            Some(last) => like * last + (1.0 - like * like).sqrt() * fresh,
            None => fresh,
        };
        self.last = Some(draw);
        draw
    }
}

/// A normal draw as a multiple of the jitter in the distribution asked for; each has mean 0.
fn shape(distribution: Distribution, normal: f64) -> f64 {
    match distribution {
        Distribution::Uniform => 2.0 * share_below(normal) - 1.0,
        Distribution::Normal => normal.clamp(-FURTHEST, FURTHEST),
        // The table of iproute2's pareto.c, with a = 3: E[u^(-1/3)] is 1.5.
        Distribution::Pareto => {
            let share = share_below(-normal).max(1e-9);
            ((share.powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0).min(FURTHEST)
        }
    }
}

/// Box and Muller's.
fn normal(luck: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (luck.random(), luck.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// The share of normal draws below this one (Abramowitz and Stegun 7.1.26, exact to 1.5e-7).
fn share_below(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let sum = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let erf = 1.0 - sum.iter().fold(0.0, |acc, c| acc * t + c) * t * (-z * z).exp();
    if x < 0.0 { (1.0 - erf) / 2.0 } else { (1.0 + erf) / 2.0 }
}

/// Losses of one direction.
#[derive(Debug)]
pub(crate) struct Losses {
    model: GilbertElliott,
    luck: StdRng,
    bad: bool,
}

impl Losses {
    pub fn new(model: GilbertElliott, seed: u64) -> Self {
        let mut luck = StdRng::seed_from_u64(seed);
        let bad = luck.random::<f64>() < model.share_bad();
        Self { model, luck, bad }
    }

    pub fn next_is_lost(&mut self) -> bool {
        let odds = if self.bad {
            self.model.lost_in_bad
        } else {
            self.model.lost_in_good
        };
        let lost = self.luck.random::<f64>() < odds;
        let turns = if self.bad { self.model.r } else { self.model.p };
        self.bad ^= self.luck.random::<f64>() < turns;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 200_000;

    fn delay(distribution: Distribution, correlation: f64) -> Delay {
        Delay {
            delay_us: 100_000,
            jitter_us: 10_000,
            distribution,
            correlation,
        }
    }

    fn moments(draws: &[f64]) -> (f64, f64) {
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let spread = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        (mean, spread.sqrt())
    }

    #[test]
    fn every_distribution_keeps_its_mean_and_spread_whatever_the_correlation() {
        for correlation in [0.0, 0.5, 0.9] {
            for (distribution, spread) in [(Distribution::Uniform, 10_000.0 / 3_f64.sqrt()), (Distribution::Normal, 10_000.0)] {
                let mut holds = Holds::new(delay(distribution, correlation), 7);
                let draws: Vec<f64> = (0..DRAWS).map(|_| holds.next_us() as f64).collect();
                let (mean, deviation) = moments(&draws);
                assert!((mean - 100_000.0).abs() < 600.0, "{distribution:?} {correlation}: mean {mean}");
                assert!(
                    (deviation / spread - 1.0).abs() < 0.05,
                    "{distribution:?} {correlation}: {deviation}"
                );
            }
        }
        let mut holds = Holds::new(delay(Distribution::Uniform, 0.0), 7);
        assert!((0..DRAWS).all(|_| (90_000..=110_000).contains(&holds.next_us())));
    }

    #[test]
    fn a_pareto_tail_is_long_on_one_side_only() {
        let mut holds = Holds::new(delay(Distribution::Pareto, 0.0), 7);
        let mut draws: Vec<f64> = (0..DRAWS).map(|_| holds.next_us() as f64).collect();
        draws.sort_by(f64::total_cmp);
        assert!(
            draws[0] >= 93_000.0 && draws[DRAWS - 1] > 130_000.0,
            "{} {}",
            draws[0],
            draws[DRAWS - 1]
        );
        assert!((moments(&draws).0 - 100_000.0).abs() < 1_000.0);
        assert!(draws[DRAWS / 2] < 100_000.0, "most are below the mean");
    }

    #[test]
    fn correlated_holds_are_alike_as_asked() {
        let mut holds = Holds::new(delay(Distribution::Normal, 0.7), 7);
        let draws: Vec<f64> = (0..DRAWS).map(|_| holds.next_us() as f64).collect();
        let (mean, spread) = moments(&draws);
        let alike: f64 = draws.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
        let alike = alike / (DRAWS as f64 * spread * spread);
        assert!((alike - 0.7).abs() < 0.03, "{alike}");
    }

    #[test]
    fn no_jitter_is_no_luck_and_a_hold_is_never_negative() {
        let still = Delay {
            jitter_us: 0,
            ..delay(Distribution::Normal, 0.0)
        };
        let mut holds = Holds::new(still, 1);
        assert!((0..100).all(|_| holds.next_us() == 100_000));
        let mut holds = Holds::new(
            Delay {
                delay_us: 0,
                ..delay(Distribution::Normal, 0.0)
            },
            1,
        );
        assert!((0..1_000).any(|_| holds.next_us() == 0));
    }

    #[test]
    fn losses_have_the_share_and_the_bursts_of_their_model() {
        for (share, alike) in [(0.2, 0.0), (0.2, 0.8), (0.01, 0.5)] {
            let mut losses = Losses::new(GilbertElliott::correlated(share, alike), 3);
            let lost: Vec<bool> = (0..DRAWS).map(|_| losses.next_is_lost()).collect();
            let seen = lost.iter().filter(|l| **l).count() as f64 / DRAWS as f64;
            assert!((seen - share).abs() < 0.008, "{share} {alike}: {seen}");
            let again = lost.windows(2).filter(|pair| pair[0] && pair[1]).count() as f64;
            let after_loss = again / lost.iter().filter(|l| **l).count() as f64;
            assert!(
                (after_loss - (share + alike * (1.0 - share))).abs() < 0.03,
                "{share} {alike}: {after_loss}"
            );
        }
        let bursts = GilbertElliott {
            p: 0.01,
            r: 0.25,
            lost_in_bad: 0.8,
            lost_in_good: 0.001,
        };
        let mut losses = Losses::new(bursts, 3);
        let seen = (0..DRAWS).filter(|_| losses.next_is_lost()).count() as f64 / DRAWS as f64;
        assert!((seen - bursts.share_lost()).abs() < 0.003, "{seen} of {}", bursts.share_lost());
    }
}
