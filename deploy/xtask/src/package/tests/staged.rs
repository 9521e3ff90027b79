//! Every file of every package, by path and mode, for programs that are stand-ins.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use tests_harness::programs;

use crate::package::arch::Arch;
use crate::package::definition::Definitions;
use crate::package::licences::Metadata;
use crate::package::tree::Tree;
use crate::package::{Format, Inputs, Purpose, documents};

const AGENT: &str = "\
/etc/fracas/agent.toml 0644 config
/usr/bin/fracas-agent 0755
/usr/lib/NetworkManager/conf.d/05-fracas-unmanaged.conf 0644
/usr/lib/systemd/network/05-fracas.network 0644
/usr/lib/systemd/system/fracas-agent.service 0644
/usr/lib/systemd/system/fracas-guard.path 0644
/usr/lib/systemd/system/fracas-guard.service 0644
/usr/lib/systemd/system/fracas-rescue.service 0644
/usr/lib/systemd/system/fracas.slice 0644
/usr/lib/sysusers.d/fracas-agent.conf 0644
/usr/lib/tmpfiles.d/fracas-agent.conf 0644
/usr/share/bash-completion/completions/fracas-agent 0644
/usr/share/doc/fracas-agent/changelog.Debian.gz 0644
/usr/share/doc/fracas-agent/changelog.gz 0644
/usr/share/doc/fracas-agent/copyright 0644
/usr/share/doc/fracas-agent/third-party-licences.gz 0644
/usr/share/fish/vendor_completions.d/fracas-agent.fish 0644
/usr/share/man/man1/fracas-agent.1.gz 0644
/usr/share/zsh/vendor-completions/_fracas-agent 0644
";
const CONTROLLER: &str = "\
/etc/fracas/controller.toml 0644 config
/usr/bin/fracas-controller 0755
/usr/lib/systemd/system/fracas-controller.service 0644
/usr/lib/sysusers.d/fracas-controller.conf 0644
/usr/lib/tmpfiles.d/fracas-controller.conf 0644
/usr/share/bash-completion/completions/fracas-controller 0644
/usr/share/doc/fracas-controller/CHANGELOG.md 0644
/usr/share/fish/vendor_completions.d/fracas-controller.fish 0644
/usr/share/licenses/fracas-controller/LICENSE 0644
/usr/share/licenses/fracas-controller/THIRD-PARTY 0644
/usr/share/man/man1/fracas-controller.1.gz 0644
/usr/share/zsh/site-functions/_fracas-controller 0644
";
const OPERATOR: &str = "\
/usr/bin/fracas 0755
/usr/share/bash-completion/completions/fracas 0644
/usr/share/doc/fracas/CHANGELOG.md 0644
/usr/share/fish/vendor_completions.d/fracas.fish 0644
/usr/share/fracas/experiment.schema.json 0644
/usr/share/fracas/gate.sh 0755
/usr/share/licenses/fracas/LICENSE 0644
/usr/share/licenses/fracas/THIRD-PARTY 0644
/usr/share/man/man1/fracas.1.gz 0644
/usr/share/zsh/site-functions/_fracas 0644
";

pub(super) fn inputs(work: &Path) -> Inputs {
    let repository = programs::repository().canonicalize().unwrap();
    let inputs = Inputs {
        definitions: Definitions::read(&repository).unwrap(),
        version: "0.1.0".to_owned(),
        homepage: "https://fracas.example/fracas".to_owned(),
        epoch: 1_795_745_060,
        arch: Arch::X86_64,
        programs: work.join("programs"),
        licences: Metadata::ask(Arch::X86_64).unwrap(),
        work: work.to_owned(),
        purpose: Purpose::Release,
        repository,
    };
    fs::create_dir(&inputs.programs).unwrap();
    for package in &inputs.definitions.packages {
        let (name, folder) = (&package.name, documents::folder(work, &package.name));
        fs::write(inputs.programs.join(name), "a program").unwrap();
        fs::create_dir_all(&folder).unwrap();
        for file in [
            format!("{name}.1"),
            format!("{name}.bash"),
            format!("_{name}"),
            format!("{name}.fish"),
        ] {
            fs::write(folder.join(file), "generated").unwrap();
        }
    }
    inputs
}

fn listing(tree: &Tree) -> String {
    let lines = tree
        .entries()
        .map(|(path, entry)| format!("{path} {:04o}{}\n", entry.mode, if entry.config { " config" } else { "" }));
    lines.collect()
}

#[test]
fn each_package_has_exactly_these_files() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let staged = |at: usize, format| listing(&inputs.stage(&inputs.definitions.packages[at], format).unwrap());
    assert_eq!(staged(0, Format::Deb), AGENT);
    assert_eq!(staged(1, Format::Rpm), CONTROLLER);
    assert_eq!(staged(2, Format::Rpm), OPERATOR);
}

#[test]
fn a_tree_is_written_with_its_modes_and_the_commit_s_time() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let mut tree = Tree::default();
    tree.add_with("/usr/bin/a".into(), b"a".to_vec(), 0o755, false).unwrap();
    tree.add("/etc/b", "b").unwrap();
    assert!(tree.add("/etc/b", "again").is_err() && tree.add("relative", "").is_err());
    let root = dir.path().join("root");
    // What was staged before goes.
    fs::create_dir_all(root.join("old")).unwrap();
    tree.write(&root, UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
    assert!(!root.join("old").exists());
    for (path, mode) in [("", 0o755), ("usr", 0o755), ("usr/bin/a", 0o755), ("etc", 0o755), ("etc/b", 0o644)] {
        let found = fs::metadata(root.join(path)).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (mode, 1_000), "{path}");
    }
}
