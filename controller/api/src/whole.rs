//! A call that changes something, carried through to its end though its caller hangs up or its time is over. It decides nothing.

use std::future::Future;

use tonic::body::Body;
use tonic::codegen::http::Request;

use crate::access::short;
use crate::error::{ApiError, ApiResult};

/// Bytes of such a call: the longest message that is read, with its head.
const CALL_BYTES: usize = (4 << 20) + 5;

/// The call with the whole of its body: only then does it begin, so that nobody keeps one waiting in the middle.
pub(crate) async fn arrived(request: Request<Body>) -> ApiResult<Request<Body>> {
    let (head, body) = request.into_parts();
    let bytes = axum::body::to_bytes(axum::body::Body::new(body), CALL_BYTES).await;
    let bytes = bytes.map_err(|error| {
        let call = short(head.uri.path());
        let message = format!("{call} did not arrive whole, and nothing was done: {error}; a call has at most {CALL_BYTES} bytes");
        ApiError::new("usage", message)
    })?;
    Ok(Request::from_parts(head, Body::new(axum::body::Body::from(bytes))))
}

/// Goes on in a task of its own when nobody waits for it any more. A panic in it is an error that says so.
pub(crate) async fn whole<T: Send + 'static>(call: &str, deed: impl Future<Output = T> + Send + 'static) -> ApiResult<T> {
    tokio::spawn(deed).await.map_err(|error| {
        tracing::error!(%error, call, "a call broke off");
        let message = format!("{} broke off in the controller; what it did until then stands", short(call));
        ApiError::new("internal", message)
    })
}
