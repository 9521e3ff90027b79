//! The door before every service: who is it, may they, and is it written down. It knows no service and no handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use controller_conductor::BoxFuture;
use proto_model::time::Timestamp;
use proto_transport::{Identity, PeerInfo, ShownCertificate};
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
use crate::whole::{arrived, whole};

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
    S::Future: Send + 'static,
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
            Ok((caller, deed)) => Box::pin(through(door, caller, deed, request, ready)),
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

async fn through<S>(
    door: Arc<Door>,
    caller: Caller,
    deed: Deed,
    mut request: Request<Body>,
    mut inner: S,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    request.extensions_mut().insert(caller.clone());
    if deed == Deed::Reads {
        return Ok(watched(inner.call(request).await?, door.keyring.clone(), door.now, caller));
    }
    let call = request.uri().path().to_owned();
    let done = match arrived(request).await {
        Ok(request) => whole(&call, recorded(door.clone(), caller.clone(), deed, request, inner)).await,
        Err(error) => Err(error),
    };
    Ok(watched(answer_or_error(done)?, door.keyring.clone(), door.now, caller))
}

/// The call and its line of the audit log; nobody may cut between the two.
async fn recorded<S>(door: Arc<Door>, caller: Caller, deed: Deed, request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    let (call, now) = (request.uri().path().to_owned(), (door.now)());
    let written = match deed {
        Deed::Reads | Deed::Stops => None,
        Deed::Changes => match door.audit.noted(&caller, &call, now).await {
            Ok(written) => Some(written),
            Err(error) => return Ok(unwritten(&caller, &call, &error)),
        },
    };
    // A task of its own again: what breaks off has its line all the same.
    let answer = answer_or_error(whole(&call, inner.call(request)).await)?;
    match written {
        Some(written) => written.answered(answer.headers()).await,
        None => door.audit.told(&caller, &call, now, answer.headers()),
    }
    Ok(answer)
}

fn answer_or_error<E>(done: ApiResult<Result<Response<Body>, E>>) -> Result<Response<Body>, E> {
    done.unwrap_or_else(|error| Ok(Status::from(error).into_http()))
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
            Some(header) => {
                let caller = self.keyring.by_header(header, peer.address, urgent, (self.now)())?;
                peer.identify(&caller.name);
                Ok(caller)
            }
            None => self.by_certificate(peer),
        }
    }

    fn by_certificate(&self, peer: &PeerInfo) -> ApiResult<Caller> {
        match &peer.identity {
            Identity::Operator { name, role } if !peer.is_expired((self.now)()) => {
                let shown = ShownCertificate {
                    operator: name.clone(),
                    key: peer.key_fingerprint.as_deref().map(str::to_owned),
                    begins: peer.not_before,
                    ends: peer.not_after,
                    issuer: peer.issuer.to_vec(),
                };
                if !self.keyring.is_trusted(&shown) {
                    let message = format!("the certificate of {name} is of an authority that is not trusted any more");
                    return Err(self.keyring.failed(peer.address, (self.now)(), &message));
                }
                if self.keyring.is_revoked(&shown) {
                    let message = format!("the certificate of {name} is revoked");
                    return Err(self.keyring.failed(peer.address, (self.now)(), &message));
                }
                Ok(Caller::new(name, plain(peer.address), *role, Credential::Certificate(shown)))
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
    use std::convert::Infallible;

    use controller_store::{Actor, MemoryStore, OperatorRecord, StoreHandle, hash_secret};
    use proto_model::document::{AuditEntry, AuditOutcome};
    use proto_model::role::Role;
    use proto_transport::OperatorToken;
    use tokio::sync::mpsc;
    use tonic::Code;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000);
    const WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
    const CHANGES: &str = "/fracas.v1.Hosts/Cordon";
    const STOPS: &str = "/fracas.v1.Emergency/Halt";

    /// A service in two steps: it says that it has begun, and says that it is done once it may go on.
    #[derive(Clone)]
    struct TwoSteps {
        said: mpsc::Sender<&'static str>,
        may_go_on: Arc<tokio::sync::Semaphore>,
        breaks_off: bool,
    }

    impl Service<Request<Body>> for TwoSteps {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let this = self.clone();
            Box::pin(async move {
                this.said.send("begun").await.unwrap();
                drop(this.may_go_on.acquire().await.unwrap());
                assert!(!this.breaks_off, "it breaks off");
                this.said.send("done").await.unwrap();
                Ok(Response::new(Body::empty()))
            })
        }
    }

    struct World {
        service: Guarded<TwoSteps>,
        token: OperatorToken,
        heard: mpsc::Receiver<&'static str>,
        may_go_on: Arc<tokio::sync::Semaphore>,
        audit: AuditLog,
        _folder: tempfile::TempDir,
    }

    impl World {
        async fn new(breaks_off: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let audit = AuditLog::open(folder.path()).unwrap();
            let keyring = Keyring::load(StoreHandle::spawn(Box::new(MemoryStore::new()))).await.unwrap();
            let token = OperatorToken::generate();
            keyring
                .add(
                    administrator(&token),
                    &Actor {
                        by: "root@local".into(),
                        address: "local".into(),
                    },
                )
                .await
                .unwrap();
            let (said, heard) = mpsc::channel(8);
            let may_go_on = Arc::new(tokio::sync::Semaphore::new(0));
            let inner = TwoSteps {
                said,
                may_go_on: may_go_on.clone(),
                breaks_off,
            };
            let door = Door {
                keyring,
                audit: audit.clone(),
                now: || NOW,
            };
            let service = DoorLayer(Arc::new(door)).layer(inner);
            Self {
                service,
                token,
                heard,
                may_go_on,
                audit,
                _folder: folder,
            }
        }

        fn call(&mut self, call: &str, body: Body) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
            let mut request = Request::new(body);
            *request.uri_mut() = call.parse().unwrap();
            let bearer = format!("Bearer {}", self.token);
            request.headers_mut().insert(AUTHORIZATION, bearer.parse().unwrap());
            request.extensions_mut().insert(PeerInfo::of("10.0.0.1:1".parse().unwrap(), None));
            self.service.call(request)
        }

        async fn hear(&mut self) -> Option<&'static str> {
            tokio::time::timeout(WITHIN, self.heard.recv())
                .await
                .expect("nothing was said within 5 s")
        }

        /// The one line of the audit log, once it is there.
        async fn line(&self) -> AuditEntry {
            let until = tokio::time::Instant::now() + WITHIN;
            loop {
                if let Some(line) = self.audit.newest(2, None).await.unwrap().pop() {
                    return line;
                }
                assert!(tokio::time::Instant::now() < until, "no line within 5 s");
                tokio::task::yield_now().await;
            }
        }
    }

    fn administrator(token: &OperatorToken) -> OperatorRecord {
        OperatorRecord {
            id: token.id.clone(),
            name: "ann".into(),
            role: Role::Administrator,
            secret_hash: hash_secret(&token.secret),
            created_at: NOW,
            expires_at: NOW.plus_ms(60_000),
            revoked: false,
            created_by: "root@local".into(),
            last_used: None,
        }
    }

    #[tokio::test]
    async fn a_caller_who_hangs_up_cuts_no_change_in_half() {
        for call in [CHANGES, STOPS] {
            let mut world = World::new(false).await;
            let mut waiting = world.call(call, Body::empty());
            tokio::select! {
                _ = &mut waiting => panic!("{call} is answered before it may go on"),
                heard = world.hear() => assert_eq!(heard, Some("begun")),
            }
            drop(waiting);
            world.may_go_on.add_permits(1);
            assert_eq!(world.hear().await, Some("done"), "{call}");
            let line = world.line().await;
            assert_eq!((line.call.as_str(), line.outcome), (short(call), AuditOutcome::Done));
        }
    }

    #[tokio::test]
    async fn a_call_that_breaks_off_is_an_internal_error_and_has_its_line() {
        for call in [CHANGES, STOPS] {
            let mut world = World::new(true).await;
            world.may_go_on.add_permits(1);
            let answer = world.call(call, Body::empty()).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::Internal, "{status}");
            assert!(status.message().contains("broke off"), "{status}");
            let line = world.line().await;
            assert_eq!(
                (line.outcome, line.code.as_deref()),
                (AuditOutcome::Failed, Some("internal")),
                "{call}"
            );
        }
    }

    #[tokio::test]
    async fn a_change_whose_message_does_not_arrive_whole_does_not_begin() {
        let mut world = World::new(false).await;
        let endless = axum::body::Body::from(vec![0u8; 5 << 20]);
        let answer = world.call(CHANGES, Body::new(endless)).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(world.heard.try_recv().is_err(), "it began all the same");
        assert_eq!(world.audit.newest(2, None).await.unwrap(), []);
    }
}
