//! Who answers for the features of a host: a view of it, or a table in a test. It names no feature itself.

use super::feature::Feature;
use super::presence::Presence;

/// Answers for each feature.
pub trait Features {
    fn presence(&self, feature: Feature) -> Presence;
}
