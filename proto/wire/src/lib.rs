//! The wire: messages and services made from fracas/v1/*.proto by `cargo xtask generate`, and what they mean in the model's types.

pub mod codec;
pub mod convert;

#[rustfmt::skip]
#[allow(clippy::all, missing_docs)]
#[path = "generated/fracas.v1.rs"]
pub mod v1;
