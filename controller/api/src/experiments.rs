//! From a wish to a plan that hosts have answered, and from such a plan to a run.

use std::collections::BTreeMap;

use controller_conductor::{GatewayError, PreflightReply};
use controller_planner::{Experiment, Fleet, PlanRefusal, attack, difference, parse_experiment, plan};
use controller_policy::{Stage, check};
use controller_store::TICK_KEYS;
use proto_model::catalogue::Catalogue;
use proto_model::document::{ErrorBody, HostError};
use proto_model::host::Host;
use proto_model::id::{HostName, PlanDigest};
use proto_model::injection::{PreflightAnswer, Wish};
use proto_model::plan::{HostAnswer, Origin, Plan, PlanView};
use proto_model::problem::{Problems, Refusal};
use proto_model::quantity::Millis;
use proto_wire::v1::experiments_server::Experiments;
use proto_wire::v1::plan_request::Wish as Asked;
use proto_wire::v1::{AttackWish, PlanReply, PlanRequest, RunReply, RunRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::error::{ApiError, ApiResult};
use crate::retention::no_plan;
use crate::service::{Api, caller, document};

/// How long a plan may be run after it was made.
const PLAN_LIVES_MS: u64 = 3_600_000;

#[async_trait]
impl Experiments for Api {
    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanReply>, Status> {
        let view = self.resolve(request.into_inner()).await?;
        Ok(Response::new(PlanReply {
            plan_json: document("Plan", &view)?,
        }))
    }

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunReply>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let key = key_of_an_operator(wish.idempotency_key)?;
        if let Some(repeated) = self.repeated(key.as_deref()).await? {
            return Ok(Response::new(repeated));
        }
        let halt = self.0.runs.halt_state();
        if halt.engaged {
            let text = format!("{}; nothing starts until it is released", halt.words());
            return Err(ApiError::new("halted", text).into());
        }
        let view = self.to_be_run(wish.plan.unwrap_or_default()).await?;
        self.confirmed(&view.plan, &wish.confirm)?;
        confirmed_for_good(&view.plan, wish.confirm_irreversible)?;
        refuse_unaccepted(&view)?;
        self.audit(&caller, "Experiments/Run", &format!("{} {}", view.plan.name, view.digest))
            .await?;
        let plan_json = document("Plan", &view)?;
        let accepted = self.0.runs.start(view, &caller.name, key).await.map_err(ApiError::from)?;
        Ok(Response::new(RunReply {
            run: accepted.run.to_string(),
            plan_json,
        }))
    }
}

impl Api {
    /// A key that was used before names the run that it started; nothing is asked or started again.
    async fn repeated(&self, key: Option<&str>) -> ApiResult<Option<RunReply>> {
        let Some(key) = key else { return Ok(None) };
        let key = key.to_owned();
        let Some(run) = self.0.store.call(move |store| store.run_by_key(&key)).await? else {
            return Ok(None);
        };
        let id = run.clone();
        let events = self.0.store.call(move |store| store.run_events(&id, 1)).await?;
        let digest = events.iter().find_map(|event| event.body.accepted()).map(|run| run.digest.clone());
        let view = match digest {
            Some(digest) => self.0.store.call(move |store| store.plan(&digest)).await?,
            None => None,
        };
        let plan_json = view.map(|view| document("Plan", &view)).transpose()?.unwrap_or_default();
        Ok(Some(RunReply {
            run: run.to_string(),
            plan_json,
        }))
    }

    /// A plan that is about to be run. Hosts were asked when it was made, and the run asks each of them again before it starts anything.
    pub(crate) async fn to_be_run(&self, request: PlanRequest) -> ApiResult<PlanView> {
        match request.wish {
            Some(Asked::Digest(digest)) => self.stored(&PlanDigest(digest)).await,
            _ => self.resolve(request).await,
        }
    }

    /// A stored plan again, or a new one; either way every host is asked now.
    async fn resolve(&self, request: PlanRequest) -> ApiResult<PlanView> {
        let set = request.set;
        match request.wish {
            None => Err(ApiError::new("usage", "nothing to plan: expected a file, an attack or a digest")),
            Some(Asked::Digest(digest)) => self.again(&PlanDigest(digest)).await,
            Some(Asked::FileText(text)) => {
                let experiment = parse_experiment(&text, &request.file_name, &set);
                let experiment = experiment.map_err(|problems| ApiError(PlanRefusal::invalid_file(problems).error))?;
                self.planned(experiment).await
            }
            Some(Asked::Attack(wish)) => self.planned(understood(wish)?).await,
        }
    }

    pub(crate) async fn planned(&self, experiment: Experiment) -> ApiResult<PlanView> {
        // Short enough to be typed again; the experiment's own seed goes before it.
        let seed = u64::from(rand::random::<u16>());
        let plan = plan(&experiment, &self.fleet().await?, &self.0.policy, seed).map_err(|refusal| ApiError(refusal.error))?;
        let view = self.answered(plan).await;
        let made = view.clone();
        self.0.store.call(move |store| store.save_plan(&made)).await?;
        Ok(view)
    }

    /// The very same plan, with what its hosts answer now.
    async fn again(&self, digest: &PlanDigest) -> ApiResult<PlanView> {
        let stored = self.stored(digest).await?;
        Ok(PlanView {
            created_at: stored.created_at,
            expires_at: stored.expires_at,
            ..self.answered(stored.plan).await
        })
    }

    /// The very same plan with the answers of its hosts, if they are still what they were.
    async fn stored(&self, digest: &PlanDigest) -> ApiResult<PlanView> {
        if !is_digest(&digest.0) {
            let message = format!(
                "{:?} is no plan's digest (allowed: sha256: and 64 of 0-9 and a-f, as `fracas plan` prints it)",
                digest.0
            );
            return Err(ApiError::new("usage", message));
        }
        let wanted = digest.clone();
        let stored = self
            .0
            .store
            .call(move |store| store.plan(&wanted))
            .await?
            .ok_or_else(|| ApiError::new("not_found", no_plan(&digest.0)))?;
        if stored.expires_at < self.now() {
            return Err(ApiError::new(
                "refused",
                format!("plan {digest} expired at {}; plan again", stored.expires_at),
            ));
        }
        let fleet = self.fleet().await?;
        let changed = difference(&stored.plan, &fleet);
        if !changed.is_empty() {
            return Err(ApiError::new(
                "refused",
                format!("hosts have changed since the plan was made: {}; plan again", changed.join("; ")),
            ));
        }
        check(&stored.plan, Stage::Planning, &self.0.policy, &fleet.occupancy()).map_err(|denial| ApiError(denial.into()))?;
        Ok(stored)
    }

    pub(crate) async fn fleet(&self) -> ApiResult<Fleet> {
        let hosts = self.0.voice.hosts();
        let mut catalogues = BTreeMap::new();
        for host in &hosts {
            if catalogues.contains_key(&host.catalogue_digest) {
                continue;
            }
            // Its agent may have been replaced since the look at the hosts.
            let catalogue = self.0.voice.catalogue(&host.name);
            let same = catalogue.filter(|catalogue| catalogue.digest() == host.catalogue_digest);
            catalogues.extend(same.map(|catalogue| (host.catalogue_digest.clone(), Catalogue::clone(&catalogue))));
        }
        Ok(Fleet {
            hosts: hosts.iter().map(|host| Host::clone(host)).collect(),
            catalogues,
            active: self.0.runs.active(),
        })
    }

    /// Asks every host of the plan at once.
    async fn answered(&self, plan: Plan) -> PlanView {
        let mut asked = tokio::task::JoinSet::new();
        for (host, wishes) in plan.wishes_by_host() {
            let questions = wishes.into_iter().map(|(step, wish)| (step.to_owned(), wish));
            let (host, voice, questions) = (host.clone(), self.0.voice.clone(), questions.collect::<Vec<_>>());
            asked.spawn(async move {
                let wishes = questions.iter().map(|(_, wish)| wish.clone()).collect();
                let reply = voice.preflight(&host, wishes).await;
                answers(&host, &questions, reply)
            });
        }
        let mut answers: Vec<HostAnswer> = asked.join_all().await.into_iter().flatten().collect();
        answers.sort_by(|a, b| (&a.step, &a.host).cmp(&(&b.step, &b.host)));
        let created_at = self.now();
        PlanView {
            digest: plan.digest(),
            created_at,
            expires_at: created_at.plus_ms(PLAN_LIVES_MS),
            accepted: answers.iter().all(|a| a.answer.accepted),
            plan,
            answers,
        }
    }

    /// Production, and what policy says likewise, needs its name typed.
    pub(crate) fn confirmed(&self, plan: &Plan, confirm: &str) -> ApiResult<()> {
        self.confirmed_in(&plan.environment, confirm)
    }

    pub(crate) fn confirmed_in(&self, environment: &str, confirm: &str) -> ApiResult<()> {
        if !self.0.policy.require_confirm(environment) || confirm == environment {
            return Ok(());
        }
        Err(ApiError::new(
            "approval_needed",
            format!("environment {environment} needs --confirm {environment}"),
        ))
    }
}

fn is_digest(text: &str) -> bool {
    let hex = |digits: &str| digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("sha256:").is_some_and(hex)
}

/// What cannot be undone is confirmed by itself, whatever the environment.
fn confirmed_for_good(plan: &Plan, confirmed: bool) -> ApiResult<()> {
    let deeds: Vec<String> = plan
        .irreversible()
        .map(|(path, step, why)| format!("{path} {} cannot be undone: {why}", step.fault))
        .collect();
    if confirmed || deeds.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        "approval_needed",
        format!("{}; --confirm-irreversible says that this is meant", deeds.join("; ")),
    ))
}

fn understood(wish: AttackWish) -> ApiResult<Experiment> {
    let params = controller_planner::params_from_json(&wish.params_json).map_err(invalid)?;
    let wish = controller_planner::AttackWish {
        fault: wish.fault,
        params,
        on: wish.on,
        pick: Some(wish.pick).filter(|p| !p.is_empty()),
        seed: wish.seed,
        duration: Some(Millis(wish.duration_ms)).filter(|ms| ms.0 > 0),
        environment: Some(wish.environment).filter(|e| !e.is_empty()),
        probes: wish.probes,
    };
    attack(wish).map_err(invalid)
}

fn invalid(problems: Problems) -> ApiError {
    let mut body = ErrorBody::new("invalid_params", problems.to_string());
    body.problems = problems.0;
    ApiError(body)
}

fn answers(host: &HostName, questions: &[(String, Wish)], reply: Result<PreflightReply, GatewayError>) -> Vec<HostAnswer> {
    let given: Vec<PreflightAnswer> = match reply {
        Ok(reply) => reply.answers,
        Err(error) => vec![no_answer("host_lost", error.to_string()); questions.len()],
    };
    let mut given = given.into_iter();
    questions
        .iter()
        .map(|(step, _)| HostAnswer {
            step: step.clone(),
            host: host.clone(),
            answer: given
                .next()
                .unwrap_or_else(|| no_answer("no_answer", "the host answered fewer questions than it was asked".to_owned())),
        })
        .collect()
}

fn no_answer(code: &str, message: String) -> PreflightAnswer {
    PreflightAnswer {
        accepted: false,
        refusals: vec![Refusal::new(code, "", message)],
        warnings: Vec::new(),
        undo: Vec::new(),
        touches: Vec::new(),
        engine: None,
    }
}

/// Ticks of schedules have keys of their own: who could use one up would keep a schedule's run from starting.
fn key_of_an_operator(key: String) -> ApiResult<Option<String>> {
    if key.starts_with(TICK_KEYS) {
        let message = format!("idempotency_key {key:?} belongs to the schedules (allowed: keys that do not begin with {TICK_KEYS})");
        return Err(ApiError::new("usage", message));
    }
    Ok(Some(key).filter(|key| !key.is_empty()))
}

/// Every refusal at once; nothing was touched.
pub(crate) fn refuse_unaccepted(view: &PlanView) -> ApiResult<()> {
    if view.accepted {
        return Ok(());
    }
    let mut hosts = Vec::new();
    for answer in view.answers.iter().filter(|a| !a.answer.accepted) {
        for refusal in &answer.answer.refusals {
            let place = if refusal.path.is_empty() {
                answer.step.clone()
            } else {
                format!("{}.{}", answer.step, refusal.path)
            };
            hosts.push(HostError {
                name: answer.host.clone(),
                code: refusal.code.clone(),
                message: format!("{place}: {refusal}"),
            });
        }
    }
    let noun = if view.plan.origin == Origin::Attack {
        "attack"
    } else {
        "experiment"
    };
    let mut body = ErrorBody::new("refused", format!("the {noun} was refused and nothing was touched"));
    body.hosts = hosts;
    Err(ApiError(body))
}

#[cfg(test)]
mod tests {
    use controller_store::TickRecord;
    use proto_model::id::{RunId, ScheduleId};
    use proto_model::schedule::TickState;
    use proto_model::time::Timestamp;

    use super::*;

    #[test]
    fn a_digest_is_told_from_what_is_none() {
        let plan = format!("sha256:{}", "0a".repeat(32));
        assert!(is_digest(&plan));
        for none in [
            "",
            "checkout.yaml",
            "sha256:",
            "sha256:0000",
            &plan.replace('a', "A"),
            &format!("{plan}0"),
        ] {
            assert!(!is_digest(none), "{none}");
        }
    }

    #[test]
    fn an_operator_cannot_use_up_the_key_of_a_tick() {
        let tick = TickRecord {
            schedule: ScheduleId::generate(),
            name: "checkout".into(),
            planned_at: Timestamp(1_000),
            count: 1,
            manual: false,
            by: "schedule checkout".into(),
            state: TickState::Due,
            reason: None,
            message: None,
            run: None,
            decided_at: Timestamp(1_000),
        };
        let error = key_of_an_operator(tick.key()).unwrap_err().0;
        assert_eq!(error.code, "usage");
        assert!(
            error.message.contains("allowed: keys that do not begin with tick:"),
            "{}",
            error.message
        );
        assert_eq!(key_of_an_operator(String::new()), Ok(None));
        for fine in [RunId::generate().to_string(), "my-tick:1".to_owned()] {
            assert_eq!(key_of_an_operator(fine.clone()), Ok(Some(fine)));
        }
    }
}
