//! Disk images of Debian hosts, built once and kept by the content of their recipe.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use tests_harness::{Packages, interrupt, packages, programs};

use crate::archive::Archive;
use crate::suite::Suite;

/// Installed on every host besides the minimal system.
const PACKAGES: [&str; 17] = [
    "dbus",
    "e2fsprogs",
    "initramfs-tools",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "linux-image-cloud-amd64",
    "nftables",
    "nginx",
    "passwd",
    "procps",
    "python3",
    "redis-server",
    "systemd",
    "systemd-sysv",
    "udev",
];
/// What the suite puts on every host: its path, its text and its mode.
const FILES: [(&str, &str, u32); 4] = [
    ("usr/local/lib/fracas-test/server.py", include_str!("../guest/server.py"), 0o755),
    ("usr/local/lib/fracas-test/network.sh", include_str!("../guest/network.sh"), 0o755),
    (
        "etc/systemd/system/fracas-test-server.service",
        include_str!("../guest/fracas-test-server.service"),
        0o644,
    ),
    (
        "etc/systemd/system/fracas-test-network.service",
        include_str!("../guest/fracas-test-network.service"),
        0o644,
    ),
];
/// Makes a host of the root that holds all of the above.
const SETUP: &str = include_str!("../guest/setup.sh");
/// Sparse; large enough that a volume can be filled beside the reserve of the agent's default policy.
const DISK_MIB: u32 = 4096;
/// How an image is made, beside what goes into it.
const FORMAT: &str = "ext4 1";
/// Programs of this machine that make images and run machines.
const TOOLS: [&str; 3] = ["debootstrap", "e2fsprogs", "qemu-system-x86"];

/// A finished image: it is never written to.
#[derive(Debug, Clone)]
pub struct Image {
    pub suite: Suite,
    pub disk: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

impl Image {
    /// The image of this suite, which is built first where it is not there.
    pub fn ensure(suite: Suite) -> Result<Self> {
        Packages::ensure(&TOOLS)?;
        let store = programs::target_folder()?.join("vm");
        let folder = store.join(format!("{suite}-{}", &recipe(suite)[..16]));
        fs::create_dir_all(&store)?;
        let lock = File::create(store.join("lock"))?;
        lock.lock().context("wait for another process that builds an image")?;
        if !folder.exists() {
            let start = Instant::now();
            build(suite, &store, &folder).with_context(|| format!("build the image of {suite}"))?;
            eprintln!("built {} in {:.0} s", folder.display(), start.elapsed().as_secs_f64());
        }
        Ok(Self {
            suite,
            disk: folder.join("disk"),
            kernel: folder.join("kernel"),
            initrd: folder.join("initrd"),
        })
    }
}

/// A disk that holds the files of a folder.
pub fn disk_of(folder: &Path, label: &str, image: &Path) -> Result<()> {
    let bytes = fs::read_dir(folder)?.flatten().filter_map(|entry| entry.metadata().ok());
    let mib = bytes.map(|file| file.len()).sum::<u64>() / (1 << 20) + 32;
    make_disk(folder, label, image, u32::try_from(mib)?)
}

fn make_disk(root: &Path, label: &str, image: &Path, mib: u32) -> Result<()> {
    run(Command::new(packages::tool("mkfs.ext4")?)
        .args(["-q", "-F", "-L", label, "-E", "root_owner=0:0", "-d"])
        .arg(root)
        .arg(image)
        .arg(format!("{mib}M")))
}

/// The digest of everything that decides what is in an image.
fn recipe(suite: Suite) -> String {
    let mut digest = Sha256::new();
    let mut add = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    };
    add(suite.name());
    add(FORMAT);
    add(&DISK_MIB.to_string());
    PACKAGES.iter().for_each(|package| add(package));
    for (path, text, mode) in FILES {
        add(path);
        add(text);
        add(&mode.to_string());
    }
    add(SETUP);
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Builds beside the place where it is to be, which therefore holds a whole image or nothing.
fn build(suite: Suite, store: &Path, folder: &Path) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "only root can build a Debian system");
    let root = store.join(format!("{suite}-root"));
    let log = store.join(format!("{suite}-build.log"));
    eprintln!(
        "building a {suite} host below {} (some minutes, once; log: {})",
        store.display(),
        log.display()
    );
    let log = File::create(log)?;
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    bootstrap(suite, &root, &log)?;
    interrupt::check()?;
    for (path, text, mode) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&root))?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    inside(&root, SETUP, &log)?;
    let part = store.join(format!("{suite}-part"));
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    fs::copy(newest(&root.join("boot"), "vmlinuz-")?, part.join("kernel"))?;
    fs::copy(newest(&root.join("boot"), "initrd.img-")?, part.join("initrd"))?;
    make_disk(&root, "root", &part.join("disk"), DISK_MIB)?;
    fs::remove_dir_all(&root)?;
    forget(suite, store)?;
    fs::rename(&part, folder).context("put the image in its place")
}

fn bootstrap(suite: Suite, root: &Path, log: &File) -> Result<()> {
    let archive = Archive::of_this_machine()?;
    let mut bootstrap = Command::new(packages::tool("debootstrap")?);
    bootstrap
        .args(["--variant=minbase", "--arch=amd64"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(suite.name())
        .arg(root)
        .arg(&archive.mirror)
        .env("PATH", packages::path())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    if let Some(proxy) = &archive.proxy {
        bootstrap.env("http_proxy", proxy);
    }
    if let Some(scripts) = packages::unpacked("usr/share/debootstrap") {
        bootstrap.env("DEBOOTSTRAP_DIR", scripts);
    }
    logged(&mut bootstrap, log)
}

/// Runs a script in the root, whose mounts and processes end with it.
fn inside(root: &Path, script: &str, log: &File) -> Result<()> {
    let entered = "set -e; mount -t proc proc \"$1/proc\"; exec chroot \"$1\" /bin/sh -c \"$2\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", entered, "sh"])
        .arg(root)
        .arg(script)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    logged(&mut command, log)
}

/// The file of this opening with the highest version.
fn newest(folder: &Path, opening: &str) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let ours = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(opening)));
    ours.max().with_context(|| format!("no {opening}* in {}", folder.display()))
}

/// Removes images of older recipes.
fn forget(suite: Suite, store: &Path) -> Result<()> {
    for entry in fs::read_dir(store)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let digest = name.strip_prefix(&format!("{suite}-"));
        if digest.is_some_and(|digest| digest.len() == 16 && digest.bytes().all(|letter| letter.is_ascii_hexdigit())) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn logged(command: &mut Command, log: &File) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    let status = command.status().with_context(|| format!("start {name}"))?;
    if !status.success() {
        bail!("{name}: {status}, see the log");
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {name}"))?;
    ensure!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_has_a_recipe_of_its_own() {
        let digests: Vec<String> = Suite::ALL.into_iter().map(recipe).collect();
        assert_eq!(digests[0].len(), 64);
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert_eq!(recipe(Suite::Bookworm), recipe(Suite::Bookworm));
    }

    #[test]
    fn the_newest_kernel_is_taken() -> Result<()> {
        let boot = tempfile::tempdir()?;
        for name in ["vmlinuz-6.1.0-40", "vmlinuz-6.1.0-41", "config-6.1.0-42"] {
            fs::write(boot.path().join(name), "")?;
        }
        assert_eq!(newest(boot.path(), "vmlinuz-")?, boot.path().join("vmlinuz-6.1.0-41"));
        assert!(newest(boot.path(), "initrd.img-").is_err());
        Ok(())
    }
}
