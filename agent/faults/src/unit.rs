//! Which processes belong to a systemd unit or a control group, told by the paths of their groups; it asks the host nothing.

use std::borrow::Cow;

use agent_view::Process;

/// A service may be written without its ending.
pub(crate) fn full_name(unit: &str) -> Cow<'_, str> {
    if unit.contains('.') {
        unit.into()
    } else {
        format!("{unit}.service").into()
    }
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

    #[test]
    fn a_unit_and_a_group_hold_what_is_below_them_and_no_neighbour() {
        let nginx = Process {
            pid: 5,
            start_time: 50,
            parent: 1,
            name: "nginx".to_owned(),
            exe: None,
            command_line: Vec::new(),
            uid: 33,
            real_uid: 33,
            user: None,
            state: ProcessState::Sleeping,
            our_program: false,
            kernel_thread: false,
            groups: vec!["/system.slice/nginx.service/inner".to_owned(), "/".to_owned()],
            unified: None,
        };
        assert!(in_unit(&nginx, "nginx") && in_unit(&nginx, "nginx.service"));
        assert!(!in_unit(&nginx, "ngin"));
        assert!(in_group(&nginx, "/system.slice/nginx.service") && in_group(&nginx, "/system.slice/"));
        assert!(!in_group(&nginx, "/system.slice/nginx.serv"));
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
