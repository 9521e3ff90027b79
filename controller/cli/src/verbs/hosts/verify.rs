//! `fracas hosts verify`: asks a host for its proof again; 0 only when it is clean.

use clap::Args;
use proto_model::exit;
use proto_model::injection::Cleanliness;
use proto_wire::v1::HostRef;

use super::calls::{announced, changed};
use crate::client::{Client, DEED};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts verify web";

/// Ask a host again to prove that nothing is left on it; exit 8 when it is not clean
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Verify {
    /// The host's name
    host: String,
}

impl Verify {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announced(client, console, &self.host).await?;
        let request = HostRef { host: self.host };
        let asked = client.call("verify the host", DEED, client.hosts().verify(request)).await;
        let document = asked.map_err(unproven)?;
        let host = changed(console, &document)?;
        if host.cleanliness == Cleanliness::Clean {
            return Ok(exit::OK);
        }
        let note = host.note.map(|note| format!(": {note}")).unwrap_or_default();
        console.note(&format!("{} is {}{note}", host.name, host.cleanliness.as_str()));
        Ok(exit::NOT_CLEAN)
    }
}

/// A host that cannot be asked is not proven clean.
fn unproven(failure: Failure) -> Failure {
    match failure.error.code.as_str() {
        "host_lost" => Failure {
            exit: exit::NOT_CLEAN,
            ..failure
        },
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_cannot_be_asked_is_not_clean_and_other_failures_stay_what_they_are() {
        let failed = |code| unproven(Failure::new(exit::ERROR, code, "web is not connected")).exit;
        assert_eq!((failed("host_lost"), failed("not_found")), (exit::NOT_CLEAN, exit::ERROR));
    }
}
