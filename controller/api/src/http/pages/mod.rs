//! Every page there is: the only list of them, and nothing is decided by it.

mod mount;
mod now;
pub(crate) mod page;
mod run;

use axum::{Extension, Router};

use crate::http::doorway::PagesDoor;
use crate::http::pages::page::{Bar, InBar, Page};

type Mount = fn(Router<PagesDoor>) -> Router<PagesDoor>;

/// A page at its path, and in the navigation bar where it has a name there.
struct Listed {
    mount: Mount,
    in_bar: Option<InBar>,
}

const fn listed<P: Page>() -> Listed {
    Listed {
        mount: mount::mount::<P>,
        in_bar: InBar::of::<P>(),
    }
}

const PAGES: &[Listed] = &[listed::<now::NowPage>(), listed::<run::RunPage>()];

/// All pages and their updates, for readers who are signed in.
pub(crate) fn routes() -> Router<PagesDoor> {
    let bar: Bar = PAGES.iter().filter_map(|page| page.in_bar).collect();
    PAGES
        .iter()
        .fold(Router::new(), |router, page| (page.mount)(router))
        .layer(Extension(bar))
}
