//! A package in Debian's format, by dpkg-deb.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::definition::Package;
use super::symbols::Needs;
use super::tree::{Tree, set};
use super::{Inputs, Purpose, run};

const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];
/// Libraries that a program may be linked with, and the packages that have them; libc6 has its version.
const LIBRARIES: [(&str, &str); 9] = [
    ("libc.so.6", ""),
    ("libm.so.6", ""),
    ("libdl.so.2", ""),
    ("librt.so.1", ""),
    ("libutil.so.1", ""),
    ("libpthread.so.0", ""),
    ("ld-linux-x86-64.so.2", ""),
    ("ld-linux-aarch64.so.1", ""),
    ("libgcc_s.so.1", "libgcc-s1 | libgcc1"),
];

/// What the package depends on.
pub fn depends(package: &Package, needs: &Needs) -> Result<String> {
    let mut all = vec![format!("libc6 (>= {})", needs.glibc)];
    for library in &needs.libraries {
        let known = LIBRARIES.iter().find(|(name, _)| name == library);
        let (_, of) = known.with_context(|| format!("no Debian package is known of {library}, which {} needs", package.name))?;
        all.extend((!of.is_empty()).then(|| (*of).to_owned()));
    }
    all.extend(package.deb_depends.iter().cloned());
    Ok(all.join(", "))
}

/// Stages the tree below `work` and packs it into `out`.
pub fn pack(package: &Package, tree: &Tree, inputs: &Inputs, needs: &Needs, work: &Path, out: &Path) -> Result<PathBuf> {
    let (root, time) = (work.join(&package.name), inputs.time());
    tree.write(&root, time)?;
    let sums = sums(&root, tree)?;
    let control = root.join("DEBIAN");
    fs::create_dir(&control)?;
    let write = |name: &str, text: &str, mode: u32| -> Result<()> {
        let path = control.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        set(&path, mode, time)
    };
    write(
        "control",
        &fields(package, inputs, &depends(package, needs)?, tree.kibibytes()),
        0o644,
    )?;
    write("md5sums", &sums, 0o644)?;
    let config: String = tree
        .entries()
        .filter(|(_, entry)| entry.config)
        .map(|(path, _)| format!("{path}\n"))
        .collect();
    if !config.is_empty() {
        write("conffiles", &config, 0o644)?;
    }
    for name in SCRIPTS {
        if let Some(text) = package.script(&inputs.repository, &format!("{name}.deb"))? {
            write(name, &text, 0o755)?;
        }
    }
    set(&control, 0o755, time)?;
    set(&root, 0o755, time)?;
    let file = out.join(format!("{}_{}_{}.deb", package.name, inputs.full_version(), inputs.arch.deb()));
    // One thread: how many there are must not change the bytes. Debian before 12 reads no zstd.
    let compression: &[&str] = match inputs.purpose {
        Purpose::Release => &["-Zxz", "--threads-max=1"],
        Purpose::Suites => &["-Znone"],
    };
    run(Command::new("dpkg-deb")
        .args(compression)
        .args(["--root-owner-group", "--build"])
        .args([&root, &file])
        .env("SOURCE_DATE_EPOCH", inputs.epoch.to_string()))?;
    Ok(file)
}

fn fields(package: &Package, inputs: &Inputs, depends: &str, kibibytes: u64) -> String {
    let mut text = format!(
        "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: {}\nInstalled-Size: {kibibytes}\nDepends: {depends}\n",
        package.name,
        inputs.full_version(),
        inputs.arch.deb(),
        inputs.definitions.maintainer
    );
    if !package.recommends.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Recommends: {}", package.recommends.join(", "));
    }
    let description: Vec<String> = package.description.trim().lines().map(|line| format!(" {line}")).collect();
    let _ = writeln!(
        text,
        "Section: admin\nPriority: optional\nHomepage: {}\nDescription: {}\n{}",
        inputs.homepage,
        package.summary,
        description.join("\n")
    );
    text
}

/// Debian's list of checksums, of what is not a configuration file.
fn sums(root: &Path, tree: &Tree) -> Result<String> {
    let files = tree.entries().filter(|(_, entry)| !entry.config);
    let output = Command::new("md5sum")
        .args(files.map(|(path, _)| path.trim_start_matches('/')))
        .current_dir(root)
        .output()
        .context("start md5sum")?;
    ensure!(
        output.status.success(),
        "md5sum: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}
