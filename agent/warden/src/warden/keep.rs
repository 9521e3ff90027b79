//! An injection that holds: its deadline, its lease, whether what it started lives, and what it does; it starts nothing anew.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use agent_faults::{FaultError, Look};
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, EffectState, EndedBy, Observation, Observed};

use super::{TICK_MS, Warden};
use crate::active::{ALIVE_EVERY_MS, Holding, Stage, WINDOW_MS};
use crate::causes::{chain, panic_text};
use crate::executor::HostAction;
use crate::lease::{KERNEL_AFTER_MS, LEASE_MS, kernel_holds};

/// How long after its deadline an injection may still be looked at: well within the moment for which the kernel outlasts us.
const LAST_LOOK_WITHIN_MS: u64 = KERNEL_AFTER_MS / 5;

impl Warden {
    /// Does what is due for an injection that acts: its end first, which the caller finishes.
    pub(super) fn keep(&mut self, id: &InjectionId) {
        let now = self.view().boot_ms();
        let Some((deadline_ms, holding)) = self.holding(id) else { return };
        if now >= deadline_ms {
            return self.begin_end(id, EndedBy::DurationElapsed, None);
        }
        if now >= holding.lease_until_ms {
            return self.begin_end(id, EndedBy::LeaseLost, Some("the controller did not renew the lease".to_owned()));
        }
        if now >= holding.next_alive_ms {
            holding.next_alive_ms = now + ALIVE_EVERY_MS;
            if let Err(reason) = self.ask_alive(id) {
                return self.begin_end(id, EndedBy::EndedEarly, Some(reason));
            }
        }
        self.follow(id, now);
        self.observe(id, now);
        self.go_on(id, now);
    }

    /// A kind that acts more than once is asked again when it is due; what it cannot do ends it.
    fn go_on(&mut self, id: &InjectionId, now: u64) {
        let Some((_, holding)) = self.holding(id) else { return };
        if holding.next_action_ms.is_none_or(|due| now < due) {
            return;
        }
        let (fault, effect, order) = (holding.fault, holding.effect.clone(), holding.order.clone());
        let action: HostAction<'_> = &|scene, levers| fault.go_on(&order.wish.params, &effect, scene, levers);
        match self.pull_again(id, &order, action) {
            Some(Ok(effect)) => {
                let Some((_, holding)) = self.holding(id) else { return };
                // At most one deed each tick, whatever the kind says.
                holding.next_action_ms = fault.due(&effect).map(|due| due.max(now + TICK_MS));
                holding.effect = effect;
            }
            Some(Err(why)) => self.begin_end(id, EndedBy::EndedEarly, Some(why)),
            None => {}
        }
    }

    /// What a look has found is acted on at once; the fault's undo names no peer, so it stays what it was.
    fn follow(&mut self, id: &InjectionId, now_ms: u64) {
        let view = self.executor.view().clone();
        let Some((_, holding)) = self.holding(id) else { return };
        let Some(answers) = holding.following.poll(now_ms, &view) else {
            return;
        };
        let (fault, effect, order) = (holding.fault, holding.effect.clone(), holding.order.clone());
        let action: HostAction<'_> = &|scene, levers| {
            scene.protection.networks().map_err(FaultError::Other)?;
            fault.follow(&order.wish.params, &effect, &answers, levers)
        };
        match self.pull_again(id, &order, action) {
            Some(Ok(effect)) => {
                if let Some((_, holding)) = self.holding(id) {
                    holding.effect = effect;
                    holding.following.applied();
                }
            }
            Some(Err(error)) => {
                let Some((_, holding)) = self.holding(id) else { return };
                if holding.following.keep(answers, now_ms, &error) {
                    tracing::warn!(injection = %id, error, "what it stands on has moved, and cannot be followed yet");
                }
            }
            None => {}
        }
    }

    /// The right to hold for `lease_ms` from now; what the kernel holds by itself is renewed with it.
    pub(super) fn renew(&mut self, ids: &[InjectionId], lease_ms: u64) {
        let lease_ms = lease_ms.clamp(*LEASE_MS.start(), *LEASE_MS.end());
        let now = self.view().boot_ms();
        for id in ids {
            let Some((deadline_ms, holding)) = self.holding(id) else { continue };
            // A lease that has lapsed is not revived: its end is merely due.
            if now >= holding.lease_until_ms {
                continue;
            }
            holding.lease_until_ms = now + lease_ms;
            let gate_ms = kernel_holds(deadline_ms.saturating_sub(now), lease_ms);
            let Some(active) = self.state.active(id) else { continue };
            for error in self.executor.renew(active.journal.history(), gate_ms) {
                tracing::warn!(injection = %id, error = chain(&error), "the kernel's own deadline cannot be moved");
            }
        }
    }

    /// The controller is at these addresses from now on, also for what acts already.
    pub(super) fn spare_controllers(&mut self, addresses: Vec<SocketAddr>) {
        self.executor.spare_controllers(addresses);
        for active in self.state.actives().filter(|active| matches!(active.stage, Stage::Holding(_))) {
            for error in self.executor.spare_controllers_of(active.journal.history()) {
                tracing::warn!(injection = %active.injection, error = chain(&error), "the fault may cut the controller at its new address");
            }
        }
    }

    pub(super) fn holding(&mut self, id: &InjectionId) -> Option<(u64, &mut Holding)> {
        let active = self.state.active_mut(id)?;
        match &mut active.stage {
            Stage::Holding(holding) => Some((active.deadline_ms, holding)),
            Stage::Undoing(_) => None,
        }
    }

    fn ask_alive(&mut self, id: &InjectionId) -> Result<(), String> {
        let view = self.executor.view().clone();
        let Some((_, holding)) = self.holding(id) else { return Ok(()) };
        let asked = catch_unwind(AssertUnwindSafe(|| holding.fault.alive(&holding.effect, view.as_ref())));
        asked.unwrap_or_else(|panic| Err(format!("the fault panicked: {}", panic_text(&*panic))))
    }

    fn observe(&mut self, id: &InjectionId, now: u64) {
        if self.holding(id).is_some_and(|(_, holding)| now >= holding.windows.next_ms) {
            self.look(id, now);
        }
    }

    /// What happened since the last look, before it is undone: the end comes in the midst of a window, or with its end.
    pub(super) fn look_for_the_last_time(&mut self, id: &InjectionId) {
        let now = self.view().boot_ms();
        let Some((deadline_ms, holding)) = self.holding(id) else { return };
        let seen = holding.windows.last.as_ref();
        let tells = seen.is_some_and(|look| now.saturating_sub(look.boot_ms) >= WINDOW_MS.0);
        // An end that is late, as when many are due at once, is not made later; and soon after it the kernel ends a fault by itself,
        // which must not be measured as if it had never acted.
        if tells && now <= deadline_ms + LAST_LOOK_WITHIN_MS {
            self.look(id, now);
        }
    }

    fn look(&mut self, id: &InjectionId, now: u64) {
        let view = self.executor.view().clone();
        let Some((_, holding)) = self.holding(id) else { return };
        let gap = holding.following.gap(now);
        let (fault, effect, windows) = (holding.fault, &holding.effect, &mut holding.windows);
        windows.next_ms = now + windows.length_ms;
        let began = windows.last.as_ref().map(|look| look.boot_ms);
        let looked = catch_unwind(AssertUnwindSafe(|| fault.observe(effect, view.as_ref(), windows.last.as_ref())));
        let looked = looked.unwrap_or_else(|panic| Err(FaultError::Other(format!("the fault panicked: {}", panic_text(&*panic)))));
        let observation = match looked {
            Ok((observation, look)) => {
                windows.last = Some(look);
                observation
            }
            Err(error) => {
                windows.last.get_or_insert_with(|| blind(now));
                Some(unknown(chain(&error)))
            }
        };
        let (Some(observation), Some(began)) = (observation, began) else {
            return;
        };
        windows.number += 1;
        let observed = Observed {
            window: windows.number,
            window_ms: now.saturating_sub(began),
            observation: gap.into_iter().fold(observation, doubted),
        };
        self.tell(id, AgentFact::Observed(observed), false);
    }
}

/// Stands for a first look that failed, so that the next window is told of as unknown, and not left out.
fn blind(now: u64) -> Look {
    Look {
        boot_ms: now,
        seen: serde_json::Value::Null,
    }
}

/// What was measured says nothing of what the fault means now; a mismatch remains one.
fn doubted(observation: Observation, why: String) -> Observation {
    let note = observation.note.map_or_else(|| why.clone(), |note| format!("{note}; {why}"));
    Observation {
        state: match observation.state {
            EffectState::Mismatch => EffectState::Mismatch,
            EffectState::Confirmed | EffectState::Unexercised | EffectState::Unknown => EffectState::Unknown,
        },
        note: Some(note),
        ..observation
    }
}

fn unknown(why: String) -> Observation {
    Observation {
        asked: None,
        measured: None,
        unit: String::new(),
        state: EffectState::Unknown,
        note: Some(why),
    }
}
