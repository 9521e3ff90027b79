//! The host's identity on disk: key, certificate, authority, controller. The key is made here and never leaves.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto_transport::{Authority, ClientIdentity, TransportError, Trust, csr, replace_private};
use rustix::fs::OFlags;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Every authority that is trusted, in one file.
const AUTHORITIES: &str = "authority.pem";
const EPOCHS: &str = "epochs.json";
/// With it the host is enrolled.
const CERTIFICATE: &str = "cert.pem";
/// `host:port`.
const CONTROLLER: &str = "controller";
/// The longest address of a controller, in bytes.
const MOST_LINE: u64 = 512;

/// Where the identity lies. A session may not enter the folders above it, so it opens what is there from within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFolder {
    pub dir: PathBuf,
    /// Its path in messages.
    pub shown: PathBuf,
}

impl IdentityFolder {
    /// A folder that this process may enter by its path.
    pub fn at(dir: PathBuf) -> Self {
        Self { shown: dir.clone(), dir }
    }

    /// The folder in which this process was started.
    pub fn current(shown: PathBuf) -> Self {
        Self {
            dir: PathBuf::from("."),
            shown,
        }
    }
}

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

/// The controller that this host was enrolled with; `None` as long as it is not. No certificate is read: whoever asks may be root, and
/// the files are the session's.
pub fn controller_of(folder: IdentityFolder) -> Result<Option<String>, IdentityError> {
    let files = Files::of(folder);
    match files.0.dir.join(CERTIFICATE).symlink_metadata() {
        Ok(_) => files.read_carefully(CONTROLLER).map(Some).map_err(files.failed("read", CONTROLLER)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(files.failed("look at", CERTIFICATE)(e)),
    }
}

/// What is in it.
pub(crate) struct Files(IdentityFolder);

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
    pub fn of(folder: IdentityFolder) -> Self {
        Self(folder)
    }

    /// For people.
    pub fn shown(&self) -> &Path {
        &self.0.shown
    }

    pub fn epochs(&self) -> PathBuf {
        self.0.dir.join(EPOCHS)
    }

    fn read(&self, name: &str) -> Result<Option<String>, IdentityError> {
        match std::fs::read_to_string(self.0.dir.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed("read", name)(e)),
        }
    }

    /// As root: a plain file of one short line, whatever somebody may have put there.
    fn read_carefully(&self, name: &str) -> io::Result<String> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(self.0.dir.join(name))?;
        let unfit = |why: &str| io::Error::new(ErrorKind::InvalidData, why.to_owned());
        if !file.metadata()?.is_file() {
            return Err(unfit("it is no plain file"));
        }
        let mut text = String::new();
        file.take(MOST_LINE).read_to_string(&mut text)?;
        let line = text.trim();
        match line.chars().any(char::is_control) {
            true => Err(unfit("it is not one line of text")),
            false => Ok(line.to_owned()),
        }
    }

    fn failed(&self, action: &'static str, name: &str) -> impl FnOnce(io::Error) -> IdentityError {
        let path = self.0.shown.join(name);
        move |source| IdentityError::File { action, path, source }
    }

    /// The key of this host (PEM), the one it has or a new one, and a request for a certificate for it (DER).
    pub fn own_key(&self) -> Result<(String, Vec<u8>), IdentityError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0.dir);
        made.map_err(self.failed("make", ""))?;
        if let Some(key) = self.read("key.pem")?
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
        self.keep(CONTROLLER, format!("{controller}\n").as_bytes())?;
        self.trust(authorities)?;
        match std::fs::remove_file(self.epochs()) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(self.failed("remove", EPOCHS)(e)),
            _ => {}
        }
        self.renewed(certificate)
    }

    pub fn renewed(&self, certificate: &[u8]) -> Result<(), IdentityError> {
        self.keep(CERTIFICATE, certificate_pem(certificate).as_bytes())
    }

    /// What is trusted from now on, instead of what was; on the disk when this returns.
    pub fn trust(&self, authorities: &[Vec<u8>]) -> Result<(), IdentityError> {
        let bundle: String = authorities.iter().map(|authority| certificate_pem(authority)).collect();
        self.keep(AUTHORITIES, bundle.as_bytes())
    }

    /// `None` as long as the host is not enrolled.
    pub fn load(&self) -> Result<Option<Loaded>, IdentityError> {
        let Some(certificate) = self.read(CERTIFICATE)? else {
            return Ok(None);
        };
        let damaged = |name: &str| IdentityError::Damaged(self.0.shown.join(name));
        let rest = |name: &str| self.read(name).and_then(|text| text.ok_or_else(|| damaged(name)));
        let (key_pem, authority, controller) = (rest("key.pem")?, rest(AUTHORITIES)?, rest(CONTROLLER)?);
        let der = |text: &str, name| CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged(name));
        let client = ClientIdentity {
            certificate: der(&certificate, CERTIFICATE)?,
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
        replace_private(&self.0.dir.join(name), bytes).map_err(self.failed("write", name))
    }
}

fn certificate_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_without_a_certificate_nobody_is_enrolled() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(IdentityFolder::at(dir.path().join("identity")));
        let first = files.own_key().unwrap().0;
        assert_eq!(files.own_key().unwrap().0, first);
        assert!(files.load().unwrap().is_none());
        std::fs::write(dir.path().join("identity/cert.pem"), "nonsense").unwrap();
        assert!(matches!(files.load(), Err(IdentityError::Damaged(_))));
    }
}
