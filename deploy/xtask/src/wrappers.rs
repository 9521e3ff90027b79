//! Scripts by which a person enters the hosts of a demo that stays up; they go with the demo.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tests_harness::lab::CONTROL;
use tests_harness::{Host, Lab, packages, programs};

pub struct Wrappers(Vec<PathBuf>);

impl Wrappers {
    /// `fracas ...` runs the operator's command on the controller's host, `on HOST COMMAND...` anything on any host.
    pub fn write(lab: &Lab, folder: &Path) -> Result<Self> {
        let fracas = programs::find("fracas")?;
        let entered = enter(lab.host(CONTROL));
        let operator = format!("#!/bin/sh\n{entered} {} \"$@\"\n", fracas.display());
        let mut on = String::from("#!/bin/sh\nhost=$1; shift\ncase \"$host\" in\n");
        for host in lab.fleet().hosts() {
            on += &format!("{}) {} \"$@\" ;;\n", host.name(), enter(host));
        }
        on += "*) echo \"no host $host\" >&2; exit 2 ;;\nesac\n";
        let wrappers = Self(vec![folder.join("fracas"), folder.join("on")]);
        for (path, text) in wrappers.0.iter().zip([operator, on]) {
            fs::write(path, text)?;
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        Ok(wrappers)
    }
}

impl Drop for Wrappers {
    fn drop(&mut self) {
        for path in &self.0 {
            fs::remove_file(path).ok();
        }
    }
}

/// Into all namespaces of a host, staying in the same folder where it exists there.
fn enter(host: &Host) -> String {
    let profile = programs::profile_folder().unwrap_or_default();
    let path = format!("{}:{}", profile.display(), packages::path());
    format!(
        "exec nsenter --target {} --mount --uts --ipc --net --pid --cgroup --root -- env PATH='{path}' TMPDIR=/run/tmp /bin/sh -c 'cd \"$1\" 2>/dev/null || cd /; shift; exec \"$@\"' sh \"$PWD\"",
        host.init_pid()
    )
}
