//! The packages as data: what is staged, what the scripts do when faults are left, and whether systemd accepts the units.

mod scripts;
mod staged;
mod units;
