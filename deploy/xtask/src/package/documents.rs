//! What every package has beside its program: manual pages, completions, changelog and licences.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::definition::Package;
use super::tree::Tree;
use super::{Format, Inputs};

/// Adds all of them, where the format's distributions look for them.
pub fn add(tree: &mut Tree, package: &Package, format: Format, inputs: &Inputs) -> Result<()> {
    let name = &package.name;
    add_generated(tree, name, format, &inputs.generated(name))?;
    let news = fs::read(inputs.repository.join("CHANGELOG.md")).context("read CHANGELOG.md")?;
    let licence = fs::read(inputs.repository.join("LICENSE")).context("read LICENSE")?;
    let others = inputs.licences.licences(&package.member)?.into_bytes();
    let doc = format!("/usr/share/doc/{name}");
    match format {
        Format::Deb => {
            tree.add(format!("{doc}/copyright"), copyright(package, inputs)?)?;
            tree.add(format!("{doc}/third-party-licences.gz"), gzip(&others)?)?;
            tree.add(format!("{doc}/changelog.gz"), gzip(&news)?)?;
            tree.add(format!("{doc}/changelog.Debian.gz"), gzip(changelog(package, inputs)?.as_bytes())?)
        }
        Format::Rpm => {
            tree.add(format!("/usr/share/licenses/{name}/LICENSE"), licence)?;
            tree.add(format!("/usr/share/licenses/{name}/THIRD-PARTY"), others)?;
            tree.add(format!("{doc}/CHANGELOG.md"), news)
        }
    }
}

/// What the program wrote of itself: `NAME*.1` and its completions.
fn add_generated(tree: &mut Tree, name: &str, format: Format, folder: &Path) -> Result<()> {
    let zsh = match format {
        Format::Deb => "/usr/share/zsh/vendor-completions",
        Format::Rpm => "/usr/share/zsh/site-functions",
    };
    let mut pages = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path)?;
        if file.ends_with(".1") {
            pages += 1;
            tree.add(format!("/usr/share/man/man1/{file}.gz"), gzip(&bytes)?)?;
        } else if file.ends_with(".bash") {
            tree.add(format!("/usr/share/bash-completion/completions/{name}"), bytes)?;
        } else if file.ends_with(".fish") {
            tree.add(format!("/usr/share/fish/vendor_completions.d/{file}"), bytes)?;
        } else {
            tree.add(format!("{zsh}/{file}"), bytes)?;
        }
    }
    ensure!(pages > 0, "{name} wrote no manual page into {}", folder.display());
    Ok(())
}

/// Asks each program for its manual pages and completions.
pub fn generate(program: &Path, name: &str, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    // The controller has no verbs.
    let verb = if name == "fracas-controller" { "--manual" } else { "manual" };
    let output = Command::new(program).arg(verb).arg(folder).output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} {verb}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Without a name and a time, so that the same bytes come out.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut input = tempfile::tempfile()?;
    std::io::Write::write_all(&mut input, bytes)?;
    std::io::Seek::rewind(&mut input)?;
    let output = Command::new("gzip")
        .args(["-9", "-n"])
        .stdin(input)
        .output()
        .context("start gzip")?;
    ensure!(output.status.success(), "gzip: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}

fn copyright(package: &Package, inputs: &Inputs) -> Result<String> {
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Fracas
Upstream-Contact: {}
Source: {}
Comment:
 The program is linked with crates of others and with C code that some of them
 bundle. Each of them, its licence and the licence's text are in
 /usr/share/doc/{}/third-party-licences.gz.

Files: *
Copyright: {} the Fracas contributors
License: Apache-2.0
 On Debian systems, the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
",
        inputs.definitions.maintainer,
        inputs.homepage,
        package.name,
        inputs.date("+%Y")?
    ))
}

/// Debian's form; what changed is in the project's own changelog.
fn changelog(package: &Package, inputs: &Inputs) -> Result<String> {
    Ok(format!(
        "{} ({}) unstable; urgency=medium\n\n  * Fracas {}: what changed is in changelog.gz.\n\n -- {}  {}\n",
        package.name,
        inputs.full_version(),
        inputs.version,
        inputs.definitions.maintainer,
        inputs.date("+%a, %d %b %Y %H:%M:%S +0000")?
    ))
}

/// Where a program's manual pages and completions are written before they are packed.
pub fn folder(target: &Path, name: &str) -> PathBuf {
    target.join("generated").join(name)
}
