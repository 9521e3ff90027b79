//! Tokens as people paste them: a join token for a host, an operator's token for a person. Their secrets are only ever shown whole.

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
        Self {
            id: TokenId::generate(),
            secret: random_secret(),
            fingerprint: fingerprint.to_owned(),
        }
    }

    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret, fingerprint] = parts[..] else {
            return Err(InvalidToken);
        };
        if !is_hex(secret, SECRET_BYTES) || !is_hex(fingerprint, 32) {
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

const OPERATOR_PREFIX: &str = "fot1";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not an operator's token: expected fot1.<id>.<secret>")]
pub struct InvalidOperatorToken;

/// `fot1.<id>.<secret>`: what a person shows on another machine or in a browser.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorToken {
    pub id: TokenId,
    pub secret: String,
}

impl OperatorToken {
    pub fn generate() -> Self {
        Self {
            id: TokenId::generate(),
            secret: random_secret(),
        }
    }

    pub fn parse(text: &str) -> Result<Self, InvalidOperatorToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [OPERATOR_PREFIX, id, secret] = parts[..] else {
            return Err(InvalidOperatorToken);
        };
        match TokenId::parse(id) {
            Ok(id) if is_hex(secret, SECRET_BYTES) => Ok(Self {
                id,
                secret: secret.to_owned(),
            }),
            _ => Err(InvalidOperatorToken),
        }
    }
}

impl fmt::Display for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPERATOR_PREFIX}.{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorToken({})", self.id)
    }
}

fn random_secret() -> String {
    (0..SECRET_BYTES).map(|_| format!("{:02x}", rand::random::<u8>())).collect()
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|b| b.is_ascii_hexdigit())
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

    #[test]
    fn an_operators_token_is_told_from_a_join_token() {
        let token = OperatorToken::generate();
        assert_eq!(OperatorToken::parse(&format!(" {token}\n")), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        assert!(JoinToken::parse(&token.to_string()).is_err());
        for bad in ["", "fot1", "fot1.0123456789abcdef.short", "fjt1.0123456789abcdef.x"] {
            assert!(OperatorToken::parse(bad).is_err());
        }
    }
}
