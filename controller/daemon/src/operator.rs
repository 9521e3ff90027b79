//! `fracas-controller --issue-operator NAME --out DIR`: what an operator on another machine needs, in three files.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use proto_model::role::Role;
use proto_transport::{Authority, certificate_pem, create_private};

use crate::clock::now;

/// 30 days. A certificate cannot be taken back before it ends; an operator's token can.
const LIVES_MS: u64 = 30 * 24 * 3_600_000;

/// Writes authority, certificate and key, and says how to use them. Nothing is overwritten.
pub fn issue(state_dir: &Path, name: &str, role: Role, out: &Path) -> anyhow::Result<()> {
    let authority = Authority::open_or_create(&state_dir.join("authority"), now())?;
    let (certificate, key) = authority.issue_operator(name, role, now(), LIVES_MS)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(out)
        .with_context(|| format!("make {}", out.display()))?;
    write_new(&out.join("authority.pem"), &authority.certificate_pem())?;
    write_new(&out.join(format!("{name}.pem")), &certificate_pem(&certificate))?;
    write_new(&out.join(format!("{name}-key.pem")), &key)?;
    println!("written to {}; on the operator's machine:", out.display());
    println!(
        "  fracas contexts add NAME --server CONTROLLER:7443 --ca-file authority.pem --certificate-file {name}.pem --key-file {name}-key.pem"
    );
    Ok(())
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    create_private(path)
        .and_then(|file| file.fill(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}
