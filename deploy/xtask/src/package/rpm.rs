//! A package in RPM's format, by rpmbuild from a spec that is made of the same definition.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests_harness::{packages, programs};

use super::definition::Package;
use super::tree::Tree;
use super::{Inputs, run};

const SCRIPTS: [&str; 4] = ["pre", "post", "preun", "postun"];
/// Nothing of the machine goes into the package, nothing is done to the files, and old rpms can read it.
const MACROS: [&str; 10] = [
    "_buildhost reproducible",
    "use_source_date_epoch_as_buildtime 1",
    "clamp_mtime_to_source_date_epoch 1",
    "source_date_epoch_from_changelog 0",
    "_build_id_links none",
    "debug_package %{nil}",
    "__os_install_post %{nil}",
    "_binary_payload w9.xzdio",
    "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
    "__brp_mangle_shebangs %{nil}",
];

/// Stages the tree below `work` and packs it into `out`.
pub fn pack(package: &Package, tree: &Tree, inputs: &Inputs, work: &Path, out: &Path) -> Result<PathBuf> {
    let root = work.join(&package.name);
    tree.write(&root, inputs.time())?;
    let spec = work.join(format!("{}.spec", package.name));
    fs::write(&spec, text(package, tree, inputs, &root)?).with_context(|| format!("write {}", spec.display()))?;
    let top = work.join("rpmbuild");
    fs::create_dir_all(&top)?;
    let mut build = command("rpmbuild")?;
    build
        .args(["-bb", "--quiet", "--target", &format!("{}-linux", inputs.arch.rpm())])
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .arg("--define")
        .arg(format!("_tmppath {}", top.display()))
        .arg("--define")
        .arg(format!("_rpmdir {}", out.display()))
        .env("SOURCE_DATE_EPOCH", inputs.epoch.to_string());
    for line in MACROS {
        build.args(["--define", line]);
    }
    run(build.arg(&spec))?;
    let file = format!("{}-{}.{}.rpm", package.name, inputs.full_version(), inputs.arch.rpm());
    Ok(out.join(file))
}

/// What a built package requires.
pub fn requires(file: &Path) -> Result<String> {
    let output = command("rpm")?
        .args(["-qp", "--requires"])
        .arg(file)
        .output()
        .context("start rpm")?;
    ensure!(output.status.success(), "rpm: {}", String::from_utf8_lossy(&output.stderr).trim());
    let said = String::from_utf8(output.stdout)?;
    let lines = said
        .lines()
        .filter(|line| !line.starts_with("rpmlib(") && !line.starts_with("config("));
    let lines: BTreeSet<&str> = lines.collect();
    Ok(lines.into_iter().collect::<Vec<_>>().join(", "))
}

/// One of rpm's programs.
pub fn command(name: &str) -> Result<Command> {
    let mut command = Command::new(packages::tool(name)?);
    environment(&mut command)?;
    Ok(command)
}

/// By which a program finds rpm, and rpm its own files, where they were unpacked.
pub fn environment(command: &mut Command) -> Result<()> {
    command.env("PATH", packages::path());
    if let Some(unpacked) = packages::unpacked("usr/lib/rpm") {
        command.env("RPM_CONFIGDIR", configuration(&unpacked)?);
    }
    Ok(())
}

/// One folder of links: some of rpm's files may be the machine's, and only the others were unpacked.
fn configuration(unpacked: &Path) -> Result<PathBuf> {
    let folder = programs::target_folder()?.join("tools/rpm");
    fs::create_dir_all(&folder)?;
    for place in [Path::new("/usr/lib/rpm"), unpacked] {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let link = folder.join(entry.file_name());
            if link.is_symlink() {
                fs::remove_file(&link)?;
            }
            symlink(entry.path(), &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    Ok(folder)
}

fn text(package: &Package, tree: &Tree, inputs: &Inputs, root: &Path) -> Result<String> {
    let mut spec = format!(
        "Name: {}\nVersion: {}\nRelease: {}\nSummary: {}\nLicense: Apache-2.0\nURL: {}\nVendor: {}\nPackager: {}\nGroup: System/Base\n",
        package.name,
        inputs.version,
        super::RELEASE,
        capitalized(&package.summary),
        inputs.homepage,
        inputs.definitions.vendor,
        inputs.definitions.maintainer
    );
    // Writing to a string cannot fail.
    for recommended in &package.recommends {
        let _ = writeln!(spec, "Recommends: {recommended}");
    }
    let _ = writeln!(spec, "\n%description\n{}", package.description.trim());
    // The build root is made anew by rpmbuild; times are kept.
    let _ = writeln!(spec, "\n%install\ncp -a {}/. %{{buildroot}}/", root.display());
    for name in SCRIPTS {
        if let Some(script) = package.script(&inputs.repository, &format!("{name}.rpm"))? {
            let _ = writeln!(spec, "\n%{name}\n{}", script.replace('%', "%%").trim());
        }
    }
    spec += "\n%files\n";
    if tree.entries().any(|(path, _)| path.starts_with("/etc/fracas/")) {
        spec += "%dir %attr(0755,root,root) /etc/fracas\n";
    }
    for (path, entry) in tree.entries() {
        let config = if entry.config { "%config(noreplace) " } else { "" };
        let kind = if path.starts_with("/usr/share/licenses/") {
            "%license "
        } else {
            config
        };
        let _ = writeln!(spec, "{kind}%attr({:04o},root,root) \"{path}\"", entry.mode);
    }
    let _ = writeln!(
        spec,
        "\n%changelog\n* {} {} - {}\n- Fracas {}: what changed is in CHANGELOG.md",
        inputs.date("+%a %b %d %Y")?,
        inputs.definitions.maintainer,
        inputs.full_version(),
        inputs.version
    );
    Ok(spec)
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
