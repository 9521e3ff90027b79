//! Measured figures as people read them: stretches of time and plain numbers; never parsed back.

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
    fn stretches_and_figures_are_short() {
        assert_eq!([stretch(41), stretch(1_250), stretch(185_000)], ["41 ms", "1.2 s", "3m 05s"]);
        assert_eq!([figure(60.0), figure(59.44)], ["60", "59.4"]);
    }
}
