//! The door before every service: who is it, may they, and is it written down. It knows no service and no handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use controller_dispatcher::BoxFuture;
use proto_model::time::Timestamp;
use proto_transport::{Identity, PeerInfo};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::UdsConnectInfo;
use tower::{Layer, Service};

use crate::access::{Deed, may, row, short};
use crate::audit::AuditLog;
use crate::caller::{Caller, Credential};
use crate::error::{ApiError, ApiResult};
use crate::keyring::Keyring;
use crate::watched::watched;

const NOBODY: &str = "the caller has no identity: call as root or a member of fracas-admin on the controller's machine, \
     or with an operator's token or certificate";

/// What the door needs to know. Clones share it.
#[derive(Clone)]
pub struct Door {
    pub keyring: Keyring,
    pub audit: AuditLog,
    pub now: fn() -> Timestamp,
}

/// Puts the door before every service.
#[derive(Clone)]
pub struct DoorLayer(pub(crate) Arc<Door>);

impl<S> Layer<S> for DoorLayer {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        let door = self.0.clone();
        Guarded { inner, door }
    }
}

#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let door = self.door.clone();
        let next = self.inner.clone();
        // The one that was polled is the one that is ready.
        let ready = std::mem::replace(&mut self.inner, next);
        if is_page(request.uri().path()) {
            return Box::pin(passed(request, ready));
        }
        match door.admit(&request) {
            Ok((caller, Deed::Reads)) => Box::pin(through(door, caller, Deed::Reads, request, ready)),
            Ok((caller, deed)) => {
                let whole = to_its_end(through(door, caller, deed, request, ready));
                Box::pin(async move { whole.await.unwrap_or_else(|error| Ok(Status::from(error).into_http())) })
            }
            Err(error) => Box::pin(async move { Ok(Status::from(error).into_http()) }),
        }
    }
}

/// Pages have a door of their own, with sessions and forms; calls begin with the wire's name.
fn is_page(path: &str) -> bool {
    !path.starts_with("/fracas.")
}

async fn passed<S: Service<Request<Body>>>(request: Request<Body>, mut inner: S) -> Result<S::Response, S::Error> {
    inner.call(request).await
}

/// What changes or stops something is carried out to its end and written down although its caller hangs up meanwhile.
pub(crate) async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> ApiResult<T> {
    tokio::spawn(work).await.map_err(|error| {
        tracing::error!(%error, "a call broke");
        ApiError::new("internal", "the call broke; what became of it is in the records")
    })
}

async fn through<S>(
    door: Arc<Door>,
    caller: Caller,
    deed: Deed,
    mut request: Request<Body>,
    mut inner: S,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let call = request.uri().path().to_owned();
    let now = (door.now)();
    request.extensions_mut().insert(caller.clone());
    let answer = match deed {
        Deed::Reads => inner.call(request).await?,
        Deed::Stops => {
            let answer = inner.call(request).await?;
            door.audit.told(&caller, &call, now, answer.headers());
            answer
        }
        Deed::Changes => match door.audit.noted(&caller, &call, now).await {
            Ok(written) => {
                let answer = inner.call(request).await?;
                written.answered(answer.headers()).await;
                answer
            }
            Err(error) => unwritten(&caller, &call, &error),
        },
    };
    Ok(watched(answer, door, caller))
}

/// What cannot be written down does not happen.
fn unwritten(caller: &Caller, call: &str, error: &std::io::Error) -> Response<Body> {
    tracing::error!(%error, caller = caller.name, call, "a call is refused because the audit log cannot be written");
    let message = format!("{} was refused: the audit log cannot be written: {error}", short(call));
    Status::from(ApiError::new("audit", message)).into_http()
}

impl Door {
    /// The caller of a request and what the call does; a refusal is written down.
    fn admit(&self, request: &Request<Body>) -> ApiResult<(Caller, Deed)> {
        let call = request.uri().path();
        let peer = request.extensions().get::<PeerInfo>().map(|peer| peer.address);
        let caller = self
            .caller_of(request)
            .inspect_err(|error| self.write_refusal(None, peer, call, &error.0.code))?;
        allowed(&caller, call)
            .inspect_err(|error| self.write_refusal(Some(&caller), peer, call, &error.0.code))
            .map(|deed| (caller, deed))
    }

    fn caller_of(&self, request: &Request<Body>) -> ApiResult<Caller> {
        if let Some(info) = request.extensions().get::<UdsConnectInfo>() {
            return Caller::from_socket(info).ok_or_else(|| ApiError::new("not_authenticated", NOBODY));
        }
        let Some(peer) = request.extensions().get::<PeerInfo>() else {
            return Err(ApiError::new("not_authenticated", NOBODY));
        };
        let urgent = row(request.uri().path()).is_some_and(|(_, _, deed)| *deed == Deed::Stops);
        // A token goes before a certificate; one that is wrong is wrong whatever else is shown.
        match request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default()) {
            Some(header) => self.keyring.by_header(header, peer.address, urgent, (self.now)()),
            None => self.by_certificate(peer),
        }
    }

    fn by_certificate(&self, peer: &PeerInfo) -> ApiResult<Caller> {
        match &peer.identity {
            Identity::Operator { name, role } if !peer.is_expired((self.now)()) => {
                let credential = Credential::Certificate(peer.not_after);
                Ok(Caller::new(name, plain(peer.address), *role, credential))
            }
            _ => Err(self.keyring.failed(peer.address, (self.now)(), NOBODY)),
        }
    }

    /// Of calls and of pages alike; from one address at most one a second is listed, and the rest counted.
    pub(crate) fn write_refusal(&self, caller: Option<&Caller>, peer: Option<SocketAddr>, call: &str, code: &str) {
        let now = (self.now)();
        let address = peer.map_or_else(|| "local".to_owned(), plain);
        let unlisted = match peer {
            Some(peer) => self.keyring.lists(peer.ip(), now),
            None => Some(0),
        };
        if let Some(unlisted) = unlisted {
            tracing::warn!(caller = caller.map(|caller| &caller.name), address, call, code, "a call is refused");
            self.audit.refused(caller, address, call, code, unlisted, now);
        }
    }
}

fn allowed(caller: &Caller, call: &str) -> ApiResult<Deed> {
    let Some(row) = row(call) else {
        return Err(ApiError::new("forbidden", format!("no rule allows {call}")));
    };
    may(caller.role, row).map(|()| row.2).map_err(|needed| {
        let message = format!(
            "{} needs the role {needed}; {} has the role {}",
            short(call),
            caller.name,
            caller.role
        );
        ApiError::new("forbidden", message)
    })
}

/// An address as people know it, also where the listener speaks both families.
fn plain(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_caller_that_hangs_up_cuts_nothing_in_half() {
        let (begun, begins) = oneshot::channel();
        let (go, goes) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = async move {
            begun.send(()).unwrap();
            goes.await.unwrap();
            done.send(()).unwrap();
        };
        tokio::select! {
            _ = to_its_end(work) => panic!("it ended before it was let go"),
            begins = begins => begins.unwrap(),
        }
        go.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), is_done).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_call_that_breaks_is_answered() {
        let error = to_its_end::<()>(async { panic!("told to break") }).await.unwrap_err();
        assert_eq!(Status::from(error).code(), tonic::Code::Internal);
    }
}
