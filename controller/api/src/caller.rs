//! Who is calling: by the socket's peer credentials, or by a client certificate of ours. Nobody is anybody by default.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tonic::transport::server::UdsConnectInfo;

use crate::access::Role;

/// Members are administrators on the controller's own machine, as root is.
pub const ADMIN_GROUP: &str = "fracas-admin";

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Such as `root@local`.
    pub name: String,
    /// `local`, or the peer's address.
    pub address: String,
    pub role: Role,
}

impl Caller {
    /// From what the kernel says of the process at the other end of the socket.
    pub fn from_socket(info: &UdsConnectInfo) -> Option<Self> {
        let credentials = info.peer_cred?;
        let uid = Uid::from_raw(credentials.uid());
        let user = User::from_uid(uid).ok().flatten();
        let name = user.as_ref().map_or_else(|| format!("uid{uid}"), |u| u.name.clone());
        let admin = uid.is_root() || user.is_some_and(|u| in_admin_group(&u, Gid::from_raw(credentials.gid())));
        admin.then(|| Self {
            name: format!("{name}@local"),
            address: "local".to_owned(),
            role: Role::Administrator,
        })
    }

    /// From a client certificate that the listener has verified.
    pub fn from_certificate(operator: &str, address: String) -> Self {
        Self {
            name: operator.to_owned(),
            address,
            role: Role::Administrator,
        }
    }

    pub fn actor(&self) -> controller_store::Actor {
        controller_store::Actor {
            by: self.name.clone(),
            address: self.address.clone(),
        }
    }
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
