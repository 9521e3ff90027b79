//! The Debian archive and the proxy that this machine is configured to use.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// From where packages come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The archive's address, such as the one in /etc/apt/sources.list.
    pub mirror: String,
    pub proxy: Option<String>,
}

impl Archive {
    /// As apt reads its own configuration, in all of its formats.
    pub fn of_this_machine() -> Result<Self> {
        let form = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
        let targets = ask("apt-get", &["indextargets", "--format", form, "Created-By: Packages"])?;
        let proxy = ask("apt-config", &["shell", "proxy", "Acquire::http::Proxy"])?;
        Ok(Self {
            mirror: mirror(&targets)
                .context("apt is not configured with any release of Debian")?
                .to_owned(),
            proxy: shell_value(&proxy),
        })
    }
}

/// The archive of a whole release, and of no updates to one.
fn mirror(targets: &str) -> Option<&str> {
    let fields = targets.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter_map(|fields| match fields[..] {
            [address, release, "main"] if release.bytes().all(|letter| letter.is_ascii_lowercase()) => Some(address),
            _ => None,
        })
        .next()
}

/// From `proxy='VALUE'`.
fn shell_value(line: &str) -> Option<String> {
    let value = line.trim().split_once('=')?.1.trim_matches('\'');
    (!value.is_empty() && value != "DIRECT").then(|| value.to_owned())
}

fn ask(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("start {program}, which knows the Debian archive"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_and_other_vendors_are_not_the_archive_of_a_release() {
        let targets = "http://vendor.example/apt/ stable-vendor main\nhttp://security.example/ bookworm-security main\n\
                       http://archive.example/debian/ bookworm contrib\nhttp://archive.example/debian/ bookworm main\n";
        assert_eq!(mirror(targets), Some("http://archive.example/debian/"));
        assert_eq!(mirror(""), None);
    }

    #[test]
    fn a_proxy_is_read_from_apt() {
        assert_eq!(
            shell_value("proxy='http://proxy.example:3142'\n").as_deref(),
            Some("http://proxy.example:3142")
        );
        assert_eq!(shell_value(""), None);
        assert_eq!(shell_value("proxy='DIRECT'\n"), None);
    }
}
