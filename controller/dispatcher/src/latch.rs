//! The halt latch: in memory, and in a file beside the store. What cannot be read counts as halted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto_model::halt::HaltState;
use proto_model::id::HostName;
use proto_model::time::Timestamp;
use proto_transport::replace_private;

/// How far ahead of this controller's records a host's epoch may be: more halts than any backup can have missed.
const CREDIBLE_LEAD: u64 = 1_000_000;

/// The latch of this controller; the newest epoch wins.
#[derive(Debug)]
pub struct HaltLatch {
    path: PathBuf,
    state: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    state: HaltState,
    /// Hosts whose newer epoch was adopted since the start.
    adopted: BTreeSet<HostName>,
    /// Whether a host's word has engaged the latch since the start.
    engaged_by_host: bool,
}

/// What became of a host's claim to know a newer halt than any record here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is not newer than what is known here.
    Known,
    /// The latch is engaged by it: every host must hear of it.
    Engaged(HaltState),
    /// Its epoch is adopted; what is halted stays as it is.
    Adopted(HaltState),
    /// It is ignored: this host was believed before, or its epoch is not credible.
    Ignored,
}

impl HaltLatch {
    /// Reads the file; none means released, an unreadable one means halted. `stored` is what the store remembers.
    pub fn open(path: &Path, stored: HaltState) -> Self {
        let read = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| unreadable(path, &stored, &e.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HaltState::released(),
            Err(error) => unreadable(path, &stored, &error.to_string()),
        };
        Self {
            path: path.to_owned(),
            state: Mutex::new(Held {
                state: stored.newest(read),
                adopted: BTreeSet::new(),
                engaged_by_host: false,
            }),
        }
    }

    /// A host's word for a newer halt than any record here, as after a restored backup. It can engage the latch once between two starts
    /// of the controller, so that one host cannot keep a fleet halted against the people who release it; and it never releases it.
    pub(crate) fn hear(&self, epoch: u64, halted: bool, reason: &str, host: &HostName, now: Timestamp) -> Claim {
        let mut held = self.held();
        if epoch <= held.state.epoch {
            return Claim::Known;
        }
        if epoch > held.state.epoch.saturating_add(CREDIBLE_LEAD) || !held.adopted.insert(host.clone()) {
            return Claim::Ignored;
        }
        held.state.epoch = epoch;
        // The first reason stays.
        if !halted || held.state.engaged || held.engaged_by_host {
            return Claim::Adopted(held.state.clone());
        }
        held.engaged_by_host = true;
        held.state = HaltState {
            epoch,
            engaged: true,
            by: format!("host {host}"),
            reason: format!("{host} holds a newer halt than any record of the controller: {reason}"),
            at: now,
        };
        Claim::Engaged(held.state.clone())
    }

    pub fn get(&self) -> HaltState {
        self.held().state.clone()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In force at once, in memory; then on disk. An older epoch changes nothing.
    pub fn set(&self, state: HaltState) -> io::Result<()> {
        {
            let mut held = self.held();
            if state.epoch < held.state.epoch {
                return Ok(());
            }
            held.state = state.clone();
        }
        replace_private(&self.path, &serde_json::to_vec(&state)?)
    }
}

fn unreadable(path: &Path, stored: &HaltState, why: &str) -> HaltState {
    let reason = format!("{} cannot be read ({why}); release to go on", path.display());
    stored.engage("controller", &reason, Timestamp(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_restart_and_an_unreadable_file_is_a_halt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("halted");
        let latch = HaltLatch::open(&path, HaltState::released());
        assert!(!latch.get().engaged);
        latch.set(latch.get().engage("root@local", "drill", Timestamp(5))).unwrap();
        assert_eq!(HaltLatch::open(&path, HaltState::released()).get().reason, "drill");
        fs::write(&path, "{").unwrap();
        let latch = HaltLatch::open(&path, HaltState::released());
        assert!(latch.get().engaged && latch.get().reason.contains("cannot be read"));
    }

    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    #[test]
    fn a_host_can_engage_but_never_release_nor_use_up_the_epochs() {
        let dir = tempfile::tempdir().unwrap();
        let latch = HaltLatch::open(&dir.path().join("halted"), HaltState::released());
        for incredible in [u64::MAX, CREDIBLE_LEAD + 1] {
            assert_eq!(latch.hear(incredible, true, "", &host("evil"), Timestamp(1)), Claim::Ignored);
        }
        let Claim::Engaged(heard) = latch.hear(7, true, "smoke", &host("web"), Timestamp(1)) else {
            panic!("not believed")
        };
        assert!(heard.engaged && heard.epoch == 7 && heard.reason.contains("smoke"), "{heard:?}");
        let Claim::Adopted(still) = latch.hear(9, false, "", &host("evil"), Timestamp(2)) else {
            panic!("its epoch is not adopted")
        };
        assert!(still.engaged && still.epoch == 9 && still.by == "host web", "{still:?}");
        assert_eq!(latch.hear(9, false, "", &host("evil"), Timestamp(3)), Claim::Known);
        assert_eq!(latch.hear(10, false, "", &host("evil"), Timestamp(3)), Claim::Ignored);
    }

    #[test]
    fn hosts_engage_the_latch_once_and_not_again_after_a_release() {
        let dir = tempfile::tempdir().unwrap();
        let latch = HaltLatch::open(&dir.path().join("halted"), HaltState::released());
        assert!(matches!(latch.hear(5, true, "", &host("evil"), Timestamp(1)), Claim::Engaged(_)));
        for claimant in ["evil", "web", "db", "evil"] {
            let release = latch.get().release("ann", "was nothing", Timestamp(2));
            latch.set(release).unwrap();
            let claim = latch.hear(latch.get().epoch + 1, true, "", &host(claimant), Timestamp(3));
            assert!(!matches!(claim, Claim::Engaged(_)), "{claimant}: {claim:?}");
            assert!(!latch.get().engaged, "{claimant}");
        }
    }

    #[test]
    fn an_older_epoch_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let latch = HaltLatch::open(&dir.path().join("halted"), HaltState::released());
        let engaged = latch.get().engage("a", "b", Timestamp(0));
        latch.set(engaged.clone()).unwrap();
        latch.set(HaltState::released()).unwrap();
        assert_eq!(latch.get(), engaged);
    }
}
