//! Looks that may never come back, such as one at a mount that hangs: a helper thread looks, and whoever asked waits for a bounded time.

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::ViewError;

/// The longest wait for one look. A guardian takes an agent for hung after 10 s of silence.
const LIMIT: Duration = Duration::from_secs(2);
/// A look at many things may take so many limits in all, as long as it stands still at none of them.
const LIMITS_IN_ALL: u32 = 3;
/// How often in a limit it is noticed how far such a look is.
const GLANCES: u32 = 8;
/// The part of the limit that any look may take, whatever others took before it.
const ALWAYS: u32 = 4;
/// Of the time that goes by, the share that may be waited beyond that part: with it, slow looks one after another stay below 10 s.
const REGAINED: f64 = 0.1;
/// Looks at processes, or at mounts, that may be overdue at a time; each of them holds a thread.
const MOST_OVERDUE: usize = 8;
/// Helpers that are kept for later looks. One that waits for work costs its stack's first pages.
const MOST_IDLE: usize = 2;
const STACK_BYTES: usize = 256 * 1024;

/// Of the whole process: a view that is opened again and again, as the guardian does, must not leave a stuck thread each time.
pub(crate) static PROCESS_LOOKS: Bounded = Bounded::new(LIMIT);
/// The same for mounts. Any user can have processes at which looks hang, and they must not keep a fault on a volume from being undone.
pub(crate) static MOUNT_LOOKS: Bounded = Bounded::new(LIMIT);

/// Starts a helper for either now: when the first look is due there may be no process id left for it.
pub(crate) fn prepare() {
    PROCESS_LOOKS.prepare();
    MOUNT_LOOKS.prepare();
}

/// What a look that does not come back is reported with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// What was looked at.
    pub(crate) what: String,
    /// What is wrong with it, and how to fix it.
    pub(crate) fix: String,
}

/// What is looked at.
pub(crate) struct Subject {
    /// Where one look of a sort hangs, the next would hang too.
    sort: String,
    words: Box<dyn Fn() -> Words + Send>,
    steps: Option<Steps>,
}

/// A look at many things, one after another.
struct Steps {
    /// The number of the one that is looked at; 0 before the first.
    reached: Arc<AtomicU32>,
    /// That one alone: where the look stands still there, others go on.
    one: fn(u32) -> Subject,
}

/// A look that brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It stood still at the thing with this number, at which its thread is stuck.
    StandsStill(u32, ViewError),
    Other(ViewError),
}

impl From<Failure> for ViewError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::StandsStill(_, error) | Failure::Other(error) => error,
        }
    }
}

/// How long looks that belong together may take in all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    since: Instant,
    total: Duration,
}

impl Patience {
    fn left(self) -> Duration {
        self.total.saturating_sub(self.since.elapsed())
    }
}

impl Subject {
    /// `words` are asked for when they are needed, since a long look can say how far it is.
    pub(crate) fn new(sort: impl Into<String>, words: impl Fn() -> Words + Send + 'static) -> Self {
        Self {
            sort: sort.into(),
            words: Box::new(words),
            steps: None,
        }
    }

    /// The same of a look at many things: `reached` is the number of the one that is looked at, and `one` that thing alone.
    pub(crate) fn with_progress(self, reached: Arc<AtomicU32>, one: fn(u32) -> Self) -> Self {
        Self {
            steps: Some(Steps { reached, one }),
            ..self
        }
    }

    fn reached(&self) -> u32 {
        self.steps.as_ref().map_or(0, |steps| steps.reached.load(Ordering::Relaxed))
    }

    fn late(&self, waited: Duration) -> ViewError {
        let Words { what, fix } = (self.words)();
        let text = format!("no answer within {:.1} s: {fix}", waited.as_secs_f64());
        ViewError::new(what, io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn answered<T>(&self, answer: std::thread::Result<Result<T, ViewError>>) -> Result<T, Failure> {
        let answer = answer.unwrap_or_else(|panic| Err(self.panicked(&*panic)));
        answer.map_err(Failure::Other)
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> ViewError {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = format!(
            "the look panicked: {} (fix: report it with the agent's log)",
            text.unwrap_or("without a text")
        );
        ViewError::new((self.words)().what, io::Error::other(text))
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// What decides what a thread can see. After a fork the threads of the parent are not there, and a thread keeps the mount namespace in
/// which it was started when another one leaves that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    pid: u32,
    mounts: Option<(u64, u64)>,
}

impl Home {
    fn here() -> Self {
        let mounts = fs::metadata("/proc/thread-self/ns/mnt").ok();
        Self {
            pid: std::process::id(),
            mounts: mounts.map(|namespace| (namespace.dev(), namespace.ino())),
        }
    }
}

/// A thread that waits for work; it ends when this is dropped.
struct Helper {
    jobs: Sender<Job>,
    home: Home,
}

impl Helper {
    fn start(home: Home) -> Option<Self> {
        let (jobs, queue) = channel::<Job>();
        let work = move || {
            for job in queue {
                job();
            }
        };
        let thread = std::thread::Builder::new().name("look".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(work).ok().map(|_| Self { jobs, home })
    }
}

/// A look that is not waited for any more.
struct Overdue {
    subject: Subject,
    helper: Helper,
    /// For how long it was.
    waited: Duration,
    has_returned: Box<dyn FnMut() -> bool + Send>,
}

/// How far a look was seen to come.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// The number of the thing at which it is; 0 where it is a look at one.
    reached: u32,
    since: Instant,
}

/// Waits for the answer until the look stands still for as long as `within`, or all patience is gone.
fn wait<A>(answers: &Receiver<A>, subject: &Subject, within: Duration, patience: Patience) -> (Option<A>, Progress) {
    let mut progress = Progress {
        reached: 0,
        since: Instant::now(),
    };
    loop {
        let still = within.saturating_sub(progress.since.elapsed()).min(patience.left());
        let glance = subject.steps.as_ref().map_or(still, |_| still.min(within / GLANCES));
        match answers.recv_timeout(glance) {
            Ok(answer) => return (Some(answer), progress),
            Err(RecvTimeoutError::Disconnected) => return (None, progress),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let reached = subject.reached();
        if reached != progress.reached {
            progress = Progress {
                reached,
                since: Instant::now(),
            };
        }
        if progress.since.elapsed() >= within || patience.left().is_zero() {
            return (None, progress);
        }
    }
}

struct Helpers {
    idle: Vec<Helper>,
    overdue: Vec<Overdue>,
    /// What was waited beyond what any look may take, as of `since`.
    spent: Duration,
    since: Option<Instant>,
    /// When a look at many things last had no time left.
    exhausted: Option<Instant>,
}

impl Helpers {
    /// Takes back the helpers of looks that have returned, and forgets those of the process from which this one was forked.
    fn sweep(&mut self, pid: u32) {
        self.idle.retain(|helper| helper.home.pid == pid);
        for mut overdue in std::mem::take(&mut self.overdue) {
            if overdue.helper.home.pid != pid {
                continue;
            }
            if (overdue.has_returned)() {
                self.keep(overdue.helper);
            } else {
                self.overdue.push(overdue);
            }
        }
    }

    fn keep(&mut self, helper: Helper) {
        if self.idle.len() < MOST_IDLE {
            self.idle.push(helper);
        }
    }

    fn take(&mut self, home: Home) -> Option<Helper> {
        let at = self.idle.iter().position(|helper| helper.home == home)?;
        Some(self.idle.swap_remove(at))
    }

    /// Why a look of this sort would only hold another thread, if so.
    fn refuse(&self, subject: &Subject) -> Option<ViewError> {
        if let Some(error) = self.late(&subject.sort) {
            return Some(error);
        }
        let first = self.overdue.first().filter(|_| self.overdue.len() >= MOST_OVERDUE)?;
        let Words { what, fix } = (first.subject.words)();
        let text = format!("not looked at, since {MOST_OVERDUE} other looks do not come back; the first is at {what}: {fix}");
        Some(ViewError::new(
            (subject.words)().what,
            io::Error::new(io::ErrorKind::TimedOut, text),
        ))
    }

    fn late(&self, sort: &str) -> Option<ViewError> {
        let overdue = self.overdue.iter().find(|overdue| overdue.subject.sort == sort)?;
        Some(overdue.subject.late(overdue.waited))
    }

    /// For a look at many things. One that used all of its time up a moment ago leaves the next one little.
    fn in_all(&self, limit: Duration) -> Duration {
        let lately = |at: Instant| at.elapsed().mul_f64(REGAINED) < limit;
        if self.exhausted.is_some_and(lately) {
            return limit / ALWAYS;
        }
        limit * LIMITS_IN_ALL
    }

    /// Why a look is not waited for any more, and at what it is stuck.
    fn give_up(&mut self, subject: Subject, progress: Progress, patience: Patience) -> (Failure, Subject) {
        let still = progress.since.elapsed();
        let Some(one) = subject.steps.as_ref().map(|steps| steps.one) else {
            return (Failure::Other(subject.late(still)), subject);
        };
        let in_all = subject.late(patience.since.elapsed());
        let at = (progress.reached != 0).then(|| one(progress.reached));
        if patience.left().is_zero() {
            self.exhausted = Some(Instant::now());
            return (Failure::Other(in_all), at.unwrap_or(subject));
        }
        match at {
            Some(at) => (Failure::StandsStill(progress.reached, at.late(still)), at),
            None => (Failure::Other(in_all), subject),
        }
    }

    fn allows(&mut self, limit: Duration) -> Duration {
        let now = Instant::now();
        let regained = self.since.map(|since| now.saturating_duration_since(since).mul_f64(REGAINED));
        self.spent = self.spent.saturating_sub(regained.unwrap_or_default());
        self.since = Some(now);
        limit.saturating_sub(self.spent).max(limit / ALWAYS)
    }

    fn spend(&mut self, waited: Duration, limit: Duration) {
        self.spent = limit.min(self.spent + waited.saturating_sub(limit / ALWAYS));
    }
}

/// Helper threads, and the looks of theirs that do not come back.
pub(crate) struct Bounded {
    limit: Duration,
    start: fn(Home) -> Option<Helper>,
    helpers: Mutex<Helpers>,
}

impl Bounded {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            start: Helper::start,
            helpers: Mutex::new(Helpers {
                idle: Vec::new(),
                overdue: Vec::new(),
                spent: Duration::ZERO,
                since: None,
                exhausted: None,
            }),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Helpers> {
        self.helpers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self) {
        let home = Home::here();
        let mut helpers = self.locked();
        helpers.sweep(home.pid);
        if helpers.idle.iter().all(|helper| helper.home != home) {
            helpers.idle.extend((self.start)(home));
        }
    }

    /// Why a look of this sort would only wait: an earlier one has not come back yet.
    pub(crate) fn overdue(&self, sort: &str) -> Option<ViewError> {
        let mut helpers = self.locked();
        helpers.sweep(std::process::id());
        helpers.late(sort)
    }

    /// For looks at many things, from now on.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            since: Instant::now(),
            total: self.locked().in_all(self.limit),
        }
    }

    /// What `see` sees, or an error if that takes longer than the limit, or a look of the same sort is overdue already.
    pub(crate) fn look<T: Send + 'static>(
        &self,
        subject: Subject,
        see: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        let patience = Patience {
            since: Instant::now(),
            total: self.limit,
        };
        self.look_for(subject, patience, see).map_err(ViewError::from)
    }

    /// The same of a look that may take longer as long as it goes on.
    pub(crate) fn look_for<T: Send + 'static>(
        &self,
        subject: Subject,
        patience: Patience,
        see: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, Failure> {
        let home = Home::here();
        let (helper, within) = {
            let mut helpers = self.locked();
            helpers.sweep(home.pid);
            if let Some(error) = helpers.refuse(&subject) {
                return Err(Failure::Other(error));
            }
            (helpers.take(home), helpers.allows(self.limit))
        };
        let (answer, answers) = channel();
        let job: Job = Box::new(move || drop(answer.send(catch_unwind(AssertUnwindSafe(see)))));
        let since = Instant::now();
        let Some(helper) = helper.or_else(|| (self.start)(home)) else {
            // Without a process id for a helper a look is better unbounded than left out: faults must be undone on such a host too.
            job();
            let answer = answers.recv().map_err(|_| Failure::Other(subject.late(since.elapsed())))?;
            return subject.answered(answer);
        };
        if let Err(unsent) = helper.jobs.send(job) {
            // Its thread is gone, which no look can cause.
            (unsent.0)();
        }
        let (answer, progress) = wait(&answers, &subject, within, patience);
        let mut helpers = self.locked();
        helpers.spend(progress.since.elapsed(), self.limit);
        if let Some(answer) = answer {
            helpers.keep(helper);
            return subject.answered(answer);
        }
        let (failure, subject) = helpers.give_up(subject, progress, patience);
        helpers.overdue.push(Overdue {
            subject,
            helper,
            waited: progress.since.elapsed(),
            has_returned: Box::new(move || !matches!(answers.try_recv(), Err(TryRecvError::Empty))),
        });
        Err(failure)
    }
}

#[cfg(test)]
mod tests;
