//! The only file that knows the messages of a session: what a host says becomes one, and an order is read from one.

use proto_model::catalogue::Catalogue;
use proto_model::host::HostFacts;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentReport, CleanProof, Cleanliness, EndedBy, PreflightAnswer};
use proto_wire::convert::ended_by;
use proto_wire::v1;
use proto_wire::v1::controller_message::Body;

pub(crate) use proto_wire::v1::agent_message::Body as Said;
pub(crate) use proto_wire::v1::{AgentMessage, ControllerMessage, Hello};

/// What every host of a fleet says of itself in the same words.
pub(crate) struct Description {
    pub agent_version: String,
    catalogue_json: String,
    catalogue_digest: String,
}

impl Description {
    pub fn of(catalogue: &Catalogue) -> Self {
        Self {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            catalogue_json: json(catalogue),
            catalogue_digest: catalogue.digest(),
        }
    }
}

/// What one host says of itself as a session begins.
pub(crate) struct Greeting<'a> {
    pub nonce: &'a str,
    pub instance: &'a str,
    pub facts: &'a HostFacts,
    pub boot_ms: u64,
    pub clock_ms: i64,
    pub halt_epoch: u64,
    pub store_epoch: u64,
    pub halted: Option<&'a str>,
    /// Injection, run, finished.
    pub inventory: Vec<(String, String, bool)>,
    pub cleanliness: Cleanliness,
}

/// Names the catalogue by its digest.
pub(crate) fn hello(description: &Description, greeting: Greeting<'_>) -> v1::Hello {
    let item = |(injection, run, finished): (String, String, bool)| v1::InventoryItem {
        injection,
        run,
        state: if finished {
            v1::InjectionState::Undone
        } else {
            v1::InjectionState::Holding
        }
        .into(),
        finished,
    };
    v1::Hello {
        nonce: greeting.nonce.to_owned(),
        agent_version: description.agent_version.clone(),
        instance: greeting.instance.to_owned(),
        boot_id: greeting.facts.boot_id.clone(),
        boot_ms: greeting.boot_ms,
        facts: Some(greeting.facts.into()),
        catalogue_json: String::new(),
        catalogue_digest: description.catalogue_digest.clone(),
        halt_epoch: greeting.halt_epoch,
        halted: greeting.halted.is_some(),
        halt_reason: greeting.halted.unwrap_or_default().to_owned(),
        store_epoch: greeting.store_epoch,
        inventory: greeting.inventory.into_iter().map(item).collect(),
        cleanliness: v1::Cleanliness::from(greeting.cleanliness).into(),
        clock_ms: greeting.clock_ms,
        // As an agent of the time before authorities were rotated.
        trust: None,
    }
}

/// For a controller that does not know the digest.
pub(crate) fn with_catalogue(hello: v1::Hello, description: &Description) -> v1::Hello {
    v1::Hello {
        catalogue_json: description.catalogue_json.clone(),
        ..hello
    }
}

pub(crate) fn heartbeat(boot_ms: u64, active: usize, cleanliness: Cleanliness, halted: bool) -> Said {
    Said::Heartbeat(v1::Heartbeat {
        boot_ms,
        active: u32::try_from(active).unwrap_or(u32::MAX),
        cleanliness: v1::Cleanliness::from(cleanliness).into(),
        halted,
        guarded: true,
    })
}

pub(crate) fn report(report: &AgentReport) -> Said {
    Said::Report(report.into())
}

pub(crate) fn preflight(request: u64, answers: Vec<PreflightAnswer>, facts: &HostFacts) -> Said {
    Said::Preflight(v1::PreflightAnswer {
        request,
        results: answers.into_iter().map(Into::into).collect(),
        boot_id: facts.boot_id.clone(),
        facts: Some(facts.into()),
    })
}

pub(crate) fn proof(request: u64, proof: CleanProof) -> Said {
    Said::Verified(v1::VerifyAnswer {
        request,
        proof: Some(proof.into()),
    })
}

pub(crate) fn halt_answer(epoch: u64, halted: bool, undone: usize) -> Said {
    Said::Halt(v1::HaltAnswer {
        epoch,
        halted,
        undone: u32::try_from(undone).unwrap_or(u32::MAX),
        failed: 0,
    })
}

pub(crate) fn refused(order_seq: u64, message: &str) -> Said {
    Said::Refused(v1::OrderRefused {
        order_seq,
        message: message.to_owned(),
        why: v1::order_refused::Why::Malformed.into(),
    })
}

/// An order as far as the simulator understands it.
#[derive(Debug)]
pub(crate) enum Order {
    Welcome { heartbeat_ms: u64 },
    Start(Start),
    Stop { injection: String, cause: EndedBy },
    Lease { injections: Vec<String>, lease_ms: u64 },
    Preflight { request: u64, questions: usize },
    Verify { request: u64 },
    Halt { reason: String },
    Release,
    Settled { injections: Vec<String> },
    Unsupported,
}

#[derive(Debug)]
pub(crate) struct Start {
    pub injection: InjectionId,
    pub run: String,
    pub duration_ms: u64,
    pub lease_ms: u64,
}

impl Order {
    /// `None` for what cannot be understood.
    pub fn read(body: Option<Body>) -> Option<Self> {
        Some(match body? {
            Body::Welcome(welcome) => Self::Welcome {
                heartbeat_ms: welcome.heartbeat_ms.into(),
            },
            Body::Start(start) => Self::Start(Start {
                injection: InjectionId::parse(&start.injection).ok()?,
                run: start.run,
                duration_ms: start.duration_ms,
                lease_ms: start.lease_ms,
            }),
            Body::Stop(stop) => Self::Stop {
                injection: stop.injection,
                cause: ended_by(stop.cause).ok()?,
            },
            Body::Lease(lease) => Self::Lease {
                injections: lease.injections,
                lease_ms: lease.lease_ms,
            },
            Body::Preflight(question) => Self::Preflight {
                request: question.request,
                questions: question.questions.len(),
            },
            Body::Verify(question) => Self::Verify { request: question.request },
            Body::Halt(halt) => Self::Halt { reason: halt.reason },
            Body::Release(_) => Self::Release,
            Body::Settled(settled) => Self::Settled {
                injections: settled.injections,
            },
            Body::ProbeStart(_) | Body::ProbeStop(_) | Body::Accept(_) | Body::Doctor(_) | Body::Trust(_) => Self::Unsupported,
        })
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
