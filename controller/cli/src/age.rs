//! Lengths of time as people read them: ages in tables, stretches in timelines; never parsed back.

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

/// A measured stretch: `41 ms`, `1.2 s`, `3m 05s`.
pub fn stretch(ms: u64) -> String {
    match ms {
        ms if ms < 1_000 => format!("{ms} ms"),
        ms if ms < 60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A figure with at most one digit after the point.
pub fn figure(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_stretches() {
        let at = Timestamp(1_000);
        for (later_ms, expected) in [(5_000, "5s"), (300_000, "5m"), (10_800_000, "3h"), (259_200_000, "3d")] {
            assert_eq!(ago(at, at.plus_ms(later_ms)), expected);
        }
        assert_eq!(ago(at.plus_ms(9_000), at), "0s");
        assert_eq!([stretch(41), stretch(1_250), stretch(185_000)], ["41 ms", "1.2 s", "3m 05s"]);
        assert_eq!([figure(60.0), figure(59.44)], ["60", "59.4"]);
    }
}
