//! The agent on the real kernel, as root: killed, stopped, ended, halted; what it holds is always undone. Without root it is skipped.

mod agent;
mod guarded;
mod load;
mod losses;
mod manners;
mod privileges;
