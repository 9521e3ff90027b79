//! One lock for each of many names, so that two calls about one host take turns.

use std::hash::{DefaultHasher, Hash, Hasher};

use proto_model::id::HostName;

/// Locks that names share by their hash.
pub(crate) struct NameLocks([tokio::sync::Mutex<()>; 64]);

impl Default for NameLocks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| tokio::sync::Mutex::default()))
    }
}

impl NameLocks {
    pub async fn of(&self, name: &HostName) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.as_str().hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % self.0.len() as u64).unwrap_or_default();
        self.0[at].lock().await
    }
}
