//! Makes the wire's Rust from its .proto files with a compiler written in Rust; needs no protoc.

use std::path::Path;

use anyhow::{Context, Result};

/// The files that define the wire, below proto/wire.
pub const PROTOS: [&str; 2] = ["fracas/v1/agents.proto", "fracas/v1/operators.proto"];

/// Writes the generated module into `out`.
pub fn generate(repository: &Path, out: &Path) -> Result<()> {
    let include = repository.join("proto/wire");
    let files = protox::compile(PROTOS.map(|p| include.join(p)), [&include]).context("compile the .proto files")?;
    std::fs::create_dir_all(out)?;
    tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::codec::SmallBuffers")
        .out_dir(out)
        .compile_fds(files)
        .context("generate the wire's Rust")
}
