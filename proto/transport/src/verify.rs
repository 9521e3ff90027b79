//! Certificates checked against our authority alone: hosts by the controller, the controller by hosts. No public authority is ever asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proto_model::time::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::TransportError;
use crate::identity::{Identity, hex, is_issued_by, not_after_of, validity_of};
use crate::trust::Trust;

/// How long after its expiry a host's certificate may still buy a new one for the same key.
pub const RENEW_GRACE_MS: u64 = 30 * 24 * 3_600_000;

/// The path is built without the validity of its root, so that is asked for here.
fn must_live(authority: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    match lives(authority, now) {
        true => Ok(()),
        false => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
    }
}

/// The one of these that issued the certificate, by its name.
fn issuer<'a>(authorities: &'a [CertificateDer<'static>], end: &CertificateDer<'_>) -> Result<&'a CertificateDer<'static>, Error> {
    let found = authorities.iter().find(|authority| is_issued_by(end, authority));
    found.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

/// Whether an authority may vouch for anybody at this time.
pub(crate) fn lives(authority: &CertificateDer<'_>, now: UnixTime) -> bool {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let now = Timestamp(seconds.saturating_mul(1_000));
    validity_of(authority).is_some_and(|(begins, ends)| begins <= now && now < ends)
}

/// Client certificates of our authority, asked for without insisting. One that expired not long ago passes here,
/// if it is a host's, so that it can be renewed; every other call refuses it by its end.
#[derive(Debug)]
pub(crate) struct ClientsOfOurs {
    inner: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientsOfOurs {
    pub fn new(authorities: &[CertificateDer<'static>], provider: &Arc<CryptoProvider>) -> Result<Self, TransportError> {
        let mut roots = RootCertStore::empty();
        authorities.iter().try_for_each(|authority| roots.add(authority.clone()))?;
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).allow_unauthenticated();
        let inner = builder
            .build()
            .map_err(|e| TransportError::Invalid(format!("set up client verification: {e}")))?;
        let authorities = authorities.to_vec();
        Ok(Self { inner, authorities })
    }
}

impl ClientCertVerifier for ClientsOfOurs {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        must_live(issuer(&self.authorities, end)?, now)?;
        let end_secs = not_after_of(end)
            .and_then(|t| u64::try_from(t.0 / 1_000).ok())
            .ok_or(CertificateError::BadEncoding)?;
        let late = now.as_secs().saturating_sub(end_secs);
        // Only machines: a person's certificate ends when it ends.
        let is_host = matches!(Identity::of_certificate(end), Identity::Host(_));
        let at = if is_host && late > 0 && late <= RENEW_GRACE_MS / 1_000 {
            UnixTime::since_unix_epoch(Duration::from_secs(end_secs))
        } else {
            now
        };
        self.inner.verify_client_cert(end, chain, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The controller, by its URI: hosts reach it by many names and addresses, and only an authority that is trusted can have signed it.
pub(crate) struct OurController {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl OurController {
    pub fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Self {
        Self { trust, provider }
    }

    fn root(&self, end: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<CertificateDer<'static>, Error> {
        match &self.trust {
            Trust::Authorities(authorities) => issuer(authorities, end).cloned(),
            // Judged by name, and never here.
            Trust::Named(_) => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            Trust::Fingerprint(wanted) => {
                let pinned = chain.iter().find(|certificate| &hex(certificate) == wanted);
                pinned
                    .map(|c| c.clone().into_owned())
                    .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
        }
    }
}

impl fmt::Debug for OurController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OurController")
    }
}

impl ServerCertVerifier for OurController {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = self.root(end, chain)?;
        must_live(&root, now)?;
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        let parsed = ParsedCertificate::try_from(end)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, chain, now, self.provider.signature_verification_algorithms.all)?;
        if Identity::of_certificate(end) == Identity::Controller {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use proto_model::id::HostName;
    use rustls::crypto::aws_lc_rs;

    use super::*;
    use crate::authority::{Authority, csr};

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn an_authority_that_has_ended_renews_nobody() {
        let made = Timestamp(1_700_000_000_000);
        let authority = Authority::make(HOUR_MS, made).unwrap();
        let host = HostName::parse("web").unwrap();
        let short = authority.issue_host(&csr().unwrap().1, &host, made, HOUR_MS / 4).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = ClientsOfOurs::new(&[authority.certificate().clone()], &provider).unwrap();
        let shown_after = |ms: u64| {
            let at = u64::try_from(made.plus_ms(ms).0 / 1_000).unwrap();
            clients.verify_client_cert(&short, &[], UnixTime::since_unix_epoch(Duration::from_secs(at)))
        };
        assert!(
            shown_after(0).is_ok() && shown_after(HOUR_MS / 2).is_ok(),
            "it may still be renewed"
        );
        assert!(shown_after(HOUR_MS + 1_000).is_err());
    }
}
