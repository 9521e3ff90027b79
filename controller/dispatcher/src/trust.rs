//! Which authorities hosts trust, and by which one their certificates are: what they are sent of it, and what they say. It changes no authority.

use proto_model::host::HostAuthority;
use proto_model::id::HostName;
use proto_transport::PeerInfo;
use proto_wire::v1;
use proto_wire::v1::controller_message::Body;
use tonic::Status;

use crate::dispatcher::Dispatcher;
use crate::link::Link;

/// More than are ever trusted at once; what a host says beyond that is left out.
const MAX_TRUSTED: usize = 4;
/// Characters of a SHA-256 in hex.
const FINGERPRINT_CHARS: usize = 64;
/// Renewals that a change of the authority may ask for in one second.
const RENEWALS_PER_S: u64 = 100;

impl Dispatcher {
    /// What a session shows as it begins: the host's word for what it trusts, and its certificate for who issued that.
    pub(crate) fn authority_of(&self, peer: &PeerInfo, said: Option<&v1::HostTrust>) -> HostAuthority {
        let issuer = self.0.parts.authorities.named(&peer.issuer);
        HostAuthority {
            trusts: said.map(trusted).unwrap_or_default(),
            certificate_of: issuer.unwrap_or_default(),
        }
    }

    /// A connection may outlive the trust in whoever issued its certificate.
    pub(crate) fn still_trusted(&self, peer: &PeerInfo) -> Result<(), Status> {
        match self.0.parts.authorities.named(&peer.issuer) {
            Some(_) => Ok(()),
            None => Err(untrusted()),
        }
    }

    /// What there is to trust, to every host that is connected. Sessions of certificates that are trusted no more end.
    pub fn tell_authorities(&self) {
        let known = self.0.parts.authorities.rotation().fingerprints();
        let (body, mut sent) = (self.trust(), 0_u64);
        for (_, entry) in self.fleet().iter() {
            for live in entry.sessions() {
                if !live.authority.certificate_of.is_empty() && !known.contains(&live.authority.certificate_of) {
                    live.link.end(untrusted());
                } else if !live.authority.trusts.is_empty() && live.link.send(body.clone()) {
                    sent += 1;
                }
            }
        }
        tracing::info!(hosts = sent, authorities = ?known, "hosts are sent the authorities that they trust from now on");
    }

    /// The same to one that has just come, unless it knows. Older agents say nothing of what they trust, and would not understand.
    pub(crate) fn tell_authorities_to(&self, host: &HostName, link: &Link) {
        let known = self.0.parts.authorities.rotation().fingerprints();
        let is_news = {
            let fleet = self.fleet();
            let Some(live) = fleet.get(host).and_then(|entry| entry.live.as_ref()) else {
                return;
            };
            let theirs = &live.authority;
            !theirs.trusts.is_empty() && (theirs.trusts != known || Some(&theirs.certificate_of) != known.first())
        };
        if is_news && !link.send(self.trust()) {
            tracing::debug!(%host, "the authorities could not be sent; the next session is");
        }
    }

    /// What the host has stored since: durable at its end when this is heard.
    pub(crate) async fn hear_trust(&self, name: &HostName, link: &Link, said: v1::HostTrust) {
        if let Some(live) = self.fleet().get_mut(name).and_then(|entry| entry.session(&link.nonce)) {
            live.authority = HostAuthority {
                trusts: trusted(&said),
                certificate_of: Some(said.issuer).filter(|issuer| is_fingerprint(issuer)).unwrap_or_default(),
            };
        }
        self.remember(name).await;
    }

    fn trust(&self) -> Body {
        let hosts = u64::try_from(self.fleet().len()).unwrap_or(u64::MAX);
        Body::Trust(v1::Trust {
            authority_der: self.trusted_der(),
            renew_within_ms: hosts.saturating_mul(1_000) / RENEWALS_PER_S,
        })
    }

    /// Every trusted authority, the one in force first.
    pub(crate) fn trusted_der(&self) -> Vec<Vec<u8>> {
        let trusted = self.0.parts.authorities.rotation().trusted();
        trusted.iter().map(|authority| authority.to_vec()).collect()
    }
}

fn trusted(said: &v1::HostTrust) -> Vec<String> {
    let written = |text: &&String| is_fingerprint(text);
    said.authorities.iter().filter(written).take(MAX_TRUSTED).cloned().collect()
}

fn is_fingerprint(text: &str) -> bool {
    text.len() == FINGERPRINT_CHARS && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn untrusted() -> Status {
    Status::permission_denied("the certificate is of an authority that is not trusted any more; enrol this host again with a new token")
}
