//! The agent is killed together with its guardian, stopped, and killed for want of memory: what is left of it, or its unit, undoes its faults.

use anyhow::{Result, ensure};

use super::held::{AGENT_PID, BOTH_PIDS, HUNG, Held, KILL_BOTH, KILLED, clean_after};
use super::{Case, Extent, Figures};
use crate::site::Site;

pub(super) const CASES: [Case; 3] = [
    Case {
        name: "kill-both",
        what: "the agent and its guardian are killed together during a partition and a filled volume",
        extent: Extent::Long,
        run: killed_together,
    },
    Case {
        name: "hang-agent",
        what: "the agent is stopped by SIGSTOP during a partition and a filled volume",
        extent: Extent::Long,
        run: hung,
    },
    Case {
        name: "oom",
        what: "the kernel kills the agent for want of memory during a partition and a filled volume",
        extent: Extent::Long,
        run: killed_for_memory,
    },
];

fn killed_together(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, BOTH_PIDS, KILL_BOTH)?;
    figures.add("clean after kill -9 of agent and guardian", took, KILLED);
    held.expect_ended(site, &["rescue"])
}

fn hung(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, &format!("agent=$({AGENT_PID})"), "kill -STOP $agent")?;
    figures.add("clean after SIGSTOP of the agent", took, HUNG);
    held.expect_ended(site, &["guardian"])
}

fn killed_for_memory(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    // It would be the kernel's last choice; here it is the first, so that nothing else is killed for it.
    let prepare = format!("agent=$({AGENT_PID}); echo 1000 >/proc/$agent/oom_score_adj");
    let took = clean_after(site, &prepare, "echo f >/proc/sysrq-trigger")?;
    let kernel = site
        .machine()
        .sh("journalctl --boot --dmesg --output cat --grep 'Killed process'")?
        .ok()?;
    let last = kernel.lines().next_back().unwrap_or_default();
    ensure!(last.contains("(fracas-agent)"), "the kernel killed something else: {kernel}");
    figures.add("clean after the kernel killed the agent for memory", took, KILLED);
    held.expect_ended(site, &["guardian", "rescue"])
}
