//! Shaped paths on the real kernel: which packets take them, how long, and that nothing is left; in namespaces of the test's own only.
//!
//! A bandwidth (tbf) stands for every shape where the kernel has no netem; what needs netem is skipped then, and says so.

mod lead;
mod leave;
mod netem;
mod support;
#[allow(dead_code)]
#[path = "../net_kernel/world.rs"]
mod world;
