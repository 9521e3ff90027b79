//! The only place where messages of the wire and the model's types meet. What the model does not know is refused, never read as a default.

mod field;
mod host;
mod injection;
mod preflight;
mod probe;

pub use field::ConvertError;
pub use host::{cleanliness, facts_or_missing};
pub use injection::{ended_by, injection_state};
pub use preflight::proof_or_missing;
pub use probe::{probe_from_wire, sample_from_wire, samples_to_wire};

#[cfg(test)]
mod tests;
