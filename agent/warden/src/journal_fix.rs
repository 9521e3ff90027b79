//! What to do about a journal that cannot be written, by what the kernel said of the try; nothing of it is done here.

use std::path::PathBuf;

use agent_journal::JournalError;
use agent_levers::JournalStore;
use agent_view::HostView;
use rustix::io::Errno;

use crate::causes::chain;

/// Why a journal could not be written, and what fixes that.
pub(crate) fn with_fix(error: &JournalError, store: &JournalStore, view: &dyn HostView) -> String {
    format!("{} (fix: {})", chain(error), fix(error, store, view))
}

/// The commands that show what keeps journals from being written, or fix it.
pub(crate) fn fix(error: &JournalError, store: &JournalStore, view: &dyn HostView) -> String {
    let errno = match error {
        JournalError::Io { source, .. } => Errno::from_io_error(source),
        _ => None,
    };
    let folder: PathBuf = store.folders().into_iter().next().unwrap_or_default();
    let at = folder.display();
    match errno {
        Some(Errno::NOSPC) => format!("df -h {at}; df -i {at}; then free space there, or inodes where IUse% is 100"),
        Some(Errno::DQUOT) => format!("quota -u root; then free space in {at}, or raise that quota"),
        Some(Errno::ROFS) => {
            let point = view.volume(&folder).ok().flatten().map(|volume| volume.mount_point);
            let point = point.unwrap_or_else(|| folder.clone());
            format!(
                "dmesg | grep -i -e error -e remount, which says why it is read-only; then mount -o remount,rw {}",
                point.display()
            )
        }
        Some(Errno::MFILE) => "systemctl show fracas-agent -p LimitNOFILE; then systemctl edit fracas-agent: below [Service] add a higher \
                               LimitNOFILE=, and systemctl restart fracas-agent"
            .to_owned(),
        Some(Errno::NFILE) => {
            "sysctl fs.file-nr fs.file-max; then end what holds so many files, or sysctl -w fs.file-max= with more".to_owned()
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            format!("ls -ld {at}; lsattr -d {at}; then chown root:root {at} && chmod 700 {at}, and chattr -i {at} where it has an i")
        }
        Some(Errno::NOENT) => format!("ls -ld {at}; where it is gone, systemctl restart fracas-agent makes it again"),
        Some(Errno::IO) => format!("dmesg | grep -i error; then check the disk below {at}"),
        _ => format!("ls -ld {at}; df -h {at}; dmesg | tail"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use agent_levers::fake::FakeHost;

    use super::*;

    #[test]
    fn each_error_of_the_kernel_leads_to_what_shows_or_fixes_it() {
        let folders = tempfile::tempdir().unwrap();
        let (disk, mirror) = (folders.path().join("disk"), folders.path().join("mirror"));
        let store = JournalStore::open(&disk, &mirror).unwrap();
        let (host, at) = (FakeHost::new(), disk.display());
        for (errno, says) in [
            (Errno::NOSPC, format!("df -h {at}; df -i {at};")),
            (Errno::DQUOT, format!("in {at}, or raise that quota")),
            // The fake host's volume of every path outside of /var and /run.
            (Errno::ROFS, "then mount -o remount,rw /".to_owned()),
            (Errno::MFILE, "systemctl show fracas-agent -p LimitNOFILE".to_owned()),
            (Errno::NFILE, "sysctl fs.file-nr fs.file-max".to_owned()),
            (Errno::ACCESS, format!("chown root:root {at}")),
            (Errno::PERM, format!("lsattr -d {at}")),
            (Errno::NOENT, "systemctl restart fracas-agent".to_owned()),
            (Errno::IO, "dmesg".to_owned()),
            (Errno::FBIG, format!("ls -ld {at}")),
        ] {
            let error = JournalError::Io {
                action: "create",
                path: Path::new("/x").to_owned(),
                source: io::Error::from(errno),
            };
            let fix = fix(&error, &store, &host);
            assert!(fix.contains(&says), "{errno:?}: {fix}");
            assert!(with_fix(&error, &store, &host).ends_with(&format!(" (fix: {fix})")));
        }
        let locked = JournalError::Locked { path: disk.clone() };
        assert!(fix(&locked, &store, &host).contains(&format!("ls -ld {at}")));
    }
}
