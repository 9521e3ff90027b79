//! Every page there is: the only list of them, and nothing is decided by it.

mod mount;
mod now;
pub(crate) mod page;
mod run;

use axum::Router;

use crate::http::doorway::PagesDoor;

type Mount = fn(Router<PagesDoor>) -> Router<PagesDoor>;

const PAGES: &[Mount] = &[mount::mount::<now::NowPage>, mount::mount::<run::RunPage>];

/// All pages and their updates, for readers who are signed in.
pub(crate) fn routes() -> Router<PagesDoor> {
    PAGES.iter().fold(Router::new(), |router, mount| mount(router))
}
