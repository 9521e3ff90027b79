//! What asking once came to, before it is timed.

use proto_model::probe::ValueBounds;

/// What asking came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Good,
    /// Asked, and a bound broke.
    Bad(String),
    /// Could not be asked, or has no answer.
    Missing(String),
}

impl Answer {
    /// A number held against its bounds; what is not a number is no answer.
    pub fn of(value: f64, bounds: &ValueBounds) -> Self {
        if value.is_nan() {
            return Self::Missing("the value is not a number".to_owned());
        }
        bounds.broken_by(value).map_or(Self::Good, Self::Bad)
    }
}

/// An answer with the number it is about, where it is about one.
pub type Told = (Answer, Option<f64>);
