//! `cpu.burn mode=total` beside a load of somebody else's: the machine's own account must read what was asked, or the test says why not.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests_contest::impossible;
use tests_harness::{Cmd, Host, Lab, LabPlan, report, wait};

const WEB: &str = "web";
const NEIGHBOUR: &str = "neighbour";
const SOON: Duration = Duration::from_secs(15);
/// In percent of all processors, like every figure here.
const ASKED: f64 = 60.0;
const LOAD: f64 = 30.0;
/// The fault's own two points, and as many for ticks of 10 ms and for what comes and goes within a step of its loop.
const TOLERANCE: f64 = 4.0;
/// Time to come near, then one look a second.
const SETTLES: Duration = Duration::from_secs(3);
const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: usize = 6;
const TRIES: usize = 6;
/// What neither the fault nor the load uses may be so much, and swing by so much; and a machine below ours may take so much away.
const STRANGERS: f64 = 20.0;
const SWING: f64 = 15.0;
const STOLEN: f64 = 2.0;

/// Processor time of the machine since boot, in ticks.
#[derive(Clone, Copy)]
struct Ticks {
    busy: f64,
    stolen: f64,
    all: f64,
}

impl Ticks {
    fn read() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("cpu "))
            .context("a line for all processors")?;
        let ticks: Vec<f64> = line.split_whitespace().take(8).filter_map(|field| field.parse().ok()).collect();
        ensure!(ticks.len() == 8, "/proc/stat said {line:?}");
        // user nice system idle iowait irq softirq steal
        let (idle, all) = (ticks[3] + ticks[4], ticks.iter().sum::<f64>());
        Ok(Self {
            busy: all - idle,
            stolen: ticks[7],
            all,
        })
    }
}

/// One window, in percent of all processors.
#[derive(Debug, Clone, Copy)]
struct Seen {
    busy: f64,
    stolen: f64,
    fault: f64,
    load: f64,
    strangers: f64,
}

fn mean(seen: &[Seen], of: impl Fn(&Seen) -> f64) -> f64 {
    seen.iter().map(of).sum::<f64>() / seen.len() as f64
}

struct Ground(Lab);

impl Ground {
    fn new() -> Result<Self> {
        let lab = LabPlan::new("total", "contest")
            .host(WEB, "target")
            .host(NEIGHBOUR, "other")
            .create()?;
        lab.start_controller()?;
        lab.join(WEB)?;
        lab.join(NEIGHBOUR)?;
        lab.all_connected()?;
        Ok(Self(lab))
    }

    fn neighbour(&self) -> &Host {
        self.0.host(NEIGHBOUR)
    }

    /// A loop per processor in the neighbour's group, which is held to its share.
    fn load(&self) -> Result<()> {
        let processors = std::thread::available_parallelism()?.get();
        self.neighbour().limit_processors(LOAD / 100.0 * processors as f64)?;
        for n in 0..processors {
            self.neighbour().start(&format!("load{n}"), &Cmd::sh("while :; do :; done"))?;
        }
        Ok(())
    }

    fn rests(&self) -> Result<()> {
        let loads = self.neighbour().services()?.into_iter().map(|service| service.name);
        loads
            .filter(|name| name.starts_with("load"))
            .try_for_each(|name| self.neighbour().stop(&name))
    }

    fn attack(&self) -> Result<String> {
        let percent = format!("percent={ASKED}");
        let line = ["attack", "cpu.burn", "mode=total", &percent, "--on", WEB, "--for", "3m", "--detach"];
        let run = self.0.json(&line)?;
        let id = run["id"].as_str().context("a run has an id")?.to_owned();
        let holds = || Ok(self.0.json(&["runs", "show", &id])?["injections"][0]["state"] == "holding");
        wait::until("the processors are kept busy", SOON, holds)?;
        Ok(id)
    }

    fn window(&self) -> Result<Seen> {
        let used = |name| self.0.host(name).cpu_time();
        let (start, before, web, load) = (Instant::now(), Ticks::read()?, used(WEB)?, used(NEIGHBOUR)?);
        sleep(WINDOW);
        let (after, web, load) = (Ticks::read()?, used(WEB)? - web, used(NEIGHBOUR)? - load);
        let there = start.elapsed().as_secs_f64() * std::thread::available_parallelism()?.get() as f64;
        let percent = |ticks: f64| ticks / (after.all - before.all).max(1.0) * 100.0;
        let share = |time: Duration| time.as_secs_f64() / there * 100.0;
        let (busy, fault, load) = (percent(after.busy - before.busy), share(web), share(load));
        Ok(Seen {
            busy,
            stolen: percent(after.stolen - before.stolen),
            fault,
            load,
            strangers: (busy - fault - load).max(0.0),
        })
    }

    /// Windows in which nobody else kept the machine from an answer; else why there are none.
    fn honest_windows(&self) -> Result<Result<Vec<Seen>, String>> {
        let mut why = String::new();
        for _ in 0..TRIES {
            sleep(SETTLES);
            let seen = (0..WINDOWS).map(|_| self.window()).collect::<Result<Vec<_>>>()?;
            let strangers = seen.iter().map(|window| window.strangers);
            let (least, most) = (strangers.clone().fold(f64::MAX, f64::min), strangers.fold(0.0, f64::max));
            let stolen = mean(&seen, |window| window.stolen);
            if most <= STRANGERS && most - least <= SWING && stolen <= STOLEN {
                return Ok(Ok(seen));
            }
            let (fault, load) = (mean(&seen, |window| window.fault), mean(&seen, |window| window.load));
            why = format!(
                "others used {least:.0} to {most:.0} % of the processors, the load {load:.0} % and the fault {fault:.0} %, {stolen:.1} % were stolen"
            );
        }
        Ok(Err(why))
    }
}

#[test]
fn total_holds_the_whole_machine_at_what_was_asked_beside_a_load_and_after_it() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let ground = Ground::new()?;
    ground.load()?;
    let id = ground.attack()?;
    for (when, load) in [("beside a load", LOAD), ("after the load", 0.0)] {
        let seen = match ground.honest_windows()? {
            Ok(seen) => seen,
            Err(why) => {
                report::skip(&format!("this machine is too busy to tell what mode=total holds {when}: {why}"));
                break;
            }
        };
        let busy = mean(&seen, |window| window.busy);
        ensure!(
            (busy - ASKED).abs() <= TOLERANCE,
            "{when}: {busy:.1} % busy of {ASKED} asked: {seen:?}"
        );
        let used = mean(&seen, |window| window.load);
        ensure!((used - load).abs() <= LOAD / 3.0, "{when}: the load used {used:.1} %: {seen:?}");
        let fault = mean(&seen, |window| window.fault);
        println!("{when}: {busy:.1} % busy of {ASKED} asked: {used:.1} % by the load, {fault:.1} % by the fault");
        ground.rests()?;
    }
    ground.0.fracas(&["stop", &id])?.ok()?;
    Ok(())
}
