//! Buys this host's first certificate with a join token, from the controller whose authority the token names and no other.

use std::path::PathBuf;
use std::time::Duration;

use proto_model::id::{HostName, InvalidId};
use proto_model::time::Timestamp;
use proto_transport::{ClientIdentity, Identity, JoinToken, TransportError, Trust, connect, fingerprint_of, not_after_of};
use proto_wire::v1::enrolment_client::EnrolmentClient;
use proto_wire::v1::{EnrolReply, EnrolRequest};
use rustls_pki_types::CertificateDer;
use tonic::Status;

use crate::files::{Files, IdentityError, IdentityFolder};
use crate::trust::are_certificates;

/// The longest the controller may take to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What an enrolment needs.
pub struct EnrolOptions {
    /// `host:port`
    pub controller: String,
    pub token: JoinToken,
    pub identity: IdentityFolder,
    /// The name to be known by; capitals become small letters.
    pub name: String,
    pub machine_id: String,
    pub agent_version: String,
}

/// What it bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    pub host: HostName,
    /// The folder that now holds the identity.
    pub identity: PathBuf,
    pub not_after: Timestamp,
}

/// Why this host is not enrolled. Nothing it had before is lost.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("this host cannot be called so: {0}")]
    Name(#[from] InvalidId),
    #[error(transparent)]
    Connect(#[from] TransportError),
    #[error("the controller refused: {0}")]
    Refused(String),
    #[error("the controller did not answer within {} s", ANSWER_WITHIN.as_secs())]
    NoAnswer,
    #[error("the controller's answer cannot be used: {0}")]
    Answer(&'static str),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

pub async fn enrol(options: EnrolOptions) -> Result<Enrolled, EnrolError> {
    let name = HostName::parse(&options.name.to_ascii_lowercase())?;
    let files = Files::of(options.identity);
    let (key_pem, csr_der) = files.own_key()?;
    let pinned = Trust::Fingerprint(options.token.fingerprint.clone());
    let channel = connect(&options.controller, pinned, None).await?;
    let wish = EnrolRequest {
        token: options.token.to_string(),
        csr_der,
        hostname: name.to_string(),
        machine_id: options.machine_id,
        agent_version: options.agent_version,
    };
    let mut client = EnrolmentClient::new(channel);
    let reply = match tokio::time::timeout(ANSWER_WITHIN, client.enrol(wish)).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err(refused(&status)),
        Err(_) => return Err(EnrolError::NoAnswer),
    };
    let (host, not_after) = check(&reply, &options.token, key_pem)?;
    files.enrolled(&options.controller, &trusted(&reply), &reply.certificate_der)?;
    let identity = files.shown().to_owned();
    Ok(Enrolled { host, identity, not_after })
}

fn refused(status: &Status) -> EnrolError {
    match status.message() {
        "" => EnrolError::Refused(status.code().to_string()),
        message => EnrolError::Refused(message.to_owned()),
    }
}

/// An older controller names the authority in force alone.
fn trusted(reply: &EnrolReply) -> Vec<Vec<u8>> {
    match reply.trusted_der.is_empty() {
        true => vec![reply.authority_der.clone()],
        false => reply.trusted_der.clone(),
    }
}

/// The authority must be the pinned one, and the certificate for our key.
fn check(reply: &EnrolReply, token: &JoinToken, key_pem: String) -> Result<(HostName, Timestamp), EnrolError> {
    if fingerprint_of(&reply.authority_der) != token.fingerprint {
        return Err(EnrolError::Answer("it holds another authority than the token names"));
    }
    if !trusted(reply).contains(&reply.authority_der) || !are_certificates(&trusted(reply)) {
        return Err(EnrolError::Answer("the authorities to trust cannot be used"));
    }
    let certificate = CertificateDer::from(reply.certificate_der.clone());
    let not_after = not_after_of(&certificate).ok_or(EnrolError::Answer("its certificate cannot be read"))?;
    let client = ClientIdentity { certificate, key_pem };
    match Identity::of_certificate(&client.certificate) {
        Identity::Host(host) if client.is_whole() => Ok((host, not_after)),
        _ => Err(EnrolError::Answer("its certificate is not for this host's key")),
    }
}
