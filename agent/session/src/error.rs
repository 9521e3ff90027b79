//! What can keep a host from its controller; the deeds of the host itself do not depend on any of it.

use std::path::PathBuf;

use proto_transport::TransportError;

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("{deed} {}", path.display())]
    File {
        deed: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("this host has not joined a controller: run \"fracas-agent enrol\" first ({} is missing)", .0.display())]
    NotEnrolled(PathBuf),
    #[error("this host has joined {controller} already; remove {} to join another", folder.display())]
    AlreadyEnrolled { controller: String, folder: PathBuf },
    #[error("{0}")]
    Token(#[from] proto_transport::InvalidToken),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the controller refused: {}", .0.message())]
    Refused(tonic::Status),
    #[error("the controller broke the rules of the session: {0}")]
    Protocol(String),
    #[error("the warden of this host did not answer")]
    Warden,
    #[error("the session is over: {0}")]
    Over(String),
}
