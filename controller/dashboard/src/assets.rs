//! Style and script as the controller serves them, named by their content so that a browser may keep them; nothing comes from elsewhere.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// Bytes of the digest that stand in a file's name.
const NAMED_BY: usize = 8;

/// A file of ours.
#[derive(Debug)]
pub struct Asset {
    /// Such as `/assets/0123456789abcdef.css`.
    pub path: String,
    pub media_type: &'static str,
    pub text: String,
}

pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let text = format!("{}{}", controller_report::html::STYLE, include_str!("../assets/dashboard.css"));
    Asset::new("css", "text/css; charset=utf-8", text)
});

pub(crate) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let text = include_str!("../assets/dashboard.js").to_owned();
    Asset::new("js", "text/javascript; charset=utf-8", text)
});

impl Asset {
    fn new(ending: &str, media_type: &'static str, text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let name: String = digest.iter().take(NAMED_BY).map(|byte| format!("{byte:02x}")).collect();
        Self {
            path: format!("/assets/{name}.{ending}"),
            media_type,
            text,
        }
    }
}

/// The file that is served under this path.
pub fn asset(path: &str) -> Option<&'static Asset> {
    [&*STYLE, &*SCRIPT].into_iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_content_and_nothing_else_is() {
        assert!(asset(&STYLE.path).is_some_and(|style| style.text.contains("--paper")));
        assert!(asset(&SCRIPT.path).is_some());
        assert!(asset("/assets/dashboard.css").is_none());
        assert_ne!(STYLE.path, SCRIPT.path);
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for asset in [&*STYLE, &*SCRIPT] {
            for word in ["http:", "https:", "@import", "url(", "eval("] {
                assert!(!asset.text.contains(word), "{} in {}", word, asset.path);
            }
        }
    }
}
