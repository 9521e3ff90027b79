//! Real Debian hosts in virtual machines: their images, the machines, and the cases that install our packages on them.

pub mod archive;
pub mod cases;
pub mod console;
mod control;
pub mod image;
pub mod kit;
pub mod look;
pub mod machine;
mod qmp;
pub mod site;
pub mod suite;
pub mod table;

pub use image::Image;
pub use kit::Kit;
pub use machine::{Machine, MachinePlan};
pub use site::Site;
pub use suite::Suite;
