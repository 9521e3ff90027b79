//! `fracas-agent enrol`: joins a controller with a token that is never an argument; the rest is the session's business.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use agent_privileges::{CapabilitySet, allow_only_a_session, confine};
use agent_session::{EnrolOptions, IdentityFolder};
use agent_view::{HostView, LinuxView};
use agent_warden::Policy;
use anyhow::{Context, bail};
use proto_transport::JoinToken;

use crate::host_context::need_root;
use crate::local_client;
use crate::local_server::Ask;
use crate::paths::Paths;
use crate::{accounts, own_folder};

const TOKEN_VARIABLE: &str = "FRACAS_JOIN_TOKEN";
/// More than any token has.
const MAX_TOKEN_BYTES: u64 = 4_096;

/// Joins, and says under which name.
pub fn enrol(paths: &Paths, controller: String, token_file: Option<&Path>, name: Option<String>) -> anyhow::Result<ExitCode> {
    need_root()?;
    let token = JoinToken::parse(&token_text(token_file)?)?;
    paths.make()?;
    let rules = write_rules(&paths.config)?;
    let facts = LinuxView::with_group_root(&paths.group_root).facts();
    // Asked of the local socket, which is root's.
    let next = next(paths);
    let identity = as_session(paths)?;
    let options = EnrolOptions {
        controller: controller.clone(),
        token,
        identity,
        name: name.unwrap_or(facts.hostname),
        machine_id: facts.machine_id,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let enrolled = runtime
        .block_on(agent_session::enrol(options))
        .with_context(|| format!("join {controller}"))?;
    println!("host      {}", enrolled.host);
    println!("identity  {}", enrolled.identity.display());
    println!("rules     {}{rules}", paths.config.display());
    println!("next      {next}");
    Ok(ExitCode::SUCCESS)
}

/// An agent that runs already looks for an identity every few seconds.
fn next(paths: &Paths) -> &'static str {
    if local_client::ask(paths, &Ask::Status).is_ok() {
        "nothing: the agent of this host connects by itself"
    } else {
        "systemctl enable --now fracas-agent, or fracas-agent run under another supervisor"
    }
}

/// From here on this process has the session's rights, and can open the identity's folder alone: what it reads next comes from the network.
fn as_session(paths: &Paths) -> anyhow::Result<IdentityFolder> {
    let policy = Policy::load(&paths.config, &agent_faults::catalogue())?;
    let account = accounts::session(&policy)?;
    let folder = paths.identity();
    own_folder::hand_over(&folder, account)?;
    std::env::set_current_dir(&folder).with_context(|| format!("enter {}", folder.display()))?;
    confine(account, CapabilitySet::empty()).context("give up the rights of root")?;
    allow_only_a_session()?;
    Ok(IdentityFolder::current(folder))
}

/// A host that joins has rules of its own from the beginning: the shipped ones where there are none. What is said about it.
fn write_rules(path: &Path) -> anyhow::Result<&'static str> {
    let failed = || format!("write the shipped rules to {}", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).with_context(failed)?;
    let made = File::options().write(true).create_new(true).mode(0o644).open(path);
    match made {
        Ok(mut file) => {
            file.write_all(agent_warden::SHIPPED.as_bytes()).with_context(failed)?;
            Ok(" (the shipped ones, written now)")
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(""),
        Err(e) => Err(e).with_context(failed),
    }
}

/// From the file, from standard input for `-`, or from the environment.
fn token_text(file: Option<&Path>) -> anyhow::Result<String> {
    let mut text = String::new();
    match file {
        Some(path) if path == Path::new("-") => {
            let read = std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut text);
            read.context("read the token from standard input")?;
        }
        Some(path) => text = std::fs::read_to_string(path).with_context(|| format!("read the token from {}", path.display()))?,
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(token) => text = token,
            Err(_) => bail!("no token: give --token-file FILE, \"--token-file -\" for standard input, or set {TOKEN_VARIABLE}"),
        },
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_once_and_never_over_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/agent.toml");
        assert!(write_rules(&path).unwrap().contains("written now"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), agent_warden::SHIPPED);
        std::fs::write(&path, "[faults]\nallow = []\n").unwrap();
        assert_eq!(write_rules(&path).unwrap(), "");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[faults]\nallow = []\n");
    }
}
