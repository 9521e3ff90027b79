//! Automation for developers and newcomers: `cargo xtask demo`, `cargo xtask test`, and what they stand on.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    tests_tidy::wire::generate(&root, &root.join("proto/wire/src/generated"))
}
