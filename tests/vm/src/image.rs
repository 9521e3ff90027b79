//! Disk images of Debian hosts, built once and kept by the content of their recipe.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use tests_harness::{Packages, interrupt, packages, programs, wait};

use crate::archive::Archive;
use crate::kit::{FILES, Kit};
use crate::suite::Suite;

/// Sparse; large enough that a volume can be filled beside the reserve of the agent's default policy.
const DISK_MIB: u32 = 4096;
/// How an image is made, beside what goes into it.
const FORMAT: &str = "ext4 2";
/// Programs of this machine that make images and run machines.
const TOOLS: [&str; 3] = ["debootstrap", "e2fsprogs", "qemu-system-x86"];
/// The longest that one step of a build may take: the packages come from an archive that may be slow.
const STEP: Duration = Duration::from_secs(3_600);

/// A finished image: it is never written to.
#[derive(Debug, Clone)]
pub struct Image {
    pub suite: Suite,
    pub disk: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

impl Image {
    /// The image of this suite and kit, which is built first where it is not there.
    pub fn ensure(suite: Suite, kit: Kit) -> Result<Self> {
        Packages::ensure(&TOOLS)?;
        let store = programs::target_folder()?.join("vm");
        fs::create_dir_all(&store)?;
        let lock = File::create(store.join("lock"))?;
        lock.lock().context("wait for another process that builds an image")?;
        let recipe = Recipe { suite, kit, store: &store };
        let folder = recipe.folder();
        if !folder.exists() {
            let start = Instant::now();
            recipe.build().with_context(|| format!("build the {kit} image of {suite}"))?;
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

/// What decides what is in an image, and where images are kept.
struct Recipe<'a> {
    suite: Suite,
    kit: Kit,
    store: &'a Path,
}

impl Recipe<'_> {
    /// The digest of everything that decides what is in the image.
    fn digest(&self) -> String {
        let mut digest = Sha256::new();
        let mut add = |text: &str| {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        };
        add(self.suite.name());
        add(FORMAT);
        add(&DISK_MIB.to_string());
        self.kit.packages().into_iter().for_each(&mut add);
        for (path, text, mode) in FILES {
            add(path);
            add(text);
            add(&mode.to_string());
        }
        self.kit.setup().iter().for_each(|script| add(script));
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Of the files and folders of this image in the store.
    fn opening(&self) -> String {
        format!("{}-{}-", self.suite, self.kit)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.store.join(self.opening() + name)
    }

    fn folder(&self) -> PathBuf {
        self.place(&self.digest()[..16])
    }

    /// Builds beside the place where it is to be, which therefore holds a whole image or nothing.
    fn build(&self) -> Result<()> {
        ensure!(nix::unistd::geteuid().is_root(), "only root can build a Debian system");
        let (root, part, log) = (self.place("root"), self.place("part"), self.place("build.log"));
        eprintln!(
            "building a {} host ({}) below {} (some minutes, once; log: {})",
            self.suite,
            self.kit,
            self.store.display(),
            log.display()
        );
        let log = File::create(log)?;
        empty(&root)?;
        install(&root)?;
        self.bootstrap(&root, &log)?;
        interrupt::check()?;
        for script in self.kit.setup() {
            inside(&root, script, &log)?;
        }
        empty(&part)?;
        fs::copy(newest(&root.join("boot"), "vmlinuz-")?, part.join("kernel"))?;
        fs::copy(newest(&root.join("boot"), "initrd.img-")?, part.join("initrd"))?;
        make_disk(&root, "root", &part.join("disk"), DISK_MIB)?;
        fs::remove_dir_all(&root)?;
        self.forget()?;
        fs::rename(&part, self.folder()).context("put the image in its place")
    }

    fn bootstrap(&self, root: &Path, log: &File) -> Result<()> {
        let archive = Archive::of_this_machine()?;
        let mut bootstrap = enclosed(packages::tool("debootstrap")?);
        bootstrap
            .args(["--variant=minbase", "--arch=amd64"])
            .arg(format!("--include={}", self.kit.packages().join(",")))
            .arg(self.suite.name())
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
        logged("debootstrap", &mut bootstrap, log)
    }

    /// Removes images of older recipes.
    fn forget(&self) -> Result<()> {
        for entry in fs::read_dir(self.store)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name.strip_prefix(&self.opening());
            if digest.is_some_and(|digest| digest.len() == 16 && digest.bytes().all(|letter| letter.is_ascii_hexdigit())) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Puts the suite's own files into a root.
fn install(root: &Path) -> Result<()> {
    for (path, text, mode) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

/// A program in namespaces of its own. Its mounts and whatever it starts end with it, and it ends with this process, also by SIGKILL.
fn enclosed(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
        .arg(program);
    command
}

/// Runs a script in the root, which has a /proc meanwhile.
fn inside(root: &Path, script: &str, log: &File) -> Result<()> {
    let entered = "set -e; mount -t proc proc \"$1/proc\"; exec chroot \"$1\" /bin/sh -c \"$2\"";
    let mut command = enclosed("sh");
    command
        .args(["-c", entered, "sh"])
        .arg(root)
        .arg(script)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    logged("the setup in the root", &mut command, log)
}

/// The file of this opening with the highest version.
fn newest(folder: &Path, opening: &str) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let ours = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(opening)));
    ours.max().with_context(|| format!("no {opening}* in {}", folder.display()))
}

/// Runs a step of a build to its end, which is early where the runner is interrupted.
fn logged(what: &str, command: &mut Command, log: &File) -> Result<()> {
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    let mut child = command
        .spawn()
        .with_context(|| format!("start {what} by setpriv and unshare (Debian package util-linux)"))?;
    let ended = wait::for_some(format_args!("{what} ends"), STEP, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill().ok();
        child.wait().ok();
    }
    let (status, _) = ended?;
    if !status.success() {
        bail!("{what}: {status}, see the log");
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_suite_and_kit_has_an_image_of_its_own() {
        let store = Path::new("store");
        let folder = |suite, kit| Recipe { suite, kit, store }.folder();
        let folders: BTreeSet<PathBuf> = Suite::ALL
            .into_iter()
            .flat_map(|suite| [Kit::Small, Kit::Large].map(|kit| folder(suite, kit)))
            .collect();
        assert_eq!(folders.len(), 2 * Suite::ALL.len());
        assert!(folders.contains(&folder(Suite::Bookworm, Kit::Small)));
        let digests: BTreeSet<String> = [Kit::Small, Kit::Large]
            .map(|kit| {
                Recipe {
                    suite: Suite::Trixie,
                    kit,
                    store,
                }
                .digest()
            })
            .into();
        assert_eq!(digests.len(), 2);
    }

    #[test]
    fn an_image_replaces_only_those_of_its_own_kind() -> Result<()> {
        let store = tempfile::tempdir()?;
        let names = [
            "trixie-small-0123456789abcdef",
            "trixie-large-0123456789abcdef",
            "trixie-small-part",
            "logs",
        ];
        for name in names {
            fs::create_dir(store.path().join(name))?;
        }
        let recipe = Recipe {
            suite: Suite::Trixie,
            kit: Kit::Small,
            store: store.path(),
        };
        recipe.forget()?;
        assert_eq!(names.map(|name| store.path().join(name).exists()), [false, true, true, true]);
        Ok(())
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
