//! Who is at the other end of a call, as its connection has shown.

use proto_transport::{Identity, PeerInfo};
use tonic::{Request, Status};

/// Who is at the other end; put there by the listener.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<PeerInfo, Status> {
    request
        .extensions()
        .get::<PeerInfo>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("no TLS connection"))
}

/// Refuses a call that only hosts may make, before its message is read.
pub(crate) fn must_be_host(request: Request<()>) -> Result<Request<()>, Status> {
    match peer(&request)?.identity {
        Identity::Host(_) => Ok(request),
        _ => Err(Status::unauthenticated("this call needs a host's certificate; enrol first")),
    }
}
