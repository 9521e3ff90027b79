//! The fleet as a program: enrols, starts, and answers one line of JSON for each line it is given, until its input ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tests_fleet::{Behaviour, Enrolment, Fleet, Member, enrol};
use tests_harness::limits::raise_open_files;

use crate::{Run, lines, print};

/// Files that this process needs besides one for each host.
const OTHER_FILES: u64 = 256;

pub async fn run(run: &Run) -> Result<()> {
    raise_open_files(u64::from(run.hosts) + OTHER_FILES).context("raise the limit of open files")?;
    let token = std::fs::read_to_string(&run.token_file).with_context(|| format!("read {}", run.token_file.display()))?;
    let began = Instant::now();
    let enrolment = Enrolment {
        controller: run.controller,
        token: token.trim().to_owned(),
        prefix: run.prefix.clone(),
        first: run.first,
        hosts: run.hosts,
        at_once: run.at_once,
    };
    let members: Vec<Arc<Member>> = enrol(&enrolment).await?.into_iter().map(Arc::new).collect();
    print(&json!({ "enrolled": members.len(), "took_ms": millis(began.elapsed()) }))?;
    let (behaviour, count) = misbehaviour(run.misbehave.as_deref())?;
    let (first, spread) = (run.first, Duration::from_millis(run.spread_ms));
    let fleet = Fleet::start(run.controller, &members, spread, |number| {
        if number - first < count { behaviour } else { Behaviour::Obedient }
    });
    print(&json!({ "started": fleet.hosts() }))?;
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        print(&obey(&fleet, &line)?)?;
    }
    Ok(())
}

fn obey(fleet: &Fleet, line: &str) -> Result<Value> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(match words[..] {
        ["counts"] => json!(fleet.counts()),
        ["halt", epoch] => json!(fleet.halt(epoch.parse().context("read the epoch")?)),
        ["move", address] => {
            fleet.move_to(address.parse().context("read the controller's address")?);
            Value::Null
        }
        _ => bail!("line {line:?} is unknown; allowed: counts, halt EPOCH, move ADDRESS:PORT"),
    })
}

fn misbehaviour(text: Option<&str>) -> Result<(Behaviour, u32)> {
    let Some(text) = text else { return Ok((Behaviour::Obedient, 0)) };
    let (behaviour, count) = text.rsplit_once(':').context("--misbehave takes BEHAVIOUR:COUNT")?;
    let behaviour = Behaviour::parse(behaviour).map_err(anyhow::Error::msg)?;
    Ok((behaviour, count.parse().context("read how many hosts misbehave")?))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
