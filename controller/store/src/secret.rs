//! Secrets of tokens at rest: hashed, compared in constant time; join tokens are spent by rule. It never keeps or prints a secret.

use proto_model::time::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::records::{StoreError, TokenRecord};

/// SHA-256 of the secret, in lower-case hex. A fast hash is right here: the secret is not chosen by a person but is
/// 160 or more random bits, so there is nothing to guess and nothing that a slow hash would protect.
pub fn hash_secret(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the hash is this secret's, in constant time; an empty hash is nobody's.
pub fn is_secret(hash: &str, secret: &str) -> bool {
    bool::from(hash.as_bytes().ct_eq(hash_secret(secret).as_bytes()))
}

/// Takes one use of the token, or says why not. Only who knows the secret learns more than "not valid".
pub(crate) fn spend(token: Option<TokenRecord>, secret: &str, now: Timestamp) -> Result<TokenRecord, StoreError> {
    let refuse = |why: &str| Err(StoreError::Refused(why.to_owned()));
    let known = token.as_ref().map_or("", |t| t.secret_hash.as_str());
    let same = is_secret(known, secret);
    match token {
        Some(token) if same => {
            if token.revoked {
                return refuse("the join token is revoked");
            }
            if now >= token.expires_at {
                return refuse("the join token has expired");
            }
            if token.used >= token.uses {
                return refuse("the join token has no uses left");
            }
            Ok(TokenRecord {
                used: token.used + 1,
                ..token
            })
        }
        _ => refuse("the join token is not valid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_plain_sha256_in_hex() {
        assert_eq!(
            hash_secret("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
