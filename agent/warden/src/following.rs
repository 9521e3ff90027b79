//! Looks again and again at names and groups on which faults stand while they act; it never waits for a name on the warden's own thread.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use agent_faults::{Answers, GroupSeen};
use agent_view::{HostView, UnifiedGroup};

/// Between two looks at the names of one injection.
const EVERY_MS: u64 = 5_000;
/// Between two looks at its groups.
const GROUPS_EVERY_MS: u64 = 250;
/// Names of one injection that are followed; each look takes a second at most.
const MOST_NAMES: usize = 64;
/// Until answers that could not be applied are tried again; the pause doubles up to the longest.
const FIRST_RETRY_MS: u64 = 1_000;
const LONGEST_RETRY_MS: u64 = 60_000;
const STACK_BYTES: usize = 128 * 1024;

/// What each name was looked up to be.
type Names = BTreeMap<String, Result<Vec<IpAddr>, String>>;

/// The names and groups of one injection.
pub(crate) struct Following {
    names: Vec<String>,
    next_ms: u64,
    /// A look is under way; there is never more than one.
    answers: Option<Receiver<Names>>,
    groups: Vec<Group>,
    unapplied: Option<Box<Unapplied>>,
    failing: Option<Box<Failing>>,
}

/// Answers that the fault could not follow; no later look would find them, since nothing has changed since.
struct Unapplied {
    answers: Answers,
    kept_ms: u64,
}

impl Unapplied {
    /// Together with what was found since; a group counts as unnoticed for all of this time.
    fn joined_by(self, news: Option<Answers>, now_ms: u64) -> Answers {
        let mut all = self.answers;
        let waited_ms = now_ms.saturating_sub(self.kept_ms);
        all.groups
            .values_mut()
            .for_each(|seen| seen.since_ms = seen.since_ms.saturating_add(waited_ms));
        let news = news.unwrap_or_default();
        all.names.extend(news.names);
        for (path, newer) in news.groups {
            let since_ms = all.groups.get(&path).map_or(newer.since_ms, |older| older.since_ms);
            all.groups.insert(path, GroupSeen { since_ms, ..newer });
        }
        all
    }
}

/// The tries to apply answers of which none has succeeded yet.
struct Failing {
    since_ms: u64,
    /// What the last one failed with.
    error: String,
    pause_ms: u64,
}

/// The path of a group, and what was there at the last look.
struct Group {
    path: String,
    looked_ms: u64,
    seen: Option<Result<Option<UnifiedGroup>, String>>,
}

impl Group {
    /// What is there now, when it is not what was there before.
    fn look(&mut self, now_ms: u64, view: &dyn HostView) -> Option<(String, GroupSeen)> {
        let now = view
            .unified_group(&self.path)
            .map_err(|error| format!("could not {error}: {}", error.source));
        let since_ms = now_ms.saturating_sub(self.looked_ms);
        self.looked_ms = now_ms;
        let is_news = self.seen.as_ref() != Some(&now);
        self.seen = Some(now.clone());
        is_news.then(|| (self.path.clone(), GroupSeen { now, since_ms }))
    }
}

impl Following {
    pub(crate) fn new(mut names: Vec<String>, groups: Vec<String>, now_ms: u64) -> Self {
        names.sort();
        names.dedup();
        if names.len() > MOST_NAMES {
            tracing::warn!(names = names.len(), followed = MOST_NAMES, "not every name is looked up again");
            names.truncate(MOST_NAMES);
        }
        let group = |path| Group {
            path,
            looked_ms: now_ms,
            seen: None,
        };
        Self {
            names,
            next_ms: now_ms + EVERY_MS,
            answers: None,
            groups: groups.into_iter().map(group).collect(),
            unapplied: None,
            failing: None,
        }
    }

    /// Takes back answers that could not be applied, to be given again with the next ones. True when the last try failed otherwise, or did
    /// not fail.
    pub(crate) fn keep(&mut self, answers: Answers, now_ms: u64, error: &str) -> bool {
        let last = self.failing.take();
        let is_news = last.as_ref().is_none_or(|last| last.error != error);
        self.failing = Some(Box::new(Failing {
            since_ms: last.as_ref().map_or(now_ms, |last| last.since_ms),
            error: error.to_owned(),
            pause_ms: last.map_or(FIRST_RETRY_MS, |last| (last.pause_ms * 2).min(LONGEST_RETRY_MS)),
        }));
        self.unapplied = Some(Box::new(Unapplied { answers, kept_ms: now_ms }));
        is_news
    }

    /// The answers that were given last have been applied.
    pub(crate) fn applied(&mut self) {
        self.failing = None;
    }

    /// What could not be followed up to now, in words.
    pub(crate) fn gap(&self, now_ms: u64) -> Option<String> {
        let Failing { since_ms, error, .. } = self.failing.as_deref()?;
        let ms = now_ms.saturating_sub(*since_ms);
        Some(format!(
            "what it stands on has moved, and could not be followed for {ms} ms: {error}"
        ))
    }

    /// When answers that could not be applied are tried again.
    fn retry_at_ms(&self) -> Option<u64> {
        let (unapplied, failing) = (self.unapplied.as_ref()?, self.failing.as_ref()?);
        Some(unapplied.kept_ms.saturating_add(failing.pause_ms))
    }

    /// When groups are to be looked at again. Names may wait until something else is due.
    pub(crate) fn next_due_ms(&self) -> u64 {
        let looked = self.groups.iter().map(|group| group.looked_ms).min();
        let due = looked.map_or(u64::MAX, |looked| looked.saturating_add(GROUPS_EVERY_MS));
        due.max(self.retry_at_ms().unwrap_or(0))
    }

    /// Names that were looked up, and groups that are others now.
    pub(crate) fn poll(&mut self, now_ms: u64, view: &Arc<dyn HostView>) -> Option<Answers> {
        if self.retry_at_ms().is_some_and(|retry_ms| now_ms < retry_ms) {
            return None;
        }
        let names = self.poll_names(now_ms, view);
        let groups: BTreeMap<String, GroupSeen> = self
            .groups
            .iter_mut()
            .filter_map(|group| group.look(now_ms, view.as_ref()))
            .collect();
        let news = (names.is_some() || !groups.is_empty()).then(|| Answers {
            names: names.unwrap_or_default(),
            groups,
        });
        match self.unapplied.take() {
            Some(unapplied) => Some(unapplied.joined_by(news, now_ms)),
            None => news,
        }
    }

    /// Answers of a look that has ended; otherwise begins one when it is time.
    fn poll_names(&mut self, now_ms: u64, view: &Arc<dyn HostView>) -> Option<Names> {
        if let Some(receiver) = &self.answers {
            let answer = receiver.try_recv();
            if !matches!(answer, Err(TryRecvError::Empty)) {
                self.answers = None;
            }
            return answer.ok();
        }
        if !self.names.is_empty() && now_ms >= self.next_ms {
            self.next_ms = now_ms + EVERY_MS;
            self.answers = look_up(self.names.clone(), view.clone());
        }
        None
    }
}

fn look_up(names: Vec<String>, view: Arc<dyn HostView>) -> Option<Receiver<Names>> {
    let (sender, receiver) = sync_channel(1);
    let look = move || {
        let answer = |name: &String| match view.resolve(name) {
            Ok(addresses) if addresses.is_empty() => Err(format!("{name} resolves to no address now")),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(format!("{name} does not resolve now: {}", error.source)),
        };
        let answers = names.iter().map(|name| (name.clone(), answer(name))).collect();
        // Nobody listens any more when the injection has ended.
        let _ = sender.send(answers);
    };
    let thread = std::thread::Builder::new().name("names".to_owned()).stack_size(STACK_BYTES);
    match thread.spawn(look) {
        Ok(_) => Some(receiver),
        Err(error) => {
            tracing::warn!(%error, "names cannot be looked up again");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(group: u64, since_ms: u64) -> Answers {
        let now = Ok(Some(UnifiedGroup { id: group, level: 2 }));
        Answers {
            names: BTreeMap::new(),
            groups: [("/a".to_owned(), GroupSeen { now, since_ms })].into(),
        }
    }

    #[test]
    fn answers_that_were_not_applied_are_joined_by_newer_ones_and_their_time_goes_on() {
        let kept = |kept_ms| Unapplied {
            answers: answers(7, 250),
            kept_ms,
        };
        assert_eq!(kept(1_000).joined_by(None, 2_000), answers(7, 1_250));
        assert_eq!(kept(1_000).joined_by(Some(answers(8, 1_000)), 2_000), answers(8, 1_250));
        let mut named = answers(8, 1_000);
        named.names.insert("db.example".to_owned(), Ok(Vec::new()));
        let joined = kept(1_000).joined_by(Some(named), 2_000);
        assert_eq!((joined.names.len(), joined.groups), (1, answers(8, 1_250).groups));
    }

    #[test]
    fn tries_that_fail_come_less_and_less_often_and_only_another_error_is_news() {
        let mut following = Following::new(Vec::new(), Vec::new(), 0);
        let mut fail = |error: &str| {
            let is_news = following.keep(answers(7, 250), 0, error);
            (is_news, following.retry_at_ms().unwrap_or(0))
        };
        assert_eq!(fail("unsupported"), (true, 1_000));
        for pause_ms in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(fail("unsupported"), (false, pause_ms));
        }
        assert_eq!(fail("no space"), (true, 60_000));
        assert_eq!(fail("no space"), (false, 60_000));
        following.applied();
        assert!(following.keep(answers(7, 250), 0, "no space"));
        assert_eq!(following.retry_at_ms(), Some(1_000));
    }
}
