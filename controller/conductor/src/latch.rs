//! The port to the halt latch: what a halt is read from, and what it is written to before anything else.

use std::io;

use proto_model::halt::HaltState;

/// A latch that the newest epoch wins. Implemented by the dispatcher, whose hosts may know of a newer halt than any record here.
pub trait Latch: Send + Sync {
    fn get(&self) -> HaltState;
    /// In force at once; an error says that only memory holds it. An older epoch changes nothing.
    fn set(&self, state: HaltState) -> io::Result<()>;
}
