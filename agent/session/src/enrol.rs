//! Joining a controller: a key made here, a token, and the fingerprint in it that pins the very first connection.

use std::path::PathBuf;

use proto_transport::{ClientIdentity, JoinToken, MAX_MESSAGE, Trust, connect, csr};
use proto_wire::v1::EnrolRequest;
use proto_wire::v1::enrolment_client::EnrolmentClient;
use rustls_pki_types::CertificateDer;

use crate::error::SessionError;
use crate::identity::{Identity, IdentityFiles};

/// What joining needs.
#[derive(Debug, Clone)]
pub struct EnrolOptions {
    /// `host:port` of the controller's listener for agents.
    pub controller: String,
    pub token: JoinToken,
    pub state_dir: PathBuf,
    /// The name to ask for.
    pub name: String,
    pub machine_id: String,
    pub agent_version: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    pub host: String,
    pub identity: PathBuf,
}

/// Joins. The key is made here and never leaves; nothing is written unless the controller agreed.
pub async fn enrol(options: EnrolOptions) -> Result<Enrolled, SessionError> {
    let files = IdentityFiles::below(&options.state_dir);
    if let Some(controller) = files.controller() {
        return Err(SessionError::AlreadyEnrolled {
            controller,
            folder: files.folder().to_owned(),
        });
    }
    let (key_pem, csr_der) = csr()?;
    let channel = connect(&options.controller, Trust::Fingerprint(options.token.fingerprint.clone()), None).await?;
    let request = EnrolRequest {
        token: options.token.to_string(),
        csr_der,
        hostname: options.name,
        machine_id: options.machine_id,
        agent_version: options.agent_version,
    };
    let mut client = EnrolmentClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let reply = client.enrol(request).await.map_err(SessionError::Refused)?.into_inner();
    files.save(&Identity {
        controller: options.controller,
        authority: CertificateDer::from(reply.authority_der),
        client: ClientIdentity {
            certificate: CertificateDer::from(reply.certificate_der),
            key_pem,
        },
    })?;
    Ok(Enrolled {
        host: reply.host,
        identity: files.folder().to_owned(),
    })
}
