//! Which processes belong to a systemd unit or a control group, told by the paths of their groups.

use std::borrow::Cow;
use std::collections::BTreeSet;

use agent_view::{HostView, Process};

/// The service manager of this host, where that is systemd.
pub(crate) const INIT: u32 = 1;

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

/// The units of this host's own service manager, as the paths of groups show them: slices from the root, and the unit in them. What lies
/// below a unit is another manager's: any user can give a unit of their own the name of one of the host's, and so can a container.
pub(crate) struct SystemUnits {
    /// Where that manager's groups begin: at the root, but for an agent that sees the groups of a container from outside it.
    roots: Vec<String>,
}

impl SystemUnits {
    /// By the groups of the init process, where it is among these.
    pub(crate) fn of(processes: &[Process]) -> Self {
        let init = processes.iter().filter(|process| process.pid == INIT);
        let root = |path: &String| path.strip_suffix("/init.scope").unwrap_or(path).trim_end_matches('/').to_owned();
        Self {
            roots: init.flat_map(|init| &init.groups).map(root).collect(),
        }
    }

    /// Each unit on a path from the root on, with the path of its group.
    fn on_path<'a>(&self, path: &'a str) -> Vec<(&'a str, &'a str)> {
        let roots = self.roots.iter().filter(|root| is_within(path, root));
        let mut end = roots.map(String::len).max().unwrap_or(0);
        let mut units = Vec::new();
        for part in path[end..].split('/').skip(1).filter(|part| !part.is_empty()) {
            end += 1 + part.len();
            units.push((part, &path[..end]));
            if !part.ends_with(".slice") {
                break;
            }
        }
        units
    }

    /// The units of these processes, and the slices of those.
    pub(crate) fn names<'a>(&self, processes: &'a [Process]) -> BTreeSet<&'a str> {
        let paths = processes.iter().flat_map(|process| &process.groups);
        paths.flat_map(|path| self.on_path(path)).map(|(name, _)| name).collect()
    }

    /// Units with processes whose names begin like this one's: instances and parts of one that runs nothing itself, as postgresql.service.
    pub(crate) fn related(&self, processes: &[Process], unit: &str) -> Vec<String> {
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
        let found = self.names(processes).into_iter().filter(is_related);
        found.map(str::to_owned).collect()
    }

    /// Whether a process is in the unit.
    pub(crate) fn holds(&self, unit: &str, process: &Process) -> bool {
        process.groups.iter().any(|path| self.group_of(unit, path).is_some())
    }

    /// The unit's own group, of a path that leads to it or below it.
    pub(crate) fn group_of<'a>(&self, unit: &str, path: &'a str) -> Option<&'a str> {
        let unit = full_name(unit);
        let mut units = self.on_path(path).into_iter();
        units.find(|(name, _)| *name == unit).map(|(_, group)| group)
    }
}

pub(crate) fn in_group(process: &Process, group: &str) -> bool {
    process.groups.iter().any(|path| is_within(path, group))
}

/// Whether the path of a group is this one or one below it.
pub(crate) fn is_within(path: &str, group: &str) -> bool {
    let rest = path.strip_prefix(group.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
            unread: None,
        }
    }

    fn in_group_at(group: &str) -> Process {
        Process {
            groups: vec![group.to_owned()],
            ..nginx()
        }
    }

    /// Of a host whose init process is in this group.
    fn units(of_init: &str) -> SystemUnits {
        SystemUnits::of(&[Process {
            pid: INIT,
            ..in_group_at(of_init)
        }])
    }

    #[test]
    fn a_unit_and_a_group_hold_what_is_below_them_and_no_neighbour() {
        let (nginx, units) = (nginx(), units("/init.scope"));
        assert!(units.holds("nginx", &nginx) && units.holds("nginx.service", &nginx) && units.holds("system.slice", &nginx));
        assert!(!units.holds("ngin", &nginx));
        assert!(in_group(&nginx, "/system.slice/nginx.service") && in_group(&nginx, "/system.slice/"));
        assert!(!in_group(&nginx, "/system.slice/nginx.serv"));
    }

    #[test]
    fn a_users_and_a_containers_unit_of_the_same_name_is_another() {
        let units = units("/init.scope");
        for path in [
            "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
            "/user.slice/user-1000.slice/user@1000.service/nginx.service/system.slice/nginx.service",
            "/user.slice/user-1000.slice/session-3.scope/nginx.service",
            "/system.slice/docker-0123456789ab.scope/system.slice/nginx.service",
            "/docker/0123456789ab/system.slice/nginx.service",
            "/lxc.payload.web/system.slice/nginx.service",
            "/system.slice/other.service/nginx.service",
        ] {
            assert!(!units.holds("nginx", &in_group_at(path)), "{path}");
            assert_eq!(units.group_of("nginx", path), None, "{path}");
        }
        for path in [
            "/nginx.service",
            "/a.slice/a-b.slice/nginx.service",
            "/system.slice/nginx.service/x.scope",
        ] {
            assert!(units.holds("nginx", &in_group_at(path)), "{path}");
        }
    }

    #[test]
    fn a_users_slice_manager_and_session_are_units_of_the_host() {
        let units = units("/init.scope");
        let of_manager = in_group_at("/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service");
        for unit in ["user.slice", "user-1000.slice", "user@1000", "user@1000.service"] {
            assert!(units.holds(unit, &of_manager), "{unit}");
        }
        assert!(!units.holds("app.slice", &of_manager));
        assert!(units.holds("session-3.scope", &in_group_at("/user.slice/user-1000.slice/session-3.scope")));
    }

    #[test]
    fn the_hosts_units_begin_where_its_init_process_says() {
        for (of_init, root) in [
            ("/", ""),
            ("/docker/0123456789ab", "/docker/0123456789ab"),
            ("/docker/0123456789ab/init.scope", "/docker/0123456789ab"),
            ("/../../init.scope", "/../.."),
        ] {
            let group = format!("{root}/system.slice/nginx.service");
            assert_eq!(
                units(of_init).group_of("nginx", &format!("{group}/inner")),
                Some(group.as_str()),
                "{of_init}"
            );
            assert_eq!(
                units(of_init).group_of("nginx", &format!("{root}/a.scope{group}")),
                None,
                "{of_init}"
            );
        }
        let unknown = SystemUnits::of(&[]);
        assert!(unknown.holds("nginx", &nginx()));
    }

    #[test]
    fn a_unit_that_runs_nothing_itself_leads_to_those_that_do() {
        let processes = [
            in_group_at("/system.slice/system-postgresql.slice/postgresql@15-main.service"),
            in_group_at("/system.slice/postgresql@15-main.service"),
            in_group_at("/system.slice/postgresqlx.service"),
            in_group_at("/system.slice/postgresql-backup.timer"),
            in_group_at("/user.slice/user-1000.slice/user@1000.service/postgresql@16-own.service"),
        ];
        let units = units("/init.scope");
        assert_eq!(units.related(&processes, "postgresql"), ["postgresql@15-main.service"]);
        assert!(units.related(&processes, "redis").is_empty());
    }

    #[test]
    fn a_units_group_is_the_folder_with_its_name() {
        let (path, units) = ("/system.slice/nginx.service/inner", units("/init.scope"));
        assert_eq!(units.group_of("nginx", path), Some("/system.slice/nginx.service"));
        assert_eq!(units.group_of("system.slice", path), Some("/system.slice"));
        assert_eq!(units.group_of("nginx", "/"), None);
        assert!(is_group_path("/a/b/") && is_group_path("/a"));
        for path in ["/", "", "a/b", "/a//b", "/a/../b", "//"] {
            assert!(!is_group_path(path), "{path}");
        }
    }
}
