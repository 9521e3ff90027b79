//! How a simulated host behaves: what it holds, what it tells of it, and when it ends it. It knows no run.

use proto_model::injection::{AgentFact, AgentReport, EffectState, EndedBy, Ending, Injection, Observation, Observed, UndoAnswer, Undone};

/// How a host behaves.
#[derive(Debug, Clone)]
pub struct Manners {
    pub refuses_preflight: bool,
    pub answers_preflight: bool,
    pub refuses_order: Option<&'static str>,
    pub ends: EndedBy,
    /// From when to when it has no session, in milliseconds of the run.
    pub away: Option<(u64, u64)>,
    /// An agent that was killed: the kernel ends its injections with the lease, and the new agent says so.
    pub restarted: bool,
    pub dirty: bool,
    /// Stops are not carried out.
    pub deaf: bool,
    pub effect: EffectState,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            refuses_preflight: false,
            answers_preflight: true,
            refuses_order: None,
            ends: EndedBy::DurationElapsed,
            away: None,
            restarted: false,
            dirty: false,
            deaf: false,
            effect: EffectState::Confirmed,
        }
    }
}

#[derive(Debug)]
pub struct Held {
    pub injection: Injection,
    pub since: i64,
    pub deadline: i64,
    pub lease_until: i64,
    pub windows: u64,
    pub facts: u64,
    pub over: bool,
}

#[derive(Debug, Default)]
pub struct Host {
    pub manners: Manners,
    pub held: Vec<Held>,
    /// Reports that could not be sent yet.
    pub kept: Vec<AgentReport>,
    pub was_away: bool,
}

pub fn next_facts(held: &mut Held, manners: &Manners, now: i64, away: bool) -> Vec<AgentFact> {
    let mut facts = vec![];
    let windows = u64::try_from((now - held.since) / 5_000).unwrap();
    if windows > held.windows {
        held.windows = windows;
        let observation = Observation {
            asked: Some(60.0),
            measured: Some(60.0),
            unit: "percent".into(),
            state: manners.effect,
            note: None,
        };
        facts.push(AgentFact::Observed(Observed {
            window: windows,
            window_ms: 5_000,
            observation,
        }));
    }
    let early = manners.ends == EndedBy::EndedEarly && now - held.since > 3_000;
    if early {
        facts.extend(ends(held, EndedBy::EndedEarly));
    } else if now >= held.lease_until {
        let by = if away && manners.restarted {
            EndedBy::KernelExpiry
        } else {
            EndedBy::LeaseLost
        };
        facts.extend(ends(held, by));
    } else if now >= held.deadline {
        facts.extend(ends(held, EndedBy::DurationElapsed));
    }
    facts
}

pub fn ends(held: &mut Held, ended_by: EndedBy) -> Vec<AgentFact> {
    held.over = true;
    let undone = Undone {
        ended_by,
        undone_by: "agent".into(),
        undo_ms: 5,
        answer: UndoAnswer::UndoneNow,
        drift: vec![],
    };
    vec![AgentFact::Ending(Ending { ended_by, reason: None }), AgentFact::Undone(undone)]
}

pub fn report(held: &mut Held, fact: AgentFact) -> AgentReport {
    held.facts += 1;
    AgentReport {
        injection: held.injection.id.clone(),
        run: String::new(),
        agent_seq: held.facts,
        boot_id: "b".into(),
        boot_ms: 1,
        fact,
    }
}

/// The end again, under the number that it had.
pub fn last_report(held: &Held) -> AgentReport {
    let undone = Undone {
        ended_by: EndedBy::LeaseLost,
        undone_by: "agent".into(),
        undo_ms: 5,
        answer: UndoAnswer::AlreadyUndone,
        drift: vec![],
    };
    let fact = AgentFact::Undone(undone);
    AgentReport {
        injection: held.injection.id.clone(),
        run: String::new(),
        agent_seq: held.facts,
        boot_id: "b".into(),
        boot_ms: 1,
        fact,
    }
}
