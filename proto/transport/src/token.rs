//! Join tokens as people paste them: an id, a secret, and the fingerprint of the authority that will answer.

use std::fmt;

use proto_model::id::TokenId;

/// Random bytes in a secret: 160 bits and more, so a fast hash of it is safe to store.
const SECRET_BYTES: usize = 24;
const PREFIX: &str = "fjt1";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token: expected fjt1.<id>.<secret>.<fingerprint>")]
pub struct InvalidToken;

/// `fjt1.<id>.<secret>.<fingerprint>`
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: TokenId,
    pub secret: String,
    /// SHA-256 of the authority's certificate, in hex.
    pub fingerprint: String,
}

impl JoinToken {
    pub fn generate(fingerprint: &str) -> Self {
        let secret = (0..SECRET_BYTES).map(|_| format!("{:02x}", rand::random::<u8>())).collect();
        Self {
            id: TokenId::generate(),
            secret,
            fingerprint: fingerprint.to_owned(),
        }
    }

    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret, fingerprint] = parts[..] else {
            return Err(InvalidToken);
        };
        let hex = |t: &str, bytes: usize| t.len() == 2 * bytes && t.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex(secret, SECRET_BYTES) || !hex(fingerprint, 32) {
            return Err(InvalidToken);
        }
        let id = TokenId::parse(id).map_err(|_| InvalidToken)?;
        Ok(Self {
            id,
            secret: secret.to_owned(),
            fingerprint: fingerprint.to_owned(),
        })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.id, self.secret, self.fingerprint)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_and_debug_keeps_the_secret() {
        let token = JoinToken::generate(&"ab".repeat(32));
        assert_eq!(JoinToken::parse(&token.to_string()), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        for bad in ["", "fjt1.a.b.c", "fjt2.0123456789abcdef.x.y"] {
            assert!(JoinToken::parse(bad).is_err());
        }
    }
}
