//! A site as the controller sends it, into a folder: months and pages that stand there as they are to be are neither made nor sent.

use std::collections::{BTreeMap, BTreeSet};

use proto_wire::v1::{PagesRequest, SiteFile, SiteMonth, SiteRequest};
use serde::Deserialize;
use tonic::Streaming;

use crate::catalogue::PageOfRun;
use crate::client::{ASK, Client, DEED};
use crate::failure::Failure;
use crate::folder::SiteFolder;

/// The file over which the site's digest is.
const HISTORY: &str = "history.json";
/// The most months that a request names; the controller makes the others anew.
const MOST_KNOWN: usize = 4_000;
/// Pages that are asked for at a time.
const AT_ONCE: usize = 500;

/// What made the site, and its digest, held against what stands in the folder.
pub async fn fetch(client: &Client, folder: &mut SiteFolder) -> Result<(String, String), Failure> {
    let request = SiteRequest {
        apart: true,
        maker: folder.before().maker.clone(),
        known: known(folder),
    };
    let mut stream = client.call("make the site", DEED, client.evidence().site(request)).await?;
    let mut pages = BTreeMap::new();
    let last = loop {
        let file = next(&mut stream).await?;
        let file = file.ok_or_else(|| Failure::unreachable("the site broke off before its end; nothing was published"))?;
        if !file.digest.is_empty() {
            break file;
        }
        if is_month(&file.path) {
            pages.extend(listed(&file.path, &file.text)?);
        }
        folder.put(&file.path, &file.text, None)?;
        if file.path == HISTORY {
            pages.extend(kept_months(folder, &file.text)?);
        }
    };
    if folder.digest(HISTORY) != Some(&last.digest) {
        return Err(Failure::local(
            "what was written is not the site that was made; nothing was published",
        ));
    }
    // Pages that another version made are made anew.
    let same = !last.maker.is_empty() && last.maker == folder.before().maker;
    let mut lacking = Vec::new();
    for (path, page) in pages {
        let sent = folder.digest(&path).is_some();
        let stands = sent || same && keep_page(folder, &path, &page);
        if !stands {
            lacking.push((path, page));
        }
    }
    for some in lacking.chunks(AT_ONCE) {
        fetch_pages(client, folder, some).await?;
    }
    Ok((last.maker, last.digest))
}

/// The months that stand in the folder, with the page of each.
fn known(folder: &SiteFolder) -> Vec<SiteMonth> {
    let entries = &folder.before().entries;
    let months = entries
        .values()
        .rev()
        .filter(|entry| is_month(&entry.path) && entries.contains_key(&page_of(&entry.path)));
    let known = months.take(MOST_KNOWN).map(|entry| SiteMonth {
        path: entry.path.clone(),
        digest: entry.digest.clone(),
    });
    known.collect()
}

fn is_month(path: &str) -> bool {
    path.starts_with("history/") && path.ends_with(".json")
}

/// The page beside a month's data.
fn page_of(month: &str) -> String {
    month.trim_end_matches(".json").to_owned() + ".html"
}

#[derive(Deserialize)]
struct History {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    months: Vec<MonthLine>,
}

#[derive(Deserialize)]
struct MonthLine {
    path: String,
    digest: String,
}

#[derive(Deserialize)]
struct Month {
    runs: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    page: String,
    /// Older controllers do not say, and send every page.
    #[serde(default)]
    events: u64,
}

/// The pages of a month that was sent.
fn listed(path: &str, text: &str) -> Result<Vec<(String, PageOfRun)>, Failure> {
    let month: Month = serde_json::from_str(text).map_err(|error| Failure::local(format!("cannot read {path} of the site: {error}")))?;
    let pages = month.runs.into_iter().map(|run| {
        let page = PageOfRun {
            events: run.events,
            month: path.to_owned(),
        };
        (run.page, page)
    });
    Ok(pages.collect())
}

/// Takes over the months that were not sent because they stand there, and returns their pages.
fn kept_months(folder: &mut SiteFolder, history: &str) -> Result<Vec<(String, PageOfRun)>, Failure> {
    let history: History =
        serde_json::from_str(history).map_err(|error| Failure::local(format!("cannot read {HISTORY} of the site: {error}")))?;
    let mut kept = BTreeSet::new();
    for month in history.services.into_iter().flat_map(|service| service.months) {
        if folder.digest(&month.path).is_none() && folder.keep(&month.path) && folder.keep(&page_of(&month.path)) {
            kept.insert(month.path.clone());
        }
        if folder.digest(&month.path) != Some(&month.digest) {
            return Err(gone_on());
        }
    }
    let before = folder.before();
    let pages = before.entries.values().chain(&before.spoiled);
    let pages = pages.filter_map(|entry| Some((entry.path.clone(), entry.run.clone()?)));
    Ok(pages.filter(|(_, page)| kept.contains(&page.month)).collect())
}

/// Takes over a page that tells of as many events as it should.
fn keep_page(folder: &mut SiteFolder, path: &str, page: &PageOfRun) -> bool {
    let known = folder.before().entries.get(path);
    let same = known.is_some_and(|known| known.run.as_ref() == Some(page));
    same && folder.keep(path)
}

async fn fetch_pages(client: &Client, folder: &mut SiteFolder, pages: &[(String, PageOfRun)]) -> Result<(), Failure> {
    let id = |path: &str| path.trim_start_matches("runs/").trim_end_matches(".html").to_owned();
    let request = PagesRequest {
        runs: pages.iter().map(|(path, _)| id(path)).collect(),
    };
    let mut wanted: BTreeMap<&str, &PageOfRun> = pages.iter().map(|(path, page)| (path.as_str(), page)).collect();
    let mut stream = client
        .call("make pages of the site", DEED, client.evidence().pages(request))
        .await?;
    while let Some(file) = next(&mut stream).await? {
        let Some(page) = wanted.remove(file.path.as_str()) else {
            return Err(Failure::local(format!(
                "the controller sent {:?}, which was not requested",
                file.path
            )));
        };
        let page = PageOfRun {
            events: file.events,
            ..page.clone()
        };
        folder.put(&file.path, &file.text, Some(page))?;
    }
    if wanted.is_empty() { Ok(()) } else { Err(gone_on()) }
}

fn gone_on() -> Failure {
    Failure::local("the log has gone on since the site was made, so that parts of it differ; nothing was published; publish again")
}

async fn next(stream: &mut Streaming<SiteFile>) -> Result<Option<SiteFile>, Failure> {
    let next = tokio::time::timeout(ASK, stream.message()).await;
    let next = next.map_err(|_| Failure::unreachable("cannot read the site: the controller does not answer"))?;
    next.map_err(|status| Failure::of_call("read the site", &status))
}
