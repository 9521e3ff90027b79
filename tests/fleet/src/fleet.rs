//! Many hosts in this process: started, counted, waited for, pointed at another address of the controller, and ended with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::behaviour::Behaviour;
use crate::counts::{Counters, Counts, HaltTimes};
use crate::host::Host;
use crate::identity::Member;
use crate::wire::Description;

/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) struct Shared {
    pub controller: watch::Sender<SocketAddr>,
    pub description: Description,
    pub counters: Counters,
}

/// What was waited for has not come.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {within:?}; the fleet is at {counts:?}")]
pub struct FleetError {
    what: String,
    within: Duration,
    counts: Counts,
}

/// Hosts that live as long as this does.
pub struct Fleet {
    shared: Arc<Shared>,
    hosts: JoinSet<()>,
}

impl Fleet {
    /// Starts a host for each member, their first dials spread over `spread`.
    pub fn start(controller: SocketAddr, members: &[Arc<Member>], spread: Duration, behaviour: impl Fn(u32) -> Behaviour) -> Self {
        let shared = Arc::new(Shared {
            controller: watch::Sender::new(controller),
            description: Description::of(&agent_faults::catalogue()),
            counters: Counters::default(),
        });
        let mut hosts = JoinSet::new();
        for member in members {
            let host = Host::new(member.clone(), behaviour(member.number), shared.clone());
            hosts.spawn(host.live(spread.mul_f64(rand::random::<f64>())));
        }
        Self { shared, hosts }
    }

    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub fn counts(&self) -> Counts {
        self.shared.counters.now()
    }

    /// When the halt or release of this epoch reached the hosts.
    pub fn halt(&self, epoch: u64) -> Option<HaltTimes> {
        self.shared.counters.halt(epoch)
    }

    /// The controller has moved; sessions that are up end.
    pub fn move_to(&self, controller: SocketAddr) {
        self.shared.controller.send_replace(controller);
    }

    /// Waits until the fleet is as it should be; returns how long that took.
    pub async fn until(&self, what: &str, within: Duration, holds: impl Fn(&Counts) -> bool) -> Result<Duration, FleetError> {
        let began = Instant::now();
        loop {
            let counts = self.counts();
            if holds(&counts) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > within {
                let what = what.to_owned();
                return Err(FleetError { what, within, counts });
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
