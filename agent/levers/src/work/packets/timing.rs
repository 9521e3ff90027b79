//! Times the way to a peer while the kernel makes it worse, and tells it on its page; it touches no packet but those that it sends itself.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rtt_probe::{Probe, Prober};
use super::stats_page::{PacketNote, Page};

/// How long it may be before a stop is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a worker is told to time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingWork {
    pub times: Probe,
    /// How much longer a packet may take each way.
    pub longest_us: u64,
}

/// Times the way as it is, tells it, and goes on until `should_stop`.
pub fn time(work: &TimingWork, should_stop: &dyn Fn() -> bool) -> io::Result<()> {
    let prober = Prober::start(work.times, Duration::from_micros(work.longest_us))?;
    let mut page = Page::open()?;
    let mut note = PacketNote::default();
    while !should_stop() {
        if page.is_due(std::time::Instant::now()) {
            note.echoes = Some(prober.echoes());
            page.write(&note)?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
