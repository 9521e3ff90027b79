//! The house rules held against the house as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use tests_tidy::files::{Source, repository, sources};
use tests_tidy::{arrows, changes, circles, compatible, documents, faults, levers, lookups, planted, probes, readers, sizes, wire};

/// Crates that may hold unsafe code, each block with its argument; every other one inherits the workspace's ban.
const UNSAFE: [&str; 2] = ["agent-view", "agent-levers"];

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn each(check: impl Fn(&Source) -> Vec<String>) -> Result<()> {
    let wrong: Vec<String> = sources(&repository())?.iter().flat_map(check).collect();
    none(&wrong);
    Ok(())
}

#[test]
fn arrows_point_one_way() -> Result<()> {
    none(&arrows::wrong(&arrows::crates(&repository())?));
    Ok(())
}

/// What decides stands on no network: a port is owned by the crate that uses it, and the wire is behind it.
#[test]
fn what_decides_builds_without_the_wire() -> Result<()> {
    let mut wrong = Vec::new();
    for member in arrows::WITHOUT_WIRE {
        let needs = arrows::packages_of(&repository(), member)?;
        assert!(
            needs.iter().any(|need| need == "proto-model"),
            "cargo lists no needs of {member}: {needs:?}"
        );
        let wire = needs.iter().filter(|need| arrows::WIRE.contains(&need.as_str()));
        wrong.extend(wire.map(|need| format!("{member} stands on {need}: own a trait instead, and let the wire's side implement it")));
    }
    none(&wrong);
    Ok(())
}

/// A contract suite and a twin in memory are for tests: a program with them in it could be started on them.
#[test]
fn no_shipped_program_holds_what_is_for_tests() -> Result<()> {
    let shipped = arrows::shipped(&repository())?;
    assert!(shipped.contains(&"controller-daemon".to_owned()), "cargo ships {shipped:?}");
    let mut wrong = Vec::new();
    for program in shipped {
        let found = arrows::built_for_tests(&repository(), &program)?;
        wrong.extend(found.iter().map(|package| {
            format!("{program} is built with what is for tests in {package}: turn its feature on in [dev-dependencies] alone")
        }));
    }
    none(&wrong);
    Ok(())
}

#[test]
fn every_file_opens_with_what_it_is_for() -> Result<()> {
    each(|source| {
        let opening = source.text.lines().next().unwrap_or_default();
        let words = opening.strip_prefix("//! ").unwrap_or_default().split_whitespace().count();
        if words >= 4 {
            Vec::new()
        } else {
            vec![format!("{} does not open with a sentence on what it is for", source.path)]
        }
    })
}

#[test]
fn files_and_functions_stay_small() -> Result<()> {
    let root = repository();
    none(&sizes::wrong(&sizes::oversized(&sources(&root)?), &sizes::read_ratchet(&root)?));
    Ok(())
}

#[test]
fn nothing_is_left_for_later() -> Result<()> {
    // Written apart, so that this file does not find itself.
    let marks = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["todo", "!("],
        ["dbg", "!("],
        ["unimplemented", "!("],
    ]
    .map(|mark| mark.concat());
    each(|source| {
        let found = |(number, line): (usize, &str)| {
            let mark = marks.iter().find(|mark| line.contains(mark.as_str()))?;
            Some(format!("{}:{}: {mark}", source.path, number + 1))
        };
        source.text.lines().enumerate().filter_map(found).collect()
    })
}

/// So that they do not rot while the code moves: `cargo xtask plant` shows that they are caught.
#[test]
fn every_planted_bug_still_fits_the_tree() -> Result<()> {
    let root = repository();
    let crates = arrows::crates(&root)?;
    let all = planted::all(&root)?;
    assert!(!all.is_empty());
    let mut wrong = Vec::new();
    for bug in &all {
        let package = crates.iter().find(|member| member.name == bug.package);
        let folder = package.map(|member| root.join(&member.folder));
        wrong.extend(planted::wrong(bug, &root, folder.as_deref()));
    }
    none(&wrong);
    Ok(())
}

/// A skip that is only printed counts as passed, and so does a test that nobody starts.
#[test]
fn every_skip_is_recorded() -> Result<()> {
    // Written apart, so that this file does not find itself.
    let printed = ["println!(\"", "skipped"].concat();
    let ignored = ["#[", "ignore"].concat();
    let root = ["gete", "uid()"].concat();
    each(|source| {
        let of_a_suite = source.path.contains("/tests/") && !source.path.starts_with("tests/harness/");
        let found = |(number, line): (usize, &str)| {
            let line = line.trim();
            let wrong = if line.contains(&printed) && source.path != "tests/notes/src/lib.rs" {
                "record a skip with tests_notes::skip"
            } else if line.contains(&ignored) && !line.contains("= \"started by the other tests\"") {
                "a test is never ignored"
            } else if line.contains(&root) && of_a_suite {
                "ask tests_notes::lacks_root, which records the skip"
            } else {
                return None;
            };
            Some(format!("{}:{}: {wrong}", source.path, number + 1))
        };
        source.text.lines().enumerate().filter_map(found).collect()
    })
}

#[test]
fn unsafe_code_is_banned_everywhere_but_where_it_must_be() -> Result<()> {
    let mut wrong = Vec::new();
    for member in arrows::crates(&repository())? {
        let lints = &member.manifest["lints"];
        let inherits = lints.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        let argued = lints.get("clippy").and_then(|clippy| clippy["undocumented_unsafe_blocks"].as_str()) == Some("deny");
        match (UNSAFE.contains(&member.name.as_str()), inherits, argued) {
            (false, true, _) | (true, _, true) => {}
            (false, false, _) => wrong.push(format!("{} does not inherit the workspace's lints", member.name)),
            (true, _, false) => wrong.push(format!("{} does not demand a safety argument of each unsafe block", member.name)),
        }
    }
    let workspace: toml::Table = fs::read_to_string(repository().join("Cargo.toml"))?.parse()?;
    if workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str() != Some("forbid") {
        wrong.push("the workspace does not forbid unsafe code".to_owned());
    }
    none(&wrong);
    Ok(())
}

/// Whoever looks at a host holds nothing that changes it: ARCHITECTURE.md, "Three invariants, written as absences".
#[test]
fn only_the_levers_change_a_host() -> Result<()> {
    let mut wrong = Vec::new();
    for source in sources(&repository())? {
        wrong.extend(changes::wrong(&source)?);
    }
    none(&wrong);
    Ok(())
}

/// What undoes a fault must not wait for what the fault holds: docs/safety.md, "Who puts it right".
#[test]
fn no_way_back_asks_a_directory_for_a_user() -> Result<()> {
    let mut wrong = Vec::new();
    for source in sources(&repository())? {
        wrong.extend(lookups::wrong(&source)?);
    }
    none(&wrong);
    Ok(())
}

/// Adding a kind is one file and one line: here is who forgot the line.
#[test]
fn every_kind_is_registered_in_its_family() -> Result<()> {
    let faults = repository().join("agent/faults/src");
    let mut wrong = Vec::new();
    let mut kinds = BTreeSet::new();
    for source in sources(&repository())?
        .iter()
        .filter(|source| source.path.starts_with("agent/faults/src/"))
    {
        let Some(type_name) = fault_type(&source.text) else { continue };
        let path = Path::new(&source.path);
        let module = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let family = path
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(kind) = kind(&source.text) else {
            wrong.push(format!("{} holds a fault without a KIND", source.path));
            continue;
        };
        if kind != format!("{family}.{module}") {
            wrong.push(format!("{} holds {kind}: the path is the name", source.path));
        }
        let registration = fs::read_to_string(faults.join(&family).join("mod.rs"))?;
        let entry = registration
            .split_once("KINDS")
            .map_or("", |(_, rest)| rest.split_once(';').map_or(rest, |(list, _)| list));
        if !entry.contains(&type_name) {
            wrong.push(format!("{kind} is not in KINDS of {family}"));
        }
        kinds.insert(kind);
    }
    assert!(kinds.len() >= 3, "found only {kinds:?}");
    none(&wrong);
    Ok(())
}

#[test]
fn every_lever_has_its_mod_and_its_line_of_the_table() -> Result<()> {
    let all = sources(&repository())?;
    let files = all
        .iter()
        .filter_map(|source| source.path.strip_prefix(levers::FOLDER)?.strip_suffix(".rs"));
    let files: Vec<String> = files
        .filter(|file| *file != "mod" && !file.contains('/'))
        .map(str::to_owned)
        .collect();
    assert!(files.len() >= 6, "found only {files:?}");
    none(&levers::wrong(&files, &fs::read_to_string(repository().join(levers::TABLE))?));
    Ok(())
}

/// The type that is a fault, if the file holds one outside of its tests.
fn fault_type(text: &str) -> Option<String> {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or(text);
    let rest = before_tests.split_once("\nimpl Fault for ")?.1;
    Some(rest.split([' ', '{', '\n']).next()?.to_owned())
}

fn kind(text: &str) -> Option<String> {
    let rest = text.split_once("const KIND: &'static str = \"")?.1;
    Some(rest.split('"').next()?.to_owned())
}

#[test]
fn the_wire_is_what_its_files_say() -> Result<()> {
    let fresh = tempfile::tempdir()?;
    let root = repository().canonicalize()?;
    wire::generate(&root, fresh.path())?;
    let committed = root.join("proto/wire/src/generated");
    let names = |folder: &Path| -> Result<BTreeSet<String>> {
        let entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries
            .iter()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect())
    };
    assert_eq!(names(&committed)?, names(fresh.path())?, "run cargo xtask generate");
    for name in names(&committed)? {
        let same = fs::read(committed.join(&name))? == fs::read(fresh.path().join(&name))?;
        assert!(same, "{name} is not what the .proto files say: run cargo xtask generate");
    }
    Ok(())
}

/// Agents and tools of the last release speak to a controller of this one.
#[test]
fn the_wire_of_the_last_release_still_works() -> Result<()> {
    let wire = repository().join("proto/wire");
    let released = compatible::read(&wire.join(compatible::RELEASED))?;
    none(&compatible::breaking(&released, &compatible::read(&wire)?));
    Ok(())
}

#[test]
fn the_page_of_faults_is_what_the_kinds_say() -> Result<()> {
    let page = faults::page(&serde_json::to_value(agent_faults::catalogue())?)?;
    let committed = fs::read_to_string(repository().join(faults::PAGE)).unwrap_or_default();
    assert!(
        page == committed,
        "{} is not what the kinds say: run cargo xtask generate",
        faults::PAGE
    );
    Ok(())
}

#[test]
fn the_kinds_of_probe_are_written_into_the_schema_and_the_manual() -> Result<()> {
    let kinds = proto_probes::descriptions();
    for (path, write) in [
        (
            probes::SCHEMA,
            probes::schema as fn(&str, &[proto_probes::Description]) -> Result<String>,
        ),
        (probes::PAGE, probes::page),
    ] {
        let committed = fs::read_to_string(repository().join(path))?;
        let fresh = write(&committed, &kinds)?;
        assert!(
            fresh == committed,
            "{path} is not what the kinds of probe say: run cargo xtask generate"
        );
    }
    Ok(())
}

/// A new event does not compile until each reader has decided what it means.
#[test]
fn no_reader_passes_over_an_event() -> Result<()> {
    let mut wrong = Vec::new();
    for source in sources(&repository())? {
        wrong.extend(readers::wrong(&source)?);
    }
    none(&wrong);
    Ok(())
}

/// Two files that stand on each other are one file, cut in the wrong place.
#[test]
fn no_files_stand_on_each_other() -> Result<()> {
    let mut wrong = Vec::new();
    for (member, found) in circles::circles(&repository())? {
        wrong.extend(found.iter().map(|circle| format!("{member}: {circle}")));
    }
    none(&wrong);
    Ok(())
}

/// A vague name gathers everything: none of these may be a crate.
#[test]
fn no_crate_has_a_name_that_says_nothing() -> Result<()> {
    let vague = ["common", "util", "utils", "core", "manager", "helpers", "misc", "shared"];
    let named = arrows::crates(&repository())?
        .into_iter()
        .filter(|member| vague.iter().any(|word| member.folder.ends_with(&format!("/{word}"))));
    none(&named.map(|member| member.folder).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn every_dependency_comes_from_the_registry() -> Result<()> {
    let lock: toml::Table = fs::read_to_string(repository().join("Cargo.lock"))?.parse()?;
    let packages = lock["package"].as_array().into_iter().flatten();
    let foreign = packages.filter(|package| {
        let source = package.get("source").and_then(toml::Value::as_str);
        source.is_some_and(|source| source != "registry+https://github.com/rust-lang/crates.io-index")
    });
    none(
        &foreign
            .map(|package| format!("{} is not from the registry", package["name"]))
            .collect::<Vec<_>>(),
    );
    Ok(())
}

/// A page that names a test, a file or a heading is wrong once that is renamed.
#[test]
fn pages_lead_to_what_there_is() -> Result<()> {
    let root = repository();
    let pages = documents::pages(&root)?;
    assert!(pages.len() > 10, "only {} pages", pages.len());
    let mut wrong = Vec::new();
    for page in &pages {
        wrong.extend(documents::wrong_links(&root, page)?);
    }
    none(&wrong);
    Ok(())
}

#[test]
fn log_lines_of_the_manual_are_written_by_a_program() -> Result<()> {
    let (page, heading) = documents::LOG_LINES;
    let text = fs::read_to_string(repository().join(page))?;
    none(&documents::unknown_log_lines(&text, heading, &sources(&repository())?));
    Ok(())
}
