//! What a page is: its path, who may see it, what it reads and how that is drawn, once and again while it is followed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use controller_dashboard::{Frame, PageLink};
use proto_model::event::Event;

use crate::error::{ApiError, ApiResult};
use crate::http::doorway::PagesDoor;
use crate::http::guard::allowed;
use crate::http::sessions::Session;

/// A look that takes longer is no look.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The navigation bar: every page that has a name there, in the order of the list of pages.
pub(crate) type Bar = Arc<[InBar]>;

/// A page's place in the navigation bar.
#[derive(Clone, Copy)]
pub(crate) struct InBar {
    name: &'static str,
    path: &'static str,
    sees: &'static [&'static str],
}

impl InBar {
    pub const fn of<P: Page>() -> Option<Self> {
        match P::NAME {
            Some(name) => Some(Self {
                name,
                path: P::PATH,
                sees: P::SEES,
            }),
            None => None,
        }
    }
}

/// The reader of a page, and what its path names.
pub(crate) struct Reader {
    pub session: Session,
    pub frame: Frame,
    named: HashMap<String, String>,
}

impl Reader {
    /// Of a page `P`. The bar leads to the pages that the reader may see.
    pub fn of<P: Page>(session: Session, bar: &Bar, named: HashMap<String, String>) -> Self {
        let may = |page: &&InBar| page.sees.iter().all(|call| allowed(&session, call).is_ok());
        let link = |page: &InBar| PageLink {
            name: page.name,
            path: page.path,
            here: page.path == P::PATH,
        };
        let frame = Frame {
            pages: bar.iter().filter(may).map(link).collect(),
            caller: session.caller.name.clone(),
            role: session.caller.role.as_str().to_owned(),
            form_secret: session.form_secret.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Self { session, frame, named }
    }

    /// What stands in the path in the place of `{name}`.
    pub fn named(&self, name: &str) -> &str {
        self.named.get(name).map_or("", String::as_str)
    }

    /// Whether the reader's role may make this call.
    pub fn may(&self, call: &str) -> bool {
        allowed(&self.session, call).is_ok()
    }
}

/// One page. Implementations live one per file, each with a template, and are listed in `PAGES`.
pub(crate) trait Page: Send + Sync + 'static {
    /// Such as `/runs/{run}`. Its updates are at the same path with `/live` after it.
    const PATH: &'static str;
    /// In the navigation bar; a page of one thing, which its path names, has none.
    const NAME: Option<&'static str>;
    /// Calls of the access table that a reader must be allowed to make.
    const SEES: &'static [&'static str];
    type Data: Send + Sync + 'static;

    fn load(door: &PagesDoor, reader: &Reader) -> impl Future<Output = ApiResult<Self::Data>> + Send;
    /// Why a part of it could not be read; the page is refused then, and while it is followed its readable parts go on.
    fn unread(_data: &Self::Data) -> Option<&ApiError> {
        None
    }
    fn html(reader: &Reader, data: &Self::Data) -> ApiResult<String>;
    /// Names of the parts that are drawn again while the page is followed. The main one is `middle`.
    const PARTS: &'static [&'static str] = &["middle"];
    fn part(reader: &Reader, data: &Self::Data, part: &str) -> ApiResult<String>;
    /// Whether a part tells the same as before.
    fn same(part: &str, before: &Self::Data, after: &Self::Data) -> bool;
    /// What a reader has after this look: parts that could not be read are those from before.
    fn shown(_before: Self::Data, after: Self::Data) -> Self::Data {
        after
    }
    /// Whether an event can have changed what the page tells.
    fn concerns(_data: &Self::Data, _event: &Event) -> bool {
        true
    }
    /// Whether nothing can change any more.
    fn is_over(_data: &Self::Data) -> bool {
        false
    }
}

/// Reads what a page tells, if its reader may see it and the store answers in time.
pub(crate) async fn read<P: Page>(door: &PagesDoor, reader: &Reader) -> ApiResult<P::Data> {
    for call in P::SEES {
        allowed(&reader.session, call)?;
    }
    in_time(P::load(door, reader)).await
}

/// For pages that go on telling other things while one cannot be read.
pub(crate) async fn in_time<T>(reading: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
    let late = |_| ApiError::new("store", "the store does not answer");
    tokio::time::timeout(READ_WITHIN, reading).await.map_err(late).flatten()
}
