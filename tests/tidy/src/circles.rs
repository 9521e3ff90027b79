//! Circles of imports among the files of one crate: what stands on what, as each file's own paths say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use syn::visit::{self, Visit};
use syn::{Attribute, File, ItemMod, ItemUse, UseTree};

use crate::files::{Source, sources};

/// Folders of crates whose files may stand in no circle.
const HELD: [&str; 3] = ["agent/", "controller/", "proto/"];

/// A module's place in its crate: `["file", "steps"]`, and nothing for the root.
type Module = Vec<String>;

/// Each circle as `one.rs -> other.rs -> one.rs`, by crate.
pub fn circles(repository: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut crates: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for source in sources(repository)? {
        if let Some((member, _)) = source.path.split_once("/src/")
            && HELD.iter().any(|folder| member.starts_with(folder))
            && !source.path.contains("/generated/")
        {
            crates.entry(member.to_owned()).or_default().push(source);
        }
    }
    let found = crates.into_iter().map(|(member, files)| Ok((member, in_crate(&files)?)));
    found.collect()
}

fn in_crate(files: &[Source]) -> Result<Vec<String>> {
    let modules: BTreeMap<Module, &Source> = files.iter().map(|file| (module_of(&file.path), file)).collect();
    let mut stands_on: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (module, file) in &modules {
        let parsed: File = syn::parse_file(&file.text).with_context(|| format!("read {}", file.path))?;
        let mut paths = Paths::default();
        paths.visit_file(&parsed);
        let targets = paths
            .found
            .iter()
            .filter_map(|(inside, path)| resolve(&modules, module, *inside, path));
        stands_on.insert(module, targets.filter(|target| *target != module).collect());
    }
    let name = |module: &Module| modules[module].path.split_once("/src/").map_or("", |(_, name)| name).to_owned();
    let mut found = Vec::new();
    while let Some(circle) = circle(&stands_on) {
        // Without its last arrow the next one is looked for.
        if let [.., from, to] = circle.as_slice()
            && let Some(targets) = stands_on.get_mut(from)
        {
            targets.remove(to);
        }
        found.push(circle.into_iter().map(name).collect::<Vec<_>>().join(" -> "));
    }
    Ok(found)
}

/// `controller/api/src/http/mod.rs` is `["http"]`.
fn module_of(path: &str) -> Module {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
    let mut parts: Module = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The file that a path leads into: as deep as there are files.
fn resolve<'m>(modules: &'m BTreeMap<Module, &Source>, from: &Module, inside: usize, path: &[String]) -> Option<&'m Module> {
    let mut rest = path;
    let mut at = from.clone();
    // `super` out of a module that is written in the file itself leads to the file.
    let mut inside = inside;
    match rest.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                if inside > 0 {
                    inside -= 1;
                } else {
                    at.pop();
                }
                rest = &rest[1..];
            }
        }
        child => {
            at.push(child.to_owned());
            if !modules.contains_key(&at) {
                return None;
            }
            rest = &rest[1..];
        }
    }
    for part in rest {
        at.push(part.clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
    }
    modules.get_key_value(&at).map(|(module, _)| module)
}

/// Paths of a file outside of its tests, each with the number of modules around it that are written in the file itself.
#[derive(Default)]
struct Paths {
    inside: usize,
    found: Vec<(usize, Vec<String>)>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.inside += 1;
        visit::visit_item_mod(self, item);
        self.inside -= 1;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.take(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.found.push((self.inside, parts));
        }
        visit::visit_path(self, path);
    }
}

impl Paths {
    fn take(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.take(item, before)),
            UseTree::Name(name) => self.end(before, Some(name.ident.to_string())),
            UseTree::Rename(name) => self.end(before, Some(name.ident.to_string())),
            UseTree::Glob(_) => self.end(before, None),
        }
    }

    fn end(&mut self, before: &[String], last: Option<String>) {
        let path = before.iter().cloned().chain(last.filter(|last| last != "self"));
        self.found.push((self.inside, path.collect()));
    }
}

/// Whether an item is compiled for tests alone.
pub(crate) fn for_tests(item: &syn::Item) -> bool {
    let attributes: &[Attribute] = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => &[],
    };
    attributes.iter().any(is_for_tests)
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let cfg = attribute.path().is_ident("cfg");
    cfg && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
}

/// One circle, its first file named at both ends.
fn circle<'m>(stands_on: &BTreeMap<&'m Module, BTreeSet<&'m Module>>) -> Option<Vec<&'m Module>> {
    let mut done = BTreeSet::new();
    let mut way = Vec::new();
    stands_on.keys().find_map(|start| walk(stands_on, start, &mut way, &mut done))
}

fn walk<'m>(
    stands_on: &BTreeMap<&'m Module, BTreeSet<&'m Module>>,
    at: &'m Module,
    way: &mut Vec<&'m Module>,
    done: &mut BTreeSet<&'m Module>,
) -> Option<Vec<&'m Module>> {
    if let Some(start) = way.iter().position(|passed| *passed == at) {
        return Some(way[start..].iter().copied().chain([at]).collect());
    }
    if !done.insert(at) {
        return None;
    }
    way.push(at);
    let found = stands_on
        .get(at)
        .into_iter()
        .flatten()
        .find_map(|next| walk(stands_on, next, way, done));
    way.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: format!("proto/x/src/{path}"),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_circle_is_found_whatever_way_it_is_written() -> Result<()> {
        for (one, other) in [
            ("use crate::b::{self, T};", "use crate::a::U;"),
            ("fn f() { crate::b::g() }", "use super::a;"),
            ("impl crate::b::T for u8 {}", "type U = super::a::V;"),
        ] {
            let files = [source("lib.rs", "mod a; mod b;"), source("a.rs", one), source("b.rs", other)];
            assert_eq!(in_crate(&files)?, ["a.rs -> b.rs -> a.rs"], "{one} {other}");
        }
        let child = [source("a/mod.rs", "mod c; pub use c::T;"), source("a/c.rs", "use super::helper;")];
        assert_eq!(in_crate(&child)?, ["a/mod.rs -> a/c.rs -> a/mod.rs"]);
        Ok(())
    }

    #[test]
    fn what_is_no_circle_is_none() -> Result<()> {
        for (one, other) in [
            ("use crate::b::T;", "use std::a::U; use serde::crate_name;"),
            ("use crate::b::T;", "#[cfg(test)] mod tests { use crate::a::U; }"),
            ("use crate::b::T; mod inside { use super::U; }", ""),
        ] {
            let files = [
                source("lib.rs", "mod a; mod b; pub use a::X;"),
                source("a.rs", one),
                source("b.rs", other),
            ];
            assert_eq!(in_crate(&files)?, [""; 0], "{one} {other}");
        }
        Ok(())
    }
}
