//! The newest runs as an Atom feed. Its times are those of the runs.

use std::io;

use proto_model::summary::RunSummary;
use proto_model::verdict::Verdict;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::paths::run_path;
use super::shown::Site;

/// Entries of the feed; older runs are on the pages.
const ENTRIES: usize = 50;

type Xml = Writer<Vec<u8>>;

pub(super) fn feed(site: &Site<'_>) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Writing into memory cannot fail.
    let _ = write(&mut writer, site);
    String::from_utf8(writer.into_inner()).unwrap_or_default() + "\n"
}

fn write(writer: &mut Xml, site: &Site<'_>) -> io::Result<()> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut past: Vec<_> = site.services.iter().flat_map(|shown| site.past(&shown.service)).collect();
    past.sort_by(|a, b| (b.ended_at, &b.run.id).cmp(&(a.ended_at, &a.run.id)));
    let feed = writer
        .create_element("feed")
        .with_attribute(("xmlns", "http://www.w3.org/2005/Atom"));
    feed.write_inner_content(|writer| {
        text(writer, "title", "Runs")?;
        text(writer, "id", "urn:fracas:runs")?;
        text(writer, "updated", &site.as_of.to_string())?;
        link(writer, "index.html")?;
        author(writer, "fracas")?;
        past.iter().take(ENTRIES).try_for_each(|past| entry(writer, past.run))
    })?;
    Ok(())
}

fn entry(writer: &mut Xml, run: &RunSummary) -> io::Result<()> {
    let verdict = run.verdict.map_or("none yet", Verdict::as_str);
    writer.create_element("entry").write_inner_content(|writer| {
        text(writer, "title", &format!("{}: {verdict} in {}", run.name, run.environment))?;
        text(writer, "id", &format!("urn:fracas:run:{}", run.id))?;
        text(writer, "updated", &run.finished_at.unwrap_or(run.created_at).to_string())?;
        link(writer, &run_path(&run.id))?;
        author(writer, &run.by)?;
        text(writer, "summary", run.reason.as_deref().unwrap_or_default())
    })?;
    Ok(())
}

fn author(writer: &mut Xml, name: &str) -> io::Result<()> {
    writer
        .create_element("author")
        .write_inner_content(|writer| text(writer, "name", name))
        .map(drop)
}

fn link(writer: &mut Xml, href: &str) -> io::Result<()> {
    writer.create_element("link").with_attribute(("href", href)).write_empty().map(drop)
}

fn text(writer: &mut Xml, name: &str, text: &str) -> io::Result<()> {
    // XML 1.0 has no way to write control characters.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writer.create_element(name).write_text_content(BytesText::new(&text)).map(drop)
}
