//! A fault that is refused: by the controller, or by the host because it cannot write down how to undo it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Figures;
use crate::site::{HOST, Site};

/// The exit code of `fracas attack` when the controller or a host refuses; any other says that the controller did not answer.
const REFUSED: i32 = 1;

/// The error document of a refused attack.
#[derive(Debug)]
pub(super) struct Refusal(Value);

impl Refusal {
    /// Attacks, and expects to be refused with nothing touched.
    pub fn expect(site: &Site, figures: &mut Figures<'_>, what: &str) -> Result<Self> {
        let before = site.machine().footprint()?;
        let begin = Instant::now();
        let fault = ["network.delay", "delay=200ms", "protocol=udp", "to=192.0.2.10"];
        let line = [
            &["attack"],
            fault.as_slice(),
            &["--on", HOST, "--for", "1m", "--detach", "-o", "json"],
        ]
        .concat();
        let refused = site.fracas(&line)?;
        figures.note(format!("{what}: a fault is refused"), begin.elapsed());
        ensure!(
            refused.code() == Some(REFUSED),
            "{what}: a fault is not refused but {:?}: {} {}",
            refused.end,
            refused.stdout,
            refused.stderr
        );
        let error = serde_json::from_str(refused.stderr.trim()).with_context(|| format!("{what}: {}", refused.stderr))?;
        site.machine().expect_footprint(&before)?;
        Ok(Self(error))
    }

    /// The controller itself cannot write: its store or its audit log.
    pub fn is_of_the_store(&self) -> bool {
        self.0["error"]["code"] == "store" || self.0["error"]["code"] == "audit"
    }

    /// The host alone is not used, because it is halted.
    pub fn is_of_a_halt(&self) -> bool {
        let hosts = self.0["error"]["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
        matches!(hosts, [host] if host["code"] == "halted")
    }

    /// The host alone has refused, for want of a journal, with this reason of the kernel.
    pub fn is_of_the_journal(&self, cause: &str) -> bool {
        let hosts = self.0["error"]["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [host] = hosts else { return false };
        let message = host["message"].as_str().unwrap_or_default();
        host["code"] == "journal" && message.contains("the way back cannot be written down") && message.contains(cause)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_one_refusal_of_the_host_for_the_journal_with_the_kernels_reason_counts() {
        let host = |code: &str, message: &str| json!({"name": HOST, "code": code, "message": message});
        let of = |hosts: &[Value]| Refusal(json!({"error": {"code": "refused", "hosts": hosts}})).is_of_the_journal("No space left");
        let journal = host(
            "journal",
            "steps[0]: the way back cannot be written down: make room for /x: No space left on device (os error 28)",
        );
        assert!(of(std::slice::from_ref(&journal)));
        assert!(!of(&[]));
        assert!(!of(&[journal.clone(), journal]));
        for other in [
            host("dirty", "this host is dirty: No space left on device"),
            host("journal", "the way back cannot be written down: Read-only file system"),
        ] {
            assert!(!of(&[other]));
        }
    }
}
