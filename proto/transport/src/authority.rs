//! One certificate authority of the controller: it issues what hosts, operators and the controller itself show. It keeps no file.

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
use crate::identity::{Identity, fingerprint_of_key, hex, is_operator, validity_of};

/// How far before now the authority's and the controller's certificates begin, for hosts whose clock is behind: 7 days.
const BACKDATE_MS: u64 = 7 * 24 * 3_600_000;
/// The same for hosts' certificates: the clock that issues them also judges them, and it may be set back by some minutes.
pub const HOST_BACKDATE_MS: u64 = 10 * 60_000;
const DAY_MS: u64 = 24 * 3_600_000;
/// How long an authority lives unless the configuration says otherwise: 5 years.
pub const AUTHORITY_LIFE_MS: u64 = 5 * 365 * DAY_MS;
/// An authority warns of its end for so long before it, or for a quarter of a shorter life: 90 days.
const WARN_MS: u64 = 90 * DAY_MS;
/// Random bytes in an authority's name: two of one controller are told apart by it.
const NAME_BYTES: usize = 8;
const RENEW_AUTHORITY: &str = "prepare the next one with `fracas authority rotate prepare` (docs/authority.md)";

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    key_pem: String,
    certificate: CertificateDer<'static>,
    begins: Timestamp,
    ends: Timestamp,
}

impl Authority {
    /// A new one, from now on and for so long.
    pub fn make(life_ms: u64, now: Timestamp) -> Result<Self, TransportError> {
        let (pem, key_pem) = make(now, life_ms).map_err(failed("make an authority"))?;
        Self::from_pem(&pem, &key_pem)
    }

    pub fn from_pem(pem: &str, key_pem: &str) -> Result<Self, TransportError> {
        let pair = KeyPair::from_pem(key_pem).map_err(failed("load the authority's key"))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| TransportError::Invalid(format!("the authority's certificate cannot be read: {error}")))?;
        if fingerprint_of_key(&certificate) != Some(hex(&pair.subject_public_key_info())) {
            let message = "the authority's key and certificate do not belong together";
            return Err(TransportError::Invalid(message.to_owned()));
        }
        let unreadable = || TransportError::Invalid("the authority's certificate has no readable validity".to_owned());
        let (begins, ends) = validity_of(&certificate).ok_or_else(unreadable)?;
        let issuer = Issuer::from_ca_cert_pem(pem, pair).map_err(failed("load the authority"))?;
        Ok(Self {
            issuer,
            key_pem: key_pem.to_owned(),
            certificate,
            begins,
            ends,
        })
    }

    /// The secret itself: for its own file and nothing else.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
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

    /// From when to when it may vouch for anybody.
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        (self.begins, self.ends)
    }

    /// What people must know about its end: nothing while that is far off.
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let ends = self.ends;
        let left_ms = ends.since(now);
        if left_ms == 0 {
            return Some(format!(
                "the authority ended at {ends}: it vouches for no host and no operator; {RENEW_AUTHORITY}"
            ));
        }
        let early_ms = WARN_MS.min(ends.since(self.begins) / 4);
        (left_ms <= early_ms).then(|| format!("the authority ends in {} days, at {ends}; {RENEW_AUTHORITY}", left_ms / DAY_MS))
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
        self.may_vouch(now)?;
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
        self.may_vouch(now)?;
        request.params = self.params(&Identity::Host(host.clone()), Vec::new(), now, valid_ms)?;
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
        let signed = self
            .params(identity, names, now, valid_ms)?
            .signed_by(&key, &self.issuer)
            .map_err(fail)?;
        Ok((signed.der().clone(), key.serialize_pem()))
    }

    /// The controller itself keeps its listeners also with an authority that has ended: there its successor is made.
    fn may_vouch(&self, now: Timestamp) -> Result<(), TransportError> {
        match self.ends > now {
            true => Ok(()),
            false => Err(TransportError::Invalid(format!(
                "the authority ended at {}; {RENEW_AUTHORITY}",
                self.ends
            ))),
        }
    }

    fn params(&self, identity: &Identity, names: Vec<SanType>, now: Timestamp, valid_ms: u64) -> Result<CertificateParams, TransportError> {
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
        // Nothing outlives who vouches for it.
        span(&mut params, now, backdate_ms, valid_ms.min(self.ends.since(now)));
        Ok(params)
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

/// For certificates of either end of a TLS connection, and for no authority below it; why not by names: docs/adr/0012.
fn make(now: Timestamp, life_ms: u64) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    let name: String = (0..NAME_BYTES).map(|_| format!("{:02x}", rand::random::<u8>())).collect();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Fracas authority {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    span(&mut params, now, BACKDATE_MS, life_ms);
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
