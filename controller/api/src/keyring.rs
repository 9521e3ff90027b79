//! Operators' tokens in memory: from a bearer's text to a caller, at once and without the store. It keeps no secret, only hashes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use controller_store::{Actor, OperatorRecord, StoreError, StoreHandle, is_secret};
use proto_model::id::TokenId;
use proto_model::time::Timestamp;
use proto_transport::{Authorities, OperatorToken, RevocationList, ShownCertificate};

use crate::caller::{Caller, Credential};
use crate::error::{ApiError, ApiResult};
use crate::failures::Failures;

/// A use is written down when the one on record is older than this.
const USED_EVERY_MS: u64 = 15 * 60_000;
const SCHEME: &str = "Bearer ";

/// Every token that was ever made, with what is known of failures. Clones share it.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    store: StoreHandle,
    keys: RwLock<BTreeMap<TokenId, OperatorRecord>>,
    /// Of certificates; none where no list was given.
    revoked: OnceLock<RevocationList>,
    /// Who may have issued certificates; anybody where none were given.
    authorities: OnceLock<Arc<Authorities>>,
    failures: Failures,
}

impl Keyring {
    pub async fn load(store: StoreHandle) -> Result<Self, StoreError> {
        let keys = store
            .call(|store| store.operators())
            .await?
            .into_iter()
            .map(|key| (key.id.clone(), key))
            .collect();
        Ok(Self(Arc::new(Inner {
            store,
            keys: RwLock::new(keys),
            revoked: OnceLock::new(),
            authorities: OnceLock::new(),
            failures: Failures::default(),
        })))
    }

    /// With the list of certificates that are revoked.
    pub fn with_revocations(self, list: RevocationList) -> Self {
        // A second list would be a mistake of the program; the first one stays.
        let _ = self.0.revoked.set(list);
        self
    }

    /// With the authorities whose certificates count.
    pub fn with_authorities(self, authorities: Arc<Authorities>) -> Self {
        let _ = self.0.authorities.set(authorities);
        self
    }

    /// A connection may outlive the trust in whoever issued its certificate.
    pub(crate) fn is_trusted(&self, shown: &ShownCertificate) -> bool {
        let authorities = self.0.authorities.get();
        authorities.is_none_or(|authorities| authorities.named(&shown.issuer).is_some())
    }

    pub(crate) fn is_revoked(&self, shown: &ShownCertificate) -> bool {
        self.0.revoked.get().is_some_and(|list| list.covers(shown))
    }

    /// The caller that an `Authorization` header makes, for gRPC and pages alike. An address that failed often is not
    /// listened to for a while, unless the call is `urgent`: nobody may keep others from stopping.
    pub fn by_header(&self, header: &str, from: SocketAddr, urgent: bool, now: Timestamp) -> ApiResult<Caller> {
        match header.strip_prefix(SCHEME) {
            Some(bearer) => self.by_bearer(bearer, from, urgent, now),
            None => Err(self.failed(from, now, "the authorization is none of ours: expected a bearer token")),
        }
    }

    /// The same from the token's text alone, as a sign-in form has it.
    pub fn by_bearer(&self, bearer: &str, from: SocketAddr, urgent: bool, now: Timestamp) -> ApiResult<Caller> {
        if !urgent && self.0.failures.is_barred(from.ip(), now) {
            self.0.failures.count(from.ip(), now);
            let message = "too many failed tries from this address; wait some seconds";
            return Err(ApiError::new("not_authenticated", message));
        }
        let Ok(token) = OperatorToken::parse(bearer) else {
            return Err(self.failed(from, now, "this is not an operator's token: expected fot1.<id>.<secret>"));
        };
        let known = self.get(&token.id);
        let hash = known.as_ref().map_or("", |key| key.secret_hash.as_str());
        let same = is_secret(hash, &token.secret);
        // Only who knows the secret learns more than "not valid".
        let Some(key) = known.filter(|_| same) else {
            return Err(self.failed(from, now, "the token is not valid"));
        };
        if let Some(why) = ended(&key, now) {
            return Err(self.failed(
                from,
                now,
                &format!(
                    "the token of {0} {why}; an administrator makes a new one with `fracas operators create {0} --role {1}`",
                    key.name, key.role
                ),
            ));
        }
        self.note_use(&key, now);
        let address = from.ip().to_canonical();
        Ok(Caller::new(
            &key.name,
            SocketAddr::new(address, from.port()).to_string(),
            key.role,
            Credential::Token(key.id),
        ))
    }

    /// Whether what the caller showed still holds: asked again and again while a stream is up.
    pub fn still_holds(&self, caller: &Caller, now: Timestamp) -> bool {
        match &caller.credential {
            Credential::Socket => true,
            Credential::Certificate(shown) => {
                shown.ends.is_none_or(|ends| now <= ends) && !self.is_revoked(shown) && self.is_trusted(shown)
            }
            Credential::Token(id) => self.get(id).is_some_and(|key| ended(&key, now).is_none()),
        }
    }

    pub async fn add(&self, key: OperatorRecord, actor: &Actor) -> Result<(), StoreError> {
        let added = key.clone();
        let actor = actor.clone();
        self.0.store.call(move |store| store.add_operator(&added, &actor)).await?;
        self.put(key);
        Ok(())
    }

    /// By a token's id, or every token of a name that still lives. In force at once.
    pub async fn revoke(&self, text: &str, actor: &Actor, now: Timestamp) -> Result<Vec<OperatorRecord>, StoreError> {
        let mut revoked = Vec::new();
        for id in self.meant(text, now) {
            let actor = actor.clone();
            let key = self.0.store.call(move |store| store.revoke_operator(&id, &actor, now)).await?;
            self.put(key.clone());
            revoked.push(key);
        }
        match revoked.is_empty() {
            true => Err(StoreError::NotFound {
                what: "operator's token",
                name: text.to_owned(),
            }),
            false => Ok(revoked),
        }
    }

    /// Oldest first.
    pub fn all(&self) -> Vec<OperatorRecord> {
        let mut all: Vec<OperatorRecord> = self.read(|keys| keys.values().cloned().collect());
        all.sort_by_key(|key| key.created_at);
        all
    }

    pub fn failed_authentications(&self) -> u64 {
        self.0.failures.total()
    }

    /// Counts a call that showed nothing, or nothing of ours.
    pub(crate) fn failed(&self, from: SocketAddr, now: Timestamp, message: &str) -> ApiError {
        self.0.failures.count(from.ip(), now);
        ApiError::new("not_authenticated", message)
    }

    /// Whether a refusal of this address is to be listed, and how many before it were not.
    pub(crate) fn lists(&self, address: IpAddr, now: Timestamp) -> Option<u64> {
        self.0.failures.list(address, now)
    }

    fn meant(&self, text: &str, now: Timestamp) -> Vec<TokenId> {
        self.read(|keys| match TokenId::parse(text).ok().filter(|id| keys.contains_key(id)) {
            Some(id) => vec![id],
            None => {
                let of_name = keys.values().filter(|key| key.name == text && ended(key, now).is_none());
                of_name.map(|key| key.id.clone()).collect()
            }
        })
    }

    /// Coarsely, and behind the call's back: it costs a write once in a quarter of an hour.
    fn note_use(&self, key: &OperatorRecord, now: Timestamp) {
        if key.last_used.is_some_and(|at| now.since(at) < USED_EVERY_MS) {
            return;
        }
        let id = key.id.clone();
        if let Some(key) = self.0.keys.write().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            key.last_used = Some(now);
        }
        let store = self.0.store.clone();
        tokio::spawn(async move {
            let used = id.clone();
            if let Err(error) = store.call(move |store| store.operator_used(&used, now)).await {
                tracing::warn!(%error, token = %id, "the use of an operator's token was not written down");
            }
        });
    }

    fn get(&self, id: &TokenId) -> Option<OperatorRecord> {
        self.read(|keys| keys.get(id).cloned())
    }

    fn put(&self, key: OperatorRecord) {
        let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.id.clone(), key);
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<TokenId, OperatorRecord>) -> T) -> T {
        look(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a token no longer opens anything.
fn ended(key: &OperatorRecord, now: Timestamp) -> Option<&'static str> {
    match key {
        key if key.revoked => Some("is revoked"),
        key if now >= key.expires_at => Some("has expired"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use controller_store::{MemoryStore, hash_secret};
    use proto_model::role::Role;
    use proto_transport::{AUTHORITY_LIFE_MS, PeerInfo, RotationStep};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn actor() -> Actor {
        Actor {
            by: "root@local".into(),
            address: "local".into(),
        }
    }

    fn from(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 40_000))
    }

    async fn keyring_with(name: &str) -> (Keyring, OperatorToken, StoreHandle) {
        let store = StoreHandle::spawn(Box::new(MemoryStore::new()));
        let keyring = Keyring::load(store.clone()).await.unwrap();
        let token = OperatorToken::generate();
        let key = OperatorRecord {
            id: token.id.clone(),
            name: name.into(),
            role: Role::Viewer,
            secret_hash: hash_secret(&token.secret),
            created_at: NOW,
            expires_at: NOW.plus_ms(60_000),
            revoked: false,
            created_by: "root@local".into(),
            last_used: None,
        };
        keyring.add(key, &actor()).await.unwrap();
        (keyring, token, store)
    }

    fn message(answer: ApiResult<Caller>) -> String {
        answer.unwrap_err().0.message
    }

    #[tokio::test]
    async fn a_bearer_is_who_the_token_says_until_it_ends() {
        let (keyring, token, store) = keyring_with("ann").await;
        let caller = keyring.by_header(&format!("Bearer {token}"), from(1), false, NOW).unwrap();
        assert_eq!((caller.name.as_str(), caller.role), ("ann", Role::Viewer));
        assert!(keyring.still_holds(&caller, NOW.plus_ms(59_999)) && !keyring.still_holds(&caller, NOW.plus_ms(60_000)));
        let late = keyring.by_bearer(&token.to_string(), from(1), false, NOW.plus_ms(60_000));
        assert!(message(late).contains("has expired"));
        assert_eq!(keyring.revoke("ann", &actor(), NOW).await.unwrap().len(), 1);
        assert!(!keyring.still_holds(&caller, NOW));
        assert!(message(keyring.by_bearer(&token.to_string(), from(1), false, NOW)).contains("is revoked"));
        let reloaded = Keyring::load(store).await.unwrap();
        assert!(message(reloaded.by_bearer(&token.to_string(), from(1), false, NOW)).contains("is revoked"));
        assert!(keyring.revoke("bob", &actor(), NOW).await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_given_away_to_who_does_not_know_the_secret() {
        let (keyring, token, _) = keyring_with("ann").await;
        let mut wrong = OperatorToken::generate();
        let unknown = message(keyring.by_bearer(&wrong.to_string(), from(1), false, NOW));
        wrong.id = token.id;
        assert_eq!(message(keyring.by_bearer(&wrong.to_string(), from(1), false, NOW)), unknown);
        let error = keyring.by_header("Basic YTpi", from(1), false, NOW).unwrap_err();
        assert_eq!(error.0.code, "not_authenticated");
        assert_eq!(keyring.failed_authentications(), 3);
    }

    #[tokio::test]
    async fn who_fails_often_is_not_listened_to_except_to_stop() {
        let (keyring, token, _) = keyring_with("ann").await;
        let (good, wrong) = (token.to_string(), OperatorToken::generate().to_string());
        for _ in 0..10 {
            assert!(message(keyring.by_bearer(&wrong, from(1), false, NOW)).contains("not valid"));
        }
        assert!(message(keyring.by_bearer(&good, from(1), false, NOW)).contains("too many failed tries"));
        assert!(keyring.by_bearer(&good, from(1), true, NOW).is_ok());
        assert!(keyring.by_bearer(&good, from(2), false, NOW).is_ok());
    }

    #[tokio::test]
    async fn a_use_is_written_once_in_a_quarter_of_an_hour() {
        let (keyring, token, store) = keyring_with("ann").await;
        for ms in [0, 1_000, 2_000] {
            keyring.by_bearer(&token.to_string(), from(1), false, NOW.plus_ms(ms)).unwrap();
        }
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while store.call(|store| store.operators()).await.unwrap()[0].last_used.is_none() {
            assert!(std::time::Instant::now() < until, "the use was not written within 5 s");
            tokio::task::yield_now().await;
        }
        assert_eq!(store.call(|store| store.operators()).await.unwrap()[0].last_used, Some(NOW));
    }

    #[tokio::test]
    async fn what_is_watched_by_a_certificate_ends_with_the_trust_in_its_authority() {
        let folder = tempfile::tempdir().unwrap();
        let authorities = Arc::new(Authorities::open_or_create(folder.path(), AUTHORITY_LIFE_MS, NOW).unwrap());
        let (certificate, _) = authorities.current().issue_operator("ann", Role::Viewer, NOW, 60_000).unwrap();
        let peer = PeerInfo::of(from(1), Some(&[certificate]));
        let shown = ShownCertificate {
            operator: "ann".into(),
            key: peer.key_fingerprint.as_deref().map(str::to_owned),
            begins: peer.not_before,
            ends: peer.not_after,
            issuer: peer.issuer.to_vec(),
        };
        let ann = Caller::new("ann", "local".into(), Role::Viewer, Credential::Certificate(shown));
        let (keyring, ..) = keyring_with("bob").await;
        let keyring = keyring.with_authorities(authorities.clone());
        for (step, holds) in [
            (RotationStep::Prepare, true),
            (RotationStep::Switch, true),
            (RotationStep::Finish, false),
        ] {
            authorities.take(step, NOW).unwrap();
            assert_eq!(keyring.still_holds(&ann, NOW), holds, "{step}");
        }
    }
}
