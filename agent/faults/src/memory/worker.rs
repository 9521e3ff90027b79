//! The body of a memory worker: takes what it is to have, holds it, and gives back what the reserve needs; it never decides the amount.

use std::time::Duration;

use agent_levers::work::MemoryBlock;
use agent_view::{HostView, Memory, ViewError};

use super::target::{Aim, Sight};
use crate::fault::FaultError;
use crate::work::WorkControl;

/// How often the host is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// No more is taken between two looks.
const STEP: u64 = 512 << 20;
/// The worker's own needs beside its hoard are measured at every so many looks.
const MEASURE_EVERY: u32 = 10;

/// Until it is told to stop.
pub(super) fn hold(aim: &Aim, lock: bool, control: &WorkControl) -> Result<(), FaultError> {
    let failed = |action: &str, e: std::io::Error| FaultError::Other(format!("{action}: {e}"));
    let view = control.view();
    let began = view.boot_ms();
    let mut hoard = MemoryBlock::new(aim.amount, lock, began ^ u64::from(view.own_pid())).map_err(|e| failed("set memory aside", e))?;
    let mut looks = 0;
    let mut needs = 0;
    while !control.should_stop() {
        let known = (looks % MEASURE_EVERY != 0).then_some(needs);
        let memory = match look(view, hoard.held(), known) {
            Ok((memory, own)) => {
                needs = own;
                memory
            }
            // Without a descriptor to spare on the host, say: what is held stays held, and no more is taken before the host can be seen again.
            Err(error) if error.is_transient() => {
                std::thread::sleep(EVERY);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        looks += 1;
        let sight = Sight {
            used: memory.used(),
            available: memory.available,
            own: hoard.held() + needs,
        };
        let wanted = aim.own(view.boot_ms().saturating_sub(began), sight).saturating_sub(needs);
        let next = wanted.min(hoard.held() + STEP);
        if next.abs_diff(hoard.held()) > aim.slack() || memory.available < aim.reserve {
            hoard.resize(next).map_err(|e| failed("hold memory", e))?;
        }
        if next == wanted {
            std::thread::sleep(EVERY);
        }
    }
    Ok(())
}

/// The host's memory, and what the process has beside the hoard unless that is known: its code and stacks count as well.
fn look(view: &dyn HostView, held: u64, known: Option<u64>) -> Result<(Memory, u64), ViewError> {
    let needs = match known {
        Some(needs) => needs,
        None => {
            let own = view.process_memory(view.own_pid())?.unwrap_or_default();
            (own.pss + own.swapped).saturating_sub(held)
        }
    };
    Ok((view.memory()?, needs))
}
