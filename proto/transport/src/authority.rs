//! The controller's own certificate authority: made on first start, kept in two files, and the root of every identity.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto_model::id::HostName;
use proto_model::role::Role;
use proto_model::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, DnsName};

use crate::error::TransportError;
use crate::identity::{Identity, fingerprint_of_key, hex, is_operator};
use crate::private::replace_private;

/// How far before now the authority's and the controller's certificates begin, for hosts whose clock is behind: 7 days.
const BACKDATE_MS: u64 = 7 * 24 * 3_600_000;
/// The same for hosts' certificates: the clock that issues them also judges them, and it may be set back by some minutes.
pub const HOST_BACKDATE_MS: u64 = 10 * 60_000;
/// The authority itself: 20 years.
const AUTHORITY_MS: u64 = 20 * 365 * 24 * 3_600_000;
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Made by this very call.
    pub created: bool,
}

impl Authority {
    /// Loads the authority from its folder, or makes it there.
    pub fn open_or_create(folder: &Path, now: Timestamp) -> Result<Self, TransportError> {
        let file = |deed, path: PathBuf| move |source| TransportError::File { deed, path, source };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(file("make", folder.to_owned()))?;
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        let created = !certificate.exists();
        if created {
            let (pem, key_pem) = make(now).map_err(|source| TransportError::Certificate {
                deed: "make the authority",
                source,
            })?;
            write_private(&key, &key_pem)?;
            write_private(&certificate, &pem)?;
        }
        let pem = fs::read_to_string(&certificate).map_err(file("read", certificate.clone()))?;
        let key_pem = fs::read_to_string(&key).map_err(file("read", key.clone()))?;
        let load = |source| TransportError::Certificate {
            deed: "load the authority",
            source,
        };
        let pair = KeyPair::from_pem(&key_pem).map_err(load)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| TransportError::Invalid(format!("{}: {e}", certificate.display())))?;
        if fingerprint_of_key(&der) != Some(hex(&pair.subject_public_key_info())) {
            return Err(TransportError::Invalid(format!(
                "the authority's key and certificate in {} do not belong together; restore both from a backup: every identity depends on them",
                folder.display()
            )));
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(load)?;
        Ok(Self {
            issuer,
            certificate: der,
            created,
        })
    }

    /// As PEM: what operators' clients are given to trust.
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the certificate in hex: what join tokens pin.
    pub fn fingerprint(&self) -> String {
        hex(&self.certificate)
    }

    /// A certificate for the controller's own listeners, with a fresh key (PEM). Good for agents, which look for nothing
    /// but its URI, and on this machine for everybody.
    pub fn issue_server(&self, now: Timestamp, valid_ms: u64) -> Result<(CertificateDer<'static>, String), TransportError> {
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        self.issue_server_for(&local, now, valid_ms)
    }

    /// The same for clients that compare names (operators' tools, browsers): `names` are DNS names and addresses.
    pub fn issue_server_for(
        &self,
        names: &[String],
        now: Timestamp,
        valid_ms: u64,
    ) -> Result<(CertificateDer<'static>, String), TransportError> {
        let mut all = Vec::new();
        for name in names {
            all.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if DnsName::try_from(name.as_str()).is_ok() => {
                    SanType::DnsName(name.as_str().try_into().map_err(failed("name the controller"))?)
                }
                Err(_) => return Err(TransportError::Invalid(format!("{name:?} is neither a DNS name nor an address"))),
            });
        }
        self.issue_with_key(&Identity::Controller, all, now, valid_ms)
    }

    /// A client certificate and key for an operator.
    pub fn issue_operator(
        &self,
        name: &str,
        role: Role,
        now: Timestamp,
        valid_ms: u64,
    ) -> Result<(CertificateDer<'static>, String), TransportError> {
        if !is_operator(name) {
            return Err(TransportError::Invalid(format!(
                "{name:?} is no operator's name: expected 1 to 63 of letters, digits, '-', '.', '_' and '@', not ending in @local"
            )));
        }
        let name = name.to_owned();
        self.issue_with_key(&Identity::Operator { name, role }, Vec::new(), now, valid_ms)
    }

    /// A certificate for the key in the request; whatever else the request asks for is left out.
    pub fn issue_host(
        &self,
        csr: &[u8],
        host: &HostName,
        now: Timestamp,
        valid_ms: u64,
    ) -> Result<CertificateDer<'static>, TransportError> {
        let deed = "sign a host's certificate";
        let request = CertificateSigningRequestDer::from(csr.to_vec());
        let mut request =
            CertificateSigningRequestParams::from_der(&request).map_err(|source| TransportError::Certificate { deed, source })?;
        request.params = params(&Identity::Host(host.clone()), Vec::new(), now, valid_ms)?;
        let signed = request
            .signed_by(&self.issuer)
            .map_err(|source| TransportError::Certificate { deed, source })?;
        Ok(signed.der().clone())
    }

    fn issue_with_key(
        &self,
        identity: &Identity,
        names: Vec<SanType>,
        now: Timestamp,
        valid_ms: u64,
    ) -> Result<(CertificateDer<'static>, String), TransportError> {
        let fail = |source| TransportError::Certificate {
            deed: "sign a certificate",
            source,
        };
        let key = KeyPair::generate().map_err(fail)?;
        let signed = params(identity, names, now, valid_ms)?
            .signed_by(&key, &self.issuer)
            .map_err(fail)?;
        Ok((signed.der().clone(), key.serialize_pem()))
    }
}

/// A certificate in its written form.
pub fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))
}

/// A key that never leaves this machine (PEM), and the request for a certificate for it (DER).
pub fn csr() -> Result<(String, Vec<u8>), TransportError> {
    let fail = |source| TransportError::Certificate {
        deed: "make a key and its request",
        source,
    };
    let key = KeyPair::generate().map_err(fail)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(fail)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

impl Authority {
    /// A request for an existing key: renewals keep theirs.
    pub fn csr_for(key_pem: &str) -> Result<Vec<u8>, TransportError> {
        let fail = |source| TransportError::Certificate {
            deed: "make a request for the key",
            source,
        };
        let key = KeyPair::from_pem(key_pem).map_err(fail)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(fail)?;
        Ok(request.der().to_vec())
    }
}

fn failed(deed: &'static str) -> impl FnOnce(rcgen::Error) -> TransportError {
    move |source| TransportError::Certificate { deed, source }
}

fn params(identity: &Identity, names: Vec<SanType>, now: Timestamp, valid_ms: u64) -> Result<CertificateParams, TransportError> {
    let (usage, backdate_ms) = match identity {
        Identity::Controller => (ExtendedKeyUsagePurpose::ServerAuth, BACKDATE_MS),
        _ => (ExtendedKeyUsagePurpose::ClientAuth, HOST_BACKDATE_MS),
    };
    let uri = identity.uri().try_into().map_err(|source| TransportError::Certificate {
        deed: "name an identity",
        source,
    })?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, identity.uri());
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.subject_alt_names.extend(names);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    span(&mut params, now, backdate_ms, valid_ms);
    Ok(params)
}

fn make(now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Fracas authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    span(&mut params, now, BACKDATE_MS, AUTHORITY_MS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn span(params: &mut CertificateParams, now: Timestamp, backdate_ms: u64, valid_ms: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now_ms = u64::try_from(now.0).unwrap_or(0);
    params.not_before = epoch + Duration::from_millis(now_ms.saturating_sub(backdate_ms));
    params.not_after = epoch + Duration::from_millis(now_ms.saturating_add(valid_ms));
}

fn write_private(path: &Path, text: &str) -> Result<(), TransportError> {
    replace_private(path, text.as_bytes()).map_err(|source| TransportError::File {
        deed: "write",
        path: path.to_owned(),
        source,
    })
}
