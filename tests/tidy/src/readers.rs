//! Readers of a run's events: each names every event, so that a new one does not compile until each has decided what it means.

use anyhow::{Context, Result};
use syn::visit::{self, Visit};
use syn::{ExprLet, ExprMatch, ImplItemFn, ItemFn, ItemImpl, ItemUse, Local, Macro, Pat, UseTree};

use crate::circles::for_tests;
use crate::files::Source;

const EVENTS: &str = "EventBody";
/// Where events are read.
const HELD: [&str; 2] = ["controller/", "proto/"];
/// Files that take one event apart by `let … else` after a match that names all of them has chosen it.
const TAKES_APART: [&str; 1] = ["controller/report/src/state.rs"];

/// Every place in a source that passes over the events that it does not name.
pub fn wrong(source: &Source) -> Result<Vec<String>> {
    if !HELD.iter().any(|folder| source.path.starts_with(folder)) || !source.path.contains("/src/") || !source.text.contains(EVENTS) {
        return Ok(Vec::new());
    }
    let parsed = syn::parse_file(&source.text).with_context(|| format!("read {}", source.path))?;
    let mut reader = Reader {
        takes_apart: TAKES_APART.contains(&source.path.as_str()),
        ..Reader::default()
    };
    reader.visit_file(&parsed);
    Ok(reader.found.iter().map(|what| format!("{} {what}", source.path)).collect())
}

#[derive(Default)]
struct Reader {
    takes_apart: bool,
    /// Inside of `impl EventBody`, where `Self` is the same.
    of_events: bool,
    /// The function that is read.
    function: String,
    found: Vec<String>,
}

impl Reader {
    fn add(&mut self, what: &str) {
        self.found.push(format!("{}: {what}: name every event instead", self.function));
    }

    fn seen(&self, pattern: &Pat) -> Seen {
        let mut seen = Seen {
            of_events: self.of_events,
            ..Seen::default()
        };
        seen.visit_pat(pattern);
        seen
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function = item.sig.ident.to_string();
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function = item.sig.ident.to_string();
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let before = self.of_events;
        self.of_events = matches!(&*item.self_ty, syn::Type::Path(path) if path.path.is_ident(EVENTS));
        visit::visit_item_impl(self, item);
        self.of_events = before;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if hides(&item.tree, false) {
            self.add("events under another name");
        }
    }

    fn visit_expr_match(&mut self, item: &'ast ExprMatch) {
        let arms: Vec<Seen> = item.arms.iter().map(|arm| self.seen(&arm.pat)).collect();
        if arms.iter().any(|arm| arm.event) && arms.iter().any(|arm| arm.anything && !arm.event) {
            self.add("an arm takes whatever is left");
        }
        visit::visit_expr_match(self, item);
    }

    fn visit_expr_let(&mut self, item: &'ast ExprLet) {
        if self.seen(&item.pat).event {
            self.add("`if let` passes over the other events");
        }
        visit::visit_expr_let(self, item);
    }

    fn visit_local(&mut self, item: &'ast Local) {
        if !self.takes_apart && self.seen(&item.pat).event {
            self.add("`let … else` passes over the other events");
        }
        visit::visit_local(self, item);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        let text = item.tokens.to_string();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        if item.path.is_ident("matches") && words.any(|word| word == EVENTS || (self.of_events && word == "Self")) {
            self.add("`matches!` passes over the other events");
        }
    }
}

/// What a pattern holds.
#[derive(Default)]
struct Seen {
    of_events: bool,
    /// An event by name.
    event: bool,
    /// `_`, or a name for whatever is there.
    anything: bool,
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_pat(&mut self, pattern: &'ast Pat) {
        match pattern {
            Pat::Wild(_) => self.anything = true,
            // What begins with a capital is a constant or a variant.
            Pat::Ident(name) if name.subpat.is_none() => {
                self.anything |= name.ident.to_string().starts_with(|c: char| !c.is_uppercase());
            }
            _ => visit::visit_pat(self, pattern),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .rev()
            .skip(1)
            .map(|segment| segment.ident.to_string())
            .collect();
        let of = names.first().map(String::as_str);
        self.event |= of == Some(EVENTS) || (self.of_events && of == Some("Self"));
    }
}

/// Whether events are brought in one by one, all at once or renamed.
fn hides(tree: &UseTree, inside: bool) -> bool {
    match tree {
        UseTree::Path(path) => hides(&path.tree, path.ident == EVENTS),
        UseTree::Group(group) => group.items.iter().any(|item| hides(item, inside)),
        UseTree::Rename(name) => inside || name.ident == EVENTS,
        UseTree::Name(name) => inside && name.ident != "self",
        UseTree::Glob(_) => inside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>> {
        wrong(&Source {
            path: "controller/x/src/y.rs".to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn whatever_passes_over_an_event_is_found() -> Result<()> {
        for text in [
            "fn f(b: &EventBody) { match b { EventBody::A { .. } => 1, _ => 2 }; }",
            "fn f(b: &EventBody) { match b { EventBody::A { .. } => 1, other => g(other) }; }",
            "fn f(b: &EventBody) { match (b, 1) { (EventBody::A, _) => 1, (_, 2) => 2, (EventBody::B, _) => 3 }; }",
            "fn f(b: Option<EventBody>) { match b { Some(event::EventBody::A) => 1, Some(x) => 2, None => 3 }; }",
            "fn f() { g(|e| match e { EventBody::A | EventBody::B => 1, _ if e.is() => 2, EventBody::C => 3 }) }",
            "impl EventBody { fn f(&self) { match self { Self::A => 1, _ => 2 }; } }",
            "fn f(b: &EventBody) { if let EventBody::A { .. } = b { g() } }",
            "fn f(b: &EventBody) { let EventBody::A { x } = b else { return }; }",
            "fn f(b: &EventBody) -> bool { matches!(b, EventBody::A { .. }) }",
            "use m::EventBody::*;",
            "use m::{EventBody as Body, Other};",
            "use m::EventBody::{self, A};",
        ] {
            assert_eq!(read(text)?.len(), 1, "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_reader_that_names_each_event_is_left_alone() -> Result<()> {
        for text in [
            "fn f(b: &EventBody) { match b { EventBody::A { x, .. } => g(x), EventBody::B(_) => 2 }; }",
            "fn f(b: Option<EventBody>) { match b { Some(EventBody::A) => 1, Some(EventBody::B) => 2, None => 3 }; }",
            "fn f(b: FleetEventBody) { match b { FleetEventBody::A => 1, _ => 2 }; }",
            "fn f(b: &EventBody) { match b.milestone() { Some(Milestone::A) => 1, _ => 2 }; }",
            "fn f(b: &EventBody) { match b { EventBody::A => match g() { 1 => 2, _ => 3 }, EventBody::B => 4 }; }",
            "impl Other { fn f(&self, b: EventBody) { match self { Self::A => 1, _ => 2 }; } }",
            "#[cfg(test)] mod tests { fn f(b: &EventBody) { matches!(b, EventBody::A); } }",
            "use m::{EventBody, Other}; fn f() { g(EventBody::A { x: 1 }) }",
        ] {
            assert_eq!(read(text)?, [""; 0], "{text}");
        }
        Ok(())
    }
}
