//! The controller's own certificate, renewed long before it ends while the listeners stay up.

use std::path::Path;
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

/// Says on standard error what there is to say about the authority of this folder, if it has one.
pub fn warn_of_end(state_dir: &Path) {
    match Authority::open(&state_dir.join("authority")) {
        Ok(Some(authority)) => authority
            .warning(now())
            .into_iter()
            .for_each(|warning| eprintln!("warning: {warning}")),
        Ok(None) => {}
        Err(error) => eprintln!("warning: the authority could not be read: {error}"),
    }
}

/// Until the program ends.
pub async fn keep_fresh(authority: Arc<Authority>, tls: ServerTls, names: Vec<String>) {
    let mut beat = tokio::time::interval(RENEWED_EVERY);
    loop {
        beat.tick().await;
        if let Some(warning) = authority.warning(now()) {
            tracing::warn!("{warning}");
        }
        let renewed = authority
            .issue_server_for(&names, now(), LIVES_MS)
            .and_then(|(certificate, key)| tls.renew(authority.certificate(), certificate, &key));
        match renewed {
            Ok(()) => tracing::info!("the controller's certificate is renewed"),
            Err(error) => tracing::error!(error = %error, "the controller's certificate could not be renewed"),
        }
    }
}
