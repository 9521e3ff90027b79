//! The controller's own certificate, renewed long before it ends while the listeners stay up.

use std::sync::Arc;
use std::time::Duration;

use proto_model::time::Timestamp;
use proto_transport::{Authority, ServerTls, TransportError};

use crate::clock::now;

const LIVES_MS: u64 = 30 * 24 * 3_600_000;
const RENEWED_EVERY: Duration = Duration::from_secs(24 * 3_600);

pub fn server_tls(authority: &Authority, names: &[String], now: Timestamp) -> Result<ServerTls, TransportError> {
    let (certificate, key) = authority.issue_server_for(names, now, LIVES_MS)?;
    ServerTls::new(authority.certificate(), certificate, &key)
}

/// Until the program ends.
pub async fn keep_fresh(authority: Arc<Authority>, tls: ServerTls, names: Vec<String>) {
    let mut beat = tokio::time::interval(RENEWED_EVERY);
    beat.tick().await;
    loop {
        beat.tick().await;
        let renewed = authority
            .issue_server_for(&names, now(), LIVES_MS)
            .and_then(|(certificate, key)| tls.renew(authority.certificate(), certificate, &key));
        match renewed {
            Ok(()) => tracing::info!("the controller's certificate is renewed"),
            Err(error) => tracing::error!(error = %error, "the controller's certificate could not be renewed"),
        }
    }
}
