//! Gets Debian's programs without changing the machine: downloaded, unpacked below the target folder, never installed or configured.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs;

/// The packages that can be asked for, and the programs that show that one is there.
const PROGRAMS: [(&str, &[&str]); 13] = [
    ("iproute2", &["ip", "tc"]),
    ("nftables", &["nft"]),
    ("iptables", &["iptables-legacy", "iptables-legacy-save", "ip6tables-legacy-save"]),
    ("redis-server", &["redis-server"]),
    ("nginx", &["nginx"]),
    ("stress-ng", &["stress-ng"]),
    ("chromium-headless-shell", &["chromium-headless-shell"]),
    ("e2fsprogs", &["mkfs.ext4"]),
    ("btrfs-progs", &["mkfs.btrfs"]),
    ("systemd", &["systemd-analyze"]),
    ("rpm", &["rpm", "rpmbuild"]),
    ("debootstrap", &["debootstrap"]),
    ("qemu-system-x86", &["qemu-system-x86_64"]),
];
/// Programs that a package starts by a script with the machine's own path in it, and where they are.
const ELSEWHERE: [(&str, &str); 1] = [("chromium-headless-shell", "usr/lib/chromium/chromium-headless-shell")];
const SYSTEM: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Never unpacked: a second C library beside the machine's own loader would break every program.
const NEVER: [&str; 3] = ["libc6", "libc-bin", "base-files"];

/// Debian packages as unpacked programs.
pub struct Packages;

impl Packages {
    /// Afterwards each program of these packages is on [`path`]. Gets what is missing when root, else names it.
    pub fn ensure(packages: &[&str]) -> Result<()> {
        if missing(packages)?.is_empty() {
            return Ok(());
        }
        let store = Store::open()?;
        // Somebody else may have got them while we waited for the lock.
        let missing = missing(packages)?;
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(" ");
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "Debian packages are missing: {names} (apt-get install {names}, or run as root and they are unpacked below the target folder)"
            );
        }
        store.get(&missing).with_context(|| format!("get Debian packages {names}"))
    }
}

/// Where programs are found: what was unpacked, then the machine's own.
pub fn path() -> String {
    let ours = folder().map(|folder| folder.join("bin").display().to_string()).unwrap_or_default();
    let machine = std::env::var("PATH").unwrap_or_default();
    format!("{ours}:{machine}:{}", SYSTEM.join(":"))
}

/// A program of a package that was ensured.
pub fn tool(name: &str) -> Result<PathBuf> {
    lookup(name).with_context(|| format!("{name} is not installed"))
}

/// A file of what was unpacked, for a program that must be told where its own files are.
pub fn unpacked(path: &str) -> Option<PathBuf> {
    let file = folder().ok()?.join("root").join(path);
    file.exists().then_some(file)
}

fn missing(packages: &[&str]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for package in packages {
        let programs = PROGRAMS
            .iter()
            .find(|(name, _)| name == package)
            .with_context(|| format!("no program is known of {package}"))?
            .1;
        if programs.iter().any(|program| lookup(program).is_none()) {
            missing.push((*package).to_owned());
        }
    }
    Ok(missing)
}

fn lookup(program: &str) -> Option<PathBuf> {
    let path = path();
    let mut places = path
        .split(':')
        .filter(|place| !place.is_empty())
        .map(|place| Path::new(place).join(program));
    places.find(|place| place.is_file())
}

fn folder() -> Result<PathBuf> {
    Ok(programs::target_folder()?.join("debian"))
}

/// The folder of all that was unpacked, held alone while it is open.
struct Store {
    folder: PathBuf,
    _lock: File,
}

impl Store {
    fn open() -> Result<Self> {
        let folder = folder()?;
        for below in ["archives", "root", "bin", "apt/lists/partial", "apt/cache/archives/partial"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let lock = File::create(folder.join("lock"))?;
        lock.lock().context("wait for another process that gets packages")?;
        Ok(Self { folder, _lock: lock })
    }

    fn get(&self, packages: &[String]) -> Result<()> {
        eprintln!(
            "getting Debian packages: {} (unpacked below {}, nothing is installed)",
            packages.join(" "),
            self.folder.display()
        );
        // The machine's own lists may be absent or out of date; then we fetch our own beside them.
        let archives = match self.download(packages, false) {
            Ok(archives) => archives,
            Err(_) => {
                eprintln!("getting Debian's package lists");
                self.apt(true, &["update"])?;
                self.download(packages, true)?
            }
        };
        for (number, archive) in archives.iter().enumerate() {
            eprintln!(
                "unpacking {} of {}: {}",
                number + 1,
                archives.len(),
                archive.file_name().unwrap_or_default().to_string_lossy()
            );
            self.run(Command::new("dpkg").arg("-x").arg(archive).arg(self.folder.join("root")))?;
        }
        self.wrap()
    }

    /// Downloads these packages and what they need that the machine lacks.
    fn download(&self, packages: &[String], own_lists: bool) -> Result<Vec<PathBuf>> {
        let archives = self.folder.join("archives");
        fs::remove_dir_all(&archives)?;
        fs::create_dir_all(&archives)?;
        let mut simulate = vec!["install", "--simulate", "--no-install-recommends"];
        simulate.extend(packages.iter().map(String::as_str));
        let planned = self.apt(own_lists, &simulate)?;
        let mut fetch = vec!["download"];
        fetch.extend(needed(&planned));
        self.apt(own_lists, &fetch)?;
        let found = fs::read_dir(&archives)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "deb"));
        let mut found: Vec<PathBuf> = found.collect();
        found.sort();
        if found.is_empty() {
            bail!("apt-get downloaded nothing")
        } else {
            Ok(found)
        }
    }

    fn apt(&self, own_lists: bool, arguments: &[&str]) -> Result<String> {
        let mut apt = Command::new("apt-get");
        apt.current_dir(self.folder.join("archives"))
            .args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"]);
        if own_lists {
            let own = self.folder.join("apt");
            apt.arg("-o").arg(format!("Dir::State::lists={}", own.join("lists").display()));
            apt.arg("-o").arg(format!("Dir::Cache={}", own.join("cache").display()));
        }
        self.run(apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C"))
    }

    fn run(&self, command: &mut Command) -> Result<String> {
        let output = command
            .output()
            .with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
        if !output.status.success() {
            bail!(
                "{}: {}",
                command.get_program().to_string_lossy(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A script per unpacked program that finds the libraries which were unpacked with it.
    fn wrap(&self) -> Result<()> {
        let root = self.folder.join("root");
        let libraries: Vec<PathBuf> = ["lib", "usr/lib"].iter().flat_map(|lib| library_folders(&root.join(lib))).collect();
        libraries.iter().try_for_each(|folder| turn_links(folder, &root))?;
        let path: Vec<String> = libraries.iter().map(|folder| folder.display().to_string()).collect();
        let fonts = self.write_fonts(&root)?;
        // iptables looks for its extensions in one folder only.
        let xtables = libraries.iter().find(|folder| folder.ends_with("xtables"));
        let xtables = xtables.map_or_else(String::new, |folder| format!("XTABLES_LIBDIR={} ", folder.display()));
        for folder in ["bin", "sbin", "usr/bin", "usr/sbin"] {
            turn_links(&root.join(folder), &root)?;
            for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let elsewhere = ELSEWHERE.iter().find(|(program, _)| *program == name);
                let program = elsewhere.map_or_else(|| entry.path(), |(_, place)| root.join(place));
                let script = format!(
                    "#!/bin/sh\n{xtables}FONTCONFIG_FILE={} LD_LIBRARY_PATH={} exec {} \"$@\"\n",
                    fonts.display(),
                    path.join(":"),
                    program.display()
                );
                let wrapper = self.folder.join("bin").join(entry.file_name());
                fs::write(&wrapper, script)?;
                fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    /// By which programs find the unpacked fonts beside those of the machine, wherever it keeps any.
    fn write_fonts(&self, root: &Path) -> Result<PathBuf> {
        let file = self.folder.join("fonts.conf");
        let text = format!(
            "<?xml version=\"1.0\"?>\n<fontconfig>\n<include ignore_missing=\"yes\">/etc/fonts/fonts.conf</include>\n\
             <dir>{}</dir>\n<cachedir>{}</cachedir>\n</fontconfig>\n",
            root.join("usr/share/fonts").display(),
            self.folder.join("fonts").display()
        );
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// Links to the machine's root, as packages hold them, are made to point into what was unpacked.
fn turn_links(folder: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if target.is_absolute() && !target.starts_with(root) {
            fs::remove_file(entry.path())?;
            symlink(root.join(target.strip_prefix("/")?), entry.path())?;
        }
    }
    Ok(())
}

/// The packages that a simulation would install.
fn needed(simulation: &str) -> Vec<&str> {
    let names = simulation.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    names.filter(|name| !NEVER.contains(name)).collect()
}

/// The folder itself, those below it that are named after an architecture, and in these the private ones of a single package.
fn library_folders(lib: &Path) -> Vec<PathBuf> {
    let is_triplet = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-gnu"));
    let triplets: Vec<PathBuf> = entries(lib).into_iter().filter(is_triplet).collect();
    let private = triplets
        .iter()
        .flat_map(|folder| entries(folder))
        .filter(|path| holds_libraries(path));
    let private: Vec<PathBuf> = private.collect();
    triplets.into_iter().chain(private).chain([lib.to_owned()]).collect()
}

fn holds_libraries(folder: &Path) -> bool {
    let is_library = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    folder.is_dir() && entries(folder).iter().any(is_library)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_a_package_keeps_to_itself_are_found() -> Result<()> {
        let root = tempfile::tempdir()?;
        let triplet = root.path().join("x86_64-linux-gnu");
        for folder in ["pulseaudio", "gconv-without-any"] {
            fs::create_dir_all(triplet.join(folder))?;
        }
        fs::write(triplet.join("pulseaudio/libpulsecommon-16.1.so"), "")?;
        let found = library_folders(root.path());
        assert_eq!(found, [triplet.clone(), triplet.join("pulseaudio"), root.path().to_owned()]);
        Ok(())
    }

    #[test]
    fn links_to_the_machine_s_root_are_turned_into_the_unpacked_one() -> Result<()> {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("sbin"))?;
        symlink("/bin/ip", root.path().join("sbin/ip"))?;
        symlink("ip", root.path().join("sbin/other"))?;
        for _ in 0..2 {
            turn_links(&root.path().join("sbin"), root.path())?;
        }
        assert_eq!(fs::read_link(root.path().join("sbin/ip"))?, root.path().join("bin/ip"));
        assert_eq!(fs::read_link(root.path().join("sbin/other"))?, Path::new("ip"));
        Ok(())
    }

    #[test]
    fn what_a_simulation_would_install_is_what_is_fetched() {
        let said = "NOTE: x\nInst libc6 [2.36-9] (2.36-10 Debian:12 [amd64])\nInst redis-tools (5:7.0.15 Debian:12 [amd64])\nConf redis-tools (5:7.0)\n";
        assert_eq!(needed(said), ["redis-tools"]);
    }

    #[test]
    fn a_package_nobody_knows_is_an_error_and_one_that_is_there_costs_nothing() {
        assert!(Packages::ensure(&["no-such-package"]).is_err());
        assert!(lookup("sh").is_some());
    }
}
