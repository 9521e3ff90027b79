//! The packages as data: deploy/packages/packages.toml and the scripts beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

const INCLUDE: &str = "# @include ";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definitions {
    pub vendor: String,
    pub maintainer: String,
    #[serde(rename = "package")]
    pub packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    pub name: String,
    /// The crate of its program, whose dependencies it contains.
    #[serde(rename = "crate")]
    pub member: String,
    /// One line without its name and a full stop.
    pub summary: String,
    /// Lines of at most 79 characters.
    pub description: String,
    #[serde(default)]
    pub deb_depends: Vec<String>,
    #[serde(default)]
    pub recommends: Vec<String>,
    pub files: Vec<FileRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    pub source: Source,
    /// Where it is installed.
    pub path: String,
    /// Octal; 0644 when left out.
    #[serde(default)]
    mode: Option<String>,
    /// A file that administrators change, which no upgrade replaces.
    #[serde(default)]
    pub config: bool,
}

#[derive(Debug, Deserialize)]
#[serde(from = "String")]
pub enum Source {
    Program(String),
    /// Below deploy/.
    File(String),
}

impl From<String> for Source {
    fn from(text: String) -> Self {
        match text.strip_prefix("program:") {
            Some(name) => Self::Program(name.to_owned()),
            None => Self::File(text),
        }
    }
}

impl FileRule {
    pub fn mode(&self) -> Result<u32> {
        let text = self.mode.as_deref().unwrap_or("0644");
        u32::from_str_radix(text, 8).with_context(|| format!("{}: mode {text:?} is not octal", self.path))
    }
}

impl Definitions {
    pub fn read(repository: &Path) -> Result<Self> {
        let path = folder(repository).join("packages.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Only the packages of these names; all of them when there is none.
    pub fn keep(&mut self, names: &[String]) -> Result<()> {
        let known: Vec<&str> = self.packages.iter().map(|package| package.name.as_str()).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("no package {unknown} (there are: {})", known.join(", "));
        }
        self.packages.retain(|package| names.is_empty() || names.contains(&package.name));
        Ok(())
    }
}

impl Package {
    /// A script with what it includes, such as `prerm.deb`; `None` where the package has none of this name.
    pub fn script(&self, repository: &Path, file: &str) -> Result<Option<String>> {
        let path = folder(repository).join(&self.name).join(file);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let mut whole = String::new();
        for line in text.lines() {
            match line.strip_prefix(INCLUDE) {
                Some(included) => whole += &self.included(repository, included)?,
                None => whole += line,
            }
            whole.push('\n');
        }
        Ok(Some(whole))
    }

    /// From the package's own folder, or from the one of all packages.
    fn included(&self, repository: &Path, file: &str) -> Result<String> {
        let own = folder(repository).join(&self.name).join(file);
        let shared = folder(repository).join(file);
        let path = if own.exists() { own } else { shared };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim_end().to_owned())
    }
}

fn folder(repository: &Path) -> PathBuf {
    repository.join("deploy/packages")
}
