//! Which controller a client believes.

use rustls_pki_types::CertificateDer;

/// Whom to believe.
#[derive(Clone)]
pub enum Trust {
    /// Whoever one of these vouches for by the very name that is dialled, as browsers do.
    Named(Vec<CertificateDer<'static>>),
    /// These authorities, whatever the name that is dialled.
    Authorities(Vec<CertificateDer<'static>>),
    /// The authority whose certificate has this SHA-256, in hex; it must be in the chain that is shown.
    Fingerprint(String),
}
