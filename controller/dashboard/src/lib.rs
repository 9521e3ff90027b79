//! The controller's pages: what is known goes in, HTML comes out, every text escaped. It asks nobody, decides nothing and knows no socket.

mod acting;
mod assets;
mod frame;
mod hosts;
mod now;
mod run;
mod runs;
mod stop;

pub use acting::Acting;
pub use assets::{Asset, asset};
pub use frame::{Frame, Notice, SignIn};
pub use hosts::HostTable;
pub use now::{Known, Now};
pub use run::RunPage;
pub use runs::RunLine;
pub use stop::StopForms;
