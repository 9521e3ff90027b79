//! Whether a unit's own file says that systemd starts it again; a warning before a kill, and never a reason to refuse.

use agent_view::{HostView, Process};

use crate::unit::{INIT, SystemUnits};

/// Where unit files lie, the first that has it counts.
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// One line for each unit among these processes that nobody starts again.
pub(super) fn warnings(chosen: &[Process], view: &dyn HostView) -> Vec<String> {
    let init = view.process(INIT).ok().flatten();
    let units = SystemUnits::of(init.as_slice()).names(chosen).into_iter();
    let units = units.filter(|name| name.ends_with(".service"));
    let stays_down = |unit: &&str| file_of(unit, view).is_some_and(|text| !restarts(&text));
    let warn = |unit: &str| format!("{unit} has no Restart= in its unit file, so systemd will not start it again (drop-ins are not read)");
    units.filter(stays_down).map(warn).collect()
}

/// A template's instance has its file under the template's name.
fn file_of(unit: &str, view: &dyn HostView) -> Option<String> {
    let template = unit.split_once('@').map(|(name, _)| format!("{name}@.service"));
    let names = std::iter::once(unit.to_owned()).chain(template);
    let paths = names.flat_map(|name| FOLDERS.map(|folder| format!("{folder}/{name}")));
    paths.into_iter().find_map(|path| view.knob(&path).ok().flatten())
}

fn restarts(text: &str) -> bool {
    let mut values = text.lines().rev().filter_map(|line| line.trim().strip_prefix("Restart="));
    values.next().is_some_and(|value| !matches!(value.trim(), "" | "no"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_unit_file_counts() {
        assert!(restarts("[Service]\nRestart=on-failure\n"));
        for text in ["", "[Service]\nRestart=no\n", "Restart=always\nRestart=\n", "# Restart=always"] {
            assert!(!restarts(text), "{text:?}");
        }
    }
}
