//! The two clocks of the controller: the wall clock of everything that happens, and the one that says what is due. Only a drill parts them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use proto_model::time::Timestamp;

/// How far a drill has moved the clock of the cadence. Set once, before anything asks.
static MOVED_MS: AtomicI64 = AtomicI64::new(0);

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The clock by which tests are due or overdue, and levels are held.
pub fn cadence_now() -> Timestamp {
    Timestamp(now().0.saturating_add(moved_ms()))
}

pub fn move_cadence(ms: i64) {
    MOVED_MS.store(ms, Ordering::Relaxed);
}

pub fn moved_ms() -> i64 {
    MOVED_MS.load(Ordering::Relaxed)
}

/// `36d`, `-12h`: a length with its unit, which may go back.
pub fn parse_offset(text: &str) -> Result<i64, String> {
    let (sign, length) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let unit_ms = |unit: char| match unit {
        'd' => Some(24 * 3_600_000),
        'h' => Some(3_600_000),
        'm' => Some(60_000),
        _ => None,
    };
    let parsed = length.char_indices().next_back().and_then(|(at, unit)| {
        let number: u32 = length[..at].parse().ok()?;
        Some(sign * i64::from(number) * unit_ms(unit)?)
    });
    parsed.ok_or_else(|| format!("{text:?} is no offset: expected a whole number of days, hours or minutes, such as 36d, 12h or -30m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_have_a_unit_and_may_go_back() {
        assert_eq!(parse_offset("36d"), Ok(36 * 24 * 3_600_000));
        assert_eq!((parse_offset("+2h"), parse_offset("-30m")), (Ok(7_200_000), Ok(-1_800_000)));
        for bad in ["", "36", "d", "1.5d", "36 d", "--1d", "36w", "1é"] {
            assert!(parse_offset(bad).is_err(), "{bad:?}");
        }
    }
}
