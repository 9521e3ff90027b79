//! Who is calling: by the socket's peer credentials, by a client certificate of ours, or by a token. Nobody is anybody by default.

use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use proto_model::id::TokenId;
use proto_model::role::Role;
use proto_transport::ShownCertificate;
use tonic::transport::server::UdsConnectInfo;

/// Members are administrators on the controller's own machine, as root is.
pub const ADMIN_GROUP: &str = "fracas-admin";

/// The longest subject that is written down.
const SUBJECT_CHARS: usize = 256;

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Such as `root@local`.
    pub name: String,
    /// `local`, or the peer's address.
    pub address: String,
    pub role: Role,
    pub credential: Credential,
    subject: Subject,
}

/// What the caller has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    Socket,
    Certificate(ShownCertificate),
    Token(TokenId),
}

/// What the call is about, once its handler knows.
type Subject = Arc<Mutex<Option<String>>>;

impl Caller {
    pub fn new(name: &str, address: String, role: Role, credential: Credential) -> Self {
        Self {
            name: name.to_owned(),
            address,
            role,
            credential,
            subject: Subject::default(),
        }
    }

    /// From what the kernel says of the process at the other end of the socket.
    pub fn from_socket(info: &UdsConnectInfo) -> Option<Self> {
        let credentials = info.peer_cred?;
        let uid = Uid::from_raw(credentials.uid());
        let user = User::from_uid(uid).ok().flatten();
        let name = user.as_ref().map_or_else(|| format!("uid{uid}"), |u| u.name.clone());
        let admin = uid.is_root() || user.is_some_and(|u| in_admin_group(&u, Gid::from_raw(credentials.gid())));
        let name = format!("{name}@local");
        admin.then(|| Self::new(&name, "local".to_owned(), Role::Administrator, Credential::Socket))
    }

    /// The same caller with nothing said yet of what the call is about.
    pub(crate) fn for_one_call(&self) -> Self {
        Self::new(&self.name, self.address.clone(), self.role, self.credential.clone())
    }

    /// Says what the call is about, for the audit log. A token that somebody pasted for its id is left out.
    pub fn concerns(&self, subject: impl AsRef<str>) {
        let words = subject.as_ref().split_whitespace();
        let named: Vec<&str> = words.map(|word| if holds_secret(word) { "(a token)" } else { word }).collect();
        let text = named.join(" ").chars().take(SUBJECT_CHARS).collect();
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(crate) fn subject(&self) -> Option<String> {
        self.subject.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn actor(&self) -> controller_store::Actor {
        controller_store::Actor {
            by: self.name.clone(),
            address: self.address.clone(),
        }
    }
}

fn holds_secret(word: &str) -> bool {
    ["fot1.", "fjt1."].iter().any(|prefix| word.contains(prefix))
}

fn in_admin_group(user: &User, gid: Gid) -> bool {
    let Ok(Some(admin)) = Group::from_name(ADMIN_GROUP) else {
        return false;
    };
    let Ok(name) = std::ffi::CString::new(user.name.as_str()) else {
        return false;
    };
    gid == admin.gid || getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&admin.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_short_and_holds_no_token() {
        let caller = Caller::new("ann", "local".into(), Role::Viewer, Credential::Socket);
        assert_eq!(caller.subject(), None);
        caller.clone().concerns("revoke 'fot1.0123456789abcdef.00ff' now");
        assert_eq!(caller.subject().as_deref(), Some("revoke (a token) now"));
        caller.concerns("x".repeat(5_000));
        assert_eq!(caller.subject().map(|text| text.len()), Some(SUBJECT_CHARS));
    }
}
