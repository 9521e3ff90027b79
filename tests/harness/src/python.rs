//! Gets programs from PyPI without changing the machine: installed by pip below the target folder, once for each list of packages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::programs;

/// The Ansible that the role of deploy/ansible is linted and tested with.
pub const ANSIBLE_CORE: &str = "ansible-core==2.18.12";

/// A list of packages, each with its version, that are installed together.
#[derive(Debug)]
pub struct PythonTools {
    /// Of its folder below the target folder's `tools`.
    pub name: &'static str,
    pub packages: &'static [&'static str],
}

/// Where they are.
#[derive(Debug, Clone)]
pub struct Installed {
    folder: PathBuf,
}

impl PythonTools {
    /// Installs them where they are not there, or not in these versions.
    pub fn ensure(&self) -> Result<Installed> {
        let tools = programs::target_folder()?.join("tools");
        fs::create_dir_all(&tools)?;
        let lock = File::create(tools.join(format!("{}.lock", self.name)))?;
        lock.lock().context("wait for another process that installs the same")?;
        let folder = tools.join(self.name);
        let (done, wanted) = (folder.join("installed"), self.packages.join("\n"));
        if fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
            return Ok(Installed { folder });
        }
        let names = self.packages.join(" ");
        eprintln!("installing {names} below {} (once)", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        install(&folder, self.packages).with_context(|| format!("install {names}"))?;
        fs::write(&done, wanted)?;
        Ok(Installed { folder })
    }
}

fn install(folder: &Path, packages: &[&str]) -> Result<()> {
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
            "--target",
        ])
        .arg(folder)
        .args(packages)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .status()
        .context("start python3 -m pip (Debian package python3-pip)")?;
    ensure!(status.success(), "pip has failed");
    Ok(())
}

impl Installed {
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program of these packages.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// What a program of them needs in its environment.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let path = std::env::var("PATH").unwrap_or_default();
        [
            ("PATH", format!("{}:{path}", self.folder.join("bin").display())),
            ("PYTHONPATH", self.folder.display().to_string()),
        ]
    }
}
