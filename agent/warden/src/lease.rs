//! How long a lease may be, and how long the kernel holds a fault by it.

use proto_model::problem::Refusal;

/// What a lease may be.
pub(crate) const LEASE_MS: std::ops::RangeInclusive<u64> = 500..=60_000;

/// The kernel's own deadline is this much after ours, so that an agent that lives always ends its faults itself
/// and never mistakes the kernel's end for an early one.
pub(crate) const KERNEL_AFTER_MS: u64 = 250;

/// How long the kernel may hold a fault by itself: what is left of the duration or the lease, and a moment.
pub(crate) fn kernel_holds(left_ms: u64, lease_ms: u64) -> u64 {
    left_ms.min(lease_ms) + KERNEL_AFTER_MS
}

pub(crate) fn check_lease(lease_ms: u64) -> Result<(), Refusal> {
    if LEASE_MS.contains(&lease_ms) {
        return Ok(());
    }
    Err(
        Refusal::new("invalid_lease", "lease", format!("a lease of {lease_ms} ms is out of range")).allowed(format!(
            "{}..{} ms",
            LEASE_MS.start(),
            LEASE_MS.end()
        )),
    )
}
