//! `fracas contexts add`: remembers a controller, how to know it and who we are to it.

use std::path::{Path, PathBuf};

use clap::Args;
use proto_model::exit;

use super::file::File;
use crate::config::{LOCAL, Remote};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas contexts add staging --server ctl.example:7443 --ca-file ca.pem --token-file token
  fracas contexts add prod --server ctl.example --ca-file ca.pem --certificate-file me.pem --key-file me.key";

/// Where operators dial in.
const OPERATORS_PORT: u16 = 7443;

/// Add a controller on another machine, or replace one of the same name
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Add {
    /// What to call it
    name: String,
    /// HOST or HOST:PORT of its operators' listener, port 7443
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// The authority that its certificate must come from, PEM
    #[arg(long, value_name = "FILE")]
    ca_file: PathBuf,
    /// A file with your token, readable by you alone
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_file", "key_file"], required_unless_present = "certificate_file")]
    token_file: Option<PathBuf>,
    /// Your certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    certificate_file: Option<PathBuf>,
    /// Your certificate's key, PEM, readable by you alone
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    key_file: Option<PathBuf>,
}

impl Add {
    pub fn run(self, mut file: File, console: &Console) -> Result<u8, Failure> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name == LOCAL || self.name.is_empty() || !self.name.chars().all(plain) {
            let message = format!(
                "{:?} cannot be a context's name: expected letters, digits, '-', '_' and '.', and not \"local\"",
                self.name
            );
            return Err(Failure::usage(message));
        }
        let remote = Remote {
            name: self.name.clone(),
            server: server(&self.server)?,
            ca_file: Some(absolute(&self.ca_file)?),
            token_file: self.token_file.as_deref().map(absolute).transpose()?,
            certificate_file: self.certificate_file.as_deref().map(absolute).transpose()?,
            key_file: self.key_file.as_deref().map(absolute).transpose()?,
        };
        file.config.contexts.retain(|known| known.name != self.name);
        file.config.contexts.push(remote);
        file.config.contexts.sort_by(|a, b| a.name.cmp(&b.name));
        file.save()?;
        console.note(&format!(
            "added context {}; choose it with `fracas contexts use {}`",
            self.name, self.name
        ));
        Ok(exit::OK)
    }
}

/// A file that exists, from wherever the program is started later.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize()
        .map_err(|error| Failure::usage(format!("cannot use {}: {error}", path.display())))
}

fn server(text: &str) -> Result<String, Failure> {
    let bare = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let with_port = match bare.rsplit_once(':') {
        Some((_, port)) if !bare.ends_with(']') && port.parse::<u16>().is_ok() => bare.to_owned(),
        _ => format!("{bare}:{OPERATORS_PORT}"),
    };
    let authority: http::uri::Authority = with_port
        .parse()
        .map_err(|_| Failure::usage(format!("{text:?} is not a server: expected HOST or HOST:PORT")))?;
    let known = authority.port_u16().is_some_and(|port| port > 0) && !authority.host().is_empty() && !authority.as_str().contains('@');
    if known {
        Ok(with_port)
    } else {
        Err(Failure::usage(format!("{text:?} is not a server: expected HOST or HOST:PORT")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_get_their_port() {
        for (typed, expected) in [
            ("ctl", "ctl:7443"),
            ("ctl:1234", "ctl:1234"),
            ("https://ctl/", "ctl:7443"),
            ("[::1]", "[::1]:7443"),
        ] {
            assert_eq!(server(typed).unwrap(), expected);
        }
        for bad in ["", "http://ctl", "a b", "ctl:x", "me@ctl"] {
            assert!(server(bad).is_err(), "{bad:?}");
        }
    }
}
