//! `cargo xtask package`: a deb and an rpm of each package, the same bytes from the same commit.

mod arch;
mod deb;
mod definition;
mod documents;
mod licences;
mod lint;
mod role;
mod rpm;
mod symbols;
mod test_hosts;
#[cfg(test)]
mod tests;
mod tree;
mod zig;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tests_harness::{Packages, interrupt, programs};

use self::arch::Arch;
use self::definition::{Definitions, Package as Definition, Source};
use self::licences::Metadata;
use self::symbols::Glibc;
use self::tree::Tree;

/// Of a package, beside the version of what is in it.
const RELEASE: u32 = 1;

/// The oldest C library that packages are for, unless something else is asked for.
const OLDEST: &str = "2.17";

/// Make a deb and an rpm of each package, below target/package
#[derive(Debug, Args)]
pub struct Package {
    /// The processor that they are for
    #[arg(long, value_enum, default_value = "x86_64")]
    target: Arch,
    /// The oldest C library on which the programs must run
    #[arg(long, default_value = OLDEST, value_name = "VERSION")]
    glibc: Glibc,
    /// Package the programs of this folder instead of building them; they are held to --glibc too
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Only these packages (repeat, or with commas)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Make everything twice, the programs too unless they are given, and fail where a byte differs
    #[arg(long)]
    twice: bool,
    /// Check the packages with lintian and rpmlint, and the Ansible role with ansible-lint
    #[arg(long)]
    lint: bool,
    #[arg(skip)]
    purpose: Purpose,
}

/// For what packages are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Both formats, as small as they get.
    #[default]
    Release,
    /// Debs alone, without compression, of programs that were built for the suites.
    Suites,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Deb,
    Rpm,
}

/// Everything that packages are made from.
pub struct Inputs {
    repository: PathBuf,
    definitions: Definitions,
    version: String,
    homepage: String,
    /// The commit's time, in seconds: the newest time in a package.
    epoch: u64,
    arch: Arch,
    programs: PathBuf,
    licences: Metadata,
    /// Where manual pages and completions are written.
    work: PathBuf,
    purpose: Purpose,
}

/// A finished file.
struct Made {
    file: PathBuf,
    depends: String,
}

impl Package {
    pub fn run(&self) -> Result<()> {
        // Debian's own tool is there; the other one is unpacked where it is missing.
        Packages::ensure(&["rpm"])?;
        let target = programs::target_folder()?;
        let out = target.join("package").join(self.target.rpm());
        let made = self.once(&target.join("package-build"), &out)?;
        if self.twice {
            let again = target.join("package-again");
            let second = self.once(&again.join("build"), &again.join("out"))?;
            compare(&made, &second)?;
            fs::remove_dir_all(again.join("out"))?;
        }
        for one in &made {
            let (size, name) = (fs::metadata(&one.file)?.len(), one.file.display());
            println!("{name}  {:.1} MiB\n    needs {}", size as f64 / f64::from(1 << 20), one.depends);
        }
        if self.twice {
            println!("all made twice, byte for byte the same");
        }
        if self.lint {
            let files: Vec<PathBuf> = made.iter().map(|one| one.file.clone()).collect();
            lint::lint(programs::repository(), &files)?;
            role::lint(programs::repository())?;
        }
        Ok(())
    }

    /// Builds below `work`, packs into `out`.
    fn once(&self, work: &Path, out: &Path) -> Result<Vec<Made>> {
        let repository = programs::repository().canonicalize()?;
        let (mut definitions, epoch) = (Definitions::read(&repository)?, epoch(&repository)?);
        definitions.keep(&self.only)?;
        let built = match &self.binaries {
            Some(folder) => folder.canonicalize().with_context(|| format!("find {}", folder.display()))?,
            None => {
                let packages = definitions.packages.iter();
                let programs: Vec<(&str, &str)> = packages.map(|package| (package.member.as_str(), package.name.as_str())).collect();
                zig::build(&programs, self.target, self.glibc, work, epoch)?
            }
        };
        let inputs = Inputs {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            homepage: env!("CARGO_PKG_REPOSITORY").to_owned(),
            licences: Metadata::ask(self.target)?,
            arch: self.target,
            programs: built,
            work: work.to_owned(),
            repository,
            definitions,
            epoch,
            purpose: self.purpose,
        };
        empty(out)?;
        inputs.generate()?;
        let mut made = Vec::new();
        for package in &inputs.definitions.packages {
            interrupt::check()?;
            eprintln!("packing {}", package.name);
            made.extend(inputs.pack(package, self.glibc, out)?);
        }
        Ok(made)
    }
}

impl Inputs {
    /// As both formats write it.
    pub fn full_version(&self) -> String {
        format!("{}-{RELEASE}", self.version)
    }

    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.epoch)
    }

    /// The commit's time in a form of `date`.
    pub fn date(&self, form: &str) -> Result<String> {
        let output = Command::new("date")
            .args(["--utc", "--date", &format!("@{}", self.epoch), form])
            .env("LC_ALL", "C")
            .output()
            .context("start date")?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Where the manual pages and completions of a program are.
    pub fn generated(&self, name: &str) -> PathBuf {
        documents::folder(&self.work, name)
    }

    /// By the packaged programs where this machine can run them, else by its own of the same source.
    fn generate(&self) -> Result<()> {
        for package in &self.definitions.packages {
            let own = self.arch.rpm() == std::env::consts::ARCH;
            let program = if own {
                self.programs.join(&package.name)
            } else {
                programs::find(&package.name)?
            };
            documents::generate(&program, &package.name, &self.generated(&package.name))?;
        }
        Ok(())
    }

    fn pack(&self, package: &Definition, limit: Glibc, out: &Path) -> Result<Vec<Made>> {
        let program = self.programs.join(&package.name);
        let needs = symbols::of(&program, self.arch)?;
        ensure!(
            needs.glibc <= limit,
            "{} needs glibc {}, which is newer than {limit}: build it without --binaries, or allow it with --glibc {}",
            program.display(),
            needs.glibc,
            needs.glibc
        );
        let tree = self.stage(package, Format::Deb)?;
        let deb = Made {
            file: deb::pack(package, &tree, self, &needs, &self.work.join("deb"), out)?,
            depends: deb::depends(package, &needs)?,
        };
        if self.purpose == Purpose::Suites {
            return Ok(vec![deb]);
        }
        let tree = self.stage(package, Format::Rpm)?;
        let file = rpm::pack(package, &tree, self, &self.work.join("rpm"), out)?;
        let depends = rpm::requires(&file)?;
        Ok(vec![deb, Made { file, depends }])
    }

    /// The files of a package.
    fn stage(&self, package: &Definition, format: Format) -> Result<Tree> {
        let mut tree = Tree::default();
        for rule in &package.files {
            let source = match &rule.source {
                Source::Program(name) => self.programs.join(name),
                Source::File(path) => self.repository.join("deploy").join(path),
            };
            let bytes = fs::read(&source).with_context(|| format!("read {}", source.display()))?;
            tree.add_with(rule.path.clone(), bytes, rule.mode()?, rule.config)?;
        }
        documents::add(&mut tree, package, format, self)?;
        Ok(tree)
    }
}

/// The commit's time, or what the builder says.
fn epoch(repository: &Path) -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={text} is no number of seconds"));
    }
    let output = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(repository)
        .output();
    let output = output.context("start git, which knows the commit's time (or set SOURCE_DATE_EPOCH)")?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse()
        .context("git knows no commit here: set SOURCE_DATE_EPOCH to its time in seconds")
}

fn compare(first: &[Made], second: &[Made]) -> Result<()> {
    for (one, other) in first.iter().zip(second) {
        if fs::read(&one.file)? != fs::read(&other.file)? {
            bail!("two makings differ: diffoscope {} {}", one.file.display(), other.file.display());
        }
    }
    Ok(())
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

/// Runs a tool to its end; what it says is in the error.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {name}"))?;
    ensure!(
        output.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
