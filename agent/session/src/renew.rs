//! A new certificate for the same key, at half the life of the old one, while the session stays up. The next dial presents it.

use std::time::Duration;

use proto_model::time::Timestamp;
use proto_transport::{Authority, ClientIdentity, HOST_BACKDATE_MS, validity_of};
use proto_wire::v1::RenewRequest;
use proto_wire::v1::agents_client::AgentsClient;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;

use crate::clock::ControllerClock;
use crate::enrol::ANSWER_WITHIN;
use crate::files::{Files, IdentityError};
use crate::trust::are_certificates;

/// Why the old certificate is still the only one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("the controller refused: {}", .0.message())]
    Refused(Box<tonic::Status>),
    #[error("the controller did not answer within {} s", ANSWER_WITHIN.as_secs())]
    NoAnswer,
    #[error("the new certificate is not for this host's key")]
    Foreign,
    #[error("the authorities that came with the new certificate cannot be used")]
    Unusable,
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Renews over a connection that is up, and keeps what it got. The answer shows the controller's clock.
pub(crate) async fn renew(
    channel: Channel,
    files: &Files,
    old: &ClientIdentity,
    clock: &ControllerClock,
) -> Result<ClientIdentity, RenewError> {
    let csr_der = Authority::csr_for(&old.key_pem).map_err(IdentityError::from)?;
    let mut client = AgentsClient::new(channel);
    let reply = match tokio::time::timeout(ANSWER_WITHIN, client.renew(RenewRequest { csr_der })).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err(RenewError::Refused(Box::new(status))),
        Err(_) => return Err(RenewError::NoAnswer),
    };
    clock.set(Timestamp(reply.clock_ms));
    let new = ClientIdentity {
        certificate: CertificateDer::from(reply.certificate_der),
        key_pem: old.key_pem.clone(),
    };
    if !new.is_whole() {
        return Err(RenewError::Foreign);
    }
    if !reply.trusted_der.is_empty() {
        if !are_certificates(&reply.trusted_der) {
            return Err(RenewError::Unusable);
        }
        // Before the certificate: what issued it is trusted by then.
        files.trust(&reply.trusted_der)?;
    }
    files.renewed(&new.certificate)?;
    Ok(new)
}

/// From when to when; a certificate that cannot be read is over.
pub(crate) fn validity(identity: &ClientIdentity) -> (Timestamp, Timestamp) {
    validity_of(&identity.certificate).unwrap_or((Timestamp(0), Timestamp(0)))
}

/// How long to wait before renewing, by the controller's clock: until half of its life is left, and at most half its life.
pub(crate) fn due_in((from, to): (Timestamp, Timestamp), now: Timestamp) -> Duration {
    let half = to.since(from).saturating_sub(HOST_BACKDATE_MS) / 2;
    Duration::from_millis(to.since(now).saturating_sub(half).min(half))
}

/// How long to wait after a renewal that failed: a tenth of what is left, between 1 s and 5 minutes.
pub(crate) fn retry_in((_, to): (Timestamp, Timestamp), now: Timestamp) -> Duration {
    (Duration::from_millis(to.since(now)) / 10).clamp(Duration::from_secs(1), Duration::from_secs(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_half_of_the_life() {
        let issued = |ms: i64| Timestamp(ms.saturating_sub_unsigned(HOST_BACKDATE_MS));
        let validity = (issued(0), Timestamp(24_000));
        let due = |now| due_in(validity, Timestamp(now)).as_millis();
        assert_eq!([due(0), due(2_000), due(12_000), due(99_000)], [12_000, 10_000, 0, 0]);
        // A clock far behind does not put it off for ever.
        assert_eq!(due(-1_000_000), 12_000);
        assert_eq!(retry_in(validity, Timestamp(99_000)), Duration::from_secs(1));
    }
}
