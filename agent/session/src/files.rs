//! The host's identity on disk: key, certificate, authority, controller. The key is made here and never leaves.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use proto_transport::{Authority, ClientIdentity, TransportError, Trust, csr, replace_private};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Every authority that is trusted, in one file.
const AUTHORITIES: &str = "authority.pem";

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is damaged; enrol this host again with a new token", .0.display())]
    Damaged(PathBuf),
    #[error(transparent)]
    Key(#[from] TransportError),
}

/// The controller that this host was enrolled with; `None` as long as it is not.
pub fn controller_of(state_dir: &Path) -> Result<Option<String>, IdentityError> {
    Ok(Files::of(state_dir).load()?.map(|loaded| loaded.controller))
}

/// `<state-dir>/identity`.
pub(crate) struct Files {
    dir: PathBuf,
}

/// Everything that a dial needs.
pub(crate) struct Loaded {
    /// `host:port`
    pub controller: String,
    /// Each may vouch for the controller.
    pub authorities: Vec<CertificateDer<'static>>,
    pub client: ClientIdentity,
}

impl Loaded {
    pub fn trust(&self) -> Trust {
        Trust::Authorities(self.authorities.clone())
    }
}

impl Files {
    pub fn of(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("identity"),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn epochs(&self) -> PathBuf {
        self.dir.join("epochs.json")
    }

    /// The key of this host (PEM), the one it has or a new one, and a request for a certificate for it (DER).
    pub fn own_key(&self) -> Result<(String, Vec<u8>), IdentityError> {
        private_dir(&self.dir)?;
        if let Some(key) = read(&self.dir.join("key.pem"))?
            && let Ok(request) = Authority::csr_for(&key)
        {
            return Ok((key, request));
        }
        let (key, request) = csr()?;
        self.keep("key.pem", key.as_bytes())?;
        Ok((key, request))
    }

    /// What an enrolment bought. The certificate comes last: with it the host is enrolled.
    pub fn enrolled(&self, controller: &str, authorities: &[Vec<u8>], certificate: &[u8]) -> Result<(), IdentityError> {
        self.keep("controller", format!("{controller}\n").as_bytes())?;
        self.trust(authorities)?;
        match std::fs::remove_file(self.epochs()) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(file("remove", &self.epochs())(e)),
            _ => {}
        }
        self.renewed(certificate)
    }

    pub fn renewed(&self, certificate: &[u8]) -> Result<(), IdentityError> {
        self.keep("cert.pem", certificate_pem(certificate).as_bytes())
    }

    /// What is trusted from now on, instead of what was; on the disk when this returns.
    pub fn trust(&self, authorities: &[Vec<u8>]) -> Result<(), IdentityError> {
        let bundle: String = authorities.iter().map(|authority| certificate_pem(authority)).collect();
        self.keep(AUTHORITIES, bundle.as_bytes())
    }

    /// `None` as long as the host is not enrolled.
    pub fn load(&self) -> Result<Option<Loaded>, IdentityError> {
        let at = |name: &str| self.dir.join(name);
        let Some(certificate) = read(&at("cert.pem"))? else {
            return Ok(None);
        };
        let damaged = |name: &str| IdentityError::Damaged(self.dir.join(name));
        let rest = |name: &str| read(&at(name)).and_then(|text| text.ok_or_else(|| damaged(name)));
        let (key_pem, authority, controller) = (rest("key.pem")?, rest(AUTHORITIES)?, rest("controller")?);
        let der = |text: &str, name| CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged(name));
        let client = ClientIdentity {
            certificate: der(&certificate, "cert.pem")?,
            key_pem,
        };
        let authorities = CertificateDer::pem_slice_iter(authority.as_bytes());
        let authorities: Vec<_> = authorities.collect::<Result<_, _>>().map_err(|_| damaged(AUTHORITIES))?;
        if authorities.is_empty() {
            return Err(damaged(AUTHORITIES));
        }
        Ok(Some(Loaded {
            controller: controller.trim().to_owned(),
            authorities,
            client,
        }))
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
        let path = self.dir.join(name);
        replace_private(&path, bytes).map_err(file("write", &path))
    }
}

fn private_dir(dir: &Path) -> Result<(), IdentityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(file("make", dir))
}

fn certificate_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file("read", path)(e)),
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_without_a_certificate_nobody_is_enrolled() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path());
        let first = files.own_key().unwrap().0;
        assert_eq!(files.own_key().unwrap().0, first);
        assert!(files.load().unwrap().is_none());
        std::fs::write(dir.path().join("identity/cert.pem"), "nonsense").unwrap();
        assert!(matches!(files.load(), Err(IdentityError::Damaged(_))));
    }
}
