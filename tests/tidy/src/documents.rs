//! The pages for people: each link leads to a file, a heading or a test that exists, and each quoted line of the log is one that a program writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::files::Source;

/// The page with a table of log lines, and the heading of that table.
pub const LOG_LINES: (&str, &str) = ("docs/operate.md", "## Log lines that need a person");

/// A page by its path below the repository.
#[derive(Debug)]
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

/// Every page at the root and below docs and deploy.
pub fn pages(repository: &Path) -> Result<Vec<Page>> {
    let mut found = Vec::new();
    read_folder(repository, Path::new(""), false, &mut found)?;
    for folder in ["docs", "deploy"] {
        read_folder(repository, Path::new(folder), true, &mut found)?;
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn read_folder(repository: &Path, folder: &Path, deep: bool, found: &mut Vec<Page>) -> Result<()> {
    let place = repository.join(folder);
    for entry in fs::read_dir(&place).with_context(|| format!("list {}", place.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if deep {
                read_folder(repository, &path, deep, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(repository.join(&path)).with_context(|| format!("read {}", path.display()))?;
            found.push(Page { path, text });
        }
    }
    Ok(())
}

/// What is wrong with the links of a page.
pub fn wrong_links(repository: &Path, page: &Page) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (text, target) in links(&page.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        if let Some(why) = problem(repository, page, text, target)? {
            wrong.push(format!("{}: [{text}]({target}): {why}", page.path.display()));
        }
    }
    Ok(wrong)
}

fn problem(repository: &Path, page: &Page, text: &str, target: &str) -> Result<Option<String>> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = repository.join(page.path.parent().unwrap_or(Path::new(""))).join(file);
    if !file.is_empty() && !path.exists() {
        return Ok(Some("there is no such file".to_owned()));
    }
    let read = || match file {
        "" => Ok(page.text.clone()),
        _ => fs::read_to_string(&path).with_context(|| format!("read {}", path.display())),
    };
    if let Some(anchor) = anchor {
        return Ok((!anchors(&read()?).contains(anchor)).then(|| "there is no such heading".to_owned()));
    }
    let Some(test) = test_name(text).filter(|_| file.ends_with(".rs")) else {
        return Ok(None);
    };
    Ok((!read()?.contains(&format!("fn {test}("))).then(|| "there is no such test in it".to_owned()))
}

/// The name, where a link's whole text is code.
fn test_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix('`')?.strip_suffix('`')?;
    name.bytes()
        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_')
        .then_some(name)
}

/// The text and the target of each link outside of code.
fn links(page: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in page.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || line.starts_with("    ") {
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("](") {
            let Some((target, next)) = after.split_once(')') else { break };
            let text = before.rsplit_once('[').map_or(before, |(_, text)| text);
            found.push((text, target));
            rest = next;
        }
    }
    found
}

/// The anchors of a page's headings, as its readers' tools make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|heading| slug(heading.trim_start_matches('#').trim())).collect()
}

fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Lines of the log in the first column of a table that no program writes; none at all is wrong too.
pub fn unknown_log_lines(page: &str, heading: &str, sources: &[Source]) -> Vec<String> {
    let section = page.split_once(heading).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(line, _)| line))
        .collect();
    if lines.is_empty() {
        return vec![format!("no line of the log is listed below {heading:?}")];
    }
    let written = |line: &str| sources.iter().any(|source| source.text.contains(&format!("\"{line}")));
    let unknown = lines.into_iter().filter(|line| !written(line));
    unknown.map(|line| format!("no program writes {line:?} into its log")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_outside_of_code() {
        let page = "See [a](b.md) and [`c`](d.rs).\n\n    [no](link)\n```\n[no](link)\n```\n![picture](e.png)\n";
        assert_eq!(links(page), [("a", "b.md"), ("`c`", "d.rs"), ("picture", "e.png")]);
    }

    #[test]
    fn a_heading_has_the_anchor_that_readers_see() {
        let found = anchors("# The controller's disk\n\n### Cordon, lock, remove\ntext # no\n");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["cordon-lock-remove", "the-controllers-disk"]
        );
    }

    #[test]
    fn what_is_not_there_is_named() -> Result<()> {
        let root = tempfile::tempdir()?;
        fs::create_dir(root.path().join("docs"))?;
        fs::write(root.path().join("docs/other.md"), "## Here\n")?;
        fs::write(root.path().join("tests.rs"), "fn it_holds() {}\n")?;
        let page = |text: &str| Page {
            path: "docs/page.md".into(),
            text: text.to_owned(),
        };
        let good = "[o](other.md) [h](other.md#here) [p](#top) [`it_holds`](../tests.rs) [w](https://example.org/)\n\n# Top\n";
        assert_eq!(wrong_links(root.path(), &page(good))?, Vec::<String>::new());
        for bad in ["[o](none.md)", "[h](other.md#there)", "[`it_fails`](../tests.rs)"] {
            assert_eq!(wrong_links(root.path(), &page(bad))?.len(), 1, "{bad}");
        }
        Ok(())
    }

    #[test]
    fn a_log_line_that_no_program_writes_is_named() {
        let sources = [Source {
            path: "a.rs".into(),
            text: "tracing::error!(%error, \"it broke; more\");".into(),
        }];
        let page = |line: &str| format!("## Lines\n\n| line | do |\n|---|---|\n| `{line}` | look |\n\n## Next\n");
        assert_eq!(unknown_log_lines(&page("it broke"), "## Lines", &sources), Vec::<String>::new());
        assert_eq!(unknown_log_lines(&page("it bent"), "## Lines", &sources).len(), 1);
        assert_eq!(unknown_log_lines("", "## Lines", &sources).len(), 1);
    }
}
