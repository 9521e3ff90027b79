//! Notes on a connection that a request of it was answered.

use std::task::{Context, Poll};

use tower::{Layer, Service};

use crate::identity::PeerInfo;

/// Notes on a connection that a request of it was answered: put around every service that a listener serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerLayer;

/// What `AnswerLayer` makes of a service.
#[derive(Debug, Clone)]
pub struct AnswerService<S>(S);

impl<S> Layer<S> for AnswerLayer {
    type Service = AnswerService<S>;
    fn layer(&self, inner: S) -> AnswerService<S> {
        AnswerService(inner)
    }
}

impl<S, B> Service<http::Request<B>> for AnswerService<S>
where
    S: Service<http::Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let standing = request.extensions().get::<PeerInfo>().and_then(|peer| peer.standing.clone());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(standing) = standing {
                standing.request_finished();
            }
            answer
        })
    }
}
