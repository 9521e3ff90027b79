//! `fracas-controller --issue-operator NAME --out DIR`: what an operator on another machine needs, in three files.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, bail};
use proto_model::role::Role;
use proto_transport::{
    Authorities, IssuedCertificate, IssuedList, Revocation, RevocationList, certificate_pem, create_private, fingerprint_of_key,
};

use crate::clock::now;

/// 30 days.
const LIVES_MS: u64 = 30 * 24 * 3_600_000;

/// Writes authority, certificate and key, and says how to use them. Nothing is overwritten.
pub fn issue(state_dir: &Path, life_ms: u64, name: &str, role: Role, out: &Path) -> anyhow::Result<()> {
    let folder = state_dir.join("authority");
    // Another process may be rotating: what is there is only read. None is made here: a folder of root's would keep the controller from starting.
    let Some(authorities) = Authorities::open(&folder, life_ms, now())? else {
        bail!(
            "there is no authority in {}: start the controller first, which makes one (systemctl start fracas-controller)",
            state_dir.display()
        );
    };
    let authority = authorities.current();
    let (certificate, key) = authority.issue_operator(name, role, now(), LIVES_MS)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(out)
        .with_context(|| format!("make {}", out.display()))?;
    if let Some(listed) = IssuedCertificate::of(&certificate, &authority.fingerprint()) {
        issued(state_dir)
            .add(&listed, now())
            .context("write the list of issued certificates")?;
    }
    write_new(&out.join("authority.pem"), &authorities.bundle_pem())?;
    write_new(&out.join(format!("{name}.pem")), &certificate_pem(&certificate))?;
    write_new(&out.join(format!("{name}-key.pem")), &key)?;
    let key = fingerprint_of_key(&certificate).unwrap_or_default();
    println!(
        "written to {}; the key's SHA-256 is {key}, by which --revoke-operator revokes it",
        out.display()
    );
    println!("on the operator's machine:");
    println!(
        "  fracas contexts add NAME --server CONTROLLER:7443 --ca-file authority.pem --certificate-file {name}.pem --key-file {name}-key.pem"
    );
    Ok(())
}

/// The list of issued certificates, beside the authority that issued them.
pub fn issued(state_dir: &Path) -> IssuedList {
    IssuedList::open(&state_dir.join("authority/issued-operators"))
}

/// The list of revoked certificates, beside the authority that issued them.
pub fn revocations(state_dir: &Path) -> RevocationList {
    RevocationList::open(&state_dir.join("authority/revoked-operators"))
}

/// Revokes by an operator's name or by a key, and says what that means.
pub fn revoke(state_dir: &Path, text: &str) -> anyhow::Result<()> {
    let Some(revocation) = Revocation::parse(text, now()) else {
        bail!("{text:?} is neither an operator's name nor the SHA-256 of a key (64 hex digits)");
    };
    let folder = state_dir.join("authority");
    match fs::metadata(&folder) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no authority in {}, so there is nothing to revoke: start the controller first",
            state_dir.display()
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => bail!(
            "{}: {error}: only root and the controller's user may revoke (try sudo)",
            folder.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("look at {}", folder.display())),
    }
    revocations(state_dir)
        .add(&revocation)
        .context("write the list of revoked certificates")?;
    match &revocation {
        Revocation::Operator { name, .. } => {
            println!("every certificate of {name} issued until now is revoked; their tokens are not: fracas operators revoke {name}")
        }
        Revocation::Key(key) => println!("every certificate of the key {key} is revoked"),
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    create_private(path)
        .and_then(|file| file.fill(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}
