//! The controller's memory: an append-only log of events and what is projected from it; it judges nothing.

mod store;

pub use store::{Actor, HostRecord, RunRow, Store, StoreError, TokenRecord};
