//! Laws that hold in every run, checked when it is finished, whatever the test was about.

use std::collections::BTreeSet;

use controller_conductor::Action;
use controller_report::{RunState, fold};
use proto_model::document::RunDocument;
use proto_model::event::{EventBody, RunPhase};

use crate::fleet::Sim;

/// A finished run, with the laws checked.
pub struct Ended {
    pub run: RunDocument,
    pub sim: Sim,
}

impl Ended {
    pub fn of(sim: Sim) -> Self {
        let ended = Self {
            run: fold(&sim.events).unwrap(),
            sim,
        };
        ended.check_phases();
        ended.check_orders();
        ended.check_end();
        ended
    }

    pub fn codes(&self) -> Vec<&str> {
        self.run.reasons.iter().map(|r| r.code.as_str()).collect()
    }

    pub fn ordered(&self) -> usize {
        self.sim.acts.iter().filter(|(_, a)| matches!(a, Action::Order { .. })).count()
    }

    /// Nothing leaves stopping except to verifying, nothing leaves finished, and each phase follows its own.
    fn check_phases(&self) {
        use RunPhase::{Accepted, After, Before, During, Finished, Preflight, Stopping, Verifying};
        for event in &self.sim.events {
            let EventBody::RunPhase { from, to } = event.body else { continue };
            let legal = matches!(
                (from, to),
                (Accepted, Preflight)
                    | (Preflight, Before | During)
                    | (Before, During)
                    | (During, After | Verifying)
                    | (After, Verifying)
                    | (Accepted | Preflight | Before | During | After, Stopping)
                    | (Stopping, Verifying)
                    | (Verifying, Finished)
            );
            assert!(legal, "{from:?} -> {to:?}");
        }
    }

    /// Each order is recorded, is the only one for its injection, and comes neither before every host agreed nor after a stop.
    fn check_orders(&self) {
        let mut ordered = BTreeSet::new();
        let (mut stopped, mut agreed) = (false, 0);
        let hosts = RunState::of(&self.sim.events).unwrap().plan.hosts.len();
        for event in &self.sim.events {
            match &event.body {
                EventBody::HostPreflight { accepted: true, .. } => agreed += 1,
                EventBody::StopRequested { .. } => stopped = true,
                EventBody::InjectionOrdered { id, .. } => {
                    assert!(!stopped && agreed == hosts && ordered.insert(id.clone()));
                }
                _ => {}
            }
        }
        for (_, action) in &self.sim.acts {
            if let Action::Order { injection } = action {
                assert!(ordered.contains(&injection.id), "acted on and not recorded");
            }
        }
    }

    /// Judged once and last; whatever is over is settled; cleanup is proven only when nothing acts.
    fn check_end(&self) {
        let judged = self
            .sim
            .events
            .iter()
            .filter(|e| matches!(e.body, EventBody::RunJudged { .. }))
            .count();
        assert_eq!(judged, 1);
        assert!(matches!(
            self.sim.events.last().unwrap().body,
            EventBody::RunPhase {
                to: RunPhase::Finished,
                ..
            }
        ));
        let acts = self.sim.hosts.values().flat_map(|h| &h.held).any(|h| !h.over);
        assert!(
            !acts || self.run.exit_code == Some(8),
            "something acts and the run says {:?}",
            self.run.exit_code
        );
        for event in &self.sim.events {
            if let (EventBody::InjectionUndone { id, .. }, Some(_)) = (&event.body, &event.source) {
                assert!(self.sim.settled.contains(id), "an end on record was not settled");
            }
        }
    }
}
