//! Every kind by every example on this kernel: the effect is seen from outside, and nothing is left afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_contest::{Harm, Site, impossible, reversible};
use tests_harness::wait;

/// Long enough for a fault to observe itself once.
/// Long enough for samples that tell a right figure from a wrong one.
const LASTS: Duration = Duration::from_secs(12);

#[test]
fn each_example_of_each_kind_acts_and_leaves_nothing() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("catalogue", &["web"])?;
    let mut wrong = Vec::new();
    for fault in reversible() {
        for example in fault.describe().examples {
            let kind = fault.kind();
            println!("{kind}: {}", example.says);
            let decided = acts_and_ends(&site, kind.as_str(), &example.params, LASTS).and_then(|decided| {
                // Luck with what is random: more of it tells.
                let again = || acts_and_ends(&site, kind.as_str(), &example.params, LASTS * 3);
                Ok(decided || again()?)
            });
            if let Ok(false) = decided {
                wrong.push(format!("{kind} ({}): too few samples to tell in {:?}", example.says, LASTS * 3));
            }
            if let Err(error) = decided {
                wrong.push(format!("{kind} ({}): {error:#}", example.says));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// False when all went well, and the samples were too few to tell.
fn acts_and_ends(site: &Site, kind: &str, params: &Value, lasts: Duration) -> Result<bool> {
    let mut harm = Harm::begin(site, "web", kind, params, lasts)?;
    let seen = harm.witness.examines().context("while it acts");
    // What is cut must be tried all the time, or nothing observes the cut.
    let over = || Ok(harm.witness.sees().is_ok() && site.run(&harm.run)?["state"] == "finished");
    wait::until(format_args!("{kind} is over"), lasts * 4, over)?;
    // Even when it was not: the next one needs the host.
    let run = harm.is_over().context("afterwards")?;
    seen?;
    let injection = &run["injections"][0];
    ensure!(
        injection["state"] == "undone" && injection["ended_by"] == "duration_elapsed",
        "{injection}"
    );
    ensure!(run["cleanup"] == "proven" && run["verdict"] == "inconclusive", "{run}");
    let effect = &injection["effect"];
    let confirmed = effect["state"] == "confirmed";
    let undecided = effect["state"] == "unknown" && effect["note"].as_str().is_some_and(|note| note.contains("too few to tell"));
    // Others may leave too little of the processors; the rest has no excuse.
    ensure!(confirmed || undecided || kind.starts_with("cpu."), "{effect}");
    println!("  its own observation: {}", injection["effect"]);
    ensure!(!harm.witness.sees()?, "the effect is still seen");
    site.is_clean("web")?;
    site.is_clean("peer")?;
    Ok(!undecided)
}
