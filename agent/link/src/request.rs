//! Everything that a session may ask of the agent; what is not here cannot be asked, and what is out of bounds is no request.

use std::net::{IpAddr, SocketAddr};

use agent_warden::StartOrder;
use proto_model::catalogue::FaultKind;
use proto_model::id::{InjectionId, PlanDigest, RunId};
use proto_model::injection::{EndedBy, Wish};
use serde::{Deserialize, Serialize};

use crate::frame::MAX_REQUEST;
use crate::program::ProgramOrder;
use crate::tree::{BadTree, MAX_NODES, Tree};

/// Injections named by one request, wishes of one question.
const MAX_IDS: usize = 50_000;
const MAX_WISHES: usize = 1_024;
/// Addresses of the controller, or of one name.
pub(crate) const MAX_ADDRESSES: usize = 256;
/// The longest reason, name, digest or argument, in bytes.
pub(crate) const MAX_TEXT: usize = 16 << 10;
/// The longest name of a kind of fault.
const MAX_KIND: usize = 256;
const MAX_ARGS: usize = 256;

/// A request with the number that its answer carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub id: u64,
    pub request: Request,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The session lives; there is no answer.
    Alive,
    Start(StartFrame),
    Stop {
        injection: InjectionId,
        cause: EndedBy,
    },
    Renew {
        injections: Vec<InjectionId>,
        lease_ms: u64,
    },
    Preflight(Vec<WishFrame>),
    Verify(Vec<InjectionId>),
    Halt {
        epoch: u64,
        reason: String,
    },
    Release {
        epoch: u64,
    },
    Settle(Vec<InjectionId>),
    Inventory,
    Unsettled,
    Status,
    Doctor,
    Controllers(Vec<SocketAddr>),
    Accept {
        by: String,
        reason: String,
    },
    Run(ProgramOrder),
    /// The answer to a name that the agent asked for, by the agent's number.
    Resolved {
        question: u64,
        answer: Result<Vec<IpAddr>, String>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartFrame {
    injection: InjectionId,
    run: RunId,
    lease_ms: u64,
    plan_digest: PlanDigest,
    wish: WishFrame,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WishFrame {
    fault: FaultKind,
    params: Tree,
    duration_ms: u64,
    seed: u64,
    beside: Vec<u32>,
    unattended: bool,
}

/// Why bytes are no request, or a request cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("a request cannot be read: {0}")]
    Encoding(#[from] postcard::Error),
    #[error("{what} of {found} (allowed: up to {allowed})")]
    TooMuch { what: &'static str, found: usize, allowed: usize },
    #[error(transparent)]
    Params(#[from] BadTree),
}

impl Numbered {
    pub fn encode(&self) -> Result<Vec<u8>, BadRequest> {
        self.request.check()?;
        let bytes = postcard::to_allocvec(self)?;
        at_most("a request", bytes.len(), MAX_REQUEST)?;
        Ok(bytes)
    }

    /// Whole, and within every bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRequest> {
        let (numbered, rest): (Self, _) = postcard::take_from_bytes(bytes)?;
        at_most("bytes after a request", rest.len(), 0)?;
        numbered.request.check()?;
        Ok(numbered)
    }
}

fn at_most(what: &'static str, found: usize, allowed: usize) -> Result<(), BadRequest> {
    if found <= allowed {
        return Ok(());
    }
    Err(BadRequest::TooMuch { what, found, allowed })
}

impl Request {
    fn check(&self) -> Result<(), BadRequest> {
        let text = |what, text: &String| at_most(what, text.len(), MAX_TEXT);
        match self {
            Self::Alive | Self::Release { .. } | Self::Inventory | Self::Unsettled | Self::Status | Self::Doctor | Self::Stop { .. } => {
                Ok(())
            }
            Self::Start(start) => {
                text("a digest", &start.plan_digest.0)?;
                start.wish.check()
            }
            Self::Renew { injections, .. } | Self::Verify(injections) | Self::Settle(injections) => {
                at_most("injections", injections.len(), MAX_IDS)
            }
            Self::Preflight(wishes) => {
                at_most("wishes", wishes.len(), MAX_WISHES)?;
                at_most(
                    "values in all parameters",
                    wishes.iter().map(|wish| wish.params.len()).sum(),
                    MAX_NODES,
                )?;
                wishes.iter().try_for_each(WishFrame::check)
            }
            Self::Halt { reason, .. } => text("a reason", reason),
            Self::Accept { by, reason } => text("a name", by).and_then(|()| text("a reason", reason)),
            Self::Controllers(addresses) => at_most("addresses", addresses.len(), MAX_ADDRESSES),
            Self::Run(order) => {
                text("a program's name", &order.program)?;
                at_most("arguments", order.args.len(), MAX_ARGS)?;
                order.args.iter().try_for_each(|arg| text("an argument", arg))
            }
            Self::Resolved { answer, .. } => match answer {
                Ok(addresses) => at_most("addresses", addresses.len(), MAX_ADDRESSES),
                Err(why) => text("a reason", why),
            },
        }
    }
}

impl WishFrame {
    fn check(&self) -> Result<(), BadRequest> {
        at_most("a kind's name", self.fault.as_str().len(), MAX_KIND)?;
        at_most("wishes beside", self.beside.len(), MAX_WISHES)
    }
}

impl TryFrom<StartOrder> for StartFrame {
    type Error = BadRequest;

    fn try_from(order: StartOrder) -> Result<Self, BadRequest> {
        Ok(Self {
            injection: order.injection,
            run: order.run,
            lease_ms: order.lease_ms,
            plan_digest: order.plan_digest,
            wish: order.wish.try_into()?,
        })
    }
}

impl TryFrom<StartFrame> for StartOrder {
    type Error = BadRequest;

    fn try_from(frame: StartFrame) -> Result<Self, BadRequest> {
        Ok(Self {
            injection: frame.injection,
            run: frame.run,
            lease_ms: frame.lease_ms,
            plan_digest: frame.plan_digest,
            wish: frame.wish.try_into()?,
        })
    }
}

impl TryFrom<Wish> for WishFrame {
    type Error = BadRequest;

    fn try_from(wish: Wish) -> Result<Self, BadRequest> {
        Ok(Self {
            params: Tree::of(&wish.params)?,
            beside: wish.beside.iter().map(|at| u32::try_from(*at).unwrap_or(u32::MAX)).collect(),
            fault: wish.fault,
            duration_ms: wish.duration_ms,
            seed: wish.seed,
            unattended: wish.unattended,
        })
    }
}

impl TryFrom<WishFrame> for Wish {
    type Error = BadRequest;

    fn try_from(frame: WishFrame) -> Result<Self, BadRequest> {
        Ok(Self {
            params: frame.params.value()?,
            beside: frame.beside.iter().map(|at| *at as usize).collect(),
            fault: frame.fault,
            duration_ms: frame.duration_ms,
            seed: frame.seed,
            unattended: frame.unattended,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish() -> Wish {
        Wish {
            fault: FaultKind::parse("network.delay").unwrap(),
            params: json!({"to": ["10.0.0.7"], "delay": "100ms"}),
            duration_ms: 10_000,
            seed: 7,
            beside: vec![0, 3],
            unattended: true,
        }
    }

    #[test]
    fn orders_cross_as_they_are() {
        let order = StartOrder {
            injection: InjectionId::generate(),
            run: RunId::generate(),
            lease_ms: 15_000,
            plan_digest: PlanDigest("sha256:00".to_owned()),
            wish: wish(),
        };
        let numbered = Numbered {
            id: 9,
            request: Request::Start(order.clone().try_into().unwrap()),
        };
        let read = Numbered::decode(&numbered.encode().unwrap()).unwrap();
        assert_eq!(read, numbered);
        let Request::Start(frame) = read.request else { panic!("a start") };
        assert_eq!(StartOrder::try_from(frame).unwrap(), order);
    }

    #[test]
    fn what_is_out_of_bounds_is_no_request() {
        let refused = |request| {
            let bytes = postcard::to_allocvec(&Numbered { id: 1, request }).unwrap();
            Numbered::decode(&bytes).unwrap_err().to_string()
        };
        let many = vec![InjectionId::generate(); MAX_IDS + 1];
        assert!(refused(Request::Settle(many)).contains("injections of 50001 (allowed: up to 50000)"));
        let long = "x".repeat(MAX_TEXT + 1);
        assert!(
            refused(Request::Halt {
                epoch: 1,
                reason: long.clone()
            })
            .contains("a reason of")
        );
        let order = ProgramOrder {
            program: "ls".to_owned(),
            args: vec![long],
            timeout_ms: 1,
        };
        assert!(refused(Request::Run(order)).contains("an argument of"));
        let mut bytes = postcard::to_allocvec(&Numbered {
            id: 1,
            request: Request::Status,
        })
        .unwrap();
        bytes.push(0);
        assert!(Numbered::decode(&bytes).is_err(), "a byte too many");
        assert!(Numbered::decode(&[1, 200]).is_err(), "a request that does not exist");
    }

    /// An id is checked when it is read, so that none can name a path or a rule of somebody else.
    #[test]
    fn an_id_with_a_path_in_it_is_no_id() {
        let id = InjectionId::generate();
        let good = Numbered {
            id: 1,
            request: Request::Verify(vec![id.clone()]),
        };
        let bytes = good.encode().unwrap();
        let text = id.to_string();
        let at = bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
        let mut forged = bytes;
        forged[at..at + 3].copy_from_slice(b"../");
        assert!(Numbered::decode(&forged).is_err());
    }
}
