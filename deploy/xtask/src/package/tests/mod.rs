//! The packages as data and in rpm's hands: what is staged, what the scripts do when faults are left, and whether systemd accepts the units.

mod role;
mod rpm_root;
mod scripts;
mod staged;
mod units;
