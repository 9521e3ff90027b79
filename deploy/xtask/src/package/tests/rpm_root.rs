//! The agent's rpm as rpm itself installs, upgrades and erases it, in a root of its own with stand-ins for programs of the host.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tests_harness::{Packages, packages};

use super::staged::inputs;
use crate::package::{Format, empty, rpm};

/// Programs of this machine that the scripts call.
const PROGRAMS: [&str; 10] = ["cat", "cut", "date", "head", "mkdir", "rm", "sed", "sh", "touch", "tr"];
/// Each writes its line into the root's `calls`.
const STAND_INS: [&str; 4] = ["logger", "systemctl", "systemd-sysusers", "systemd-tmpfiles"];
const OLD: &str = "0.1.0";
const NEW: &str = "0.2.0";

struct Root {
    dir: TempDir,
}

impl Root {
    /// With a systemd that says of every unit that it is active.
    fn new() -> Self {
        let root = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for folder in ["bin", "dev", "run/systemd/system", "tmp", "var/lib/rpm"] {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        fs::write(root.path("dev/null"), "").unwrap();
        for name in PROGRAMS {
            root.copy(name);
        }
        for name in STAND_INS {
            root.program(name, &format!("echo {name} $* >>/calls"));
        }
        root.program(
            "systemctl",
            "echo systemctl $* >>/calls\ncase \"$*\" in show*) echo ActiveState=active ;; esac",
        );
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// A program of this machine with the libraries that it loads.
    fn copy(&self, name: &str) {
        let own = packages::tool(name).unwrap();
        fs::copy(&own, self.path(&format!("bin/{name}"))).unwrap();
        let loaded = Command::new("ldd").arg(&own).output().unwrap();
        let loaded = String::from_utf8(loaded.stdout).unwrap();
        for library in loaded.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = self.path(library);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(library, place).unwrap();
        }
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.path(&format!("bin/{name}"));
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// What a rescue by whichever agent is installed ends with.
    fn rescue_ends_with(&self, code: u8) {
        fs::write(self.path("code"), code.to_string()).unwrap();
    }

    fn rpm(&self, arguments: &[&str]) -> Output {
        let mut rpm = rpm::command("rpm").unwrap();
        rpm.args(["--force-debian", "--define", "_dbpath /var/lib/rpm", "--root"]);
        rpm.arg(self.dir.path()).args(arguments).output().unwrap()
    }

    /// The calls of scripts since the last look.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        text.lines().map(str::to_owned).collect()
    }
}

/// The agent's rpm of a version, with a program that says which one it is and ends as the root's `code` says.
fn pack(version: &str, out: &Path) -> PathBuf {
    let work = out.join(version);
    empty(&work).unwrap();
    let mut inputs = inputs(&work);
    inputs.version = version.to_owned();
    let program = format!("#!/bin/sh\necho agent {version} $* >>/calls\nread code </code\nexit \"$code\"\n");
    fs::write(inputs.programs.join("fracas-agent"), program).unwrap();
    let package = &inputs.definitions.packages[0];
    let tree = inputs.stage(package, Format::Rpm).unwrap();
    let packed = rpm::pack(package, &tree, &inputs, &work.join("rpm"), &work).unwrap();
    assert!(packed.exists(), "{}", packed.display());
    packed
}

#[test]
fn rpm_installs_upgrades_and_erases_the_agent_and_not_over_a_fault() {
    if tests_notes::lacks_root("to install packages in a root") {
        return;
    }
    Packages::ensure(&["rpm"]).unwrap();
    let (root, work) = (Root::new(), tempfile::tempdir().unwrap());
    let install = |version: &str| {
        let file = pack(version, work.path());
        root.rpm(&["-U", "--nodeps", &file.to_string_lossy()])
    };
    let installed = || String::from_utf8(root.rpm(&["-q", "fracas-agent"]).stdout).unwrap();
    let rescue = |version: &str| format!("agent {version} rescue --package");

    // Nothing can be left by an agent that was never there.
    root.rescue_ends_with(1);
    let output = install(OLD);
    assert!(output.status.success(), "{output:?}");
    let calls = root.calls();
    assert!(calls.contains(&"systemd-sysusers fracas-agent.conf".to_owned()), "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("agent")), "{calls:?}");
    let verified = root.rpm(&["-V", "--nodeps", "fracas-agent"]);
    assert!(verified.status.success() && verified.stdout.is_empty(), "{verified:?}");

    let output = install(NEW);
    assert!(!output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the upgrade is refused"),
        "{output:?}"
    );
    assert_eq!(installed().trim(), format!("fracas-agent-{OLD}-1.x86_64"));
    let calls = root.calls();
    assert!(calls.contains(&rescue(OLD)), "{calls:?}");
    assert!(calls.contains(&"systemctl start fracas-agent.service".to_owned()), "{calls:?}");

    // The installed program undoes, before any file is changed, and the agent runs again.
    root.rescue_ends_with(0);
    let output = install(NEW);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(installed().trim(), format!("fracas-agent-{NEW}-1.x86_64"));
    let calls = root.calls();
    let at = |wanted: &str| calls.iter().position(|call| call == wanted);
    assert!(at(&rescue(OLD)).is_some() && at(&rescue(NEW)).is_none(), "{calls:?}");
    assert!(at(&rescue(OLD)) < at("systemctl start fracas-agent.service"), "{calls:?}");

    root.rescue_ends_with(1);
    let output = root.rpm(&["-e", "fracas-agent"]);
    assert!(!output.status.success() && root.path("usr/bin/fracas-agent").exists(), "{output:?}");
    root.rescue_ends_with(0);
    let output = root.rpm(&["-e", "fracas-agent"]);
    assert!(output.status.success(), "{output:?}");
    for path in ["usr/bin/fracas-agent", "usr/lib/systemd/system/fracas-agent.service", "etc/fracas"] {
        assert!(!root.path(path).exists(), "{path} was left");
    }
    assert!(!root.rpm(&["-q", "fracas-agent"]).status.success());
}
