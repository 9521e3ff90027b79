//! What every page has around it: who is signed in, where to go, what to load. It holds no secret but the form's own.

use askama::Template;

use crate::assets::{SCRIPT, STYLE};

/// The signed-in reader and the page's own form secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub caller: String,
    pub role: String,
    /// Sent along with every form, so that no other site can send one.
    pub form_secret: String,
    pub version: String,
    /// The navigation bar.
    pub pages: Vec<PageLink>,
}

/// A page that the bar leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageLink {
    pub name: &'static str,
    pub path: &'static str,
    /// It is the one that is shown.
    pub here: bool,
}

impl Frame {
    pub fn style(&self) -> &'static str {
        &STYLE.path
    }

    pub fn script(&self) -> &'static str {
        &SCRIPT.path
    }
}

/// The door.
#[derive(Debug, Clone, Default, Template)]
#[template(path = "sign_in.html")]
pub struct SignIn {
    /// Why the last try did not succeed.
    pub refused: Option<String>,
}

impl SignIn {
    pub fn html(&self) -> String {
        self.render().unwrap_or_default()
    }

    fn style(&self) -> &'static str {
        &STYLE.path
    }
}

/// A page that says one thing: what went wrong, or what was done.
#[derive(Debug, Clone, Template)]
#[template(path = "notice.html")]
pub struct Notice {
    pub title: String,
    pub text: String,
}

impl Notice {
    pub fn html(&self) -> String {
        self.render().unwrap_or_default()
    }

    fn style(&self) -> &'static str {
        &STYLE.path
    }
}
