//! Parts of the running kernel: built in, loaded, to be loaded, or missing, with the package that has them. It loads no module to find out.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::feature::{Feature, Part};
use super::presence::Presence;
use crate::distribution::Distribution;
use crate::text;

/// More of the kernel's list of symbols is not read.
const SYMBOLS_LIMIT: u64 = 64 * 1024 * 1024;
const MODULES: &str = "/lib/modules";
/// Where modprobe reads what may not be loaded; of files with the same name the first counts.
const MODPROBE: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];
/// More files of them, and more bytes of each, are not read.
const MODPROBE_FILES: usize = 1_000;
const MODPROBE_BYTES: u64 = 256 * 1024;

/// What is known of the running kernel's parts.
pub(super) struct Kernel {
    pub release: String,
    /// Beginnings of symbols that were found; `None` when the list cannot be read.
    pub symbols: Option<&'static BTreeSet<&'static str>>,
    /// The modules that are installed for it; `None` when their folder cannot be read.
    pub modules: Option<String>,
    /// Another release whose modules are installed: usually the one that the next boot starts.
    pub other: Option<String>,
    /// The folder of modules is there, and closed to everybody, as systemd's ProtectKernelModules= makes it.
    pub hidden: bool,
    pub may_load: bool,
}

impl Kernel {
    pub fn here() -> Self {
        let read = |path: &str| text::read_if_there(path).ok().flatten();
        let release = read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let listed = |file: &str| read(&format!("{MODULES}/{release}/{file}"));
        let modules = match (listed("modules.dep"), listed("modules.builtin")) {
            (None, None) => None,
            (loadable, builtin) => Some(loadable.unwrap_or_default() + &builtin.unwrap_or_default()),
        };
        Self {
            symbols: symbols(),
            other: modules.is_none().then(|| other_than(&release)).flatten(),
            modules,
            hidden: std::fs::metadata(MODULES).is_ok_and(|found| found.mode() & 0o777 == 0),
            may_load: read("/proc/sys/kernel/modules_disabled").is_none_or(|text| text.trim() != "1"),
            release,
        }
    }

    pub fn has(&self, part: &Part) -> Presence {
        let loaded = Path::new("/sys/module").join(part.module).exists();
        if loaded || self.symbols.is_some_and(|symbols| symbols.contains(part.symbol)) {
            return Presence::Present;
        }
        let (module, release) = (part.module, &self.release);
        match &self.modules {
            Some(listed) if lists(listed, module) && !self.may_load => Presence::absent(
                format!("{module} is not loaded, and this kernel loads no more modules (kernel.modules_disabled)"),
                "reboot",
            ),
            Some(listed) if lists(listed, module) => match forbidding(module) {
                Some(file) => Presence::absent(
                    format!("{module} is not loaded, and {} forbids it", file.display()),
                    format!("sed -i '/^ *install *{module} /d' {}", file.display()),
                ),
                None => Presence::Loadable,
            },
            Some(_) => Presence::absent(
                format!("kernel {release} has no {module}, and no such module is installed ({MODULES}/{release})"),
                having(module, release),
            ),
            None if self.hidden => Presence::unknown(
                format!("the modules of kernel {release} are hidden from this agent"),
                "systemctl edit fracas-agent: below [Service] add ProtectKernelModules=no; then systemctl restart fracas-agent",
            ),
            None if self.symbols.is_some() => self.without_modules(module),
            None => Presence::unknown(
                format!("neither the symbols of kernel {release} (/proc/kallsyms) nor its modules ({MODULES}/{release}) can be read"),
                format!("ls -ld /proc/kallsyms {MODULES}/{release}, and let this agent read one of them"),
            ),
        }
    }

    /// After an upgrade the modules of the running kernel are gone on some distributions, and the next boot has those of the new one.
    fn without_modules(&self, module: &str) -> Presence {
        let release = &self.release;
        let why = format!("{module} is not in the running kernel {release}, and no modules are installed for it ({MODULES}/{release})");
        match &self.other {
            Some(other) => Presence::absent(format!("{why}; those of {other} are"), "reboot"),
            None => Presence::absent(why, having(module, release)),
        }
    }
}

/// The command that adds a module.
fn having(module: &str, release: &str) -> String {
    let package = Distribution::here().kernel_modules(release);
    package
        .unwrap_or_else(|| format!("install this distribution's package with {module} for kernel {release}, or boot a kernel that has it"))
}

fn other_than(release: &str) -> Option<String> {
    let folders = std::fs::read_dir(MODULES).ok()?.flatten();
    folders
        .filter(|folder| folder.path().join("modules.dep").is_file())
        .filter_map(|folder| folder.file_name().into_string().ok())
        .filter(|name| name != release)
        .max()
}

/// Built-in parts never change while this process lives, and loaded ones are seen in /sys/module.
fn symbols() -> Option<&'static BTreeSet<&'static str>> {
    static FOUND: OnceLock<Option<BTreeSet<&'static str>>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let list = File::open("/proc/kallsyms").ok()?;
            symbols_in(BufReader::new(list.take(SYMBOLS_LIMIT)))
        })
        .as_ref()
}

fn symbols_in(list: impl BufRead) -> Option<BTreeSet<&'static str>> {
    let wanted: Vec<&str> = Feature::ALL
        .iter()
        .flat_map(|f| f.ways())
        .copied()
        .flatten()
        .map(|part| part.symbol)
        .collect();
    let (mut found, mut any) = (BTreeSet::new(), false);
    for line in list.split(b'\n') {
        let line = line.ok()?;
        let Some(name) = line.split(|byte| *byte == b' ').nth(2) else {
            continue;
        };
        any = true;
        found.extend(wanted.iter().filter(|symbol| name.starts_with(symbol.as_bytes())));
    }
    any.then_some(found)
}

fn is_same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

/// Whether a list of module files names this one; files may be compressed, and `-` and `_` are the same.
fn lists(files: &str, module: &str) -> bool {
    let paths = files.lines().filter_map(|line| line.split(':').next());
    paths
        .filter_map(|path| path.rsplit('/').next()?.split_once(".ko"))
        .any(|(name, _)| is_same(name, module))
}

/// The file that keeps modprobe from loading the module, as hardening guides advise it.
fn forbidding(module: &str) -> Option<PathBuf> {
    let mut seen = BTreeSet::new();
    for folder in MODPROBE {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MODPROBE_FILES);
        for path in files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        {
            let is_first = path.file_name().is_some_and(|name| seen.insert(name.to_owned()));
            let text = text::read_start_if_there(&path, MODPROBE_BYTES).ok().flatten();
            if is_first && text.is_some_and(|text| forbids(&text, module)) {
                return Some(path);
            }
        }
    }
    None
}

/// A line `install MODULE /bin/false`, or `/bin/true`, which loads nothing either.
fn forbids(text: &str, module: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        let does_nothing = |program: &str| matches!(program.rsplit('/').next(), Some("false" | "true"));
        words.next() == Some("install") && words.next().is_some_and(|name| is_same(name, module)) && words.next().is_some_and(does_nothing)
    })
}

#[cfg(test)]
mod tests {
    use super::super::feature::part;
    use super::*;

    fn kernel(symbols: Option<&'static BTreeSet<&'static str>>, modules: Option<&str>, may_load: bool) -> Kernel {
        Kernel {
            release: "0.0.0-none".to_owned(),
            symbols,
            other: None,
            hidden: false,
            modules: modules.map(str::to_owned),
            may_load,
        }
    }

    /// A module that no kernel of ours has.
    const NONE: Part = part("fracas_no_such", "fracas_no_such_");

    #[test]
    fn what_is_neither_seen_nor_ruled_out_is_unknown() {
        static NOTHING: BTreeSet<&str> = BTreeSet::new();
        let of = |kernel: Kernel| kernel.has(&NONE);
        assert!(matches!(of(kernel(None, None, true)), Presence::Unknown { .. }));
        assert!(matches!(of(kernel(Some(&NOTHING), None, true)), Presence::Absent { .. }));
        assert!(matches!(of(kernel(None, Some("kernel/a.ko:"), true)), Presence::Absent { .. }));
        let hidden = Kernel {
            hidden: true,
            ..kernel(Some(&NOTHING), None, true)
        };
        assert!(matches!(of(hidden), Presence::Unknown { fix, .. } if fix.contains("ProtectKernelModules=no")));
        let listed = "kernel/net/fracas-no-such.ko.xz: kernel/a.ko\n";
        assert_eq!(of(kernel(Some(&NOTHING), Some(listed), true)), Presence::Loadable);
        assert!(matches!(of(kernel(None, Some(listed), false)), Presence::Absent { why, .. } if why.contains("modules_disabled")));
    }

    #[test]
    fn after_an_upgrade_the_fix_is_a_reboot() {
        static NOTHING: BTreeSet<&str> = BTreeSet::new();
        let upgraded = Kernel {
            other: Some("9.9.9-new".to_owned()),
            ..kernel(Some(&NOTHING), None, true)
        };
        let Presence::Absent { why, fix } = upgraded.has(&NONE) else {
            panic!("it is absent")
        };
        assert!(why.contains("those of 9.9.9-new are"), "{why}");
        assert_eq!(fix, "reboot");
    }

    #[test]
    fn a_symbol_or_a_line_of_a_list_is_found_and_nothing_near_it() {
        let list = "0000000000000000 t netem_enqueue\n0000000000000000 T some_ifb_xmit\n0000000000000000 t x [nf_tables]\n";
        let found = symbols_in(list.as_bytes()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["netem_"]);
        assert!(symbols_in(&b""[..]).is_none(), "an empty list says nothing");
        assert!(lists("kernel/net/sched/sch_netem.ko.zst: a\n", "sch_netem") && lists("a/xt_NFQUEUE.ko", "xt_NFQUEUE"));
        assert!(!lists("kernel/b.ko: kernel/sch_netem.ko", "sch_netem") && !lists("a/sch_netem2.ko:", "sch_netem"));
    }

    #[test]
    fn a_module_that_modprobe_may_not_load_is_recognised() {
        for (text, is_forbidden) in [
            ("install sch_netem /bin/false\n", true),
            ("# x\n  install sch-netem /usr/bin/true\n", true),
            ("install sch_netem /sbin/modprobe --ignore-install sch_netem\n", false),
            ("install sch_netem2 /bin/false\n", false),
            ("#install sch_netem /bin/false\n", false),
            ("blacklist sch_netem\n", false),
            ("", false),
        ] {
            assert_eq!(forbids(text, "sch_netem"), is_forbidden, "{text}");
        }
    }
}
