//! The agent is killed together with its guardian, stopped, and killed for want of memory: what is left of it, or its unit, undoes its faults.

use anyhow::{Result, ensure};

use super::held::{HUNG, Held, KILL_BOTH, KILLED, both_pids, clean_after};
use super::shell::main_pid;
use super::{Case, Extent, Figures};
use crate::site::Site;

pub(super) const CASES: [Case; 4] = [
    Case {
        name: "kill-both",
        what: "the agent and its guardian are killed together while five faults act",
        extent: Extent::Long,
        run: killed_together,
    },
    Case {
        name: "guard",
        what: "the agent and its guardian are killed together, and the agent's unit does nothing about it",
        extent: Extent::Long,
        run: killed_without_unit,
    },
    Case {
        name: "hang-agent",
        what: "the agent is stopped by SIGSTOP while five faults act",
        extent: Extent::Long,
        run: hung,
    },
    Case {
        name: "oom",
        what: "the kernel kills the agent for want of memory while five faults act",
        extent: Extent::Long,
        run: killed_for_memory,
    },
];

fn killed_together(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, &both_pids(), KILL_BOTH)?;
    figures.add("clean after kill -9 of agent and guardian", took, KILLED);
    held.expect_ended(site, &["rescue"])
}

/// The unit neither rescues nor starts the agent again.
pub(super) const DISARM: &str = "mkdir /run/systemd/system/fracas-agent.service.d; printf '[Service]\\nExecStopPost=\\nRestart=no\\n' \
                      >/run/systemd/system/fracas-agent.service.d/disarm.conf; systemctl daemon-reload";
pub(super) const ARM: &str = "rm -r /run/systemd/system/fracas-agent.service.d; systemctl daemon-reload; systemctl start fracas-agent";
const GUARD_ENDS: &str = "for n in $(seq 100); do systemctl --quiet is-active fracas-guard.service || exit 0; sleep 0.2; done; systemctl status fracas-guard; exit 1";

fn killed_without_unit(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    site.machine().sh("systemctl is-active fracas-guard.service")?.ok()?;
    site.machine().sh(DISARM)?.ok()?;
    let took = clean_after(site, &both_pids(), KILL_BOTH)?;
    let started = site.machine().sh("systemctl is-active fracas-agent.service")?;
    site.machine().sh(ARM)?.ok()?;
    ensure!(!started.success(), "the agent was started again, and may have undone this itself");
    figures.add("clean after kill -9 of agent and guardian, by the last guard", took, KILLED);
    held.expect_ended(site, &["rescue"])?;
    // The controller knows the ends, so the journals are gone, and the guard with them.
    site.machine().sh(GUARD_ENDS)?.ok().map(drop)
}

fn hung(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, &format!("agent=$({})", main_pid("fracas-agent")), "kill -STOP $agent")?;
    figures.add("clean after SIGSTOP of the agent", took, HUNG);
    // The agent that the guardian kills has a unit, whose rescue undoes what the guardian has not got to.
    held.expect_ended(site, &["guardian", "rescue"])
}

fn killed_for_memory(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    // It would be the kernel's last choice, and its workers the first; here it is the first, so that nothing else is killed for it.
    let prepare = format!(
        "for worker in $(pgrep -x fracas-worker); do echo 0 >/proc/$worker/oom_score_adj; done; \
         agent=$({}); echo 1000 >/proc/$agent/oom_score_adj",
        main_pid("fracas-agent")
    );
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
