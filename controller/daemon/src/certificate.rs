//! The controller's own certificate, renewed long before it ends and whenever the authority or the wall clock changes, while the listeners stay up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use controller_dispatcher::Dispatcher;
use proto_model::time::Timestamp;
use proto_transport::{Authorities, ServerTls, TransportError};

use crate::clock::now;

const LIVES_MS: u64 = 30 * 24 * 3_600_000;
const RENEWED_AFTER_MS: u64 = 24 * 3_600_000;
/// How often the wall clock is looked at, which can be set, and goes on while this machine is suspended; also after a renewal that failed.
const LOOK_EVERY: Duration = Duration::from_secs(60);

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
    let (mut wait, mut pending, mut issued_at) = (Duration::ZERO, false, None);
    loop {
        pending |= tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            () = tokio::time::sleep(wait) => false,
        };
        wait = LOOK_EVERY;
        let at = now();
        if !pending && !is_due(issued_at, at) {
            continue;
        }
        let rotation = authorities.rotation();
        if let Some(warning) = rotation.current().warning(at) {
            tracing::warn!("{warning}");
        }
        let renewed = rotation
            .current()
            .issue_server_for(&names, at, LIVES_MS)
            .and_then(|(certificate, key)| tls.renew(&rotation.trusted(), certificate, &key));
        match renewed {
            Ok(()) => {
                issued_at = Some(at);
                if std::mem::take(&mut pending) {
                    dispatcher.tell_authorities();
                }
            }
            Err(error) => tracing::error!(error = %error, "the controller's certificate could not be renewed"),
        }
    }
}

/// Whether a certificate of this time, or none, is to be replaced. One from before the clock was set far forward has ended, and one from before it
/// was set back is not valid yet.
fn is_due(issued_at: Option<Timestamp>, now: Timestamp) -> bool {
    issued_at.is_none_or(|issued_at| now < issued_at || now.since(issued_at) >= RENEWED_AFTER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_each_day_and_when_the_clock_was_set() {
        const YEAR_MS: i64 = 365 * 24 * 3_600_000;
        let issued_at = Timestamp(1_800_000_000_000);
        let due = |ms: i64| is_due(Some(issued_at), Timestamp(issued_at.0 + ms));
        assert!(is_due(None, issued_at));
        assert!(!due(0) && !due(23 * 3_600_000));
        assert!(due(24 * 3_600_000) && due(YEAR_MS) && due(-YEAR_MS));
    }
}
