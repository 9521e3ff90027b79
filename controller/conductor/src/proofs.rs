//! The end of a run: every host is asked for its proof, and what was recorded is judged once.

use controller_report::{JUDGE_VERSION, judge};
use proto_model::event::{EventBody, RunPhase};
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::{CleanProof, Cleanliness};
use proto_model::time::Timestamp;

use crate::host_gateway::GatewayError;
use crate::admissible::bounded_proof;
use crate::machine::{Action, Conductor};

/// How many times the time for proofs a host gets that comes and goes.
const FLAPPING: u64 = 4;

impl Conductor {
    pub(crate) fn begin_verifying(&mut self, now: Timestamp) {
        if !self.probes.is_empty() {
            self.act(Action::StopProbes);
        }
        self.enter(now, RunPhase::Verifying);
    }

    pub(crate) fn take_proof(&mut self, now: Timestamp, host: &HostName, proof: Result<CleanProof, GatewayError>) {
        if let Some(track) = self.hosts.get_mut(host) {
            track.asking = false;
        }
        let Ok(proof) = proof else { return };
        if self.phase() != RunPhase::Verifying || !self.hosts.contains_key(host) {
            return;
        }
        // An unclean proof is asked for again while there is time; only a change is news.
        if self.state.proof(host).map(|known| known.result) != Some(proof.result) {
            let proof = bounded_proof(proof);
            self.record(now, EventBody::HostVerified { host: host.clone(), proof });
        }
    }

    pub(crate) fn advance_verifying(&mut self, now: Timestamp) {
        let mut waiting = false;
        let mut asks = Vec::new();
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            if self.state.proof(&name).map(|proof| proof.result) == Some(Cleanliness::Clean) {
                continue;
            }
            let ordered = self.state.injections_on(&name).filter(|i| i.ordered_at.is_some());
            let touched: Vec<InjectionId> = ordered.map(|i| i.injection.id.clone()).collect();
            let patience = self.has_time(now, &name);
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            // A host that only probed and is away now has nothing to prove.
            if touched.is_empty() && !host.connected {
                continue;
            }
            if !patience {
                continue;
            }
            waiting = true;
            let due = host.asked_at.is_none_or(|asked| now.since(asked) >= self.settings.ask_again_ms);
            if host.connected && due && !host.asking {
                (host.asked_at, host.asking) = (Some(now), true);
                asks.push(Action::Verify {
                    host: name,
                    injections: touched,
                });
            }
        }
        asks.into_iter().for_each(|ask| self.act(ask));
        if !waiting {
            self.finish(now);
        }
    }

    /// A host has the time for proofs from its coming or going on, and a lost one in any case until nothing of the run can
    /// act there any more, and a while longer. One that comes and goes has a multiple of it, and no more.
    fn has_time(&self, now: Timestamp, host: &HostName) -> bool {
        let Some(track) = self.hosts.get(host) else { return false };
        let (within, grace) = (self.settings.verify_within_ms, self.settings.lost_grace_ms);
        let here = self.state.positions_on(host).iter();
        let over = here.filter_map(|at| self.drives[*at].surely_over(&self.state.injections[*at], self.settings.lease_ms));
        let over = over.max();
        let may_act = over.is_some_and(|over| now < over.plus_ms(grace));
        let since = track.changed_at.map_or(self.phase_since(), |at| at.max(self.phase_since()));
        let last = over.map_or(self.phase_since(), |over| over.max(self.phase_since()));
        let in_time = now.since(since) < within && now.since(last) < FLAPPING * within;
        let just_lost = track.lost_at.is_some_and(|at| now.since(at) < within);
        if track.connected {
            in_time
        } else {
            may_act || (in_time && just_lost)
        }
    }

    fn finish(&mut self, now: Timestamp) {
        let silent = |host: &&HostName| !self.state.proofs.contains_key(*host) && self.state.touched(host);
        let unasked: Vec<HostName> = self.hosts.keys().filter(silent).cloned().collect();
        for host in unasked {
            self.record(
                now,
                EventBody::HostVerified {
                    host,
                    proof: CleanProof::unproven(),
                },
            );
        }
        self.record_dropped(now);
        let judgement = judge(&self.state);
        self.record(
            now,
            EventBody::RunJudged {
                verdict: judgement.verdict,
                cleanup: judgement.cleanup,
                exit_code: judgement.exit_code,
                ended_by: judgement.ended_by,
                reasons: judgement.reasons,
                detection_ms: judgement.detection_ms,
                recovery_ms: judgement.recovery_ms,
                judge_version: JUDGE_VERSION,
            },
        );
        self.enter(now, RunPhase::Finished);
        self.act(Action::Finished);
    }
}
