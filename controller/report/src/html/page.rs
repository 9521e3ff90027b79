//! A page that stands alone: no script, nothing from elsewhere, every text escaped by the one template; it knows no run.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use sha2::Digest;

use super::picture::Picture;

/// How pages look; the dashboard serves the same beside its own.
pub const STYLE: &str = include_str!("../../templates/page.css");

/// As a content security policy names it.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| {
    let digest = sha2::Sha256::digest(STYLE.as_bytes());
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(digest))
});

/// What a word means to the reader; it is never told by colour alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Dull,
}

impl Tone {
    pub fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Dull => "dull",
        }
    }

    /// The tone of a verdict, a state of a host, or a standing.
    pub fn of(word: &str) -> Self {
        match word {
            "passed" | "proven" | "clean" | "holds" | "yes" | "done" | "confirmed" => Self::Good,
            "failed" | "error" | "dirty" | "unproven" | "missing" | "no" | "faulted" | "undo_failed" => Self::Bad,
            "inconclusive" | "aborted" | "not evaluated" | "-" | "cannot say" | "skipped" => Self::Dull,
            _ => Self::Plain,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
    pub href: Option<String>,
}

impl Cell {
    /// A word in the tone of what it says.
    pub fn word(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            tone: Tone::of(&text),
            text,
            href: None,
        }
    }

    pub fn link(text: impl Into<String>, href: impl Into<String>) -> Self {
        Self {
            href: Some(href.into()),
            ..Self::word(text)
        }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.to_string(),
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn of(head: &[&str], rows: Vec<Vec<Cell>>) -> Self {
        Self {
            caption: String::new(),
            head: head.iter().map(|text| (*text).to_owned()).collect(),
            rows,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Section {
    pub title: String,
    pub text: Vec<String>,
    pub picture: Option<Picture>,
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub text: String,
    pub href: String,
}

#[derive(Debug, Clone, Default)]
pub struct Page {
    pub title: String,
    pub mark: Option<Cell>,
    pub lead: Vec<String>,
    pub up: Option<Link>,
    pub sections: Vec<Section>,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Rendered<'a> {
    page: &'a Page,
    style: &'static str,
    style_hash: &'a str,
}

/// The part between header and footer, for pages that stand in a larger one.
#[derive(Template)]
#[template(path = "main.html")]
struct Main<'a> {
    page: &'a Page,
}

impl Page {
    pub fn main(&self) -> String {
        Main { page: self }.render().unwrap_or_default()
    }

    pub fn html(&self) -> String {
        let rendered = Rendered {
            page: self,
            style: STYLE,
            style_hash: &STYLE_HASH,
        };
        // Rendering into memory fails only when a Display does, and none of ours can.
        rendered.render().unwrap_or_default()
    }
}
