//! What `attack` and `run` share: plan, say what was chosen, confirm, start, follow, sum up; nothing starts before it was said.

use std::io::IsTerminal;

use clap::Args;
use proto_model::document::{RunDocument, StatusDocument};
use proto_model::id::RunId;
use proto_model::plan::PlanView;
use proto_model::quantity::Millis;
use proto_model::{exit, plan::Plan};
use proto_wire::v1::plan_request::Wish;
use proto_wire::v1::{PlanRequest, RunRef, RunRequest, StatusRequest};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::{ASK, Client, DEED};
use crate::console::Console;
use crate::context::Place;
use crate::failure::Failure;
use crate::follow::{Ending, Follow};
use crate::interrupt::{Interrupt, Interrupts, OnInterrupt};
use crate::output::Format;
use crate::output::paint::{Tone, tone_of};
use crate::reports::{Reports, report};
use crate::{documents, irreversible, plan_view, summary, values};

const MAYBE_ACCEPTED: &str = "it may have been accepted all the same: look with `fracas runs list --active`";

/// The flags of everything that starts a run.
#[derive(Debug, Args)]
pub struct How {
    /// Wait for the end and show it live (the default)
    #[arg(long, conflicts_with = "detach")]
    pub watch: bool,
    /// Print the run's id and leave; exit 0 then only says that it was accepted
    #[arg(long)]
    pub detach: bool,
    /// Wait at most this long; the run goes on, and the exit code is 9
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub timeout: Option<Millis>,
    /// Stop the run when interrupted, even where nobody sits at a terminal
    #[arg(long)]
    pub stop_on_interrupt: bool,
    /// The environment's name, typed again: production asks for it
    #[arg(long, value_name = "ENV")]
    pub confirm: Option<String>,
    /// What cannot be undone is meant; at a terminal you are asked instead
    #[arg(long)]
    pub confirm_irreversible: bool,
    #[command(flatten)]
    pub reports: Reports,
}

/// Something to be started.
pub struct Start<'a> {
    pub client: &'a Client,
    pub request: PlanRequest,
    /// What the reports call it where there is no run to name it.
    pub name: &'a str,
    /// The file that problems point into.
    pub file: Option<String>,
    pub how: &'a How,
}

/// What a person has confirmed.
struct Confirmed {
    /// The environment's name, or empty.
    environment: String,
    irreversible: bool,
}

/// A plan as the controller made it; nothing was changed.
pub async fn plan(client: &Client, request: PlanRequest, file: Option<&str>) -> Result<(Value, PlanView), Failure> {
    let answer = client.call("plan", DEED, client.experiments().plan(request)).await;
    let reply = answer.map_err(|failure| with_file(failure, file))?;
    let value = documents::value("Plan", &reply.plan_json)?;
    let view = documents::read("Plan", &value)?;
    Ok((value, view))
}

fn with_file(failure: Failure, file: Option<&str>) -> Failure {
    match file {
        Some(file) => failure.in_file(file),
        None => failure,
    }
}

/// While everything is halted, no plan finds a host; the halt is the reason to name.
async fn or_halted(client: &Client, failure: Failure) -> Failure {
    if failure.exit != exit::ERROR {
        return failure;
    }
    let status = client
        .call("ask for the status", ASK, client.emergency().status(StatusRequest {}))
        .await;
    let status = status.and_then(|document| documents::value("Status", &document.json));
    let status = status.and_then(|value| documents::read::<StatusDocument>("Status", &value));
    match status {
        Ok(StatusDocument { halt, .. }) if halt.engaged => {
            let message = format!("{}; nothing starts until it is released", halt.words());
            Failure::new(exit::ABORTED, "halted", message).hint("see `fracas status`; `fracas release --reason ...` ends the halt")
        }
        _ => failure,
    }
}

/// Prints a plan that is not to be run: 0 when every host would accept.
pub fn print_plan(console: &mut Console, value: &Value, view: &PlanView) -> Result<u8, Failure> {
    let wide = console.format == Format::Wide;
    console.document(value, &view.digest.0, |console| {
        console.lines(plan_view::lines(view, wide));
        Ok(())
    })?;
    Ok(if view.accepted { exit::OK } else { exit::ERROR })
}

/// Says where a deed goes before it is done.
pub fn announce(console: &Console, client: &Client, environment: &str) {
    let place = client.context.address();
    console.note(&format!("context   {} ({place})", client.context.name));
    console.note(&format!("env       {environment}"));
}

impl Start<'_> {
    pub async fn go(self, console: &mut Console) -> Result<u8, Failure> {
        let until = self
            .how
            .timeout
            .map(|limit| Instant::now() + std::time::Duration::from_millis(limit.0));
        let planned = plan(self.client, self.request.clone(), self.file.as_deref()).await;
        let (_, view) = match planned {
            Err(failure) => return Err(or_halted(self.client, failure).await),
            Ok(planned) => planned,
        };
        announce(console, self.client, &view.plan.environment);
        for line in plan_view::choices(&view.plan) {
            console.note(&line);
        }
        let confirm = confirmation(console, &view.plan, self.how.confirm.clone())?;
        let confirm = Confirmed {
            environment: confirm,
            irreversible: irreversible::confirmation(console, &view.plan, self.how.confirm_irreversible)?,
        };
        let mut interrupts = Interrupts::listen()?;
        let (run, early) = self.accepted_or_interrupted(&view, confirm, console, &mut interrupts).await?;
        console.note(&format!("run       {run}"));
        if self.how.detach {
            return detached(console, self.client, &run).await;
        }
        let follow = Follow {
            client: self.client,
            run: &run,
            until,
            on_interrupt: OnInterrupt::of_a_start(self.how.stop_on_interrupt),
            leave_unread: false,
        };
        match follow.to_the_end(console, &mut interrupts, early).await? {
            Ending::Finished => self.sum_up(console, &run).await,
            early => {
                let why = words_of_leaving(&run, early, self.how.timeout);
                self.how.reports.left(self.client, console, self.name, &run, &why).await;
                Ok(left(console, &run, early, self.how.timeout))
            }
        }
    }

    /// The accepted run; an interrupt meanwhile is kept for it, and a second one gives up waiting.
    async fn accepted_or_interrupted(
        &self,
        view: &PlanView,
        confirm: Confirmed,
        console: &Console,
        interrupts: &mut Interrupts,
    ) -> Result<(String, Option<Interrupt>), Failure> {
        let mut accepted = std::pin::pin!(self.accepted(view, confirm));
        let mut early = None;
        loop {
            tokio::select! {
                run = &mut accepted => return run.map(|run| (run, early)),
                interrupt = interrupts.next() => {
                    if early.replace(interrupt).is_some() {
                        let failure = Failure::unreachable("interrupted before the controller answered whether the run was accepted");
                        return Err(failure.hint(MAYBE_ACCEPTED));
                    }
                    console.note("waiting for the controller to answer whether the run was accepted; interrupt again to give up");
                }
            }
        }
    }

    /// Starts exactly the plan that was shown.
    async fn accepted(&self, view: &PlanView, confirm: Confirmed) -> Result<String, Failure> {
        let request = RunRequest {
            plan: Some(PlanRequest {
                wish: Some(Wish::Digest(view.digest.0.clone())),
                ..PlanRequest::default()
            }),
            confirm: confirm.environment,
            confirm_irreversible: confirm.irreversible,
            idempotency_key: RunId::generate().to_string(),
        };
        let answer = self
            .client
            .call("start the run", DEED, self.client.experiments().run(request))
            .await;
        answer.map(|reply| reply.run).map_err(|mut failure| {
            if failure.exit == exit::UNREACHABLE {
                failure.hint = Some(MAYBE_ACCEPTED.to_owned());
            }
            with_file(failure, self.file.as_deref())
        })
    }

    async fn sum_up(&self, console: &mut Console, run: &str) -> Result<u8, Failure> {
        let (value, document) = shown(self.client, run).await?;
        let written = self.how.reports.written(self.client, console, self.name, run).await;
        print_end(console, self.client, &value, &document).await?;
        let code = summary::exit_code(&document);
        Ok(if code == exit::OK && !written { exit::ERROR } else { code })
    }
}

/// The confirmation to send: given, or typed at a terminal for production.
fn confirmation(console: &Console, plan: &Plan, given: Option<String>) -> Result<String, Failure> {
    if let Some(given) = given {
        if given == plan.environment {
            return Ok(given);
        }
        let message = format!(
            "--confirm says {given:?}, and the plan's environment is {:?}; nothing was started",
            plan.environment
        );
        return Err(Failure::new(exit::FORBIDDEN, "approval_needed", message));
    }
    if !plan.production || !std::io::stdin().is_terminal() {
        return Ok(String::new());
    }
    let question = format!("this is {}. Type its name to go on:", plan.environment);
    irreversible::typed(console, &question, &plan.environment)?;
    Ok(plan.environment.clone())
}

async fn detached(console: &mut Console, client: &Client, run: &str) -> Result<u8, Failure> {
    if matches!(console.format, Format::Json | Format::Jsonl | Format::Yaml) {
        let (value, _) = shown(client, run).await?;
        console.document(&value, run, |_| Ok(()))?;
    } else {
        console.line(run);
    }
    console.note(&format!(
        "watch it with `fracas runs watch {run}`, stop it with `fracas stop {run}`"
    ));
    Ok(exit::OK)
}

/// The run's document, raw and typed.
pub async fn shown(client: &Client, run: &str) -> Result<(Value, RunDocument), Failure> {
    let request = RunRef { run: run.to_owned() };
    let document = client.call("show the run", ASK, client.runs().show(request)).await?;
    let value = documents::value("Run", &document.json)?;
    let run = documents::read("Run", &value)?;
    Ok((value, run))
}

/// The end of a run that was waited for.
pub async fn print_end(console: &mut Console, client: &Client, value: &Value, run: &RunDocument) -> Result<(), Failure> {
    if !console.format.is_human() {
        return console.document(value, run.id.as_str(), |_| Ok(()));
    }
    for line in summary::lines(run) {
        let tone = if line.label == "residue" && line.word != "none" {
            Tone::Bad
        } else {
            tone_of(&line.word)
        };
        let text = line.text(|word| console.paint(tone, word));
        console.line(&text);
    }
    if summary::is_no_evidence(run) {
        console.note("an attack without probes asks nothing of the system: it counts as no evidence");
    }
    let place = report_place(client, run).await;
    console.line(&format!("report    {place}"));
    Ok(())
}

/// The report's path on this machine, or the command that prints it.
async fn report_place(client: &Client, run: &RunDocument) -> String {
    let here = matches!(client.context.place, Place::Socket(_));
    match report(client, run.id.as_str(), "markdown").await {
        Ok(reply) if here && !reply.path.is_empty() => reply.path,
        _ => format!("fracas runs report {}", run.id),
    }
}

/// How a run goes on without us.
fn words_of_leaving(run: &str, ending: Ending, timeout: Option<Millis>) -> String {
    let stop = format!("stop it with `fracas stop {run}`, watch it with `fracas runs watch {run}`");
    match ending {
        Ending::TimedOut => {
            let limit = timeout.unwrap_or_default();
            format!("run {run} goes on after the timeout of {limit}; {stop}")
        }
        Ending::Left(_) => format!("run {run} goes on; {stop}"),
        Ending::LeftStopping => format!("run {run} is stopping, and no host is proven clean yet; see `fracas runs show {run}`"),
        Ending::Finished | Ending::Unread => String::new(),
    }
}

/// Says how a run goes on without us, and the exit code of leaving it.
pub fn left(console: &Console, run: &str, ending: Ending, timeout: Option<Millis>) -> u8 {
    let why = words_of_leaving(run, ending, timeout);
    if !why.is_empty() {
        console.note(&why);
    }
    match ending {
        Ending::TimedOut => exit::TIMEOUT,
        Ending::Left(interrupt) => interrupt.exit_code(),
        Ending::LeftStopping => exit::NOT_CLEAN,
        Ending::Finished | Ending::Unread => exit::OK,
    }
}
