//! The live view of a controller: what is fetched, what is typed and what is drawn, kept apart; only `verbs::top` touches a terminal.

pub mod draw;
pub mod keys;
pub mod screen;
pub mod view;
