//! What a worker of the packet engine is ordered to do, as data.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rtt_probe::Probe;
use crate::traffic::Queues;

/// What a worker is told to do with the packets of its queues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketWork {
    pub queues: Queues,
    pub harm: Harm,
    pub seed: u64,
    /// How the worker times the way to a peer, as any program of this host would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    Delay(Delay),
    Loss(GilbertElliott),
}

/// How long each packet is held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    pub delay_us: u64,
    pub jitter_us: u64,
    pub distribution: Distribution,
    /// How alike a packet's time is to the one before, 0 to 1.
    pub correlation: f64,
}

impl Delay {
    /// No packet is held longer, but for one in thousands.
    pub fn longest(&self) -> Duration {
        let times = if self.distribution == Distribution::Uniform { 1 } else { 4 };
        Duration::from_micros(self.delay_us + times * self.jitter_us)
    }
}

/// How times spread around the delay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Evenly, up to the jitter to either side.
    #[default]
    Uniform,
    /// The jitter is the standard deviation.
    Normal,
    /// Most a little early, some very late.
    Pareto,
}

/// Losses in bursts: two states, each with its own odds. All are shares of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GilbertElliott {
    /// From good to bad, per packet.
    pub p: f64,
    /// From bad to good, per packet.
    pub r: f64,
    pub lost_in_bad: f64,
    pub lost_in_good: f64,
}

impl GilbertElliott {
    /// Loses this share, and a packet is as likely as `alike` says to share the fate of the one before for that reason alone.
    pub fn correlated(share: f64, alike: f64) -> Self {
        Self {
            p: share * (1.0 - alike),
            r: (1.0 - share) * (1.0 - alike),
            lost_in_bad: 1.0,
            lost_in_good: 0.0,
        }
    }

    /// The share of packets that meet the bad state.
    pub fn share_bad(&self) -> f64 {
        if self.p + self.r > 0.0 { self.p / (self.p + self.r) } else { 0.0 }
    }

    /// The share of packets that are lost in the long run.
    pub fn share_lost(&self) -> f64 {
        self.share_bad() * self.lost_in_bad + (1.0 - self.share_bad()) * self.lost_in_good
    }

    /// How much a packet's state is like the one before's.
    pub fn likeness(&self) -> f64 {
        (1.0 - self.p - self.r).clamp(0.0, 1.0)
    }
}
