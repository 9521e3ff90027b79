//! The controller's own certificate, renewed long before it ends and whenever the authority changes, while the listeners stay up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use controller_dispatcher::Dispatcher;
use proto_model::time::Timestamp;
use proto_transport::{Authorities, ServerTls, TransportError};

use crate::clock::now;

const LIVES_MS: u64 = 30 * 24 * 3_600_000;
const RENEWED_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// After one that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

pub fn server_tls(authorities: &Authorities, names: &[String], now: Timestamp) -> Result<ServerTls, TransportError> {
    let rotation = authorities.rotation();
    let (certificate, key) = rotation.current().issue_server_for(names, now, LIVES_MS)?;
    ServerTls::new(&rotation.trusted(), certificate, &key)
}

/// Says on standard error what there is to say about the authority of this folder, if it has one.
pub fn warn_of_end(state_dir: &Path, life_ms: u64) {
    match Authorities::open(&state_dir.join("authority"), life_ms, now()) {
        Ok(there) => {
            let warning = there.and_then(|authorities| authorities.current().warning(now()));
            warning.into_iter().for_each(|warning| eprintln!("warning: {warning}"));
        }
        Err(error) => eprintln!("warning: the authority could not be read: {error}"),
    }
}

/// Until the program ends. Hosts hear of a change once the listeners act by it.
pub async fn keep_fresh(authorities: Arc<Authorities>, tls: ServerTls, names: Vec<String>, dispatcher: Dispatcher) {
    let mut changes = authorities.changes();
    let (mut wait, mut pending) = (Duration::ZERO, false);
    loop {
        pending |= tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            () = tokio::time::sleep(wait) => false,
        };
        let rotation = authorities.rotation();
        if let Some(warning) = rotation.current().warning(now()) {
            tracing::warn!("{warning}");
        }
        let renewed = rotation
            .current()
            .issue_server_for(&names, now(), LIVES_MS)
            .and_then(|(certificate, key)| tls.renew(&rotation.trusted(), certificate, &key));
        wait = match renewed {
            Ok(()) => {
                if std::mem::take(&mut pending) {
                    dispatcher.tell_authorities();
                }
                RENEWED_EVERY
            }
            Err(error) => {
                tracing::error!(error = %error, "the controller's certificate could not be renewed");
                AGAIN_AFTER
            }
        };
    }
}
