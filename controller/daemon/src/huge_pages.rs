//! Memory in small pages: a connection's buffers have more room than they use, which huge pages would make resident for every host.

use nix::sys::prctl;

/// For this process, whatever the machine's rule is (many distributions give huge pages to everybody).
pub fn do_without() {
    if let Err(error) = prctl::set_thp_disable(true) {
        tracing::warn!(%error, "huge pages could not be left out; hosts may take more memory each");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gives_this_process_no_huge_pages() {
        do_without();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let enabled = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert_eq!(enabled.map(str::trim), Some("0"));
    }
}
