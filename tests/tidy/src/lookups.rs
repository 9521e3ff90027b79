//! Calls that look up a user or a group by the C library, which may wait for a directory: finds each in what runs on a host.

use anyhow::{Context, Result};
use syn::Macro;
use syn::visit::{self, Visit};

use crate::circles::for_tests;
use crate::files::Source;

/// Folders whose code is part of the agent.
const HELD: [&str; 2] = ["agent/", "proto/"];
/// Of the C library, whatever follows, such as `_r`.
const C_CALLS: [&str; 8] = [
    "getpwnam",
    "getpwuid",
    "getpwent",
    "getgrnam",
    "getgrgid",
    "getgrent",
    "getgrouplist",
    "initgroups",
];
/// Of nix and std, which call those.
const WRAPPERS: [&str; 4] = ["from_name", "from_uid", "from_gid", "home_dir"];

/// Every such call in a source.
pub fn wrong(source: &Source) -> Result<Vec<String>> {
    if !HELD.iter().any(|folder| source.path.starts_with(folder)) || !source.path.contains("/src/") {
        return Ok(Vec::new());
    }
    let parsed = syn::parse_file(&source.text).with_context(|| format!("read {}", source.path))?;
    let mut calls = Calls {
        path: &source.path,
        found: Vec::new(),
    };
    calls.visit_file(&parsed);
    Ok(calls.found)
}

struct Calls<'s> {
    path: &'s str,
    found: Vec<String>,
}

impl Calls<'_> {
    fn see(&mut self, name: &str) {
        if C_CALLS.iter().any(|call| name.starts_with(call)) || WRAPPERS.contains(&name) {
            self.found.push(format!(
                "{}: {name} may wait for a directory that a fault holds: read agent_view::Users",
                self.path
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Calls<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.see(&ident.to_string());
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        let text = item.tokens.to_string();
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .for_each(|word| self.see(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str) -> Vec<String> {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        wrong(&source).unwrap()
    }

    #[test]
    fn a_lookup_in_what_runs_on_a_host_is_found() {
        for text in [
            "fn f() { nix::unistd::User::from_name(\"x\"); }",
            "fn f() { let found = unsafe { libc::getpwnam_r(a, b, c, d, e) }; }",
            "fn f() { assert!(Group::from_gid(gid).is_ok()); }",
            "use nix::unistd::getgrouplist;",
        ] {
            for path in ["agent/daemon/src/x.rs", "proto/program/src/x.rs"] {
                assert_eq!(read(path, text).len(), 1, "{text}");
            }
            for path in ["controller/api/src/x.rs", "agent/daemon/tests/host/x.rs"] {
                assert_eq!(read(path, text), [""; 0], "{text}");
            }
            let test = format!("#[cfg(test)] mod tests {{ {text} }}");
            assert_eq!(read("agent/daemon/src/x.rs", &test), [""; 0], "{text}");
        }
        assert_eq!(read("agent/daemon/src/x.rs", "fn f() { Users::read()?.by_name(\"x\"); }"), [""; 0]);
    }
}
