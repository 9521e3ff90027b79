//! Those who asked for an end and wait until it is there: each is answered once, when the last of its injections has ended.

use std::collections::BTreeSet;

use proto_model::id::InjectionId;
use proto_model::injection::{UndoAnswer, UndoFailed};

use crate::handle::{HaltAnswer, Reply, WardenError};

#[derive(Default)]
pub(crate) struct PendingReplies(Vec<Wait>);

/// How an injection that was waited for ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Undone,
    /// It had done something that has no way back.
    Spent,
    Failed(UndoFailed),
}

struct Wait {
    pending: BTreeSet<InjectionId>,
    so_far: HaltAnswer,
    end: End,
    answer: Answer,
}

pub(crate) enum Answer {
    Stop(Reply<Result<UndoAnswer, WardenError>>),
    Halt(Reply<HaltAnswer>),
}

impl PendingReplies {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers when each of `pending` has ended; at once when there is none.
    pub(crate) fn add(&mut self, pending: BTreeSet<InjectionId>, answer: Answer) {
        self.0.push(Wait {
            pending,
            so_far: HaltAnswer::default(),
            end: End::Undone,
            answer,
        });
        self.flush();
    }

    /// One has ended, or its undo counts as failed.
    pub(crate) fn ended(&mut self, id: &InjectionId, end: &End) {
        for wait in self.0.iter_mut().filter(|wait| wait.pending.contains(id)) {
            wait.pending.remove(id);
            match end {
                End::Undone => wait.so_far.undone += 1,
                End::Spent => {}
                End::Failed(_) => wait.so_far.failed += 1,
            }
            wait.end = end.clone();
        }
        self.flush();
    }

    fn flush(&mut self) {
        let (done, waiting) = std::mem::take(&mut self.0).into_iter().partition(|wait| wait.pending.is_empty());
        self.0 = waiting;
        let done: Vec<Wait> = done;
        done.into_iter().for_each(Wait::answer);
    }
}

impl Wait {
    fn answer(self) {
        match self.answer {
            Answer::Halt(reply) => reply(self.so_far),
            Answer::Stop(reply) => reply(match self.end {
                End::Undone => Ok(UndoAnswer::UndoneNow),
                End::Spent => Ok(UndoAnswer::Spent),
                End::Failed(failure) => Err(WardenError::UndoFailed(failure)),
            }),
        }
    }
}
