//! Follows a run's events until it is finished, across lost connections; only an interrupt that means it stops the run.

use std::time::Duration;

use proto_model::document::RunDocument;
use proto_model::event::RunPhase;
use proto_telling::Timeline;
use proto_wire::v1::{Document, RunRef, StopReply, StopRequest, WatchRequest};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use crate::client::{ASK, Client, DEED};
use crate::console::Console;
use crate::documents;
use crate::failure::{Failure, MAYBE_DONE, is_transport};
use crate::interrupt::{Interrupt, Interrupts, OnInterrupt};
use crate::output::Format;

/// How long a lost controller is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How following came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Finished,
    /// The run goes on.
    TimedOut,
    /// The run goes on.
    Left(Interrupt),
    /// A stop was asked for and its proof not waited for.
    LeftStopping,
    /// Nobody reads any more; only for a mere watcher.
    Unread,
}

pub struct Follow<'a> {
    pub client: &'a Client,
    pub run: &'a str,
    pub until: Option<Instant>,
    pub on_interrupt: OnInterrupt,
    /// Leave when standard output is closed.
    pub leave_unread: bool,
}

enum Heard {
    Opened(Box<Streaming<Document>>),
    Event(Document),
    Ended,
    Broke(Status),
    Interrupt(Interrupt),
    Stopped(Result<StopReply, Failure>),
    TimeOver,
}

struct State {
    stream: Option<Box<Streaming<Document>>>,
    seen: u64,
    timeline: Timeline,
    stop: Option<JoinHandle<Result<StopReply, Failure>>>,
    stop_asked: bool,
    lost_since: Option<Instant>,
    pause: Duration,
}

impl Follow<'_> {
    /// `early` is an interrupt that came before the run was known.
    pub async fn to_the_end(
        &self,
        console: &mut Console,
        interrupts: &mut Interrupts,
        early: Option<Interrupt>,
    ) -> Result<Ending, Failure> {
        let mut state = State {
            stream: None,
            seen: 0,
            timeline: Timeline::default(),
            stop: None,
            stop_asked: false,
            lost_since: None,
            pause: Duration::ZERO,
        };
        let mut next = early.map(Heard::Interrupt);
        loop {
            let heard = match next.take() {
                Some(heard) => heard,
                None => self.hear(&mut state, interrupts).await,
            };
            if let Some(ending) = self.take(heard, &mut state, console).await? {
                return Ok(ending);
            }
            if self.leave_unread && !console.is_read() {
                return Ok(Ending::Unread);
            }
        }
    }

    async fn hear(&self, state: &mut State, interrupts: &mut Interrupts) -> Heard {
        let until = self.until.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            interrupt = interrupts.next() => Heard::Interrupt(interrupt),
            answer = joined(&mut state.stop), if state.stop.is_some() => { state.stop = None; Heard::Stopped(answer) }
            () = tokio::time::sleep_until(until), if self.until.is_some() => Heard::TimeOver,
            heard = self.listen(&mut state.stream, state.seen, state.pause) => heard,
        }
    }

    /// The next event, or a new stream where there is none.
    async fn listen(&self, stream: &mut Option<Box<Streaming<Document>>>, seen: u64, pause: Duration) -> Heard {
        if let Some(stream) = stream {
            return match stream.message().await {
                Ok(Some(document)) => Heard::Event(document),
                Ok(None) => Heard::Ended,
                Err(status) => Heard::Broke(status),
            };
        }
        tokio::time::sleep(pause).await;
        let request = WatchRequest {
            run: self.run.to_owned(),
            from_seq: seen + 1,
        };
        match tokio::time::timeout(ASK, self.client.runs().watch(request)).await {
            Ok(Ok(response)) => Heard::Opened(Box::new(response.into_inner())),
            Ok(Err(status)) => Heard::Broke(status),
            Err(_) => Heard::Broke(Status::unavailable("the controller does not answer")),
        }
    }

    async fn take(&self, heard: Heard, state: &mut State, console: &mut Console) -> Result<Option<Ending>, Failure> {
        match heard {
            Heard::Opened(stream) => state.stream = Some(stream),
            Heard::Event(document) => {
                state.found(console);
                state.show(&document.json, console)?;
            }
            Heard::Ended => return self.ended(state, console).await,
            Heard::Broke(status) => self.broke(&status, state, console)?,
            Heard::Interrupt(interrupt) => return Ok(self.interrupted(interrupt, state, console)),
            Heard::Stopped(Ok(_)) => {}
            Heard::Stopped(Err(failure)) => {
                state.stop_asked = false;
                console.note(&format!(
                    "could not stop {}: {}; interrupt again to try once more",
                    self.run, failure.error.message
                ));
            }
            Heard::TimeOver => return Ok(Some(Ending::TimedOut)),
        }
        Ok(None)
    }

    /// The stream ended by itself: finished, or a controller that goes down politely.
    async fn ended(&self, state: &mut State, console: &mut Console) -> Result<Option<Ending>, Failure> {
        let request = RunRef { run: self.run.to_owned() };
        match self.client.call("look at the run", ASK, self.client.runs().show(request)).await {
            Ok(document) => {
                let value = documents::value("Run", &document.json)?;
                let run: RunDocument = documents::read("Run", &value)?;
                if run.state == RunPhase::Finished {
                    return Ok(Some(Ending::Finished));
                }
                self.broke(&Status::unavailable("the controller ended the stream"), state, console)?;
            }
            Err(failure) if failure.exit == proto_model::exit::UNREACHABLE => {
                self.broke(&Status::unavailable(failure.error.message.clone()), state, console)?;
            }
            Err(failure) => return Err(failure),
        }
        Ok(None)
    }

    fn broke(&self, status: &Status, state: &mut State, console: &Console) -> Result<(), Failure> {
        let passing = is_transport(status) || matches!(status.code(), Code::Cancelled | Code::Internal | Code::Unknown);
        if !passing {
            return Err(Failure::of_call("watch the run", status));
        }
        state.stream = None;
        state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let since = *state.lost_since.get_or_insert_with(|| {
            console.note(&format!("lost the controller; trying again for {} s", PATIENCE.as_secs()));
            Instant::now()
        });
        if since.elapsed() < PATIENCE {
            return Ok(());
        }
        let message = format!(
            "lost the controller at {} while run {} was going on",
            self.client.context.address(),
            self.run
        );
        Err(Failure::unreachable(message).hint(format!(
            "every host undoes it by itself; later, see `fracas runs show {}`",
            self.run
        )))
    }

    fn interrupted(&self, interrupt: Interrupt, state: &mut State, console: &Console) -> Option<Ending> {
        if self.on_interrupt == OnInterrupt::Leave {
            return Some(Ending::Left(interrupt));
        }
        if state.stop_asked {
            return Some(Ending::LeftStopping);
        }
        console.note(&format!(
            "stopping {} and waiting until every host is proven clean; interrupt again to leave it stopping",
            self.run
        ));
        let request = StopRequest {
            target: self.run.to_owned(),
            reason: "interrupted at the command line".to_owned(),
        };
        let mut runs = self.client.runs();
        let stop = async move {
            let answer = tokio::time::timeout(DEED, runs.stop(request)).await;
            let answer = answer.map_err(|_| Failure::unreachable("the controller does not answer").hint(MAYBE_DONE))?;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| Failure::of_call("stop the run", &status))
        };
        state.stop = Some(tokio::spawn(stop));
        state.stop_asked = true;
        None
    }
}

impl State {
    fn found(&mut self, console: &Console) {
        self.pause = Duration::ZERO;
        if self.lost_since.take().is_some() {
            console.note("found the controller again");
        }
    }

    fn show(&mut self, json: &str, console: &mut Console) -> Result<(), Failure> {
        let value = documents::value("Event", json)?;
        self.seen = value["seq"].as_u64().unwrap_or(self.seen);
        match console.format {
            Format::Jsonl => console.raw(&value.to_string()),
            Format::Table | Format::Wide => console.lines(self.timeline.of_document(&value)),
            Format::Json | Format::Yaml | Format::Name => {}
        }
        Ok(())
    }
}

async fn joined(task: &mut Option<JoinHandle<Result<StopReply, Failure>>>) -> Result<StopReply, Failure> {
    match task {
        Some(task) => task
            .await
            .unwrap_or_else(|error| Err(Failure::local(format!("the stop broke off: {error}")))),
        None => std::future::pending().await,
    }
}
