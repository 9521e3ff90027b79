//! The terminal of the live view: taken, drawn on, and given back however this ends, a panic too. Keys come from a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

use crate::top::draw::{Colours, draw, height};
use crate::top::view::View;

/// Keys that may wait.
const WAITING: usize = 64;
/// How often the thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);
/// The width of a frame that no terminal shows.
const PLAIN_WIDTH: u16 = 120;

pub struct Screen {
    terminal: DefaultTerminal,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal; a panic gives it back before it is told.
    pub fn take() -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let terminal = ratatui::try_init()?;
        let (sender, keys) = mpsc::channel(WAITING);
        let over = Arc::new(AtomicBool::new(false));
        let screen = Self {
            terminal,
            reader: Some(std::thread::spawn({
                let over = over.clone();
                move || read(&over, &sender)
            })),
            over,
        };
        Ok((screen, keys))
    }

    pub fn draw(&mut self, view: &View, colours: Colours) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, view, colours)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It looks ten times a second.
            let _ = reader.join();
        }
        ratatui::restore();
    }
}

fn read(over: &AtomicBool, sender: &mpsc::Sender<Event>) {
    while !over.load(Ordering::Relaxed) {
        match event::poll(LOOK) {
            Ok(false) => {}
            Ok(true) => match event::read() {
                // A full queue means keys are typed faster than they are read: the newest are dropped.
                Ok(event) => drop(sender.try_send(event)),
                Err(_) => return,
            },
            Err(_) => return,
        }
    }
}

/// The same picture as lines, once.
pub fn plain(view: &View) -> io::Result<Vec<String>> {
    let mut terminal = Terminal::new(TestBackend::new(PLAIN_WIDTH, height(view))).map_err(io::Error::other)?;
    terminal.draw(|frame| draw(frame, view, Colours(false))).map_err(io::Error::other)?;
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    // The last line tells keys that nobody can press.
    Ok((0..buffer.area.height.saturating_sub(1))
        .map(|y| line(y).trim_end().to_owned())
        .collect())
}
