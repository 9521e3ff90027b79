//! The wire: messages and services made from fracas/v1/*.proto by `cargo xtask generate`; no hand-written types.

#[rustfmt::skip]
#[allow(clippy::all, missing_docs)]
#[path = "generated/fracas.v1.rs"]
pub mod v1;
