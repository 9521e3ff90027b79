//! Which authorities this host trusts, as the controller sends and hears it, and when a certificate is to be renewed because of that.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto_transport::{fingerprint_of, is_issued_by, validity_of};
use proto_wire::v1::order_refused::Why;
use proto_wire::v1::{HostTrust, Trust};
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;

use crate::files::Files;
use crate::order_validator::OrderRejected;

/// What is said of the identity on the disk; an identity that cannot be read trusts nobody.
pub(crate) fn trust_of(files: &Files) -> HostTrust {
    let Ok(Some(loaded)) = files.load() else {
        return HostTrust::default();
    };
    let issuer = loaded
        .authorities
        .iter()
        .find(|authority| is_issued_by(&loaded.client.certificate, authority));
    HostTrust {
        issuer: issuer.map(|authority| fingerprint_of(authority)).unwrap_or_default(),
        authorities: loaded.authorities.iter().map(|authority| fingerprint_of(authority)).collect(),
    }
}

/// Whether the newest certificate is of the authority in force.
pub(crate) fn is_issued_by_first(files: &Files) -> bool {
    let trust = trust_of(files);
    trust.authorities.first() == Some(&trust.issuer)
}

/// Stores what is trusted from now on. Nothing is taken in part.
pub(crate) fn take_trust(files: &Files, trust: &Trust) -> Result<(), OrderRejected> {
    if !are_certificates(&trust.authority_der) {
        return Err(OrderRejected::new(
            Why::Malformed,
            "the order names no authority, or one that is no certificate",
        ));
    }
    let stored = files.trust(&trust.authority_der);
    stored.map_err(|error| OrderRejected::new(Why::Busy, format!("the authorities cannot be stored: {error}")))?;
    tracing::info!(authorities = ?trust_of(files).authorities, "these authorities are trusted from now on");
    Ok(())
}

/// At least one, and each of them readable.
pub(crate) fn are_certificates(all: &[Vec<u8>]) -> bool {
    let readable = |der: &Vec<u8>| validity_of(&CertificateDer::from(der.as_slice())).is_some();
    !all.is_empty() && all.iter().all(readable)
}

/// Renewals before their time, between a session and whatever renews beside it.
#[derive(Default)]
pub(crate) struct Renewals {
    wanted: Notify,
    within: Mutex<Duration>,
    done: Notify,
}

impl Renewals {
    /// Asks for one within this time.
    pub fn ask(&self, within: Duration) {
        *self.within.lock().unwrap_or_else(PoisonError::into_inner) = within;
        self.wanted.notify_one();
    }

    /// Comes when one is asked for.
    pub async fn asked(&self) -> Duration {
        self.wanted.notified().await;
        *self.within.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell_done(&self) {
        self.done.notify_one();
    }

    /// Comes when one is stored.
    pub async fn done(&self) {
        self.done.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use proto_model::id::HostName;
    use proto_model::time::Timestamp;
    use proto_transport::{AUTHORITY_LIFE_MS, Authority};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn what_is_trusted_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(crate::files::IdentityFolder::at(dir.path().to_owned()));
        let [old, new] = [(); 2].map(|()| Authority::make(AUTHORITY_LIFE_MS, NOW).unwrap());
        let der = |authority: &Authority| authority.certificate().to_vec();
        let (_, request) = files.own_key().unwrap();
        let certificate = old.issue_host(&request, &HostName::parse("web").unwrap(), NOW, 60_000).unwrap();
        files.enrolled("ctl:7400", &[der(&old)], &certificate).unwrap();
        assert!(is_issued_by_first(&files));
        let order = |authority_der: Vec<Vec<u8>>| Trust {
            authority_der,
            renew_within_ms: 0,
        };
        for bad in [vec![], vec![der(&new), b"nonsense".to_vec()]] {
            assert_eq!(take_trust(&files, &order(bad)).unwrap_err().why, Why::Malformed);
            assert_eq!(trust_of(&files).authorities, [old.fingerprint()]);
        }
        take_trust(&files, &order(vec![der(&new), der(&old)])).unwrap();
        let trust = trust_of(&files);
        assert_eq!(
            (trust.authorities, &trust.issuer),
            (vec![new.fingerprint(), old.fingerprint()], &old.fingerprint())
        );
        assert!(!is_issued_by_first(&files), "its certificate is to be renewed");
    }
}
