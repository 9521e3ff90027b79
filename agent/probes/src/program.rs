//! Where a program may come from: a name in one directory, and nobody but root can have put it there. It starts nothing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proto_probes::is_program_name;

const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const SET_IDS: u32 = 0o6000;
const EXECUTE: u32 = 0o111;

/// The program's path, or why it is not run. No link is followed, neither to the directory nor in it.
pub(crate) fn find(directory: &Path, name: &str) -> Result<PathBuf, String> {
    if !is_program_name(name) {
        return Err(format!(
            "{name:?} is no program's name: letters, digits, '-', '_' and '.', and never a path"
        ));
    }
    check_directory(directory)?;
    let program = directory.join(name);
    let found = look(&program)?;
    let wrong = if found.file_type().is_symlink() {
        Some("is a link")
    } else if !found.is_file() {
        Some("is no file")
    } else if found.uid() != 0 {
        Some("does not belong to root")
    } else if found.mode() & OTHERS_WRITE != 0 {
        Some("may be written by others than root")
    } else if found.mode() & SET_IDS != 0 {
        Some("would change its rights when run (setuid or setgid)")
    } else if found.mode() & EXECUTE == 0 {
        Some("is not executable")
    } else {
        None
    };
    match wrong {
        Some(why) => Err(format!("{} {why}; it is not run", program.display())),
        None => Ok(program),
    }
}

/// From the root down, nobody else can exchange what the path names.
fn check_directory(directory: &Path) -> Result<(), String> {
    let refuse = |path: &Path, why: &str| Err(format!("probes.commands in agent.toml: {} {why}", path.display()));
    if !directory.is_absolute() {
        return refuse(directory, "is not an absolute path");
    }
    for path in directory.ancestors() {
        let found = look(path)?;
        // In a sticky directory others may add, and not exchange what is there.
        let sticky = path != directory && found.mode() & STICKY != 0;
        if !found.is_dir() {
            return refuse(path, "is no directory, or a link");
        }
        if found.uid() != 0 || (found.mode() & OTHERS_WRITE != 0 && !sticky) {
            return refuse(path, "may be changed by others than root");
        }
    }
    Ok(())
}

fn look(path: &Path) -> Result<Metadata, String> {
    std::fs::symlink_metadata(path).map_err(|error| format!("look at {}: {error}", path.display()))
}
