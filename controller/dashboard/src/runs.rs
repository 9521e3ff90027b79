//! A run as one line of a list.

use proto_model::summary::RunSummary;
use proto_model::verdict::Verdict;
use proto_telling::stretch;

/// The newest come first; their order is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLine {
    pub id: String,
    pub name: String,
    pub environment: String,
    pub service: String,
    pub by: String,
    pub began: String,
    pub took: String,
    pub verdict: &'static str,
    pub tone: &'static str,
    pub cleanup: &'static str,
    pub cleanup_tone: &'static str,
}

impl RunLine {
    pub fn of(run: &RunSummary) -> Self {
        let verdict = run.verdict.map_or("running", Verdict::as_str);
        let tone = |word: &str| controller_report::html::Tone::of(word).class();
        Self {
            id: run.id.to_string(),
            name: run.name.clone(),
            environment: run.environment.clone(),
            service: run.service.clone().unwrap_or_else(|| "-".to_owned()),
            by: run.by.clone(),
            began: run.created_at.to_string(),
            took: run.finished_at.map_or("-".to_owned(), |end| stretch(end.since(run.created_at))),
            verdict,
            tone: tone(verdict),
            cleanup: run.cleanup.as_str(),
            cleanup_tone: tone(run.cleanup.as_str()),
        }
    }
}
