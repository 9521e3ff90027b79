//! Calls that change a host by netlink or bpf, which belong to agent-levers alone: finds each that lies elsewhere in what is shipped.

use anyhow::{Context, Result};
use syn::visit::{self, Visit};
use syn::{Ident, ImplItemFn, ItemFn, Macro};

use crate::circles::for_tests;
use crate::files::Source;

/// Folders whose programs run on hosts or beside them.
const HELD: [&str; 3] = ["agent/", "controller/", "proto/"];
/// The crate that changes hosts, and the one that holds the sockets through which it looks and changes.
const LEVERS: &str = "agent/levers/";
const VIEW: &str = "agent/view/";

/// Beginnings of the names by which a message that changes something is composed. `op_` is that of the requests of netlink-bindings.
const CHANGES: [&str; 13] = [
    "op_",
    "set_create",
    "set_excl",
    "set_replace",
    "set_append",
    "NLM_F_CREATE",
    "NLM_F_EXCL",
    "NLM_F_REPLACE",
    "NLM_F_APPEND",
    "NFNL_MSG_BATCH",
    "RTM_NEW",
    "RTM_DEL",
    "RTM_SET",
];
const READS: &str = "op_get";
/// Commands of bpf(2), with the kernel's prefix or without.
const BPF: [&str; 6] = ["MAP_CREATE", "MAP_UPDATE", "MAP_DELETE", "PROG_LOAD", "PROG_ATTACH", "LINK_CREATE"];
/// Names that have one place outside of agent-levers: the system call itself, and a program that is loaded only to see whether it can be.
const ONE_PLACE: [(&str, &str); 4] = [
    ("SYS_bpf", "agent/view/src/tc/bpf.rs"),
    ("PROGRAM_LOAD", "agent/view/src/tc/bpf.rs"),
    ("NetlinkRoute", "agent/view/src/tc/socket.rs"),
    ("NetlinkNetFilter", "agent/view/src/net/socket.rs"),
];
/// In the files of the two sockets, who may call what sends: the questions, which are looked at before they are sent.
const SOCKETS: [&str; 2] = ["agent/view/src/net/socket.rs", "agent/view/src/tc/socket.rs"];
const SENDS: [(&str, &[&str]); 3] = [("framed", &["ask_once"]), ("ask_once", &["ask"]), ("send", &["ask_once", "send"])];
/// What gives a socket or a map out of hand; outside of agent-view only agent-levers takes it.
const HANDED_OUT: &str = "raw_fd";

/// Every such call in a source, with the function in which it lies.
pub fn wrong(source: &Source) -> Result<Vec<String>> {
    let held = HELD.iter().any(|folder| source.path.starts_with(folder));
    if !held || !source.path.contains("/src/") || source.path.starts_with(LEVERS) {
        return Ok(Vec::new());
    }
    let parsed = syn::parse_file(&source.text).with_context(|| format!("read {}", source.path))?;
    let mut calls = Calls {
        path: &source.path,
        function: String::new(),
        found: Vec::new(),
    };
    calls.visit_file(&parsed);
    Ok(calls.found)
}

struct Calls<'s> {
    path: &'s str,
    /// The function that is read; empty outside of any.
    function: String,
    found: Vec<String>,
}

impl Calls<'_> {
    fn is_wrong(&self, name: &str) -> bool {
        let changes = CHANGES.iter().any(|start| name.starts_with(start)) && (!name.starts_with(READS) || name.contains("_reset_"));
        let bpf = name.strip_prefix("BPF_").unwrap_or(name);
        let commands = BPF.iter().any(|start| bpf.starts_with(start));
        let elsewhere = ONE_PLACE.iter().any(|(what, place)| *what == name && *place != self.path);
        let taken = name == HANDED_OUT && !self.path.starts_with(VIEW);
        changes || commands || elsewhere || taken || self.sends(name)
    }

    /// Inside of a function: an import sends nothing, and neither does the name of the function itself.
    fn sends(&self, name: &str) -> bool {
        let inside = SOCKETS.contains(&self.path) && !self.function.is_empty() && name != self.function;
        inside
            && SENDS
                .iter()
                .any(|(what, callers)| *what == name && !callers.contains(&self.function.as_str()))
    }

    fn see(&mut self, name: &str) {
        if self.is_wrong(name) {
            let at = if self.function.is_empty() { "" } else { ", in " };
            let (path, function) = (self.path, &self.function);
            self.found
                .push(format!("{path}: {name}{at}{function}: only agent-levers changes a host"));
        }
    }

    fn inside(&mut self, function: &Ident, read: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.function, function.to_string());
        read(self);
        self.function = before;
    }
}

impl<'ast> Visit<'ast> for Calls<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.inside(&item.sig.ident, |calls| visit::visit_item_fn(calls, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.inside(&item.sig.ident, |calls| visit::visit_impl_item_fn(calls, item));
    }

    fn visit_ident(&mut self, ident: &'ast Ident) {
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

    fn read(path: &str, text: &str) -> Result<Vec<String>> {
        wrong(&Source {
            path: path.to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn a_change_outside_of_the_levers_is_found() -> Result<()> {
        for text in [
            "fn f(r: R) { r.set_create(); }",
            "fn f(r: R) { g(r.op_newlink_do(&head)); }",
            "fn f(r: R) { r.op_getrule_reset_dump(&head); }",
            "fn f() { assert!(r.op_batch_end_do(&head)); }",
            "const MAP_UPDATE: u32 = 2;",
            "fn f() { call(BPF_MAP_DELETE_ELEM); }",
            "fn f() { call(libc::SYS_bpf); }",
            "fn f(k: K) { send(k.raw_fd(), b, n); }",
            "fn f() { let flags = libc::NLM_F_CREATE; }",
        ] {
            assert_eq!(read("agent/faults/src/x.rs", text)?.len(), 1, "{text}");
            assert_eq!(read("agent/levers/src/x.rs", text)?, [""; 0], "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_socket_that_looks_sends_nothing_but_its_questions() -> Result<()> {
        for socket in SOCKETS {
            for text in [
                "impl R { pub fn order(&mut self, r: &R) { self.ask_once(r); } }",
                "impl R { pub fn commit(&mut self, batch: &[u8]) { self.send(batch); } }",
                "impl R { pub fn order(&mut self, r: &R) { g(&framed(r)); } }",
            ] {
                assert_eq!(read(socket, text)?.len(), 1, "{text}");
            }
            for text in [
                "use nix::send; impl R { fn ask(&self) { self.ask_once() } fn ask_once(&self) { self.send(framed(r)) } }",
                "impl R { fn send(&self) { send(self.fd) } pub fn raw_fd(&self) -> RawFd { self.fd } } fn framed() {}",
                "fn f() { r.op_getlink_dump(&head); }",
                "#[cfg(test)] mod tests { fn f() { r.op_newlink_do(&head); } }",
            ] {
                assert_eq!(read(socket, text)?, [""; 0], "{text}");
            }
        }
        Ok(())
    }
}
