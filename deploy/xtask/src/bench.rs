//! `cargo xtask bench`: our figures beside a peer's, measured in the same minutes on the same machine; it judges nothing.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use tests_harness::{Lab, LabPlan, Packages, interrupt, programs};

use crate::goods::{self, Amounts};
use crate::scale::{self, Scale};
use crate::{cargo, measure, packets, traffic};

const PACKAGES: [&str; 4] = ["iproute2", "nftables", "stress-ng", "e2fsprogs"];

/// Where each figure comes from, so that somebody else can doubt it.
const HOW: &str = "How each was taken, on release builds, with a controller and three agents in hosts made of namespaces:

- Sizes: of the stripped files.
- Start of the CLI: `fracas --version`, from before the fork until the process is reaped.
- At rest: the sum of `Pss` in smaps_rollup of the agent, its session and its guardian, connected and idle; processor time as the kernel accounts it to the host's
  whole group over 20 s; bytes by the counters of its interface, headers and both ways included.
- cpu.burn: processor time as the kernel accounts it to the host's group, over 6 s after 2 s to settle, as a share of the cores asked for; stress-ng with
  `--cpu CORES --cpu-load PERCENT` in the same host right after; errors are distances from what was asked. Whatever else runs on the machine takes
  from both.
- memory.hog, time: from before the fork until the kernel counts 99 % of it as resident, polled every millisecond. Equal work on both sides: the worker
  that an agent starts writes by one thread for each core into huge pages, and so does a C program that is compiled by gcc -O2 and does mmap, madvise
  and memset; the same program by one thread without huge pages, and `stress-ng --vm CORES --vm-keep` of as much in all, stand beside it.
- memory.hog, exactness: `Pss` of the largest process, sampled for 5 s in the host, from 1 s after most of it is there; stress-ng with `--vm 1 --vm-keep` in the
  same host right after.
- disk.fill: from the birth of its file to its last change, as the file system dates them, on an ext4 of the host's own; `fallocate -l` on the
  same disk by the same dates, and once more from before its fork to its end.
- Stop: from before `fracas stop` is started until `fracas runs show` says that the last injection is undone; starting those commands is part of it.
- network.delay and network.loss: new TCP connections from one host to another, by the clock of the one that connects, less what they take without;
  jitter as half the width of an even spread with the deviation of 100 connections; loss by datagrams that another host counts.
- Applied and undone: what the agent tells, the syncs of its journal included; `nft -f` of one chain that
  drops such a share of the packets to one address, and `nft delete table`, in the same host.
- Order to effect: datagrams every 0.2 ms from one host to another; from before `fracas attack`, or `nft -f` in the host itself, is started until the
  last of them arrives.
- TCP beside and through a delay: bulk from one host to another for 4 s each, median of three turns, counted by the receiver; the delay is of packets
  from the same host to a third, over the same interface, 20 ms.
";

/// Measure ourselves beside a peer, and write docs/benchmarks.md.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    other: Option<Other>,

    /// Only print, without writing docs/benchmarks.md
    #[arg(long)]
    print: bool,

    /// A few rows with little memory and disk, on a debug build, to try the bench itself; prints and judges nothing
    #[arg(long)]
    small: bool,

    /// Only these rows; they are printed and not written
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Rows>,
}

/// Benches with hosts that are simulated.
#[derive(Debug, Subcommand)]
enum Other {
    Scale(Scale),
}

/// Rows that are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Sizes, the CLI's start, agents at rest
    Small,
    Cpu,
    /// Memory and disks
    Goods,
    Stop,
    /// How exact delays and losses are
    Exact,
    /// How fast a network fault comes and goes
    Speed,
    /// Traffic beside a delay and through it
    Beside,
}

/// One line of the table.
pub struct Figure {
    pub what: String,
    pub ours: String,
    pub peer: String,
    pub goal: &'static str,
}

impl Figure {
    pub fn new(what: impl Into<String>, ours: impl Into<String>, peer: impl Into<String>, goal: &'static str) -> Self {
        Self {
            what: what.into(),
            ours: ours.into(),
            peer: peer.into(),
            goal,
        }
    }
}

impl Bench {
    pub fn run(&self) -> Result<()> {
        if let Some(Other::Scale(scale)) = &self.other {
            return scale.run();
        }
        if self.small {
            Packages::ensure(&PACKAGES)?;
            let lab = plan().start()?;
            let mut figures = goods(&lab, Amounts::SMALL)?;
            figures.extend([measure::at_rest(&lab)?, packets::order_to_effect(&lab)?]);
            print!("{}", table(&figures));
            return Ok(());
        }
        if cfg!(debug_assertions) {
            return self.in_release();
        }
        Packages::ensure(&PACKAGES)?;
        programs::build_all(programs::Loudness::Progress)?;
        let before = measure::machine();
        eprintln!("starting a controller and three agents");
        let lab = plan().start()?;
        let mut figures = Vec::new();
        for rows in Rows::value_variants()
            .iter()
            .filter(|rows| self.only.is_empty() || self.only.contains(rows))
        {
            figures.extend(rows.take(&lab)?);
            interrupt::check()?;
        }
        let table = table(&figures);
        print!("{table}");
        if !self.print && self.only.is_empty() {
            let place = programs::repository().join("docs/benchmarks.md");
            let old = std::fs::read_to_string(&place).unwrap_or_default();
            std::fs::write(place, scale::keep_section(&old, &page(&before, &table)))?;
        }
        Ok(())
    }

    /// Figures of a debug build mean nothing: become the release build of this program.
    fn in_release(&self) -> Result<()> {
        let mut line = vec!["run", "--release", "--package", "deploy-xtask", "--", "bench"];
        line.extend(self.print.then_some("--print"));
        let only: Vec<String> = self
            .only
            .iter()
            .filter_map(|rows| Some(format!("--only={}", rows.to_possible_value()?.get_name())))
            .collect();
        line.extend(only.iter().map(String::as_str));
        let built = cargo::command(&line)?;
        let mut command = Command::new(built.get_program());
        command
            .args(built.get_args())
            .envs(built.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(programs::repository());
        Err(command.exec().into())
    }
}

impl Rows {
    fn take(self, lab: &Lab) -> Result<Vec<Figure>> {
        match self {
            Self::Small => {
                let mut figures = measure::sizes()?;
                figures.push(measure::cli_start()?);
                figures.push(measure::at_rest(lab)?);
                Ok(figures)
            }
            Self::Cpu => measure::burn(lab),
            Self::Goods => goods(lab, Amounts::FULL),
            Self::Stop => Ok(vec![measure::stop(lab)?]),
            Self::Exact => packets::exactness(lab),
            Self::Speed => Ok(vec![packets::speed(lab)?, packets::order_to_effect(lab)?]),
            Self::Beside => traffic::beside_a_delay(lab),
        }
    }
}

fn plan() -> LabPlan {
    let hosts = ["one", "two", "three"].iter();
    hosts.fold(LabPlan::new("bench", "bench"), |plan, name| plan.host(name, "bench"))
}

fn goods(lab: &Lab, amounts: Amounts) -> Result<Vec<Figure>> {
    Ok(vec![
        goods::memory_speed(amounts.fast)?,
        goods::memory_exactness(lab, amounts.exact)?,
        goods::disk(lab, amounts.disk)?,
    ])
}

fn page(machine: &str, table: &str) -> String {
    format!("# Benchmarks\n\nWritten by `cargo xtask bench` on {machine}. Compare the columns, not machines.\n\n{table}\n{HOW}")
}

fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| what | ours | peer | goal |\n|---|---|---|---|\n");
    for figure in figures {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {} |", figure.what, figure.ours, figure.peer, figure.goal);
    }
    text
}
