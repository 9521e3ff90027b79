//! What the controller's pages are made of: what is known goes in, HTML comes out, every text escaped. It asks nobody and knows no socket.

mod acting;
mod assets;
mod frame;
mod hosts;
mod known;
mod runs;
mod stop;

pub use acting::Acting;
pub use assets::{Asset, asset};
pub use frame::{Frame, Notice, PageLink, SignIn};
pub use hosts::HostTable;
pub use known::Known;
pub use runs::RunLine;
pub use stop::StopForms;
