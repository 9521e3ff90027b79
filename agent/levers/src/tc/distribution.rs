//! The tables by which netem draws delays, computed and not read from iproute2's files, which many hosts have not.

use crate::work::packets::Distribution;

/// Entries of a table: as many as iproute2 sends, well below the kernel's 16384.
const ENTRIES: usize = 4_096;
/// One standard deviation in a table (NETEM_DIST_SCALE).
const SCALE: f64 = 8_192.0;
/// The steepness of iproute2's Pareto distribution.
const PARETO_SHAPE: f64 = 3.0;

/// Deviations by quantile, in 8192ths of the jitter; `None` where the kernel draws by itself.
pub(super) fn table(distribution: Distribution) -> Option<Vec<i16>> {
    let deviation: fn(f64) -> f64 = match distribution {
        Distribution::Uniform => return None,
        Distribution::Normal => normal,
        Distribution::Pareto => pareto,
    };
    let quantiles = (0..ENTRIES).map(|n| (n as f64 + 0.5) / ENTRIES as f64);
    let scaled = quantiles.map(|quantile| (deviation(quantile) * SCALE).round());
    Some(scaled.map(|value| value.clamp(i16::MIN.into(), i16::MAX.into()) as i16).collect())
}

/// As in iproute2's pareto.c: mean 0, and a long tail to one side only.
fn pareto(quantile: f64) -> f64 {
    ((1.0 - quantile).powf(-1.0 / PARETO_SHAPE) - 1.5) * 4.0 / 3.0
}

/// The inverse of the normal distribution by Acklam's approximation (relative error below 1.2e-9).
fn normal(quantile: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] = [
        7.784695709041462e-3,
        3.224671290700398e-1,
        2.445134137142996,
        3.754408661907416,
        1.0,
    ];
    /// Beyond this the tails have a formula of their own.
    const TAIL: f64 = 0.02425;
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |q: f64| polynomial(&C, q) / polynomial(&D, q);
    if quantile < TAIL {
        return tail((-2.0 * quantile.ln()).sqrt());
    }
    if quantile > 1.0 - TAIL {
        return -tail((-2.0 * (1.0 - quantile).ln()).sqrt());
    }
    let middle = quantile - 0.5;
    let square = middle * middle;
    middle * polynomial(&A, square) / polynomial(&B, square)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(distribution: Distribution) -> (f64, f64) {
        let table = table(distribution).unwrap();
        let values: Vec<f64> = table.iter().map(|v| f64::from(*v) / SCALE).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn every_table_lies_around_the_delay_with_the_jitter_as_its_spread() {
        let (mean, spread) = moments(Distribution::Normal);
        assert!(mean.abs() < 1e-3 && (spread - 1.0).abs() < 0.01, "{mean} {spread}");
        let (mean, spread) = moments(Distribution::Pareto);
        assert!(mean.abs() < 0.05 && (0.7..1.3).contains(&spread), "{mean} {spread}");
        assert_eq!(table(Distribution::Uniform), None);
    }

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        for (quantile, expected) in [(0.5, 0.0), (0.841_344_75, 1.0), (0.975, 1.959_964), (0.001, -3.090_232)] {
            assert!((normal(quantile) - expected).abs() < 1e-5, "{quantile}: {}", normal(quantile));
        }
    }
}
