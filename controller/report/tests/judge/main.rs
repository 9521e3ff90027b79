//! The rules of judgement, one row each, and what must never be said of any state.

mod broken;
mod cut;
mod formats;
mod properties;
mod rules;
mod steps;
mod story;
