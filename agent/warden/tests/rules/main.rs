//! The warden's rules on a host of paper: who may start, and every way in which it ends.

mod admission;
mod damaged;
mod doctor;
mod ends;
mod exempt;
mod names;
mod orphans;
mod patience;
mod protected;
mod rescues;
mod restarts;
mod spent;
mod support;
mod together;
