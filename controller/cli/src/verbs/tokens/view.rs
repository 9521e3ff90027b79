//! A join token as a row, and what it lets in, in words.

use proto_model::document::TokenDocument;
use proto_model::time::Timestamp;

use crate::age::{ago, now};
use crate::documents::Shown;

impl Shown for TokenDocument {
    const KIND: &'static str = "Token";
    const PLURAL: &'static str = "tokens";

    fn name(&self) -> String {
        self.id.clone()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &["NAME", "STATE", "USED", "LABELS", "EXPIRES", "BY", "AGE"]
        } else {
            &["NAME", "STATE", "USED", "LABELS", "EXPIRES", "AGE"]
        }
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut row = vec![
            self.id.clone(),
            state(self, now).to_owned(),
            format!("{}/{}", self.used, self.uses),
            labels.join(","),
            self.expires_at.to_string(),
        ];
        if wide {
            row.push(self.created_by.clone());
        }
        row.push(ago(self.created_at, now));
        row
    }
}

fn state(token: &TokenDocument, now: Timestamp) -> &'static str {
    if token.revoked {
        "revoked"
    } else if now >= token.expires_at {
        "expired"
    } else if token.used >= token.uses {
        "used up"
    } else {
        "open"
    }
}

/// The environment that hosts of these labels are in.
pub fn environment<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> &'a str {
    let env = labels.into_iter().find(|(key, _)| *key == proto_model::host::ENV_LABEL);
    env.map_or(proto_model::host::PRODUCTION, |(_, value)| value)
}

/// How long a token is still good, for people.
pub fn left(token: &TokenDocument) -> String {
    ago(now(), token.expires_at)
}
