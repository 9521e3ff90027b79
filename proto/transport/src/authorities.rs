//! The controller's authorities on its disk: one file is the whole truth and is replaced in one step, so that no crash leaves half a rotation.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use proto_model::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::authority::{Authority, certificate_pem};
use crate::error::TransportError;
use crate::identity::{fingerprint_of, name_of};
use crate::private::replace_private;
use crate::rotation::{Beside, LastEnd, Rotation, RotationError, RotationStep};

/// The truth, keys and all.
const STATE: &str = "authorities.json";
/// What there is to trust, for people: made from the truth.
const BUNDLE: &str = "ca.pem";
/// Beside `ca.pem` in folders from before there was a state.
const OLD_KEY: &str = "ca-key.pem";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    since: Timestamp,
    current: StoredAuthority,
    next: Option<StoredAuthority>,
    /// Its certificate alone.
    previous: Option<String>,
    last_end: Option<LastEnd>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAuthority {
    certificate: String,
    key: String,
}

/// Which authorities there are, now and after a restart.
pub struct Authorities {
    folder: PathBuf,
    life_ms: u64,
    rotation: ArcSwap<Rotation>,
    /// Held while a step is taken.
    turn: Mutex<()>,
    changed: watch::Sender<()>,
    /// The authority was made by this very call.
    pub created: bool,
}

impl Authorities {
    /// Loads what the folder holds, or makes a first authority there. Authorities that are made live for so long.
    pub fn open_or_create(folder: &Path, life_ms: u64, now: Timestamp) -> Result<Self, TransportError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(file("make", folder))?;
        let (rotation, created) = match read(folder, now)? {
            Some(there) => (there, false),
            None => (Rotation::settled(Arc::new(Authority::make(life_ms, now)?), now), true),
        };
        if !folder.join(STATE).exists() {
            write(folder, &rotation)?;
        }
        tidy(folder, &rotation)?;
        Ok(Self::of(folder, life_ms, rotation, created))
    }

    /// What the folder holds, if anything; nothing is written.
    pub fn open(folder: &Path, life_ms: u64, now: Timestamp) -> Result<Option<Self>, TransportError> {
        Ok(read(folder, now)?.map(|rotation| Self::of(folder, life_ms, rotation, false)))
    }

    fn of(folder: &Path, life_ms: u64, rotation: Rotation, created: bool) -> Self {
        Self {
            folder: folder.to_owned(),
            life_ms,
            rotation: ArcSwap::from_pointee(rotation),
            turn: Mutex::default(),
            changed: watch::Sender::new(()),
            created,
        }
    }

    /// As it is now.
    pub fn rotation(&self) -> Arc<Rotation> {
        self.rotation.load_full()
    }

    /// The one in force: everything is issued by it.
    pub fn current(&self) -> Arc<Authority> {
        self.rotation().current().clone()
    }

    /// The fingerprint of the trusted authority that has this name, as certificates write their issuer's.
    pub fn named(&self, issuer: &[u8]) -> Option<String> {
        let trusted = self.rotation().trusted();
        let named = trusted.iter().find(|authority| name_of(authority).as_deref() == Some(issuer));
        named.map(|authority| fingerprint_of(authority))
    }

    /// What there is to trust, as people's programs take it.
    pub fn bundle_pem(&self) -> String {
        bundle(&self.rotation())
    }

    /// Rings after each step.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes a step, durable when this returns; false when it was taken before.
    pub fn take(&self, step: RotationStep, now: Timestamp) -> Result<bool, RotationError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rotation();
        let Some(after) = before.after(step, now, || Authority::make(self.life_ms, now))? else {
            return Ok(false);
        };
        write(&self.folder, &after)?;
        let tidied = tidy(&self.folder, &after);
        self.rotation.store(Arc::new(after));
        self.changed.send_replace(());
        if let Err(error) = tidied {
            tracing::error!(%error, "the file of trusted authorities is behind; the next start writes it again");
        }
        Ok(true)
    }
}

fn read(folder: &Path, now: Timestamp) -> Result<Option<Rotation>, TransportError> {
    let path = folder.join(STATE);
    let Some(text) = text_of(&path)? else {
        return read_first(folder, now);
    };
    let damaged = |why: String| {
        TransportError::Invalid(format!(
            "{}: {why}; restore it from a backup: every identity depends on it",
            path.display()
        ))
    };
    let stored: Stored = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if stored.version > VERSION {
        return Err(TransportError::Invalid(format!("{} was made by a newer version", path.display())));
    }
    let load = |stored: &StoredAuthority| Authority::from_pem(&stored.certificate, &stored.key).map_err(|error| damaged(error.to_string()));
    let beside = match (&stored.next, &stored.previous) {
        (None, None) => Beside::Empty,
        (Some(next), None) => Beside::Next(Arc::new(load(next)?)),
        (None, Some(previous)) => {
            let previous = CertificateDer::from_pem_slice(previous.as_bytes());
            Beside::Previous(previous.map_err(|error| damaged(error.to_string()))?)
        }
        (Some(_), Some(_)) => return Err(damaged("it names a next and a previous authority".to_owned())),
    };
    Ok(Some(Rotation {
        current: Arc::new(load(&stored.current)?),
        beside,
        since: stored.since,
        last_end: stored.last_end,
    }))
}

/// The authority of a folder from before there was a state.
fn read_first(folder: &Path, now: Timestamp) -> Result<Option<Rotation>, TransportError> {
    let (certificate, key) = (folder.join(BUNDLE), folder.join(OLD_KEY));
    let Some(pem) = text_of(&certificate)? else { return Ok(None) };
    let key_pem = fs::read_to_string(&key).map_err(file("read", &key))?;
    let authority = Authority::from_pem(&pem, &key_pem).map_err(|error| {
        TransportError::Invalid(format!(
            "{}: {error}; restore the folder from a backup: every identity depends on it",
            folder.display()
        ))
    })?;
    Ok(Some(Rotation::settled(Arc::new(authority), now)))
}

fn write(folder: &Path, rotation: &Rotation) -> Result<(), TransportError> {
    let stored = |authority: &Authority| StoredAuthority {
        certificate: authority.certificate_pem(),
        key: authority.key_pem().to_owned(),
    };
    let state = Stored {
        version: VERSION,
        since: rotation.since,
        current: stored(&rotation.current),
        next: match &rotation.beside {
            Beside::Next(next) => Some(stored(next)),
            Beside::Empty | Beside::Previous(_) => None,
        },
        previous: match &rotation.beside {
            Beside::Previous(previous) => Some(certificate_pem(previous)),
            Beside::Empty | Beside::Next(_) => None,
        },
        last_end: rotation.last_end,
    };
    let path = folder.join(STATE);
    let text = serde_json::to_vec_pretty(&state).map_err(|error| TransportError::Invalid(format!("write {}: {error}", path.display())))?;
    replace_private(&path, &text).map_err(file("write", &path))
}

/// What follows from the state: the bundle, and no key of the time before it.
fn tidy(folder: &Path, rotation: &Rotation) -> Result<(), TransportError> {
    let path = folder.join(BUNDLE);
    let wanted = bundle(rotation);
    if text_of(&path)?.as_deref() != Some(wanted.as_str()) {
        replace_private(&path, wanted.as_bytes()).map_err(file("write", &path))?;
    }
    let key = folder.join(OLD_KEY);
    match fs::remove_file(&key) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file("remove", &key)(error)),
        _ => Ok(()),
    }
}

fn bundle(rotation: &Rotation) -> String {
    rotation.trusted().iter().map(certificate_pem).collect()
}

fn text_of(path: &Path) -> Result<Option<String>, TransportError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file("read", path)(error)),
    }
}

fn file(deed: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TransportError {
    let path = path.to_owned();
    move |source| TransportError::File { deed, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::AUTHORITY_LIFE_MS;
    use crate::rotation::RotationPhase;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn open(folder: &Path) -> Authorities {
        Authorities::open_or_create(folder, AUTHORITY_LIFE_MS, NOW).unwrap()
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let read = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn a_crash_between_any_two_writes_leaves_one_phase_or_the_other_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut fingerprints = open(path).rotation().fingerprints();
        for step in [RotationStep::Prepare, RotationStep::Switch, RotationStep::Finish] {
            let before = files(path);
            assert!(
                open(path).take(step, NOW).unwrap() && !open(path).take(step, NOW).unwrap(),
                "{step} is taken once"
            );
            let after = files(path);
            // Each file as it was before or after the step, with half a draft beside it: the state alone decides.
            for (state_is_new, bundle_is_new) in [(false, false), (true, false), (true, true), (false, true)] {
                for (name, is_new) in [(STATE, state_is_new), (BUNDLE, bundle_is_new)] {
                    let from = if is_new { &after } else { &before };
                    let (_, bytes) = from.iter().find(|(file, _)| file == name).unwrap();
                    fs::write(path.join(name), bytes).unwrap();
                    fs::write(path.join(format!("{name}.new")), &bytes[..bytes.len() / 2]).unwrap();
                }
                let opened = open(path);
                let found = opened.rotation().fingerprints();
                assert_eq!(found == fingerprints, !state_is_new, "{step}");
                assert_eq!(fs::read_to_string(path.join(BUNDLE)).unwrap(), opened.bundle_pem(), "{step}");
                assert!(opened.take(step, NOW).is_ok(), "{step} is done, or can be done");
                for (name, bytes) in &after {
                    fs::write(path.join(name), bytes).unwrap();
                }
            }
            fingerprints = open(path).rotation().fingerprints();
        }
        assert_eq!(open(path).rotation().phase(), RotationPhase::Settled);
    }

    #[test]
    fn the_old_key_is_gone_once_its_successor_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let authorities = open(folder.path());
        let key = authorities.current().key_pem().to_owned();
        let holds_it = || {
            fs::read_to_string(folder.path().join(STATE))
                .unwrap()
                .contains(key.lines().nth(1).unwrap())
        };
        authorities.take(RotationStep::Prepare, NOW).unwrap();
        assert!(holds_it());
        authorities.take(RotationStep::Switch, NOW).unwrap();
        assert!(!holds_it());
        assert_eq!(
            authorities.named(&name_of(authorities.rotation().beside().unwrap()).unwrap()),
            Some(authorities.rotation().fingerprints().remove(1))
        );
    }

    #[test]
    fn a_folder_from_before_the_state_keeps_its_authority_and_loses_its_loose_key() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::make(AUTHORITY_LIFE_MS, NOW).unwrap();
        fs::write(folder.path().join(BUNDLE), authority.certificate_pem()).unwrap();
        fs::write(folder.path().join(OLD_KEY), authority.key_pem()).unwrap();
        let opened = open(folder.path());
        assert!(!opened.created && opened.current().fingerprint() == authority.fingerprint());
        let names: Vec<String> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [STATE, BUNDLE]);
        assert_eq!(open(folder.path()).current().fingerprint(), authority.fingerprint());
    }
}
