//! One HTTP/2 connection over mutual TLS from an address of the host's own, with no more memory than a host needs.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto_transport::{ClientIdentity, TransportError, Trust, connect_from};
use tonic::body::Body;
use tower::Service;

/// Orders are small: windows of one largest message are enough.
const WINDOW: u32 = 64 * 1024;

/// What can go wrong before the first call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("begin HTTP/2: {0}")]
    Http(#[from] hyper::Error),
}

/// A connection as tonic's clients take it. It closes when the last copy is dropped.
#[derive(Clone)]
pub(crate) struct Connection(SendRequest<Body>);

impl Connection {
    pub async fn open(from: IpAddr, controller: SocketAddr, trust: Trust, identity: Option<&ClientIdentity>) -> Result<Self, ConnectError> {
        let stream = connect_from(from, controller, trust, identity).await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(WINDOW as usize);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // It ends with its sender; why it ended is heard by the call that is open.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    pub fn origin() -> Uri {
        Uri::from_static("http://controller.fracas")
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
