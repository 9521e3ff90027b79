//! Who a certificate speaks for: one URI in it, made by our authority, and nothing else in it counts.

use std::net::SocketAddr;
use std::sync::Arc;

use proto_model::id::HostName;
use proto_model::role::Role;
use proto_model::time::Timestamp;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::standing::Standing;

const HOST: &str = "fracas://host/";
const OPERATOR: &str = "fracas://operator/";
const CONTROLLER: &str = "fracas://controller";

/// Whom the other side has proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    Host(HostName),
    Operator {
        name: String,
        role: Role,
    },
    Controller,
    /// No certificate, or none of ours.
    None,
}

impl Identity {
    /// As it stands in a certificate.
    pub(crate) fn uri(&self) -> String {
        match self {
            Self::Host(name) => format!("{HOST}{name}"),
            Self::Operator { name, role } => format!("{OPERATOR}{name}/{role}"),
            Self::Controller => CONTROLLER.to_owned(),
            Self::None => String::new(),
        }
    }

    fn of_uri(uri: &str) -> Self {
        if uri == CONTROLLER {
            return Self::Controller;
        }
        if let Some(name) = uri.strip_prefix(HOST) {
            return HostName::parse(name).map_or(Self::None, Self::Host);
        }
        uri.strip_prefix(OPERATOR).map_or(Self::None, Self::of_operator)
    }

    /// `NAME/ROLE`: without a role there is no access.
    fn of_operator(text: &str) -> Self {
        let Some((name, role)) = text.split_once('/') else {
            return Self::None;
        };
        match Role::parse(role) {
            Ok(role) if is_operator(name) => Self::Operator {
                name: name.to_owned(),
                role,
            },
            _ => Self::None,
        }
    }

    /// Exactly one URI of ours, or none.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Self {
        let Some(parsed) = parse(certificate) else { return Self::None };
        let Ok(Some(names)) = parsed.subject_alternative_name() else {
            return Self::None;
        };
        let mut ours = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(Self::of_uri(uri)),
            _ => None,
        });
        match (ours.next(), ours.next()) {
            (Some(identity), None) => identity,
            _ => Self::None,
        }
    }
}

/// Letters, digits and `-._@`, 1 to 63 of them: safe in a URI, a log line and an audit record. What the controller calls
/// itself and the people on its own machine is nobody else's name.
pub fn is_operator(name: &str) -> bool {
    let written = (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@".contains(&b));
    written && !name.ends_with("@local") && name != "controller"
}

/// What is known of the other end of a connection. Each of them is held twice, so that what is long is shared.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    pub identity: Identity,
    pub address: SocketAddr,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    /// SHA-256 of the public key, in hex.
    pub key_fingerprint: Option<Arc<str>>,
    /// Whoever issued the certificate, by the name that it bears; nothing without a certificate.
    pub issuer: Arc<[u8]>,
    /// Of the connection at a listener; none where there is no connection.
    pub(crate) standing: Option<Standing>,
}

impl PeerInfo {
    pub fn of(address: SocketAddr, certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let first = certificates.and_then(<[_]>::first);
        Self {
            identity: first.map_or(Identity::None, Identity::of_certificate),
            address,
            not_before: first.and_then(validity_of).map(|(begins, _)| begins),
            not_after: first.and_then(not_after_of),
            key_fingerprint: first.and_then(fingerprint_of_key).map(Arc::from),
            issuer: first.and_then(issuer_of).unwrap_or_default().into(),
            standing: None,
        }
    }

    /// True for a certificate that may only still be renewed.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| end < now)
    }

    /// A request has proven who the peer is (a token, a session): the connection no longer counts as an outsider's.
    pub fn identify(&self, identity: &str) {
        if let Some(standing) = &self.standing {
            standing.identify(identity);
        }
    }
}

/// When a certificate ends.
pub fn not_after_of(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    parse(certificate).map(|parsed| Timestamp(parsed.validity().not_after.timestamp() * 1_000))
}

/// From when to when a certificate is valid.
pub fn validity_of(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let parsed = parse(certificate)?;
    let ms = |seconds: i64| Timestamp(seconds.saturating_mul(1_000));
    let validity = parsed.validity();
    Some((ms(validity.not_before.timestamp()), ms(validity.not_after.timestamp())))
}

/// SHA-256 over the public key as it stands in the certificate.
pub fn fingerprint_of_key(certificate: &CertificateDer<'_>) -> Option<String> {
    parse(certificate).map(|parsed| hex(parsed.public_key().raw))
}

/// Whether a certificate names this authority as its issuer; whether it is that is for the signature to say.
pub fn is_issued_by(certificate: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> bool {
    let issuer = issuer_of(certificate);
    issuer.is_some() && issuer == name_of(authority)
}

/// Whoever issued a certificate, by name: what `name_of` is of the issuer's own.
pub(crate) fn issuer_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parse(certificate).map(|parsed| parsed.issuer().as_raw().to_vec())
}

/// A certificate's own name, as those that it vouches for bear it.
pub(crate) fn name_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parse(certificate).map(|parsed| parsed.subject().as_raw().to_vec())
}

/// SHA-256 of a certificate (DER), as join tokens pin it: lower-case hex.
pub fn fingerprint_of(certificate: &[u8]) -> String {
    hex(certificate)
}

/// SHA-256 in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate.as_ref()).ok().map(|(_, parsed)| parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_role_is_in_its_uri_and_an_unknown_one_is_nobody() {
        let ann = Identity::Operator {
            name: "ann@example".into(),
            role: Role::Viewer,
        };
        assert_eq!(Identity::of_uri(&ann.uri()), ann);
        for bad in ["ann", "ann/", "ann/king", "ann/viewer/viewer", "root@local/viewer", "/viewer", ""] {
            assert_eq!(Identity::of_uri(&format!("fracas://operator/{bad}")), Identity::None, "{bad}");
        }
    }
}
