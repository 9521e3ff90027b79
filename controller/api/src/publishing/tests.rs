//! What a reader is sent that has a site already, over a real store.

use std::collections::BTreeMap;

use proto_model::event::{EventBody, NewEvent, RunPhase};
use proto_model::role::Role;
use proto_wire::v1::evidence_server::Evidence;
use proto_wire::v1::{PagesRequest, PublishRequest, SiteMonth};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::Request;

use super::*;
use crate::caller::{Caller, Credential};
use crate::history::tests::{accepted, amended, append, compact, event, judged, with_service};
use crate::http::tests::{NOW, World};

const DAY_MS: i64 = 86_400_000;

/// A finished run of the service, so many days ago.
async fn a_run(world: &World, days: i64) -> RunId {
    let random = &mut StdRng::seed_from_u64(7);
    let mut beginning = serde_json::to_value(accepted(random)).unwrap();
    beginning["plan"]["service"] = "web".into();
    beginning["plan"]["origin"] = "experiment".into();
    let beginning = serde_json::from_value(beginning).unwrap();
    let finished = EventBody::RunPhase {
        from: RunPhase::Verifying,
        to: RunPhase::Finished,
    };
    let at = NOW.0 - days * DAY_MS;
    let events: Vec<NewEvent> = [(0, beginning), (10, judged(random)), (11, finished)]
        .map(|(ms, body)| event(at + ms, body))
        .into();
    let run = RunId::generate();
    append(world, &run, events).await;
    run
}

/// The files by path, and the last message.
async fn site(world: &World, request: SiteRequest) -> (BTreeMap<String, SiteFile>, SiteFile) {
    let stream = world.api.site(Request::new(request)).await.unwrap().into_inner();
    let mut sent: Vec<SiteFile> = stream.map(Result::unwrap).collect().await;
    let last = sent.pop().unwrap();
    (sent.into_iter().map(|file| (file.path.clone(), file)).collect(), last)
}

/// As a reader asks that has all of a site.
fn having((files, last): &(BTreeMap<String, SiteFile>, SiteFile)) -> SiteRequest {
    let history: Value = serde_json::from_str(&files["history.json"].text).unwrap();
    let months = history["services"][0]["months"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let known = months.iter().map(|month| SiteMonth {
        path: text(&month["path"]),
        digest: text(&month["digest"]),
    });
    SiteRequest {
        apart: true,
        maker: last.maker.clone(),
        known: known.collect(),
    }
}

fn below<'a>(files: &'a BTreeMap<String, SiteFile>, folder: &str) -> Vec<&'a str> {
    files.keys().map(String::as_str).filter(|path| path.starts_with(folder)).collect()
}

#[tokio::test]
async fn after_nothing_changed_no_event_is_read_and_no_month_is_made() {
    let world = with_service().await;
    a_run(&world, 1).await;
    a_run(&world, 2).await;
    let whole = site(&world, SiteRequest::default()).await;
    assert_eq!((below(&whole.0, "runs/").len(), below(&whole.0, "history/").len()), (2, 2));
    let other = rusqlite::Connection::open(world.store_file()).unwrap();
    // Whoever reads an event from now on fails, and a month that is made of its runs again is another one.
    let spoil = "DROP TRIGGER month_of_changed; DROP TRIGGER month_of_before; UPDATE events SET event = 'no event'; \
        UPDATE summaries SET seq = 99";
    other.execute_batch(spoil).unwrap();
    let (again, last) = site(&world, having(&whole)).await;
    let apart = |path: &str| !path.starts_with("runs/") && !path.starts_with("history/");
    let rest: BTreeMap<String, SiteFile> = whole
        .0
        .iter()
        .filter(|(path, _)| apart(path))
        .map(|(p, f)| (p.clone(), f.clone()))
        .collect();
    assert_eq!((again, &last), (rest, &whole.1));
    let request = PublishRequest {
        place: "here".to_owned(),
        digest: last.digest,
    };
    let mut request = Request::new(request);
    let ann = Caller::new("ann", "local".to_owned(), Role::Operator, Credential::Socket);
    request.extensions_mut().insert(ann);
    world.api.publish(request).await.unwrap();
}

#[tokio::test]
async fn a_site_of_compacted_runs_is_the_same_site() {
    let world = with_service().await;
    for days in [1, 2, 40] {
        a_run(&world, days).await;
    }
    let whole = site(&world, SiteRequest::default()).await;
    compact(&world).await;
    let other = rusqlite::Connection::open(world.store_file()).unwrap();
    let rows = other.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0));
    assert_eq!(rows.unwrap(), 0);
    assert_eq!(site(&world, SiteRequest::default()).await, whole);
}

#[tokio::test]
async fn a_late_event_changes_its_run_s_month_and_no_other() {
    let world = with_service().await;
    let (late, other) = (a_run(&world, 1).await, a_run(&world, 12).await);
    a_run(&world, 2).await;
    let whole = site(&world, SiteRequest::default()).await;
    assert_eq!(below(&whole.0, "history/").len(), 4, "they are of two months");
    append(&world, &late, amended(&mut StdRng::seed_from_u64(7), NOW.0)).await;
    let (changed, _) = site(&world, having(&whole)).await;
    assert_eq!(
        below(&changed, "history/"),
        ["history/web/1970-01.html", "history/web/1970-01.json"]
    );
    assert_eq!(below(&changed, "runs/"), Vec::<&str>::new());
    let data: Value = serde_json::from_str(&changed["history/web/1970-01.json"].text).unwrap();
    let events: Vec<_> = data["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["events"].as_u64().unwrap())
        .collect();
    assert_eq!(events, [5, 3]);
    let runs = [&late, &other].map(|run| run.to_string()).into();
    let pages = world.api.pages(Request::new(PagesRequest { runs })).await.unwrap().into_inner();
    let pages: Vec<SiteFile> = pages.map(Result::unwrap).collect().await;
    assert_eq!(pages.iter().map(|page| page.events).collect::<Vec<_>>(), [5, 3]);
    assert_eq!(pages[1], whole.0[&pages[1].path]);
}

#[tokio::test]
async fn what_another_version_made_is_made_anew() {
    let world = with_service().await;
    a_run(&world, 1).await;
    let whole = site(&world, SiteRequest::default()).await;
    let request = SiteRequest {
        maker: "fracas 0.0.1, pages 1".to_owned(),
        ..having(&whole)
    };
    assert_eq!(below(&site(&world, request).await.0, "history/").len(), 2);
    // The lines that it kept of months as well.
    let other = rusqlite::Connection::open(world.store_file()).unwrap();
    let kept = other.execute(
        "UPDATE months SET made = replace(made, '\"maker\":\"fracas', '\"maker\":\"another')",
        [],
    );
    assert_eq!(kept.unwrap(), 1);
    other
        .execute("UPDATE months SET made = replace(made, '\"runs\":1', '\"runs\":7')", [])
        .unwrap();
    assert_eq!(site(&world, SiteRequest::default()).await, whole);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up() {
    let (reader, mut taken) = mpsc::channel(1);
    let file = || Ok(SiteFile::default());
    let within = Duration::from_millis(20);
    pass(&reader, file(), within).await.unwrap();
    let error = pass(&reader, file(), within).await.unwrap_err();
    assert!(error.0.message.contains("took nothing"), "{}", error.0.message);
    taken.recv().await.unwrap().unwrap();
    pass(&reader, file(), within).await.unwrap();
    drop(taken);
    let error = pass(&reader, file(), within).await.unwrap_err();
    assert!(error.0.message.contains("is gone"), "{}", error.0.message);
}
