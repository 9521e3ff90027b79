//! The first page: what acts now and until when, the hosts, the newest runs, and the halt.

use askama::Template;
use controller_dashboard::{Acting, Frame, Known, RunLine, StopForms};
use controller_report::RunState;
use proto_model::halt::HaltState;

use crate::error::{ApiError, ApiResult};
use crate::http::calls::RELEASES;
use crate::http::doorway::PagesDoor;
use crate::http::pages::page::{Page, Reader, in_time};

/// Runs on the page.
const RUNS: u32 = 20;
const STOP: &str = "stop";

pub(crate) struct NowPage;

/// The halt is known even while the store does not answer.
pub(crate) struct Data {
    halt: HaltState,
    known: ApiResult<Known>,
}

#[derive(Template)]
#[template(path = "now.html")]
struct Whole<'a> {
    frame: &'a Frame,
    forms: String,
    known: &'a Known,
}

impl Page for NowPage {
    const PATH: &'static str = "/now";
    const NAME: Option<&'static str> = Some("Now");
    const SEES: &'static [&'static str] = &["/fracas.v1.Emergency/Status", "/fracas.v1.Hosts/List", "/fracas.v1.Runs/List"];
    const PARTS: &'static [&'static str] = &[STOP, "middle"];
    type Data = Data;

    async fn load(door: &PagesDoor, _reader: &Reader) -> ApiResult<Data> {
        let halt = door.api.0.runs.halt_state();
        let known = in_time(known(door)).await;
        Ok(Data { halt, known })
    }

    fn unread(data: &Data) -> Option<&ApiError> {
        data.known.as_ref().err()
    }

    fn html(reader: &Reader, data: &Data) -> ApiResult<String> {
        let known = data.known.as_ref().map_err(Clone::clone)?;
        let page = Whole {
            frame: &reader.frame,
            forms: forms(reader, &data.halt),
            known,
        };
        page.render().map_err(ApiError::drawing)
    }

    fn part(reader: &Reader, data: &Data, part: &str) -> ApiResult<String> {
        match part {
            STOP => Ok(forms(reader, &data.halt)),
            _ => Ok(data.known.as_ref().map_err(Clone::clone)?.html()),
        }
    }

    fn same(part: &str, before: &Data, after: &Data) -> bool {
        match (part, &before.known, &after.known) {
            (STOP, ..) => before.halt == after.halt,
            (_, Ok(before), Ok(after)) => before.tells_the_same_as(after),
            (_, _, after) => after.is_err(),
        }
    }

    fn shown(before: Data, after: Data) -> Data {
        Data {
            halt: after.halt,
            known: after.known.or(before.known),
        }
    }
}

fn forms(reader: &Reader, halt: &HaltState) -> String {
    let forms = StopForms {
        frame: &reader.frame,
        halt,
        may_release: reader.may(RELEASES),
    };
    forms.html()
}

async fn known(door: &PagesDoor) -> ApiResult<Known> {
    let now = door.api.0.runs.now();
    let (store, hosts) = (&door.api.0.store, door.api.0.voice.hosts());
    let mut acting = Vec::new();
    for row in store.call(|store| store.runs(u32::MAX, true)).await? {
        let id = row.id.clone();
        let events = store.call(move |store| store.run_events(&id, 1)).await?;
        acting.extend(RunState::of(&events).iter().flat_map(Acting::of));
    }
    let mut runs = Vec::new();
    for page in store.call(|store| store.run_pages(RUNS, false)).await? {
        runs.push(RunLine::of(&door.api.summary(page).await?));
    }
    Ok(Known::of(now, acting, &hosts, runs))
}
