//! Figures with connections that never say who they are: the local socket must answer, and honest hosts must get in.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests_harness::wait;

use super::figures::{Figure, percentile};
use super::site::{Site, Tool};

const IDLE: u32 = 1_003;
const SILENT: u32 = 320;
const HALTS: usize = 5;
const HALTED_WITHIN: Duration = Duration::from_millis(200);
const HONEST: u32 = 50;
/// How long the outsiders have to take what they can get.
const GATHER: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

pub fn measure(figures: &mut Vec<Figure>) -> Result<()> {
    eprintln!("{IDLE} idle and {SILENT} silent connections");
    let mut site = Site::new()?;
    site.start()?;
    let token = site.token(HONEST)?;
    let mut outsiders = start(&site, &std::fs::read_to_string(&token)?)?;
    std::thread::sleep(GATHER);
    let open = outsiders.ask("counts")?;
    let beside = format!("beside {} idle and {} silent outsiders", open["idle"], open["silent"]);
    figures.push(halts(&site, &beside)?);
    figures.push(honest(&site, &token, &beside)?);
    Ok(())
}

fn start(site: &Site, token: &str) -> Result<Tool> {
    let fingerprint = token.trim().rsplit('.').next().context("a token ends with a fingerprint")?;
    let (idle, silent) = (IDLE.to_string(), SILENT.to_string());
    let mut args = vec!["outsiders", "--controller", site.agents(), "--fingerprint", fingerprint];
    args.extend(["--idle", &idle, "--silent", &silent]);
    Tool::start(args)
}

fn halts(site: &Site, beside: &str) -> Result<Figure> {
    let mut took = Vec::new();
    for _ in 0..HALTS {
        let began = Instant::now();
        let halted = site.fracas(&["halt", "--reason", "a drill"])?;
        took.push(began.elapsed());
        if !halted.status.success() {
            let why = String::from_utf8_lossy(&halted.stderr).into_owned();
            return Ok(Figure::expected(
                format!("halt on the local socket {beside}"),
                why.trim(),
                "answered",
                false,
            ));
        }
        site.fracas(&["release", "--reason", "the drill is over"])?;
    }
    let what = format!("halt on the local socket {beside}, worst of {HALTS}");
    Ok(Figure::within(what, percentile(took, 100), HALTED_WITHIN))
}

fn honest(site: &Site, token: &Path, beside: &str) -> Result<Figure> {
    let (mut honest, took) = Tool::fleet(site.agents(), token, HONEST, 0)?;
    let connected = wait::until("every honest host is connected", PATIENCE, || {
        Ok(honest.count("connected")? == u64::from(HONEST))
    });
    let refused = honest.count("refused")?;
    let ours = match &connected {
        Ok(after) => format!(
            "{refused} refused; enrolled in {} ms, connected {} ms later",
            took.as_millis(),
            after.as_millis()
        ),
        Err(error) => format!("{refused} refused; {error}"),
    };
    let met = connected.is_ok() && refused == 0;
    Ok(Figure::expected(
        format!("{HONEST} honest hosts {beside}"),
        ours,
        "none refused",
        met,
    ))
}
