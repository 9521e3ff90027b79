//! The debs are installed by apt and the host is enrolled by one line; then the agent says which faults it can inject from inside its unit, and what
//! each process may do is read from /proc.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, Extent, Figures};
use crate::site::{HOST, LASTS, Site};

pub(super) const CASES: [Case; 1] = [Case {
    name: "install",
    what: "the debs are installed, the host is enrolled, and each process has only the rights it needs",
    extent: Extent::Short,
    run,
}];

pub(super) const LISTED: Duration = Duration::from_secs(5);

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let begin = Instant::now();
    site.install()?;
    figures.note("apt installs the three debs, and the controller answers", begin.elapsed());
    site.enrol()?;
    let listed = site.connected_and_clean_within(LISTED * 4)?;
    figures.add("the enrolled host is listed as connected and clean", listed, LISTED);
    expect_every_kind(site)?;
    // For as long as a worker is looked at.
    let load = site.attack(&["cpu.burn", "percent=5"], LASTS)?;
    for process in rights(site)? {
        eprintln!("   install: {}", process.summary());
        process.check().with_context(|| format!("{process:?}"))?;
    }
    site.fracas(&["stop", &load, "--reason", "measured"])?.ok().map(drop)
}

/// The running agent, which has only what its unit leaves it, can inject every kind of fault.
fn expect_every_kind(site: &Site) -> Result<()> {
    // Its exit code says the same of the kinds that the host's policy allows.
    let shown = site.fracas(&["hosts", "doctor", HOST, "-o", "json"])?;
    let doctors: Value =
        serde_json::from_str(&shown.stdout).with_context(|| format!("{}: {} {}", shown.command, shown.stdout, shown.stderr))?;
    let kinds = doctors["items"][0]["kinds"].as_array().cloned().unwrap_or_default();
    ensure!(!kinds.is_empty(), "the doctor names no kind of fault: {doctors}");
    let lacking: Vec<String> = kinds
        .iter()
        .filter(|kind| kind["can"] != "yes")
        .map(|kind| format!("{} ({}: {})", kind["fault"], kind["can"], kind["why"]))
        .collect();
    ensure!(lacking.is_empty(), "inside its unit the agent cannot inject {}", lacking.join(", "));
    Ok(())
}

/// What one process of ours may do, as the kernel says.
#[derive(Debug, Default)]
struct Rights {
    command: String,
    user: String,
    effective: u64,
    bounding: u64,
    no_new_privileges: bool,
    /// Mode of the system call filter.
    seccomp: u32,
}

/// CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_CHROOT, CAP_SYS_BOOT, CAP_SYS_NICE, CAP_SYS_TIME, CAP_MKNOD, CAP_AUDIT_CONTROL, CAP_MAC_OVERRIDE,
/// CAP_MAC_ADMIN: no part of an agent has them.
const NEVER: [u32; 10] = [16, 17, 18, 22, 23, 25, 27, 30, 32, 33];
/// CAP_NET_RAW, CAP_IPC_LOCK: the agent has them for its workers, and what undoes has not.
const OF_WORKERS: [u32; 2] = [13, 14];

/// One of each has to be there, and how its command line is recognised.
const NEEDED: [(&str, &str); 5] = [
    ("agent", "/usr/bin/fracas-agent run"),
    ("session", " session"),
    ("worker", " worker"),
    ("guardian", " guardian"),
    ("controller", "/usr/bin/fracas-controller"),
];

impl Rights {
    /// One line for whoever reads the run's output.
    fn summary(&self) -> String {
        let Self {
            command,
            user,
            effective,
            bounding,
            seccomp,
            ..
        } = self;
        format!("{user}: capabilities {effective:x}, bounding set {bounding:x}, seccomp {seccomp}: {command}")
    }

    fn check(&self) -> Result<()> {
        let words: Vec<&str> = self.command.split(' ').collect();
        ensure!(self.no_new_privileges, "it may gain privileges by running a program");
        ensure!(self.seccomp == 2, "no filter bounds its system calls");
        match words[..] {
            ["/usr/bin/fracas-controller", ..] => self.unprivileged("fracas-controller"),
            [_, "session", ..] => self.unprivileged("fracas"),
            // A worker that only keeps a processor busy needs no capability.
            [_, "worker", ..] => self.unprivileged("fracas-load"),
            ["/usr/bin/fracas-agent", "rescue", "--watch", ..] => self.bounded("root", &OF_WORKERS),
            _ if words.contains(&"guardian") => self.bounded("root", &OF_WORKERS),
            _ => self.bounded("root", &[]),
        }
    }

    fn unprivileged(&self, user: &str) -> Result<()> {
        ensure!(self.user == user, "it runs as {}, not as {user}", self.user);
        ensure!(self.effective == 0 && self.bounding == 0, "it has capabilities");
        Ok(())
    }

    /// Without the capabilities that no part of an agent has, and those that are named.
    fn bounded(&self, user: &str, without: &[u32]) -> Result<()> {
        ensure!(self.user == user, "it runs as {}, not as {user}", self.user);
        let beyond: Vec<u32> = NEVER
            .iter()
            .chain(without)
            .copied()
            .filter(|number| self.bounding >> number & 1 == 1)
            .collect();
        ensure!(beyond.is_empty(), "it may have the capabilities {beyond:?}");
        Ok(())
    }
}

/// Of every process whose program is one of ours.
fn rights(site: &Site) -> Result<Vec<Rights>> {
    let line = "for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/bin/fracas-*) \
                echo \"command $(tr '\\0' ' ' <$p/cmdline)\"; echo \"user $(stat -c %U $p)\"; \
                grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' $p/status;; esac; done";
    let said = site.machine().sh(line)?.ok()?;
    let all = parse(&said)?;
    expect_each(&all).context(said)?;
    Ok(all)
}

fn expect_each(all: &[Rights]) -> Result<()> {
    for (name, command) in NEEDED {
        // The word ends here, also at the end of the line.
        let runs = all
            .iter()
            .any(|process| format!("{} ", process.command).contains(&format!("{command} ")));
        ensure!(runs, "no {name} runs");
    }
    Ok(())
}

fn parse(said: &str) -> Result<Vec<Rights>> {
    let mut all: Vec<Rights> = Vec::new();
    for line in said.lines() {
        let (name, value) = line.split_once([' ', '\t']).context("a name and a value")?;
        let value = value.trim();
        if name == "command" {
            all.push(Rights::default());
        }
        let last = all.last_mut().context("a command comes first")?;
        match name {
            "command" => last.command = value.to_owned(),
            "user" => last.user = value.to_owned(),
            "CapEff:" => last.effective = u64::from_str_radix(value, 16)?,
            "CapBnd:" => last.bounding = u64::from_str_radix(value, 16)?,
            "NoNewPrivs:" => last.no_new_privileges = value == "1",
            "Seccomp:" => last.seccomp = value.parse()?,
            _ => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "command fracas-agent session\nuser fracas\nCapEff:\t0\nCapBnd:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n\
                        command /usr/bin/fracas-agent run \nuser root\nCapEff:\t0000000000000002\nCapBnd:\t0000000000000002\nNoNewPrivs:\t1\nSeccomp:\t2\n\
                        command /usr/bin/fracas-controller \nuser fracas-controller\nCapEff:\t0\nCapBnd:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n\
                        command /usr/bin/fracas-agent --run-dir /run guardian --agent 7 \nuser root\nCapEff:\t2\nCapBnd:\t2\nNoNewPrivs:\t1\nSeccomp:\t2\n\
                        command fracas-id worker --uid 9 \nuser fracas-load\nCapEff:\t0\nCapBnd:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn rights_are_read_and_each_that_is_too_wide_is_found() -> Result<()> {
        let all = parse(SAID)?;
        assert_eq!(all.len(), NEEDED.len());
        expect_each(&all)?;
        all.iter().try_for_each(Rights::check)?;
        for (right, wide) in [
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("user root", "user nobody"),
            ("user fracas-controller", "user root"),
            ("user fracas\n", "user root\n"),
            ("CapBnd:\t0000000000000002", "CapBnd:\t0000000000010002"),
            ("CapEff:\t2\nCapBnd:\t2", "CapEff:\t2\nCapBnd:\t2002"),
            ("CapEff:\t0\n", "CapEff:\t1\n"),
            ("fracas-load\nCapEff:\t0\nCapBnd:\t0", "fracas-load\nCapEff:\t0\nCapBnd:\t2"),
        ] {
            let all = parse(&SAID.replacen(right, wide, 1))?;
            assert!(all.iter().any(|process| process.check().is_err()), "{wide}");
        }
        for (name, command) in NEEDED {
            let error = expect_each(&parse(&SAID.replace(command, " other"))?).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        Ok(())
    }
}
