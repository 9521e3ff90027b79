//! The listener for agents: keepalive, caps on streams, a deadline on every answer; it decides nothing about who may speak.

use std::future::Future;
use std::io;
use std::time::Duration;

use proto_transport::{AnswerLayer, TlsIo};
use tokio_stream::Stream;
use tonic::Status;
use tonic::transport::Server;

use crate::dispatcher::Dispatcher;

const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(20);
/// What a peer may send before it is read; small, because peers that nobody knows have it too.
const WINDOW: u32 = 64 << 10;
/// A session and a renewal are two; the rest is room for a redial.
const STREAMS_PER_CONNECTION: u32 = 8;
/// The longest a call may wait for its answer, or a session for its beginning.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

impl Dispatcher {
    /// Serves agents until `leave`; then their sessions end, and they dial again.
    pub async fn serve_agents(
        &self,
        connections: impl Stream<Item = io::Result<TlsIo>>,
        leave: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let leave = async {
            leave.await;
            self.hang_up();
        };
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
            .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
            .initial_connection_window_size(Some(WINDOW))
            .initial_stream_window_size(Some(WINDOW))
            .timeout(ANSWER_WITHIN)
            .layer(AnswerLayer)
            .add_routes(self.routes())
            .serve_with_incoming_shutdown(connections, leave)
            .await
    }

    /// Ends every session; hosts keep what they hold until their leases run out.
    pub fn hang_up(&self) {
        for (_, entry) in self.fleet().iter() {
            for live in entry.sessions() {
                live.link.end(Status::unavailable("the controller is shutting down"));
            }
        }
    }
}
