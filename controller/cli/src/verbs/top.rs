//! `fracas top`: what acts now, live; without a terminal one plain frame. It asks what lists ask, and halts only what is typed.

use std::io::IsTerminal;
use std::pin::Pin;
use std::time::{Duration, Instant};

use clap::Args;
use proto_model::document::StatusDocument;
use proto_model::exit;
use proto_model::host::Host;
use proto_model::summary::RunSummary;
use proto_wire::v1::{HaltRequest, HostsListRequest, RunsListRequest, StatusRequest};
use ratatui::crossterm::event::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use crate::client::{ASK, Client, DEED};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::paint::Paint;
use crate::top::draw::Colours;
use crate::top::keys::{Deed, press};
use crate::top::screen::{Screen, plain};
use crate::top::view::{Answers, View};

const EXAMPLES: &str = "\
Examples:
  fracas top
  fracas top | head -3";

/// Recent runs that are shown.
const RUNS: u32 = 30;
/// How often the controller is asked.
const ASKED: Duration = Duration::from_secs(1);
/// How often countdowns move.
const DRAWN: Duration = Duration::from_millis(250);

/// Watch what acts now: countdowns, leases, hosts, runs and the halt
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Top {}

impl Top {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let (status, answers) = ask(&client).await?;
        let view = View::new(format!("{} ({})", client.context.name, client.context.address()), answers);
        if !console.format.is_human() {
            console.document(&status, "", |_| Ok(()))?;
            return Ok(exit::OK);
        }
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            console.lines(plain(&view).map_err(|error| no_screen(&error))?);
            return Ok(exit::OK);
        }
        live(&client, view).await
    }
}

fn no_screen(error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot draw on the terminal: {error}"))
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<(Value, Answers), Failure>> + 'a>>;
type Halting<'a> = Pin<Box<dyn Future<Output = String> + 'a>>;

/// Until somebody leaves. One question at a time is on its way; the view goes on while it is.
async fn live(client: &Client, mut view: View) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let colours = Colours(Paint::for_stdout().is_on());
    let (mut screen, mut keys) = Screen::take().map_err(|error| no_screen(&error))?;
    let (mut asks, mut draws) = (tokio::time::interval(ASKED), tokio::time::interval(DRAWN));
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    draws.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut answered = Instant::now();
    let mut asking: Option<Asking<'_>> = None;
    let mut halting: Option<Halting<'_>> = None;
    loop {
        view.age_ms = u64::try_from(answered.elapsed().as_millis()).unwrap_or(u64::MAX);
        screen.draw(&view, colours).map_err(|error| no_screen(&error))?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) => match press(&mut view, key) {
                    Deed::Leave => return Ok(exit::OK),
                    Deed::Halt if halting.is_none() => {
                        view.told = Some("halting".to_owned());
                        halting = Some(Box::pin(halt(client)));
                    }
                    _ => {}
                },
                // A new size is drawn at once.
                Some(_) => {}
                None => return Ok(exit::OK),
            },
            interrupt = interrupts.next() => return Ok(left(interrupt)),
            answer = so_far(&mut asking) => {
                asking = None;
                match answer {
                    Ok((_, answers)) => {
                        answered = Instant::now();
                        (view.answers, view.trouble) = (answers, None);
                        view.scroll = view.scroll.min(view.rows().saturating_sub(1));
                    }
                    Err(failure) => view.trouble = Some(failure.error.message),
                }
            }
            told = so_far(&mut halting) => {
                halting = None;
                view.told = Some(told);
            }
            _ = asks.tick(), if asking.is_none() => asking = Some(Box::pin(ask(client))),
            _ = draws.tick() => {}
        }
    }
}

/// What is on its way, or nothing for ever.
async fn so_far<T>(going: &mut Option<Pin<Box<dyn Future<Output = T> + '_>>>) -> T {
    match going {
        Some(going) => going.await,
        None => std::future::pending().await,
    }
}

fn left(interrupt: Interrupt) -> u8 {
    match interrupt {
        Interrupt::Keyboard => exit::OK,
        Interrupt::Termination => interrupt.exit_code(),
    }
}

async fn ask(client: &Client) -> Result<(Value, Answers), Failure> {
    let status = client
        .call("ask for the status", ASK, client.emergency().status(StatusRequest {}))
        .await?;
    let value = documents::value("Status", &status.json)?;
    let wish = RunsListRequest {
        limit: RUNS,
        active_only: false,
    };
    let runs = client.call("list the runs", ASK, client.runs().list(wish)).await?;
    let hosts = client
        .call("list the hosts", ASK, client.hosts().list(HostsListRequest::default()))
        .await?;
    let answers = Answers {
        status: documents::read::<StatusDocument>("Status", &value)?,
        runs: all::<RunSummary>("Run", &runs.items)?,
        hosts: all::<Host>("Host", &hosts.items)?,
    };
    Ok((value, answers))
}

fn all<T: DeserializeOwned>(kind: &str, items: &[String]) -> Result<Vec<T>, Failure> {
    let read = |text: &String| documents::read(kind, &documents::value(kind, text)?);
    items.iter().map(read).collect()
}

/// What became of it, in a line.
async fn halt(client: &Client) -> String {
    let request = HaltRequest { reason: String::new() };
    match client.call("halt", DEED, client.emergency().halt(request)).await {
        Ok(reply) => format!(
            "halted: {} told, {} answered, {} undone, {} silent",
            reply.hosts_told,
            reply.hosts_answered,
            reply.undone,
            reply.silent.len()
        ),
        Err(failure) => format!("NOT HALTED: {}", failure.error.message),
    }
}
