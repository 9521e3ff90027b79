//! Experiment files: any text is read or refused in time, with its problems, and is read the same every time.

use std::collections::BTreeMap;
use std::time::Duration;

use controller_planner::parse_experiment;
use rustix::time::{ClockId, clock_gettime};

/// A file that takes longer keeps the controller from its work; aliases can make a small text a large tree.
const WITHIN: Duration = Duration::from_secs(2);

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let begun = processor_time();
    let read = || parse_experiment(text, "fuzz.yaml", &BTreeMap::new());
    let first = read();
    let took = processor_time().saturating_sub(begun);
    assert!(took < WITHIN, "{} bytes took {took:?} of a processor", bytes.len());
    assert_eq!(format!("{first:?}"), format!("{:?}", read()));
    if let Err(problems) = first {
        assert!(!problems.to_string().is_empty(), "a file is refused with a reason");
    }
}

/// Of this thread, so that others on the machine do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
