//! What must hold for any bytes that others can send us: one function for each reader, called by the tests and by cargo-fuzz.

mod experiment;
mod journal;
mod request;
mod selector;
mod undo;
mod wire;

/// Panics when something does not hold for these bytes.
pub type Target = fn(&[u8]);

/// Every target by the name of its folder in `corpus`.
pub const TARGETS: [(&str, Target); 6] = [
    ("experiment", experiment::check),
    ("journal", journal::check),
    ("request", request::check),
    ("selector", selector::check),
    ("undo", undo::check),
    ("wire", wire::check),
];
