//! The house rules as code: what may depend on what, how files open, how large they may grow; it changes no file but generated ones.

pub mod arrows;
pub mod changes;
pub mod circles;
pub mod compatible;
pub mod documents;
pub mod faults;
pub mod files;
pub mod levers;
pub mod lookups;
pub mod planted;
pub mod probes;
pub mod readers;
pub mod sizes;
pub mod wire;
