//! Which processes belong to a systemd unit or a control group, told by the paths of their groups.

use std::borrow::Cow;
use std::collections::BTreeSet;

use agent_view::{HostView, Process};

/// A service may be written without its ending.
pub(crate) fn full_name(unit: &str) -> Cow<'_, str> {
    if unit.contains('.') {
        unit.into()
    } else {
        format!("{unit}.service").into()
    }
}

/// The unit that is meant: its full name, or that of the unit that it is an alias of.
pub(crate) fn real_name(unit: &str, view: &dyn HostView) -> String {
    let name = full_name(unit);
    view.unit_alias(&name).unwrap_or_else(|| name.into_owned())
}

/// Units with processes whose names begin like this one's: instances and parts of one that runs nothing itself, as postgresql.service.
pub(crate) fn related(processes: &[Process], unit: &str) -> Vec<String> {
    let name = full_name(unit);
    let Some((bare, suffix)) = name.rsplit_once('.') else {
        return Vec::new();
    };
    let is_related = |part: &&str| {
        let rest = part
            .strip_suffix(suffix)
            .and_then(|part| part.strip_suffix('.')?.strip_prefix(bare));
        rest.is_some_and(|rest| rest.starts_with(['@', '-']))
    };
    let parts = processes
        .iter()
        .flat_map(|process| &process.groups)
        .flat_map(|path| path.split('/'));
    let found: BTreeSet<String> = parts.filter(is_related).map(str::to_owned).collect();
    found.into_iter().collect()
}

pub(crate) fn in_unit(process: &Process, unit: &str) -> bool {
    let unit = full_name(unit);
    process.groups.iter().any(|path| path.split('/').any(|part| part == unit))
}

pub(crate) fn in_group(process: &Process, group: &str) -> bool {
    process.groups.iter().any(|path| is_within(path, group))
}

/// Whether the path of a group is this one or one below it.
pub(crate) fn is_within(path: &str, group: &str) -> bool {
    let rest = path.strip_prefix(group.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The unit's own group, of a path that leads to it or below it.
pub(crate) fn group_of_unit(path: &str, unit: &str) -> Option<String> {
    let unit = full_name(unit);
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().position(|part| *part == unit)?;
    Some(parts[..=at].join("/"))
}

/// A path from the root to a group below it, without a way back.
pub(crate) fn is_group_path(path: &str) -> bool {
    let parts = path.strip_prefix('/').map(|below| below.trim_end_matches('/').split('/'));
    parts.is_some_and(|mut parts| parts.all(|part| !part.is_empty() && part != "." && part != ".."))
}

#[cfg(test)]
mod tests {
    use agent_view::ProcessState;

    use super::*;

    fn nginx() -> Process {
        Process {
            pid: 5,
            start_time: 50,
            parent: 1,
            name: "nginx".to_owned(),
            exe: None,
            command_line: Vec::new(),
            uid: 33,
            real_uid: 33,
            saved_uid: 33,
            user: None,
            state: ProcessState::Sleeping,
            our_program: false,
            installed_program: false,
            kernel_thread: false,
            groups: vec!["/system.slice/nginx.service/inner".to_owned(), "/".to_owned()],
            unified: None,
        }
    }

    #[test]
    fn a_unit_and_a_group_hold_what_is_below_them_and_no_neighbour() {
        let nginx = nginx();
        assert!(in_unit(&nginx, "nginx") && in_unit(&nginx, "nginx.service"));
        assert!(!in_unit(&nginx, "ngin"));
        assert!(in_group(&nginx, "/system.slice/nginx.service") && in_group(&nginx, "/system.slice/"));
        assert!(!in_group(&nginx, "/system.slice/nginx.serv"));
    }

    #[test]
    fn a_unit_that_runs_nothing_itself_leads_to_those_that_do() {
        let in_group = |group: &str| Process {
            groups: vec![group.to_owned()],
            ..nginx()
        };
        let processes = [
            in_group("/system.slice/system-postgresql.slice/postgresql@15-main.service"),
            in_group("/system.slice/postgresql@15-main.service"),
            in_group("/system.slice/postgresqlx.service"),
            in_group("/system.slice/postgresql-backup.timer"),
        ];
        assert_eq!(related(&processes, "postgresql"), ["postgresql@15-main.service"]);
        assert!(related(&processes, "redis").is_empty());
    }

    #[test]
    fn a_units_group_is_the_folder_with_its_name() {
        let path = "/system.slice/nginx.service/inner";
        assert_eq!(group_of_unit(path, "nginx").as_deref(), Some("/system.slice/nginx.service"));
        assert_eq!(group_of_unit(path, "system.slice").as_deref(), Some("/system.slice"));
        assert_eq!(group_of_unit("/", "nginx"), None);
        assert!(is_group_path("/a/b/") && is_group_path("/a"));
        for path in ["/", "", "a/b", "/a//b", "/a/../b", "//"] {
            assert!(!is_group_path(path), "{path}");
        }
    }
}
