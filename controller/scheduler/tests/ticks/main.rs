//! Ticks of schedules on a clock that the tests hold, over a real store and a starter that only counts.

mod deciding;
mod starting;
mod world;
