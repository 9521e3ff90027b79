//! Records of what already happened: written behind the back of who did it, in order, and again and again while the disk takes nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_conductor::BoxFuture;

/// Records that may wait; those beyond are counted, and the count is recorded in their place.
pub(crate) const MAX_WAITING: usize = 1_000;
/// How long until the next try.
const AGAIN: Duration = Duration::from_secs(1);

type Write<T> = Box<dyn Fn(T) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Clones share the queue.
pub(crate) struct LateWriter<T>(Arc<Inner<T>>);

struct Inner<T> {
    queue: Mutex<Queue<T>>,
    write: Write<T>,
    /// The record that stands for so many that found no room.
    lost: fn(u64) -> T,
    /// How long until the next try.
    again: Duration,
}

struct Queue<T> {
    waiting: VecDeque<T>,
    lost: u64,
    /// Whether a task writes.
    writing: bool,
}

impl<T> Clone for LateWriter<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + Send + 'static> LateWriter<T> {
    pub fn new(write: Write<T>, lost: fn(u64) -> T) -> Self {
        Self::with_pause(write, lost, AGAIN)
    }

    fn with_pause(write: Write<T>, lost: fn(u64) -> T, again: Duration) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            lost: 0,
            writing: false,
        };
        Self(Arc::new(Inner {
            queue: Mutex::new(queue),
            write,
            lost,
            again,
        }))
    }

    /// Takes the record and returns at once.
    pub fn write(&self, record: T) {
        let mut queue = self.queue();
        if queue.waiting.len() >= MAX_WAITING {
            queue.lost += 1;
        } else {
            queue.waiting.push_back(record);
        }
        if !std::mem::replace(&mut queue.writing, true) {
            tokio::spawn(self.clone().write_all());
        }
    }

    /// Until nothing waits.
    async fn write_all(self) {
        let mut failed = false;
        loop {
            let Some(next) = self.next() else { return };
            match (self.0.write)(next).await {
                Ok(()) => {
                    if std::mem::take(&mut failed) {
                        tracing::info!("what could not be recorded is recorded now");
                    }
                    self.queue().waiting.pop_front();
                }
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::error!(error, "what happened cannot be recorded and is tried again");
                    }
                    tokio::time::sleep(self.0.again).await;
                }
            }
        }
    }

    /// The oldest one, which stays until it is written; none ends the writing.
    fn next(&self) -> Option<T> {
        let mut queue = self.queue();
        if queue.lost > 0 && queue.waiting.len() < MAX_WAITING {
            let lost = std::mem::take(&mut queue.lost);
            queue.waiting.push_back((self.0.lost)(lost));
        }
        let next = queue.waiting.front().cloned();
        queue.writing = next.is_some();
        next
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_cannot_be_written_is_written_later_in_order_and_what_is_lost_is_counted() {
        let (full, written) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (disk, lines) = (full.clone(), written.clone());
        let writer = LateWriter::with_pause(
            Box::new(move |line: String| {
                let (disk, lines) = (disk.clone(), lines.clone());
                Box::pin(async move {
                    if disk.load(Ordering::SeqCst) {
                        return Err("no space left".to_owned());
                    }
                    lines.lock().unwrap().push(line);
                    Ok(())
                })
            }),
            |lost| format!("lost {lost}"),
            Duration::from_millis(10),
        );
        let until = std::time::Instant::now() + Duration::from_secs(10);
        for n in 0..MAX_WAITING + 7 {
            writer.write(n.to_string());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(written.lock().unwrap().is_empty());
        full.store(false, Ordering::SeqCst);
        while written.lock().unwrap().len() <= MAX_WAITING {
            assert!(std::time::Instant::now() < until, "not written within 10 s");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut expected: Vec<String> = (0..MAX_WAITING).map(|n| n.to_string()).collect();
        expected.push("lost 7".to_owned());
        assert_eq!(*written.lock().unwrap(), expected);
        writer.write("after".to_owned());
        while written.lock().unwrap().last().is_none_or(|last| last != "after") {
            assert!(std::time::Instant::now() < until, "not written within 10 s");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
