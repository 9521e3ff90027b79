//! What a person wrote as YAML, field by field, with line and column of everything that is wrong; it knows no kind of document.

mod reader;
mod tree;

pub use reader::{Fields, Reader, only_facts};
pub use tree::{Located, Node, child, parse, place, places};
