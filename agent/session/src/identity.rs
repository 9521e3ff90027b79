//! This host's identity on disk: its key, its certificate, the authority it trusts, and where its controller is. For root alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto_transport::ClientIdentity;
use rustls_pki_types::CertificateDer;

use crate::error::SessionError;

/// The folder `identity` below the agent's state.
#[derive(Debug, Clone)]
pub(crate) struct IdentityFiles(PathBuf);

/// Everything needed to dial.
#[derive(Clone)]
pub(crate) struct Identity {
    pub controller: String,
    pub authority: CertificateDer<'static>,
    pub client: ClientIdentity,
}

impl IdentityFiles {
    pub fn below(state_dir: &Path) -> Self {
        Self(state_dir.join("identity"))
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    pub fn load(&self) -> Result<Identity, SessionError> {
        let controller = self.0.join("controller");
        if !controller.exists() {
            return Err(SessionError::NotEnrolled(controller));
        }
        Ok(Identity {
            controller: self.text("controller")?.trim().to_owned(),
            authority: CertificateDer::from(self.bytes("authority.der")?),
            client: ClientIdentity {
                certificate: CertificateDer::from(self.bytes("certificate.der")?),
                key_pem: self.text("key.pem")?,
            },
        })
    }

    /// Written last by an enrolment: while it is missing, the host has not joined.
    pub fn controller(&self) -> Option<String> {
        fs::read_to_string(self.0.join("controller"))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    pub fn save(&self, identity: &Identity) -> Result<(), SessionError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| SessionError::File {
            deed: "make",
            path: self.0.clone(),
            source,
        })?;
        self.write("key.pem", identity.client.key_pem.as_bytes())?;
        self.write("authority.der", &identity.authority)?;
        self.write("certificate.der", &identity.client.certificate)?;
        self.write("controller", identity.controller.as_bytes())
    }

    pub fn save_certificate(&self, certificate: &[u8]) -> Result<(), SessionError> {
        self.write("certificate.der", certificate)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, SessionError> {
        let path = self.0.join(name);
        fs::read(&path).map_err(|source| SessionError::File {
            deed: "read",
            path,
            source,
        })
    }

    fn text(&self, name: &str) -> Result<String, SessionError> {
        let path = self.0.join(name);
        fs::read_to_string(&path).map_err(|source| SessionError::File {
            deed: "read",
            path,
            source,
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SessionError> {
        write_private(&self.0.join(name), bytes)
    }
}

/// 0600, synced, and never half written under its own name.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SessionError> {
    let fresh = path.with_extension("new");
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, path)
        });
    written.map_err(|source| SessionError::File {
        deed: "write",
        path: path.to_owned(),
        source,
    })
}
