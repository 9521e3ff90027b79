//! `fracas hosts doctor`: what hosts can and cannot do, why not, and what fixes it; hosts look, and nothing is changed.

use clap::Args;
use proto_model::doctor::{Can, Check, HostDoctor, KindAbility};
use proto_model::exit;
use proto_model::time::Timestamp;
use proto_wire::v1::HostRef;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents::{self, Shown};
use crate::failure::Failure;
use crate::globals::HELP;
use crate::output::{Format, table};

const EXAMPLES: &str = "\
Examples:
  fracas hosts doctor
  fracas hosts doctor web -o wide";

const NARROW: &[&str] = &["HOST", "FAULT", "CAN", "ENGINE", "WHY NOT"];
const WIDE: &[&str] = &["HOST", "FAULT OR PART", "CAN", "ENGINE", "WHY", "FIX"];

/// What hosts can do; exit 0 when every fault that they allow can be done on them, 1 otherwise
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Doctor {
    /// The host's name; every host when left out
    host: Option<String>,
}

impl Doctor {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let request = HostRef {
            host: self.host.unwrap_or_default(),
        };
        let told = client.call("ask what hosts can do", ASK, client.hosts().doctor(request)).await?;
        let values: Vec<_> = told
            .items
            .iter()
            .map(|item| documents::value(HostDoctor::KIND, item))
            .collect::<Result<_, _>>()?;
        let doctors = documents::read_all::<HostDoctor>(&values)?;
        match console.format {
            Format::Table | Format::Wide if !doctors.is_empty() => print(console, &doctors),
            _ => console.list::<HostDoctor>(&told.items)?,
        }
        let able = doctors.iter().all(|doctor| doctor.can == Can::Yes);
        Ok(if able { exit::OK } else { exit::ERROR })
    }
}

fn print(console: &mut Console, doctors: &[HostDoctor]) {
    let wide = console.format == Format::Wide;
    let rows: Vec<Vec<String>> = doctors.iter().flat_map(|doctor| rows(doctor, wide)).collect();
    console.lines(table::lines(if wide { WIDE } else { NARROW }, &rows));
    if !wide {
        for line in fixes(doctors) {
            console.note(&line);
        }
    }
}

/// A line for each kind, and in full one for each part of the host that kinds stand on.
fn rows(doctor: &HostDoctor, wide: bool) -> Vec<Vec<String>> {
    if let Some(why) = &doctor.why {
        let row = [&doctor.host, "", doctor.can.as_str(), "", why, ""].map(str::to_owned).to_vec();
        return vec![row[..if wide { 6 } else { 5 }].to_vec()];
    }
    let mut rows: Vec<Vec<String>> = doctor.kinds.iter().map(|kind| kind_row(doctor, kind, wide)).collect();
    if wide {
        rows.extend(doctor.checks.iter().map(|check| check_row(doctor, check)));
    }
    rows
}

fn kind_row(doctor: &HostDoctor, kind: &KindAbility, wide: bool) -> Vec<String> {
    let ability = &kind.ability;
    let can = if kind.allowed { ability.can.as_str() } else { "not allowed" };
    let why = match (&ability.why, kind.allowed) {
        (Some(why), _) => why.clone(),
        (None, true) => String::new(),
        (None, false) => "the host's policy does not have it (agent.toml)".to_owned(),
    };
    let mut row = vec![
        doctor.host.clone(),
        kind.fault.to_string(),
        can.to_owned(),
        ability.engine.clone().unwrap_or_default(),
        why,
    ];
    if wide {
        row.push(ability.fix.clone().unwrap_or_default());
    }
    row
}

fn check_row(doctor: &HostDoctor, check: &Check) -> Vec<String> {
    let ability = &check.ability;
    vec![
        doctor.host.clone(),
        check.name.clone(),
        ability.can.as_str().to_owned(),
        String::new(),
        check_why(check),
        ability.fix.clone().unwrap_or_default(),
    ]
}

/// What was seen, and for a problem what the host does without.
fn check_why(check: &Check) -> String {
    let why = check.ability.why.clone().unwrap_or_else(|| check.says.clone());
    match check.consequence() {
        Some(consequence) => format!("{why}; {consequence}"),
        None => why,
    }
}

/// What fixes the kinds that cannot be injected, each command once.
fn fixes(doctors: &[HostDoctor]) -> Vec<String> {
    let mut lines = Vec::new();
    for doctor in doctors {
        for kind in doctor.kinds.iter().filter(|kind| kind.allowed && kind.ability.can != Can::Yes) {
            let line = kind.ability.fix.as_ref().map(|fix| format!("{}: fix: {fix}", doctor.host));
            lines.extend(line.filter(|line| !lines.contains(line)));
        }
    }
    lines
}

impl Shown for HostDoctor {
    const KIND: &'static str = "HostDoctor";
    const PLURAL: &'static str = "hosts";

    fn name(&self) -> String {
        self.host.clone()
    }

    fn header(_wide: bool) -> &'static [&'static str] {
        &["HOST", "CAN"]
    }

    fn row(&self, _wide: bool, _now: Timestamp) -> Vec<String> {
        vec![self.host.clone(), self.can.as_str().to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn doctor() -> HostDoctor {
        let kind = |fault: &str, allowed: bool, can: &str, why: Option<&str>, fix: Option<&str>| json!({"fault": fault, "allowed": allowed, "can": can, "engine": null, "why": why, "fix": fix});
        serde_json::from_value(json!({"host": "web", "can": "no", "why": null, "os": "", "kernel": "6.1",
            "checks": [{"name": "sch_netem", "says": "shaping", "can": "not_evaluated", "engine": null, "why": "unreadable", "fix": null,
                "used_by": ["network.delay"]}],
            "kinds": [kind("cpu.burn", true, "yes", None, None), kind("host.reboot", false, "yes", None, None),
                kind("network.delay", true, "no", Some("no netem"), Some("apt install x")),
                kind("network.loss", true, "no", Some("no netem"), Some("apt install x"))]}))
        .unwrap()
    }

    #[test]
    fn each_kind_is_a_row_and_each_fix_is_said_once() {
        let rows = rows(&doctor(), false);
        assert_eq!(rows[0], ["web", "cpu.burn", "yes", "", ""]);
        assert_eq!(rows[1][2], "not allowed");
        assert_eq!(rows[2], ["web", "network.delay", "no", "", "no netem"]);
        assert_eq!(fixes(&[doctor()]), ["web: fix: apt install x"]);
    }

    #[test]
    fn in_full_the_parts_are_told_too_and_what_was_not_looked_at_is_neither_yes_nor_no() {
        let rows = rows(&doctor(), true);
        let why = "unreadable; without it: network.delay only by other means or less exactly";
        assert_eq!(rows[4], ["web", "sch_netem", "not evaluated", "", why, ""]);
        let lost = super::rows(&HostDoctor::unasked("db", "db is lost"), true);
        assert_eq!(lost, [["db", "", "not evaluated", "", "db is lost", ""]]);
    }
}
