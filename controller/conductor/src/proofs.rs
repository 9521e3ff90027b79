//! The end of a run: every host is asked for its proof, and what was recorded is judged once.

use controller_report::{JUDGE_VERSION, judge};
use proto_model::event::{EventBody, RunPhase};
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::{CleanProof, Cleanliness};
use proto_model::time::Timestamp;

use crate::admissible::bounded_proof;
use crate::host_gateway::GatewayError;
use crate::machine::{Action, Conductor};

/// How many times the time for proofs a host gets that comes and goes.
const FLAPPING: u64 = 4;

impl Conductor {
    pub(crate) fn begin_verifying(&mut self, now: Timestamp) {
        self.enter(now, RunPhase::Verifying);
        if !self.awaits_recovery(now) {
            self.end_probing();
        }
    }

    pub(crate) fn take_proof(&mut self, now: Timestamp, host: &HostName, proof: Result<CleanProof, GatewayError>) {
        if let Some(track) = self.hosts.get_mut(host) {
            track.asking = false;
        }
        let Ok(proof) = proof else { return };
        if self.phase() != RunPhase::Verifying || !self.hosts.contains_key(host) {
            return;
        }
        let (known, result) = (self.state.proof(host).map(|known| known.result), proof.result);
        // An unclean proof is asked for again while there is time; only a change is news.
        if known != Some(result) {
            let proof = bounded_proof(proof);
            self.record(now, EventBody::HostVerified { host: host.clone(), proof });
        }
        if result == Cleanliness::Clean {
            self.unproven.remove(host);
            self.progress_at = now;
        }
    }

    /// Every host that owes its proof is asked for it. Between two looks at the time it is enough to know that some still owe it.
    pub(crate) fn advance_verifying(&mut self, now: Timestamp) {
        if !self.thorough && !self.unproven.is_empty() {
            return;
        }
        let is_clean = |name: &&HostName| self.state.proof(name).map(|proof| proof.result) == Some(Cleanliness::Clean);
        let owing: Vec<HostName> = self.hosts.keys().filter(|name| !is_clean(name)).cloned().collect();
        self.unproven.clear();
        for name in owing {
            let ordered = self.state.injections_on(&name).filter(|i| i.ordered_at.is_some());
            let touched: Vec<InjectionId> = ordered.map(|i| i.injection.id.clone()).collect();
            let has_time = self.has_time(now, &name);
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            // A host that only probed and is away now has nothing to prove.
            if !has_time || (touched.is_empty() && !host.connected) {
                continue;
            }
            let due = host.asked_at.is_none_or(|asked| now.since(asked) >= self.settings.ask_again_ms);
            if host.connected && due && !host.asking {
                (host.asked_at, host.asking) = (Some(now), true);
                let host = name.clone();
                self.act(Action::Verify { host, injections: touched });
            }
            self.unproven.insert(name);
        }
        if self.unproven.is_empty() && !self.awaits_recovery(now) {
            self.end_probing();
            self.finish(now);
        }
    }

    /// A connected host has the time for proofs from its return or from the last proof of any host on, so that many hosts have as
    /// long as they take one after the other; one that comes and goes has a multiple of it. A lost one is waited for a while after
    /// nothing of the run can act there any more.
    fn has_time(&self, now: Timestamp, host: &HostName) -> bool {
        let Some(track) = self.hosts.get(host) else { return false };
        let (within, grace) = (self.settings.verify_within_ms, self.settings.lost_grace_ms);
        let here = self.state.positions_on(host).iter();
        let over = here.filter_map(|at| self.drives[*at].surely_over(&self.state.injections[*at], self.settings.lease_ms));
        let over = over.max();
        if !track.connected {
            // Hosts find their way back to a controller that was restarted within the time for proofs.
            let patience = if self.is_resumed() { within.max(grace) } else { grace };
            return over.max(track.lost_at).is_some_and(|since| now < since.plus_ms(patience));
        }
        let start = self.phase_since().max(self.progress_at);
        let since = track.changed_at.map_or(start, |at| at.max(start));
        let last = over.map_or(start, |over| over.max(start));
        now.since(since) < within && now.since(last) < FLAPPING * within
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
