//! Who is signed in at which browser: random cookies, in memory only, so that a restart signs everybody out. It knows no token's secret.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto_model::time::Timestamp;
use rand::Rng;

use crate::caller::Caller;

/// The `__Host-` prefix makes browsers insist on TLS, on this very host and on the whole of it.
pub(crate) const COOKIE: &str = "__Host-fracas";
/// A session is over after this much time, used or not.
const LASTS_MS: u64 = 12 * 60 * 60 * 1_000;
/// Sessions at the same time; the oldest gives way.
const AT_ONCE: usize = 1_000;
const SECRET_BYTES: usize = 32;

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub caller: Caller,
    /// In every form of its pages.
    pub form_secret: String,
    pub until: Timestamp,
}

#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// Returns the cookie's value.
    pub fn open(&self, caller: Caller, now: Timestamp) -> String {
        let cookie = secret();
        let session = Session {
            caller,
            form_secret: secret(),
            until: now.plus_ms(LASTS_MS),
        };
        let mut open = self.lock();
        open.retain(|_, session| session.until > now);
        if open.len() >= AT_ONCE
            && let Some(oldest) = open
                .iter()
                .min_by_key(|(_, session)| session.until)
                .map(|(cookie, _)| cookie.clone())
        {
            open.remove(&oldest);
        }
        open.insert(cookie.clone(), session);
        cookie
    }

    pub fn of(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        self.lock().get(cookie).filter(|session| session.until > now).cloned()
    }

    pub fn close(&self, cookie: &str) {
        self.lock().remove(cookie);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 256 random bits as text.
fn secret() -> String {
    let mut bytes = [0u8; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The session cookie among those that a browser sends.
pub(crate) fn cookie_in(header: &str) -> Option<&str> {
    header
        .split(';')
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Credential;
    use proto_model::id::TokenId;
    use proto_model::role::Role;

    fn caller(name: &str) -> Caller {
        Caller::new(
            name,
            "198.51.100.7:1".to_owned(),
            Role::Viewer,
            Credential::Token(TokenId::generate()),
        )
    }

    #[test]
    fn a_session_is_found_by_its_cookie_until_its_time_is_over_or_it_is_closed() {
        let sessions = Sessions::default();
        let cookie = sessions.open(caller("ada"), Timestamp(0));
        let other = sessions.open(caller("bob"), Timestamp(0));
        assert_ne!(cookie, other);
        assert_eq!(sessions.of(&cookie, Timestamp(1)).unwrap().caller.name, "ada");
        assert!(sessions.of(&cookie, Timestamp(0).plus_ms(LASTS_MS)).is_none());
        assert!(sessions.of("", Timestamp(1)).is_none());
        sessions.close(&cookie);
        assert!(sessions.of(&cookie, Timestamp(1)).is_none());
        assert!(sessions.of(&other, Timestamp(1)).is_some());
    }

    #[test]
    fn the_oldest_gives_way() {
        let sessions = Sessions::default();
        let first = sessions.open(caller("ada"), Timestamp(0));
        let cookies: Vec<String> = (1..=AT_ONCE as i64).map(|n| sessions.open(caller("bob"), Timestamp(n))).collect();
        assert!(sessions.of(&first, Timestamp(2_000)).is_none());
        assert!(cookies.iter().all(|cookie| sessions.of(cookie, Timestamp(2_000)).is_some()));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        assert_eq!(cookie_in("a=b; __Host-fracas=c; d=e"), Some("c"));
        assert_eq!(cookie_in("__Host-fracass=c"), None);
        assert_eq!(cookie_in(""), None);
    }
}
