//! A certificate renewed at half of its life while the session stays up; the next dial shows the new one.

use std::time::Duration;

use proto_model::time::Timestamp;
use proto_transport::{Authority, MAX_MESSAGE, not_after_of};
use proto_wire::v1::RenewRequest;
use proto_wire::v1::agents_client::AgentsClient;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;

use crate::error::SessionError;
use crate::identity::{Identity, IdentityFiles};
use crate::session::now;

/// The shortest time between two tries.
const AT_LEAST: Duration = Duration::from_secs(1);
/// How long one try may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Buys the successor of the certificate for the same key and keeps it.
pub(crate) async fn renew(channel: Channel, files: &IdentityFiles) -> Result<Identity, SessionError> {
    let mut identity = files.load()?;
    let csr_der = Authority::csr_for(&identity.client.key_pem)?;
    let mut client = AgentsClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let asked = tokio::time::timeout(WITHIN, client.renew(RenewRequest { csr_der })).await;
    let reply = asked
        .map_err(|_| SessionError::Over("no answer to a renewal within 10 s".to_owned()))?
        .map_err(SessionError::Refused)?
        .into_inner();
    files.save_certificate(&reply.certificate_der)?;
    identity.client.certificate = CertificateDer::from(reply.certificate_der);
    tracing::info!(not_after = %Timestamp(reply.not_after_ms), "certificate renewed");
    Ok(identity)
}

/// Until half of what is left of the certificate has passed.
pub(crate) fn due_in(identity: &Identity) -> Duration {
    let left = not_after_of(&identity.client.certificate).map_or(0, |end| end.since(now()));
    Duration::from_millis(left / 2).max(AT_LEAST)
}

pub(crate) fn is_expired(identity: &Identity) -> bool {
    not_after_of(&identity.client.certificate).is_none_or(|end| end < now())
}
