//! The nouns of Fracas as types, one meaning each; it never does I/O and never reads a clock.

pub mod catalogue;
pub mod doctor;
pub mod document;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod halt;
pub mod host;
pub mod id;
pub mod injection;
pub mod peer;
pub mod plan;
pub mod probe;
pub mod problem;
pub mod quantity;
pub mod reading;
pub mod reversal;
pub mod role;
pub mod schedule;
pub mod schema;
pub mod selector;
pub mod service;
pub mod steps;
pub mod summary;
pub mod time;
pub mod verdict;
