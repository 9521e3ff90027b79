//! Who may call what: one row for every call, default deny. The layer looks the row up before any handler runs.

use std::task::{Context, Poll};

use controller_dispatcher::BoxFuture;
use proto_model::time::Timestamp;
use proto_transport::{Identity, PeerInfo};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::UdsConnectInfo;
use tower::{Layer, Service};

use crate::caller::Caller;
use crate::error::ApiError;

/// What a caller is allowed to be. Ordered: each may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Operator,
    Administrator,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

const NOBODY: &str =
    "the caller has no identity: call as root or a member of fracas-admin on the controller's machine, or with an operator's certificate";

/// Every call and the least role that may make it.
pub const ACCESS: &[(&str, Role)] = &[
    ("/fracas.v1.Experiments/Plan", Role::Operator),
    ("/fracas.v1.Experiments/Run", Role::Operator),
    ("/fracas.v1.Runs/List", Role::Viewer),
    ("/fracas.v1.Runs/Show", Role::Viewer),
    ("/fracas.v1.Runs/Events", Role::Viewer),
    ("/fracas.v1.Runs/Watch", Role::Viewer),
    ("/fracas.v1.Runs/Report", Role::Viewer),
    ("/fracas.v1.Runs/Stop", Role::Operator),
    ("/fracas.v1.Hosts/List", Role::Viewer),
    ("/fracas.v1.Hosts/Show", Role::Viewer),
    ("/fracas.v1.Hosts/Label", Role::Administrator),
    ("/fracas.v1.Hosts/Cordon", Role::Operator),
    ("/fracas.v1.Hosts/Verify", Role::Operator),
    ("/fracas.v1.Hosts/Accept", Role::Administrator),
    ("/fracas.v1.Faults/List", Role::Viewer),
    ("/fracas.v1.Tokens/Create", Role::Administrator),
    ("/fracas.v1.Tokens/List", Role::Administrator),
    ("/fracas.v1.Tokens/Revoke", Role::Administrator),
    ("/fracas.v1.Schedules/Add", Role::Operator),
    ("/fracas.v1.Schedules/List", Role::Viewer),
    ("/fracas.v1.Schedules/Show", Role::Viewer),
    ("/fracas.v1.Schedules/Pause", Role::Operator),
    ("/fracas.v1.Schedules/Resume", Role::Operator),
    ("/fracas.v1.Schedules/Remove", Role::Operator),
    ("/fracas.v1.Schedules/RunNow", Role::Operator),
    ("/fracas.v1.Schedules/Due", Role::Viewer),
    ("/fracas.v1.Freezes/Add", Role::Operator),
    ("/fracas.v1.Freezes/List", Role::Viewer),
    ("/fracas.v1.Freezes/Remove", Role::Administrator),
    ("/fracas.v1.Freezes/Import", Role::Administrator),
    ("/fracas.v1.Evidence/ApplyService", Role::Operator),
    ("/fracas.v1.Evidence/ListServices", Role::Viewer),
    ("/fracas.v1.Evidence/ShowService", Role::Viewer),
    ("/fracas.v1.Evidence/RemoveService", Role::Administrator),
    ("/fracas.v1.Evidence/Levels", Role::Viewer),
    ("/fracas.v1.Evidence/Site", Role::Viewer),
    ("/fracas.v1.Evidence/Publish", Role::Operator),
    ("/fracas.v1.Emergency/Halt", Role::Viewer),
    ("/fracas.v1.Emergency/Release", Role::Administrator),
    ("/fracas.v1.Emergency/Status", Role::Viewer),
];

/// Puts the access table before every service. `now` judges whether a certificate is still good.
pub fn layer(now: fn() -> Timestamp) -> AccessLayer {
    AccessLayer { now }
}

#[derive(Debug, Clone, Copy)]
pub struct AccessLayer {
    now: fn() -> Timestamp,
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;
    fn layer(&self, inner: S) -> Access<S> {
        Access { inner, now: self.now }
    }
}

#[derive(Debug, Clone)]
pub struct Access<S> {
    inner: S,
    now: fn() -> Timestamp,
}

impl<S> Service<Request<Body>> for Access<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match admit(&request, (self.now)()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                let answer = self.inner.call(request);
                Box::pin(answer)
            }
            Err(error) => Box::pin(async move { Ok(Status::from(error).into_http()) }),
        }
    }
}

fn admit(request: &Request<Body>, now: Timestamp) -> Result<Caller, ApiError> {
    let path = request.uri().path();
    let caller = caller_of(request, now).ok_or_else(|| ApiError::new("not_authenticated", NOBODY))?;
    let Some((_, least)) = ACCESS.iter().find(|(name, _)| *name == path) else {
        return Err(ApiError::new("forbidden", format!("no rule allows {path}")));
    };
    if caller.role >= *least {
        return Ok(caller);
    }
    let call = path.trim_start_matches("/fracas.v1.");
    Err(ApiError::new("forbidden", format!("{call} needs the role {}", least.as_str())))
}

fn caller_of(request: &Request<Body>, now: Timestamp) -> Option<Caller> {
    if let Some(info) = request.extensions().get::<UdsConnectInfo>() {
        return Caller::from_socket(info);
    }
    let peer = request.extensions().get::<PeerInfo>()?;
    match &peer.identity {
        Identity::Operator(name) if !peer.is_expired(now) => Some(Caller::from_certificate(name, peer.address.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calls that operators.proto defines.
    fn calls_of_the_wire() -> Vec<String> {
        let text = include_str!("../../../proto/wire/fracas/v1/operators.proto");
        let (mut service, mut calls) = (String::new(), Vec::new());
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("service ") {
                service = name.trim_end_matches('{').trim().to_owned();
            }
            if let Some(rest) = line.strip_prefix("rpc ") {
                let name = rest.split('(').next().unwrap_or_default();
                calls.push(format!("/fracas.v1.{service}/{name}"));
            }
        }
        calls
    }

    #[test]
    fn every_call_has_exactly_one_row_and_every_row_a_call() {
        let mut calls = calls_of_the_wire();
        let mut rows: Vec<String> = ACCESS.iter().map(|(name, _)| (*name).to_owned()).collect();
        calls.sort();
        rows.sort();
        assert!(calls.len() > 15);
        assert_eq!(calls, rows);
    }

    #[test]
    fn a_call_without_identity_is_refused() {
        let request = Request::builder().uri("/fracas.v1.Runs/List").body(Body::empty()).unwrap();
        assert_eq!(admit(&request, Timestamp(0)).unwrap_err().0.code, "not_authenticated");
    }
}
