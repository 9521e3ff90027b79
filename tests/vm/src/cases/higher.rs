//! A package again under a higher version, so that there is something to upgrade to; its lines of `sh` run on the machine or on the runner.

/// Added to a version.
pub(super) const HIGHER: &str = "+next";

/// Lines of `sh` that unpack a deb into a new folder, give it a version that is higher than `version`, run `change` where the folder is `$tree`,
/// and pack the folder into `next`.
pub(super) fn higher_version(deb: &str, version: &str, folder: &str, change: &str, next: &str) -> String {
    format!(
        "set -e; tree={folder}; rm -rf $tree; dpkg-deb --raw-extract {deb} $tree; sed -i \"s/^Version: .*/Version: {version}{HIGHER}/\" $tree/DEBIAN/control; {change}; \
         dpkg-deb --root-owner-group -Znone --build $tree {next} >/dev/null; rm -rf $tree"
    )
}
