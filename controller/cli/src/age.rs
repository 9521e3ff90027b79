//! Ages as people read them in tables; never parsed back.

use proto_model::time::Timestamp;

/// This machine's wall clock.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// How long ago: `12s`, `5m`, `3h`, `2d`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at) / 1_000 {
        s if s < 120 => format!("{s}s"),
        s if s < 7_200 => format!("{}m", s / 60),
        s if s < 172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_grow_with_their_unit() {
        let at = Timestamp(1_000);
        for (later_ms, expected) in [(5_000, "5s"), (300_000, "5m"), (10_800_000, "3h"), (259_200_000, "3d")] {
            assert_eq!(ago(at, at.plus_ms(later_ms)), expected);
        }
        assert_eq!(ago(at.plus_ms(9_000), at), "0s");
    }
}
