//! Who is who on the wire: the authority, identities, TLS in both directions, join tokens, back-off. It knows no message.

mod admission;
mod answered;
mod authorities;
mod authority;
mod backoff;
mod budget;
mod client;
mod error;
mod identity;
mod issued;
mod local;
mod private;
mod revocation;
mod rotation;
mod server;
mod standing;
mod token;
mod trust;
mod verify;

pub use admission::{Admission, Limits, LogLimiter, network_of};
pub use answered::{AnswerLayer, AnswerService};
pub use authorities::Authorities;
pub use authority::{AUTHORITY_LIFE_MS, Authority, HOST_BACKDATE_MS, certificate_pem, csr};
pub use backoff::Backoff;
pub use budget::Quota;
pub use client::{ClientIdentity, connect, connect_from, connect_unix};
pub use error::TransportError;
pub use identity::{Identity, PeerInfo, fingerprint_of, fingerprint_of_key, is_issued_by, is_operator, not_after_of, validity_of};
pub use issued::{IssuedCertificate, IssuedList};
pub use local::incoming_local;
pub use private::{NewFile, create_private, replace_private};
pub use revocation::{Revocation, RevocationList, ShownCertificate};
pub use rotation::{Rotation, RotationError, RotationPhase, RotationStep};
pub use server::{ServerTls, TlsIo, incoming};
pub use standing::Standing;
pub use token::{InvalidOperatorToken, InvalidToken, JoinToken, OperatorToken};
pub use trust::Trust;
pub use verify::RENEW_GRACE_MS;

/// The largest message either side takes: 1 MiB.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Chooses the cryptography of this process. Call first in every program; again is harmless.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
