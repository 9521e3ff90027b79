//! The authority as administrators see it, and the steps of its rotation: each is refused while it would shut out a host or an operator that is not named.

use proto_model::document::{AuthorityDocument, AuthorityState, TrustedAuthority};
use proto_model::host::Host;
use proto_transport::{RotationError, RotationPhase, RotationStep, fingerprint_of, validity_of};
use proto_wire::v1::authority_server::Authority;
use proto_wire::v1::{AuthorityRotateRequest, AuthorityShowRequest, Document};
use tonic::{Request, Response, Status, async_trait};

use crate::error::{ApiError, ApiResult};
use crate::service::{Api, caller, document};

/// As many names as fit into a refusal that people read.
const NAMED: usize = 20;

#[async_trait]
impl Authority for Api {
    async fn show(&self, _request: Request<AuthorityShowRequest>) -> Result<Response<Document>, Status> {
        Ok(self.authority_shown(None)?)
    }

    async fn rotate(&self, request: Request<AuthorityRotateRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let step = RotationStep::parse(&wish.step).ok_or_else(|| {
            let message = format!("{:?} is no step: expected prepare, switch, finish or cancel", wish.step);
            ApiError::new("usage", message)
        })?;
        caller.concerns(step.as_str());
        let _turn = self.0.changing.lock().await;
        let lost = self.shut_out_by(step)?;
        let unnamed: Vec<String> = lost.iter().filter(|name| !wish.abandon.contains(name)).cloned().collect();
        if !unnamed.is_empty() {
            return Err(would_shut_out(step, &lost, &unnamed).into());
        }
        let (authorities, now) = (self.0.authorities.clone(), self.now());
        let taken = tokio::task::spawn_blocking(move || authorities.take(step, now)).await;
        let taken = taken.map_err(|error| ApiError::new("internal", format!("the step broke off: {error}")))?;
        let taken = taken.map_err(|error| match error {
            RotationError::Refused(why) => ApiError::new("refused", why),
            RotationError::Failed(error) => ApiError::new("store", format!("the step was not taken: {error}")),
        })?;
        if taken {
            let in_force = self.0.authorities.current().fingerprint();
            let losing = if lost.is_empty() {
                String::new()
            } else {
                format!("; shut out: {}", lost.join(", "))
            };
            tracing::warn!(by = caller.name, %step, in_force, shut_out = ?lost, "the authority is being rotated");
            self.audit_late(&caller, "Authority/Rotate", &format!("{step}: {in_force} is in force{losing}"));
        }
        Ok(self.authority_shown(Some(outcome(step, taken)))?)
    }
}

impl Api {
    fn authority_shown(&self, note: Option<String>) -> ApiResult<Response<Document>> {
        let (rotation, hosts) = (self.0.authorities.rotation(), self.0.voice.hosts());
        let count = |fits: &dyn Fn(&Host) -> bool| u32::try_from(hosts.iter().filter(|host| fits(host)).count()).unwrap_or(u32::MAX);
        let states = match rotation.phase() {
            RotationPhase::Settled | RotationPhase::Prepared => [AuthorityState::InForce, AuthorityState::Next],
            RotationPhase::Switched => [AuthorityState::InForce, AuthorityState::Previous],
        };
        let trusted = rotation.trusted();
        let authorities = trusted.iter().zip(states).map(|(certificate, state)| {
            let fingerprint = fingerprint_of(certificate);
            let (begins, ends) = validity_of(certificate).unwrap_or_default();
            TrustedAuthority {
                state,
                begins,
                ends,
                hosts_trusting: count(&|host| host.authority.trusts.contains(&fingerprint)),
                hosts_certified: count(&|host| host.authority.certificate_of == fingerprint),
                fingerprint,
            }
        });
        let shown = AuthorityDocument {
            phase: rotation.phase().as_str().to_owned(),
            since: rotation.since(),
            authorities: authorities.collect(),
            hosts: count(&|_| true),
            waiting: match rotation.phase() {
                RotationPhase::Settled => Vec::new(),
                RotationPhase::Prepared => self.shut_out_by(RotationStep::Switch)?,
                RotationPhase::Switched => self.shut_out_by(RotationStep::Finish)?,
            },
            pem: self.0.authorities.bundle_pem(),
            note,
        };
        Ok(Response::new(Document {
            json: document("Authority", &shown)?,
        }))
    }

    /// Who could not come back after a step: hosts by name, operators as `operator/NAME`.
    fn shut_out_by(&self, step: RotationStep) -> ApiResult<Vec<String>> {
        let rotation = self.0.authorities.rotation();
        let hosts = |fits: &dyn Fn(&Host) -> bool| -> Vec<String> {
            let all = self.0.voice.hosts();
            all.iter().filter(|host| !fits(host)).map(|host| host.name.to_string()).collect()
        };
        match (rotation.phase(), step) {
            (RotationPhase::Prepared, RotationStep::Switch) => {
                let next = rotation.beside().map(|next| fingerprint_of(next)).unwrap_or_default();
                Ok(hosts(&|host| host.authority.trusts.contains(&next)))
            }
            (RotationPhase::Switched, RotationStep::Finish) => {
                let current = rotation.current().fingerprint();
                let mut shut_out = hosts(&|host| host.authority.certificate_of == current);
                let of_operators = self
                    .0
                    .issued
                    .without(&current, self.now(), |shown| self.0.keyring.is_revoked(shown));
                let of_operators = of_operators
                    .map_err(|error| ApiError::new("store", format!("the list of issued certificates cannot be read: {error}")))?;
                shut_out.extend(of_operators.into_iter().map(|name| format!("operator/{name}")));
                Ok(shut_out)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What an administrator has to know about the authority before long.
    pub(crate) fn authority_warnings(&self) -> Vec<String> {
        let rotation = self.0.authorities.rotation();
        let going = (rotation.phase() != RotationPhase::Settled).then(|| {
            let (phase, since) = (rotation.phase().as_str(), rotation.since());
            format!("the authority is being rotated ({phase} since {since}): `fracas authority show` says what is next")
        });
        rotation.current().warning(self.now()).into_iter().chain(going).collect()
    }
}

fn would_shut_out(step: RotationStep, lost: &[String], unnamed: &[String]) -> ApiError {
    let why = match step {
        RotationStep::Switch => "do not trust the next authority yet",
        _ => "have no certificate of the new authority yet",
    };
    let (first, more) = (&unnamed[..unnamed.len().min(NAMED)], unnamed.len().saturating_sub(NAMED));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = if lost.len() > NAMED {
        "NAME,...".to_owned()
    } else {
        lost.join(",")
    };
    ApiError::new(
        "refused",
        format!(
            "{step} would shut out {} that {why}: {}{more}. Let each host connect (`fracas hosts`) or remove it, give each operator a new certificate, \
             or lose them: `fracas authority rotate {step} --abandon {names}`; a host that is lost enrols again with a new token",
            unnamed.len(),
            first.join(", ")
        ),
    )
}

fn outcome(step: RotationStep, taken: bool) -> String {
    let text = match (step, taken) {
        (RotationStep::Prepare, true) => {
            "the next authority is made, and hosts are sent it; give operators the new bundle (`fracas authority show --pem`), then switch"
        }
        (RotationStep::Prepare, false) => "a next authority is prepared already",
        (RotationStep::Switch, true) => {
            "the new authority is in force, and hosts renew their certificates; join tokens made before are void; once no host or operator waits, finish"
        }
        (RotationStep::Switch, false) => "the new authority is in force already",
        (RotationStep::Finish, true) => "the rotation is finished: the old authority is trusted no more",
        (RotationStep::Finish, false) => "the rotation is finished already",
        (RotationStep::Cancel, true) => "the rotation is cancelled: the authority in force stays",
        (RotationStep::Cancel, false) => "the rotation is cancelled already",
    };
    text.to_owned()
}
