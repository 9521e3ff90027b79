//! How a simulated host behaves: as an agent should, or wrongly in one configurable way.

use std::time::Duration;

/// One host's script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Obeys, reports and proves at once.
    #[default]
    Obedient,
    /// Connected, with heartbeats; answers and reports nothing.
    Silent,
    /// Everything it says comes so much later.
    Slow(Duration),
    /// Goes away at its first start, and stays away.
    NeverReturns,
    /// Its clock is so far ahead that its certificate always looks expired: it asks for a new one every second.
    WrongClock,
}

impl Behaviour {
    /// `obedient`, `silent`, `slow=MS`, `never-returns`, `wrong-clock`
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("behaviour {text:?} is unknown; allowed: obedient, silent, slow=MS, never-returns, wrong-clock");
        match text.split_once('=') {
            Some(("slow", ms)) => Ok(Self::Slow(Duration::from_millis(ms.parse().map_err(|_| wrong())?))),
            Some(_) => Err(wrong()),
            None => match text {
                "obedient" => Ok(Self::Obedient),
                "silent" => Ok(Self::Silent),
                "never-returns" => Ok(Self::NeverReturns),
                "wrong-clock" => Ok(Self::WrongClock),
                _ => Err(wrong()),
            },
        }
    }

    /// How late everything is that it says; `None` when it says nothing.
    pub(crate) fn delay(self) -> Option<Duration> {
        match self {
            Self::Silent => None,
            Self::Slow(delay) => Some(delay),
            Self::Obedient | Self::NeverReturns | Self::WrongClock => Some(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours_are_read_as_they_are_written() {
        assert_eq!(Behaviour::parse("slow=250"), Ok(Behaviour::Slow(Duration::from_millis(250))));
        assert_eq!(Behaviour::parse("never-returns"), Ok(Behaviour::NeverReturns));
        for bad in ["slow", "slow=x", "loud", "silent=1"] {
            assert!(Behaviour::parse(bad).unwrap_err().contains("allowed: obedient"), "{bad}");
        }
    }
}
