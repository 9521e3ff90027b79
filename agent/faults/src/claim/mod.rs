//! What an injection holds alone, whatever kind it is; two claims on the same thing are a conflict. No kind is known here.

mod traffic;

use serde::Serialize;

pub(crate) use traffic::{Narrowing, TrafficClaim};

/// What an injection holds alone; two injections with one claim are a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Claim(pub String);

impl From<TrafficClaim> for Claim {
    fn from(packets: TrafficClaim) -> Self {
        Self(packets.to_string())
    }
}

impl Claim {
    /// Whether both cannot hold at once: claims on packets when one packet could be meant by both, any other when they are the same.
    pub fn conflicts_with(&self, other: &Claim) -> bool {
        match (TrafficClaim::parse(&self.0), TrafficClaim::parse(&other.0)) {
            (Some(ours), Some(theirs)) => ours.overlaps(&theirs),
            _ => self == other,
        }
    }
}
