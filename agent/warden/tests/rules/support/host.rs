//! The fake host of all suites, with one knob more: the one that the test kinds turn.

use std::ops::Deref;

use agent_levers::Exemptions;
use agent_levers::fake::FakeHost;
use agent_view::HostView;
use proto_model::id::InjectionId;

/// The one thing that the test kinds change.
pub const KNOB: &str = "/sys/fs/cgroup/test/cgroup.freeze";

/// The process that a test kind stops.
pub const REDIS: u32 = 1_001;

pub struct Host(FakeHost);

impl Deref for Host {
    type Target = FakeHost;

    fn deref(&self) -> &FakeHost {
        &self.0
    }
}

impl Host {
    pub fn new() -> Self {
        let host = Self(FakeHost::new());
        host.turn_knob("calm");
        host
    }

    pub fn knob_now(&self) -> String {
        self.knob(KNOB).unwrap().unwrap()
    }

    pub fn turn_knob(&self, value: &str) {
        self.set_knob(KNOB, value);
    }

    /// What the rules of the only injection leave alone.
    pub fn exempt(&self) -> Option<Exemptions> {
        self.exemptions(&self.with_rules()?)
    }

    /// How long the kernel holds the rules of the only injection by itself.
    pub fn gate_ms(&self) -> Option<u64> {
        self.gate_left_ms(&self.with_rules()?)
    }

    fn with_rules(&self) -> Option<InjectionId> {
        self.our_traffic().unwrap().pop()
    }
}
