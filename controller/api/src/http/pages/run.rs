//! One run: its picture, its steps, what was seen and how each host was proven clean, as the report tells it; followed until it is judged.

use askama::Template;
use controller_dashboard::Frame;
use proto_model::event::Event;

use crate::error::{ApiError, ApiResult};
use crate::http::doorway::PagesDoor;
use crate::http::pages::page::{Page, Reader};

pub(crate) struct RunPage;

pub(crate) struct Data {
    id: String,
    name: String,
    events: Vec<Event>,
    finished: bool,
}

#[derive(Template)]
#[template(path = "run.html")]
struct Whole<'a> {
    frame: &'a Frame,
    id: &'a str,
    name: &'a str,
    middle: String,
    finished: bool,
}

impl Page for RunPage {
    const PATH: &'static str = "/runs/{run}";
    const NAME: Option<&'static str> = None;
    const SEES: &'static [&'static str] = &["/fracas.v1.Runs/Show"];
    type Data = Data;

    /// By id, prefix or `@last`.
    async fn load(door: &PagesDoor, reader: &Reader) -> ApiResult<Data> {
        let store = &door.api.0.store;
        let text = reader.named("run").to_owned();
        let run = store.call(move |store| store.find_run(&text)).await?;
        let id = run.clone();
        let events = store.call(move |store| store.run_events(&id, 1)).await?;
        let folded = controller_report::fold(&events);
        let folded = folded.ok_or_else(|| ApiError::new("store", format!("run {run} has no beginning in the store")))?;
        Ok(Data {
            id: folded.id.to_string(),
            name: folded.name,
            finished: folded.verdict.is_some(),
            events,
        })
    }

    fn html(reader: &Reader, data: &Data) -> ApiResult<String> {
        let page = Whole {
            frame: &reader.frame,
            id: &data.id,
            name: &data.name,
            middle: Self::part(reader, data, "middle")?,
            finished: data.finished,
        };
        page.render().map_err(ApiError::drawing)
    }

    fn part(_reader: &Reader, data: &Data, _part: &str) -> ApiResult<String> {
        let page = controller_report::html::page(&data.events, None);
        let page = page.ok_or_else(|| ApiError::new("store", format!("run {} has no beginning in the store", data.id)))?;
        Ok(page.main())
    }

    fn same(_part: &str, before: &Data, after: &Data) -> bool {
        let last = |data: &Data| data.events.last().map(|event| event.seq);
        last(before) == last(after)
    }

    fn concerns(data: &Data, event: &Event) -> bool {
        event.run_id.to_string() == data.id
    }

    fn is_over(data: &Data) -> bool {
        data.finished
    }
}
