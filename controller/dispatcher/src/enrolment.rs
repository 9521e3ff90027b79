//! Joining, and staying joined: a token buys a first certificate, a certificate buys its successor for the same key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use controller_store::{HostRecord, StoreError, TokenRecord};
use proto_model::event::FleetEventBody;
use proto_model::host::{HostAuthority, HostFacts, Membership};
use proto_model::id::HostName;
use proto_model::injection::Cleanliness;
use proto_model::time::Timestamp;
use proto_transport::{Identity, JoinToken, PeerInfo, RENEW_GRACE_MS, fingerprint_of_key, not_after_of};
use proto_wire::v1::enrolment_server::Enrolment;
use proto_wire::v1::{EnrolReply, EnrolRequest, RenewReply};
use rustls_pki_types::CertificateDer;
use tonic::{Request, Response, Status, async_trait};

use crate::dispatcher::{Dispatcher, barred};
use crate::peer::peer;
use crate::settings::ENROLMENT_TURN;
use crate::tokens::Proof;

#[async_trait]
impl Enrolment for Dispatcher {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let peer = peer(&request)?;
        let wish = request.into_inner();
        let token = self.proven(&wish, peer.address).await?;
        // Outsiders can no longer take its place.
        peer.identify(&format!("join token {}", token.id));
        let turn = tokio::time::timeout(ENROLMENT_TURN, self.0.enrolling.acquire()).await;
        let Ok(_turn) = turn else {
            return Err(Status::resource_exhausted(
                "many hosts enrol at this moment; try again in some seconds",
            ));
        };
        self.take_in(wish, token, peer.address).await.map(Response::new)
    }
}

impl Dispatcher {
    /// The token of a request, if its secret is right: nothing else of the request is looked at before.
    async fn proven(&self, wish: &EnrolRequest, address: SocketAddr) -> Result<JoinToken, Status> {
        let refused = match JoinToken::parse(&wish.token) {
            Err(error) => Status::invalid_argument(error.to_string()),
            Ok(token) if token.fingerprint != self.0.parts.authorities.current().fingerprint() => {
                Status::permission_denied("the join token names an authority that is not in force here; create a new token")
            }
            Ok(token) => match self.0.tokens.prove(&self.0.parts.store, &token).await {
                Ok(Proof::Valid) => return Ok(token),
                Ok(Proof::Ended) => Status::permission_denied("the join token is revoked, has expired or has no uses left"),
                Ok(Proof::Wrong) => Status::permission_denied("the join token is not valid"),
                Err(error) => return Err(Status::unavailable(error.to_string())),
            },
        };
        Err(self.wrong_token(address, refused))
    }

    /// Counts a token that bought nothing, and refuses more plainly when its network has sent too many.
    fn wrong_token(&self, address: SocketAddr, refused: Status) -> Status {
        let listened = self.0.guesses.count(address.ip(), self.now());
        if let Some(suppressed) = self.0.guesses.may_log() {
            tracing::warn!(%address, error = refused.message(), suppressed, "enrolment refused");
        }
        match listened {
            true => refused,
            false => Status::resource_exhausted("too many wrong join tokens from this address; try again in a few seconds"),
        }
    }

    async fn take_in(&self, wish: EnrolRequest, token: JoinToken, address: SocketAddr) -> Result<EnrolReply, Status> {
        let name = HostName::parse(&wish.hostname.to_ascii_lowercase()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let _turn = self.0.names.of(&name).await;
        let now = self.now();
        let certificate_ms = self.0.parts.settings.certificate_ms;
        let authority = self.0.parts.authorities.current();
        let certificate = authority
            .issue_host(&wish.csr_der, &name, now, certificate_ms)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let key = fingerprint_of_key(&certificate).unwrap_or_default();
        let before = self.record_of(&name).filter(|known| known.membership != Membership::Removed);
        let replaces = self.0.tokens.replaces(&token.id);
        // Before the token is spent: a mistake in a name should not cost a use.
        is_for(&name, replaces.as_ref())?;
        if let Some(known) = &before {
            may_rejoin(known, &key, replaces.is_some())?;
        }
        let spent = self.spend(&token, address).await?;
        let not_after = not_after_of(&certificate).unwrap_or(now);
        let record = HostRecord {
            labels: labels_of(&spent, before.as_ref()),
            machine_since: before
                .as_ref()
                .filter(|known| known.key_fingerprint == key)
                .map_or(now, |known| known.machine_since),
            key_fingerprint: key,
            certificate_not_after: not_after,
            authority: HostAuthority {
                certificate_of: authority.fingerprint(),
                ..HostAuthority::default()
            },
            ..newcomer(name.clone(), wish, before, now)
        };
        let (host, token_id) = (name.clone(), token.id.to_string());
        let event = match &spent.replaces {
            Some(_) => FleetEventBody::HostReplaced { host, token: token_id },
            None => FleetEventBody::HostEnrolled { host, token: token_id },
        };
        self.put(record, event, &address.to_string())
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        if let Some(now_barred) = self.record_of(&name).filter(|known| known.membership != Membership::Enrolled) {
            return Err(barred(&now_barred));
        }
        tracing::info!(host = %name, %address, token = %token.id, "host enrolled");
        Ok(EnrolReply {
            host: name.to_string(),
            certificate_der: certificate.to_vec(),
            chain_der: Vec::new(),
            authority_der: authority.certificate().to_vec(),
            not_after_ms: not_after.0,
            trusted_der: self.trusted_der(),
        })
    }

    /// Takes one use of the token. One that is refused stays refused, and is a wrong one from then on.
    async fn spend(&self, token: &JoinToken, address: SocketAddr) -> Result<TokenRecord, Status> {
        let (id, secret, now) = (token.id.clone(), token.secret.clone(), self.now());
        let spent = self.0.parts.store.call(move |store| store.spend_token(&id, &secret, now)).await;
        spent.map_err(|e| match e {
            StoreError::NotFound { .. } | StoreError::Refused(_) => {
                self.0.tokens.end(&token.id);
                self.wrong_token(address, Status::permission_denied(e.to_string()))
            }
            other => Status::unavailable(other.to_string()),
        })
    }

    /// The same key, the same name, another 24 hours.
    pub(crate) async fn renewed(&self, peer: &PeerInfo, csr: &[u8]) -> Result<RenewReply, Status> {
        let Identity::Host(name) = &peer.identity else {
            return Err(Status::unauthenticated("renewing needs the host's own certificate"));
        };
        let mut record = self.member(name, peer)?;
        let now = self.now();
        let late = peer.not_after.map_or(0, |end| now.since(end));
        if late > RENEW_GRACE_MS {
            return Err(Status::unauthenticated(
                "the certificate expired more than 30 days ago; enrol again with a new token",
            ));
        }
        let certificate_ms = self.0.parts.settings.certificate_ms;
        let authority = self.0.parts.authorities.current();
        let certificate = authority
            .issue_host(csr, name, now, certificate_ms)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        if !same_key(&certificate, &record) {
            return Err(Status::permission_denied(
                "a renewal keeps its key; enrol again with a new token to change it",
            ));
        }
        record.certificate_not_after = not_after_of(&certificate).unwrap_or(now);
        let not_after_ms = record.certificate_not_after.0;
        let event = FleetEventBody::HostRenewed {
            host: name.clone(),
            not_after: record.certificate_not_after,
        };
        self.update(record, None, event, &peer.address.to_string())
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        // It may have been locked in the midst of it.
        self.member(name, peer)?;
        let authority_der = authority.certificate().to_vec();
        Ok(RenewReply {
            certificate_der: certificate.to_vec(),
            chain_der: Vec::new(),
            authority_der,
            not_after_ms,
            clock_ms: now.0,
            trusted_der: self.trusted_der(),
        })
    }

    /// What is stored of this host, if it is enrolled with this very key.
    pub(crate) fn member(&self, name: &HostName, peer: &PeerInfo) -> Result<HostRecord, Status> {
        self.still_trusted(peer)?;
        let record = self
            .record_of(name)
            .ok_or_else(|| Status::permission_denied(format!("host {name} is not enrolled here")))?;
        if record.membership != Membership::Enrolled {
            return Err(barred(&record));
        }
        if peer.key_fingerprint.as_deref() != Some(record.key_fingerprint.as_str()) {
            return Err(Status::permission_denied(format!("host {name} is enrolled with another key")));
        }
        Ok(record)
    }
}

/// A host as it joins. Joining again clears nothing.
fn newcomer(name: HostName, wish: EnrolRequest, before: Option<HostRecord>, now: Timestamp) -> HostRecord {
    HostRecord {
        name,
        labels: BTreeMap::new(),
        operator_labels: before.as_ref().map(|known| known.operator_labels.clone()).unwrap_or_default(),
        facts: Arc::new(HostFacts {
            hostname: wish.hostname,
            machine_id: wish.machine_id,
            agent_version: wish.agent_version,
            ..HostFacts::default()
        }),
        catalogue_digest: String::new(),
        membership: Membership::Enrolled,
        cordoned: before.as_ref().and_then(|known| known.cordoned.clone()),
        locked: None,
        cleanliness: before.as_ref().map_or(Cleanliness::Clean, |known| known.cleanliness),
        residue: before.map(|known| known.residue).unwrap_or_default(),
        key_fingerprint: String::new(),
        certificate_not_after: now,
        authority: HostAuthority::default(),
        enrolled_at: now,
        machine_since: now,
        last_boot_id: String::new(),
    }
}

/// What the token grants, except for keys that an operator has decided on. A host that takes another's place has that one's labels too.
fn labels_of(token: &TokenRecord, before: Option<&HostRecord>) -> BTreeMap<String, String> {
    let Some(before) = before else { return token.labels.clone() };
    let decided = |(key, _): &(&String, &String)| before.operator_labels.contains(*key);
    let inherited = before.labels.iter().filter(|label| token.replaces.is_some() || decided(label));
    let granted = token.labels.iter().filter(|label| !decided(label));
    inherited.chain(granted).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A token that replaces a host is for that host's name alone.
fn is_for(name: &HostName, replaces: Option<&HostName>) -> Result<(), Status> {
    match replaces {
        Some(host) if host != name => Err(Status::permission_denied(format!(
            "the join token replaces host {host} and enrols no other; give --name {host}, or create a token without --replace"
        ))),
        _ => Ok(()),
    }
}

/// A name is given once. The host that already has it may join again with its own key, as after an answer that was lost; another machine
/// only with a token that was made to replace it.
fn may_rejoin(known: &HostRecord, key: &str, replaces: bool) -> Result<(), Status> {
    let name = &known.name;
    match known.membership {
        Membership::Locked => Err(barred(known)),
        _ if replaces || known.key_fingerprint == key => Ok(()),
        _ => Err(Status::already_exists(format!(
            "a host named {name} is enrolled already with another key; choose another name with --name, or let a token of \
             `fracas tokens create --replace {name}` give its place to this machine"
        ))),
    }
}

fn same_key(certificate: &CertificateDer<'_>, record: &HostRecord) -> bool {
    fingerprint_of_key(certificate).as_deref() == Some(record.key_fingerprint.as_str())
}
