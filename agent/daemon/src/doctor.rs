//! `fracas-agent doctor`: what this host can and cannot do, why not, and what fixes it; it works without the agent and changes nothing.

use agent_levers::JournalStore;
use agent_view::LinuxView;
use agent_warden::{Kinds, Policy, examine};
use proto_model::doctor::{Ability, Can, Check, HostDoctor, KindAbility};
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::ExitCode;

use crate::options::Output;
use crate::paths::Paths;

/// Some fault that the host allows cannot be injected, or was not evaluated.
const NOT_ALL: u8 = 1;
const AS_ROOT: &str = "sudo fracas-agent doctor";
/// agent.toml is invalid.
const INVALID_FILE: u8 = 3;

pub fn doctor(paths: &Paths, output: Output) -> anyhow::Result<ExitCode> {
    let policy = match Policy::load(&paths.config, &agent_faults::catalogue()) {
        Ok(policy) => policy,
        Err(error) => return Ok(proto_program::exit::failed("fracas-agent", &error, INVALID_FILE)),
    };
    let kinds = Kinds {
        find: agent_faults::find,
        catalogue: agent_faults::catalogue,
    };
    let view = LinuxView::with_group_root(&paths.group_root);
    let journal_store = open(paths);
    let found = examine(&view, &policy, kinds, journal_store.as_ref().map_err(Clone::clone));
    match output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&proto_model::document::Document::new("HostDoctor", &found))?
        ),
        Output::Table => lines(&found).iter().for_each(|line| println!("{}", line.trim_end())),
    }
    Ok(if found.can == Can::Yes {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_ALL)
    })
}

/// Folders that no agent has made yet are not made here.
fn open(paths: &Paths) -> Result<JournalStore, Ability> {
    let (disk, mirror) = (paths.journal(), paths.journal_mirror());
    for folder in [&disk, &mirror] {
        look(folder, folder.metadata())?;
    }
    JournalStore::open(&disk, &mirror).map_err(|error| {
        let fix = match rustix::process::geteuid().is_root() {
            true => listing(&disk),
            false => AS_ROOT.to_owned(),
        };
        Ability::not_evaluated(format!("{:#}", anyhow::Error::from(error)), fix)
    })
}

/// A folder that this user may not see can be there: an agent has run, or not.
fn look(folder: &Path, found: io::Result<Metadata>) -> Result<(), Ability> {
    let shown = folder.display();
    match found {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            let why = format!("{shown} is no folder");
            let fix = format!("mv {shown} {shown}.old && systemctl restart fracas-agent");
            Err(Ability::not_evaluated(why, fix))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let why = format!("no agent has run here yet: {shown} is not there");
            Err(Ability::not_evaluated(why, "systemctl start fracas-agent"))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let why = format!("only root may see whether {shown} is there ({error})");
            Err(Ability::not_evaluated(why, AS_ROOT))
        }
        Err(error) => {
            let why = format!("{shown} cannot be looked at: {error}");
            Err(Ability::not_evaluated(why, listing(folder)))
        }
    }
}

/// Each part of the path, as the kernel answers for it.
fn listing(folder: &Path) -> String {
    format!("namei -l {}", folder.display())
}

fn lines(found: &HostDoctor) -> Vec<String> {
    let mut lines = vec![format!("host      {} ({}, kernel {})", found.host, found.os, found.kernel)];
    lines.extend(found.checks.iter().flat_map(check_lines));
    lines.extend(found.kinds.iter().flat_map(kind_lines));
    lines.push(format!("all       {}", found.can.as_str()));
    lines
}

/// A problem has its place, its consequence and its fix, each on a line.
fn check_lines(check: &Check) -> Vec<String> {
    row(&check.name, check.ability.can.as_str(), &check.ability, check.consequence())
}

fn kind_lines(kind: &KindAbility) -> Vec<String> {
    let can = if kind.allowed { kind.ability.can.as_str() } else { "not allowed" };
    row(kind.fault.as_str(), can, &kind.ability, None)
}

fn row(name: &str, can: &str, ability: &Ability, consequence: Option<String>) -> Vec<String> {
    let engine = ability.engine.as_ref().map(|engine| format!("by {engine}"));
    let words: Vec<String> = engine.into_iter().chain(ability.why.clone()).collect();
    let mut lines = vec![format!("{name:<20}{can:<15}{}", words.join(": "))];
    let fix = ability.fix.as_ref().map(|fix| format!("fix: {fix}"));
    lines.extend(consequence.into_iter().chain(fix).map(|line| format!("{:<20}{:<15}{line}", "", "")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_may_not_be_seen_is_not_called_absent() {
        let folder = Path::new("/var/lib/fracas/agent/journal");
        let look = |kind: ErrorKind| look(folder, Err(kind.into())).unwrap_err();
        let denied = look(ErrorKind::PermissionDenied);
        assert!(
            denied
                .why
                .unwrap()
                .starts_with("only root may see whether /var/lib/fracas/agent/journal")
        );
        assert_eq!((denied.can, denied.fix.as_deref()), (Can::NotEvaluated, Some(AS_ROOT)));
        let absent = look(ErrorKind::NotFound);
        assert!(absent.why.unwrap().starts_with("no agent has run here yet"));
        assert_eq!(absent.fix.as_deref(), Some("systemctl start fracas-agent"));
        let other = look(ErrorKind::StorageFull);
        assert!(other.why.unwrap().contains("cannot be looked at"));
        assert_eq!(other.fix.as_deref(), Some("namei -l /var/lib/fracas/agent/journal"));
    }

    #[test]
    fn a_problem_is_shown_with_its_place_its_consequence_and_its_fix() {
        let check = Check {
            name: "sch_netem".to_owned(),
            says: "shaping packets in the kernel".to_owned(),
            required_by: Vec::new(),
            used_by: agent_faults::registry()
                .map(|fault| fault.kind())
                .filter(|kind| kind.as_str() == "network.delay")
                .collect(),
            ability: Ability::no("kernel 1 has no sch_netem (/lib/modules/1)", "apt install x"),
        };
        let indent = " ".repeat(35);
        assert_eq!(
            check_lines(&check),
            [
                "sch_netem           no             kernel 1 has no sch_netem (/lib/modules/1)".to_owned(),
                format!("{indent}without it: network.delay only by other means or less exactly"),
                format!("{indent}fix: apt install x"),
            ]
        );
        let present = Check {
            ability: Ability::yes(),
            ..check
        };
        assert_eq!(check_lines(&present), ["sch_netem           yes            "]);
    }
}
