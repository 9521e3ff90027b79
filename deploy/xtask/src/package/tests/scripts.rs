//! The packages' scripts as a package manager calls them, on a host made of a folder and stand-ins.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;
use tests_harness::programs;

use crate::package::definition::Definitions;

/// Programs that scripts call; each writes its line into the folder's `calls`.
const STAND_INS: [&str; 9] = [
    "systemctl",
    "deb-systemd-invoke",
    "deb-systemd-helper",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "logger",
    "getent",
    "useradd",
    "groupadd",
];
/// States that systemd has for a unit, and whether a unit in that state runs or is about to.
const STATES: [(&str, bool); 6] = [
    ("active", true),
    ("activating", true),
    ("reloading", true),
    ("deactivating", true),
    ("inactive", false),
    ("failed", false),
];
/// Where a script may refuse, with the arguments that its package manager gives: both formats, upgrade and removal.
const REFUSALS: [(&str, &str); 5] = [
    ("prerm.deb", "upgrade 0.2.0-1"),
    ("prerm.deb", "failed-upgrade 0.1.0-1"),
    ("prerm.deb", "remove"),
    ("pre.rpm", "2"),
    ("preun.rpm", "0"),
];

/// The unit by which a script knows that the installed package has the last guard.
const GUARD: &str = "units/fracas-guard.path";

struct Host {
    dir: TempDir,
}

impl Host {
    /// With an agent that runs, and whose rescue ends with `code`; the installed package has the last guard.
    fn new(code: u8) -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for folder in ["bin", "state/agent/journal", "run-agent", "etc", "systemd", "units"] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        for name in STAND_INS {
            host.program(
                &format!("bin/{name}"),
                &format!("echo {name} $* >>{}", host.path("calls").display()),
            );
        }
        host.agent_is("active");
        fs::write(host.path(GUARD), "").unwrap();
        host.rescue_ends_with(code);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        fs::write(self.path(name), format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    /// What systemd calls the state of the agent's unit; the last guard is active.
    fn agent_is(&self, state: &str) {
        let calls = self.path("calls");
        let shown = format!("case \"$*\" in show*) echo ActiveState={state} ;; esac");
        self.program("bin/systemctl", &format!("echo systemctl $* >>{}\n{shown}", calls.display()));
    }

    fn rescue_ends_with(&self, code: u8) {
        self.program(
            "agent",
            &format!(
                "echo agent $* >>{}\necho 'left     7h2k9w: no space'\nexit {code}",
                self.path("calls").display()
            ),
        );
    }

    /// Runs the agent package's script with this host's paths in the place of the real ones.
    fn run(&self, script: &str, arguments: &str) -> Output {
        let repository = programs::repository();
        let definitions = Definitions::read(repository).unwrap();
        let mut text = definitions.packages[0].script(repository, script).unwrap().unwrap();
        for (real, here) in [
            ("/usr/bin/fracas-agent", "agent"),
            ("/var/lib/fracas", "state"),
            ("/run/fracas-agent", "run-agent"),
            ("/run/systemd/system", "systemd"),
            ("/usr/lib/systemd/system", "units"),
            ("/etc/fracas", "etc"),
        ] {
            text = text.replace(real, &self.path(here).display().to_string());
        }
        fs::write(self.path("script"), text).unwrap();
        Command::new("sh")
            .arg(self.path("script"))
            .args(arguments.split(' '))
            .process_group(0)
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .output()
            .unwrap()
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        text.lines().map(str::to_owned).collect()
    }

    fn override_with(&self, reason: &str) {
        fs::write(self.path("etc/skip-rescue"), reason).unwrap();
    }
}

#[test]
fn what_leaves_a_fault_behind_is_refused_and_the_agent_runs_again() {
    for (script, arguments) in REFUSALS {
        let host = Host::new(1);
        // An empty reason is none.
        host.override_with("\n");
        let output = host.run(script, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{script} {arguments}: {said}");
        for part in ["is refused: this host is not proven clean", "7h2k9w: no space", "skip-rescue"] {
            assert!(said.contains(part), "{script}: {said}");
        }
        let calls = host.calls();
        let expected = [
            "systemctl show --property=ActiveState fracas-agent.service".to_owned(),
            "systemctl stop fracas-agent.service".to_owned(),
            "systemctl --quiet is-active fracas-guard.path".to_owned(),
            "systemctl stop fracas-guard.path fracas-guard.service".to_owned(),
            "agent rescue --package".to_owned(),
            "systemctl start fracas-guard.path".to_owned(),
            "systemctl start fracas-agent.service".to_owned(),
        ];
        assert_eq!(calls[..7], expected, "{script}");
        assert!(calls[7].starts_with("logger -t fracas-agent"), "{script}: {calls:?}");
        assert!(!host.path("state/agent/unproven").exists());
    }
}

#[test]
fn a_unit_is_stopped_in_every_state_and_started_again_where_it_ran_or_was_about_to() {
    for (script, arguments) in REFUSALS {
        for (state, runs_again) in STATES {
            let host = Host::new(1);
            host.agent_is(state);
            assert_eq!(host.run(script, arguments).status.code(), Some(1), "{script} {state}");
            let calls = host.calls();
            let place = |call: &str| calls.iter().position(|one| one == call);
            let stopped = place("systemctl stop fracas-agent.service");
            assert!(stopped.is_some(), "{script} {state}: {calls:?}");
            assert!(
                stopped < place("agent rescue --package"),
                "{script} {state}: the unit comes up during the undo: {calls:?}"
            );
            let started = place("systemctl start fracas-agent.service");
            assert_eq!(started.is_some(), runs_again, "{script} {state}: {calls:?}");
        }
    }
}

#[test]
fn a_policy_that_forbids_to_stop_services_keeps_no_agent_running() {
    for (script, arguments) in REFUSALS {
        let host = Host::new(0);
        let runs = host.path("runs");
        fs::write(&runs, "").unwrap();
        let stops = format!("case \"$*\" in 'stop fracas-agent.service') rm {} ;; esac", runs.display());
        host.program("bin/systemctl", &stops);
        host.program(
            "bin/deb-systemd-invoke",
            "echo 'invoke-rc.d: policy-rc.d denied execution of stop.' >&2",
        );
        host.program("agent", &format!("test ! -e {}", runs.display()));
        let output = host.run(script, arguments);
        assert!(output.status.success(), "{script} {arguments}: {output:?}");
        // Where it is refused, the agent runs again as before, by no start that the policy would forbid.
        let host = Host::new(1);
        host.program("bin/deb-systemd-invoke", "exit 0");
        assert_eq!(host.run(script, arguments).status.code(), Some(1), "{script} {arguments}");
        let calls = host.calls();
        assert!(
            calls.contains(&"systemctl start fracas-agent.service".to_owned()),
            "{script} {arguments}: {calls:?}"
        );
    }
}

#[test]
fn a_clean_host_lets_the_package_change() {
    for (script, arguments) in REFUSALS {
        let host = Host::new(0);
        // A reason that nobody needed stays.
        host.override_with("just in case");
        fs::write(host.path("state/agent/unproven"), "of an earlier removal").unwrap();
        let output = host.run(script, arguments);
        assert!(output.status.success(), "{script}: {output:?}");
        assert!(host.path("etc/skip-rescue").exists() && !host.path("state/agent/unproven").exists());
        let calls = host.calls();
        assert!(calls.contains(&"agent rescue --package".to_owned()), "{script}: {calls:?}");
        assert!(!calls.iter().any(|call| call.contains(" start ")), "{script}: {calls:?}");
        let place = |call: &str| calls.iter().position(|one| one == call);
        let guard = place("systemctl stop fracas-guard.path fracas-guard.service");
        assert!(guard.is_some(), "{script}: {calls:?}");
        assert!(
            guard < place("agent rescue --package"),
            "{script}: the last guard holds no journal while the script undoes: {calls:?}"
        );
    }
}

/// Signals that end a script, by name and number; one that was ignored when a shell began cannot be trapped by it.
fn signals() -> impl Iterator<Item = (&'static str, i32)> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    [("TERM", 15), ("QUIT", 3)]
        .into_iter()
        .filter(move |(_, number)| ignored & (1 << (number - 1)) == 0)
}

#[test]
fn a_script_that_is_ended_during_the_rescue_starts_the_last_guard_and_the_agent_again() {
    for (script, arguments) in REFUSALS {
        for (signal, number) in signals() {
            let host = Host::new(0);
            let calls = host.path("calls");
            // The script has a process group of its own, and the stand-in is in it.
            let ends_the_script = format!("echo agent $* >>{}\ntrap '' {signal}\nkill -{signal} 0", calls.display());
            host.program("agent", &ends_the_script);
            let output = host.run(script, arguments);
            assert_eq!(
                output.status.code(),
                Some(128 + number),
                "{script} {arguments} {signal}: {output:?}"
            );
            let ends_with = [
                "agent rescue --package".to_owned(),
                "systemctl start fracas-guard.path".to_owned(),
                "systemctl start fracas-agent.service".to_owned(),
            ];
            let calls = host.calls();
            assert!(calls.ends_with(&ends_with), "{script} {signal}: {calls:?}");
            assert!(!host.path("run-agent/restart").exists(), "{script} {signal}");
        }
    }
}

#[test]
fn a_script_that_is_ended_starts_nothing_that_was_not_active() {
    for (script, arguments) in REFUSALS {
        let host = Host::new(0);
        let calls = host.path("calls");
        host.program("agent", "trap '' TERM\nkill -TERM 0");
        host.program(
            "bin/systemctl",
            &format!(
                "case \"$*\" in *is-active*) exit 3 ;; show*) echo ActiveState=inactive ;; esac\necho systemctl $* >>{}",
                calls.display()
            ),
        );
        assert_eq!(host.run(script, arguments).status.code(), Some(143), "{script} {arguments}");
        let calls = host.calls();
        assert!(!calls.iter().any(|call| call.contains(" start ")), "{script}: {calls:?}");
    }
}

#[test]
fn a_script_that_is_ended_while_it_stops_the_agent_starts_it_again() {
    for (script, arguments) in REFUSALS {
        let host = Host::new(0);
        let calls = host.path("calls");
        let ends_the_script =
            "case \"$*\" in show*) echo ActiveState=active ;; 'stop fracas-agent.service') trap '' TERM; kill -TERM 0 ;; esac";
        host.program(
            "bin/systemctl",
            &format!("echo systemctl $* >>{}\n{ends_the_script}", calls.display()),
        );
        assert_eq!(host.run(script, arguments).status.code(), Some(143), "{script} {arguments}");
        let calls = host.calls();
        assert_eq!(
            calls.last(),
            Some(&"systemctl start fracas-agent.service".to_owned()),
            "{script}: {calls:?}"
        );
        assert!(!host.path("run-agent/restart").exists(), "{script}");
    }
}

#[test]
fn an_older_package_has_no_last_guard_and_none_is_stopped_or_started() {
    for (code, ends) in [(0, 0), (1, 1)] {
        for (script, arguments) in REFUSALS {
            let host = Host::new(code);
            fs::remove_file(host.path(GUARD)).unwrap();
            let output = host.run(script, arguments);
            assert_eq!(output.status.code(), Some(ends), "{script}: {output:?}");
            let calls = host.calls();
            assert!(calls.contains(&"agent rescue --package".to_owned()), "{script}: {calls:?}");
            // The removal of an rpm disables every unit that it may have, and each removal forgets that one failed.
            let mut of_guard = calls.iter().filter(|call| call.contains("fracas-guard"));
            assert!(
                of_guard.all(|call| call.contains(" disable ") || call.contains(" reset-failed ")),
                "{script}: {calls:?}"
            );
        }
    }
}

#[test]
fn a_removal_stops_the_slice_once_nothing_is_left_and_nothing_else_does() {
    for (script, arguments) in REFUSALS {
        for (code, is_clean) in [(0, true), (1, false)] {
            let host = Host::new(code);
            assert_eq!(host.run(script, arguments).status.success(), is_clean, "{script} {arguments}");
            let calls = host.calls();
            let place = |call: &str| calls.iter().position(|one| one == call);
            let stopped = place("systemctl stop fracas.slice");
            let is_removal = matches!(arguments, "remove" | "0");
            assert_eq!(stopped.is_some(), is_clean && is_removal, "{script} {arguments}: {calls:?}");
            assert!(
                stopped.is_none() || stopped > place("agent rescue --package"),
                "{script} {arguments}: its units run yet: {calls:?}"
            );
        }
    }
}

#[test]
fn a_reason_lets_the_package_change_once_and_is_recorded() {
    for (script, arguments) in REFUSALS {
        let host = Host::new(1);
        host.override_with("0.2.0 can undo it\n");
        // What an administrator has removed is made for the record.
        fs::remove_dir_all(host.path("state")).unwrap();
        let output = host.run(script, arguments);
        assert!(output.status.success(), "{script}: {output:?}");
        let logged = host.calls().into_iter().find(|call| call.starts_with("logger")).unwrap();
        assert!(logged.contains("0.2.0 can undo it") && logged.contains("7h2k9w"), "{logged}");
        let recorded = fs::read_to_string(host.path("state/agent/unproven")).unwrap();
        assert!(recorded.contains("0.2.0 can undo it") && recorded.contains("7h2k9w"), "{recorded}");
        assert_eq!(
            host.run(script, arguments).status.code(),
            Some(1),
            "{script}: the reason counts twice"
        );
    }
}

#[test]
fn a_purge_keeps_the_journals_of_faults_that_were_not_undone() {
    let host = Host::new(1);
    host.override_with("gone anyway");
    assert!(host.run("prerm.deb", "remove").status.success());
    let refused = host.run("postrm.deb", "purge");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("gone anyway"));
    assert!(host.path("state/agent/journal").exists());
    fs::remove_file(host.path("state/agent/unproven")).unwrap();
    fs::write(host.path("etc/controller.toml"), "of another package").unwrap();
    assert!(host.run("postrm.deb", "purge").status.success());
    assert!(!host.path("state").exists() && !host.path("run-agent").exists());
    assert!(host.path("etc/controller.toml").exists());
}

#[test]
fn only_an_agent_that_ran_or_was_about_to_is_started_after_an_upgrade_by_rpm() {
    let host = Host::new(0);
    assert!(host.run("pre.rpm", "2").status.success());
    assert!(host.run("post.rpm", "2").status.success());
    assert!(host.calls().contains(&"systemctl start fracas-agent.service".to_owned()));
    for (state, runs_again) in STATES {
        host.agent_is(state);
        assert!(host.run("pre.rpm", "2").status.success(), "{state}");
        assert_eq!(host.path("run-agent/restart").exists(), runs_again, "{state}");
        let _ = fs::remove_file(host.path("run-agent/restart"));
    }
    // systemd does not answer.
    host.program("bin/systemctl", "exit 1");
    assert!(host.run("pre.rpm", "2").status.success());
    assert!(!host.path("run-agent/restart").exists());
}

#[test]
fn first_installations_undo_nothing() {
    let host = Host::new(1);
    for (script, arguments) in [
        ("pre.rpm", "1"),
        ("preun.rpm", "1"),
        ("post.rpm", "1"),
        ("postinst.deb", "configure"),
    ] {
        let output = host.run(script, arguments);
        assert!(output.status.success(), "{script}: {output:?}");
    }
    let calls = host.calls();
    assert!(!calls.iter().any(|call| call.starts_with("agent")), "{calls:?}");
    assert!(calls.contains(&"systemd-sysusers fracas-agent.conf".to_owned()), "{calls:?}");
    assert!(
        calls.contains(&"deb-systemd-invoke start fracas-guard.path fracas-agent.service".to_owned()),
        "{calls:?}"
    );
    assert!(calls.contains(&"systemctl start fracas-guard.path".to_owned()), "{calls:?}");
}

#[test]
fn every_script_is_one_that_sh_can_read() {
    let repository = programs::repository();
    let mut seen = 0;
    for package in Definitions::read(repository).unwrap().packages {
        let scripts = [
            "preinst.deb",
            "postinst.deb",
            "prerm.deb",
            "postrm.deb",
            "pre.rpm",
            "post.rpm",
            "preun.rpm",
            "postun.rpm",
        ];
        for name in scripts {
            let Some(text) = package.script(repository, name).unwrap() else {
                continue;
            };
            let output = Command::new("sh").args(["-n", "-c", &text]).output().unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{} {name}: {output:?}",
                package.name
            );
            assert!(!text.contains("@include"), "{} {name}", package.name);
            seen += 1;
        }
    }
    assert_eq!(seen, 13);
}
