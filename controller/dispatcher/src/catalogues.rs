//! Catalogues that hosts show, each kept once however many hosts have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use proto_model::catalogue::Catalogue;

/// A catalogue under the digest that was computed from it here.
#[derive(Debug, PartialEq)]
pub(crate) struct KnownCatalogue {
    pub digest: String,
    pub catalogue: Arc<Catalogue>,
}

impl KnownCatalogue {
    fn of(catalogue: Catalogue) -> Self {
        Self {
            digest: catalogue.digest(),
            catalogue: Arc::new(catalogue),
        }
    }
}

/// Why a catalogue that was shown is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CatalogueError {
    #[error("the catalogue {0} is not known here; say hello again with the catalogue itself")]
    Unknown(String),
    #[error("catalogue: {0}")]
    Unreadable(String),
    #[error("the catalogue has digest {computed}, and the host says that it has {stated}")]
    OtherDigest { stated: String, computed: String },
}

#[derive(Default)]
pub(crate) struct Catalogues(Mutex<BTreeMap<String, Weak<KnownCatalogue>>>);

impl Catalogues {
    /// The one of this digest, which most hosts name without showing it. What a host shows under a digest that is known is not read:
    /// it can neither change what others have, nor cost the time to read it.
    pub fn shared(&self, stated: &str, json: &str) -> Result<Arc<KnownCatalogue>, CatalogueError> {
        if let Some(known) = self.known(stated) {
            return Ok(known);
        }
        if json.is_empty() {
            return Err(CatalogueError::Unknown(stated.to_owned()));
        }
        let catalogue = serde_json::from_str(json).map_err(|error| CatalogueError::Unreadable(error.to_string()))?;
        let shown = KnownCatalogue::of(catalogue);
        if shown.digest != stated {
            let (stated, computed) = (stated.to_owned(), shown.digest);
            return Err(CatalogueError::OtherDigest { stated, computed });
        }
        Ok(self.keep(shown))
    }

    /// A catalogue from the store.
    pub fn stored(&self, catalogue: Catalogue) -> Arc<KnownCatalogue> {
        self.keep(KnownCatalogue::of(catalogue))
    }

    fn known(&self, digest: &str) -> Option<Arc<KnownCatalogue>> {
        self.lock().get(digest).and_then(Weak::upgrade)
    }

    fn keep(&self, catalogue: KnownCatalogue) -> Arc<KnownCatalogue> {
        let mut all = self.lock();
        if let Some(known) = all.get(&catalogue.digest).and_then(Weak::upgrade) {
            return known;
        }
        // Those that no host has any more leave when a new one comes.
        all.retain(|_, one| one.strong_count() > 0);
        let catalogue = Arc::new(catalogue);
        all.insert(catalogue.digest.clone(), Arc::downgrade(&catalogue));
        catalogue
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Weak<KnownCatalogue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_version_share_one_catalogue() {
        let all = Catalogues::default();
        let digest = Catalogue::default().digest();
        let first = all.shared(&digest, "[]").unwrap();
        let second = all.shared(&digest, "not even JSON").unwrap();
        let third = all.shared(&digest, "").unwrap();
        assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &all.stored(Catalogue::default())));
        assert!(Arc::ptr_eq(&first, &third));
        drop((first, second, third));
        assert!(
            matches!(all.shared(&digest, "{"), Err(CatalogueError::Unreadable(_))),
            "what no host has any more is forgotten"
        );
        assert!(matches!(all.shared(&digest, ""), Err(CatalogueError::Unknown(_))));
    }

    #[test]
    fn a_digest_that_is_not_the_catalogues_is_refused() {
        let error = Catalogues::default().shared("sha256:other", "[]").unwrap_err();
        assert!(matches!(error, CatalogueError::OtherDigest { .. }), "{error}");
    }
}
