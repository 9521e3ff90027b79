//! Join tokens in memory, so that a wrong one costs a comparison and no write, no signature and no turn of the store.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_store::{StoreError, StoreHandle, TokenRecord, is_secret};
use proto_model::id::{HostName, TokenId};
use proto_transport::JoinToken;
use tokio::time::Instant;

/// How often the store may be asked for tokens that are not known here.
const ASKED_EVERY: Duration = Duration::from_millis(200);

/// How long a token that could not be spent is not tried again.
const ENDED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    known: Mutex<Known>,
    /// When the store was last asked; held while it is.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Known {
    tokens: BTreeMap<TokenId, KnownToken>,
    /// Revoked, expired or used up when the store was last asked to spend them.
    ended: BTreeMap<TokenId, Instant>,
}

#[derive(Debug)]
struct KnownToken {
    hash: String,
    replaces: Option<HostName>,
}

/// What a token is worth before the store is asked to spend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Its secret is not the one.
    Wrong,
    /// Its secret is the one, and it was refused before.
    Ended,
    Valid,
}

impl TokenCache {
    /// Whether the secret is the token's. One that is not known yet is looked for in the store, together with all others that wait for it.
    pub async fn prove(&self, store: &StoreHandle, token: &JoinToken) -> Result<Proof, StoreError> {
        if let Some(proof) = self.look(token) {
            return Ok(proof);
        }
        let arrived = Instant::now();
        let mut asked = self.asked.lock().await;
        if let Some(last) = *asked {
            if last > arrived {
                return Ok(self.look(token).unwrap_or(Proof::Wrong));
            }
            tokio::time::sleep_until(last + ASKED_EVERY).await;
        }
        *asked = Some(Instant::now());
        let tokens = store.call(|store| store.tokens()).await?;
        let known = |token: TokenRecord| {
            let (hash, replaces) = (token.secret_hash, token.replaces);
            (token.id, KnownToken { hash, replaces })
        };
        self.known().tokens = tokens.into_iter().map(known).collect();
        Ok(self.look(token).unwrap_or(Proof::Wrong))
    }

    /// The store refused to spend it, and is not asked again for a while.
    pub fn end(&self, token: &TokenId) {
        let mut known = self.known();
        known.ended.retain(|_, at| at.elapsed() < ENDED_FOR);
        known.ended.insert(token.clone(), Instant::now());
    }

    /// The host whose place the bearer of a proven token takes.
    pub fn replaces(&self, token: &TokenId) -> Option<HostName> {
        self.known().tokens.get(token)?.replaces.clone()
    }

    fn look(&self, token: &JoinToken) -> Option<Proof> {
        let known = self.known();
        let hash = &known.tokens.get(&token.id)?.hash;
        Some(match is_secret(hash, &token.secret) {
            false => Proof::Wrong,
            true if known.ended.get(&token.id).is_some_and(|at| at.elapsed() < ENDED_FOR) => Proof::Ended,
            true => Proof::Valid,
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
