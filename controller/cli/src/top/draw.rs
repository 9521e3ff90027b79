//! Draws a view: the halt and the hosts on top, then what acts, what ran and which hosts need somebody. A colour never carries what the
//! words do not say.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};

use proto_model::host::Connection;
use proto_telling::terminal::visible;

use crate::age::ago;
use crate::output::paint::{Tone, tone_of};
use crate::top::keys::WORD;
use crate::top::view::{Panel, View};

/// A countdown of so many characters is a minute or more.
const BAR: usize = 10;
const BAR_MS: i64 = 60_000;
const KEYS: &str = "q quit   h halt   ↑↓ rows   ←→ tables";

/// Whether colours are on.
#[derive(Debug, Clone, Copy)]
pub struct Colours(pub bool);

impl Colours {
    fn of(self, tone: Tone) -> Style {
        if !self.0 {
            return Style::new();
        }
        match tone {
            Tone::Good => Style::new().fg(Color::Green),
            Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Doubt => Style::new().fg(Color::Yellow),
            Tone::Faint => Style::new().add_modifier(Modifier::DIM),
        }
    }

    fn word(self, word: &str) -> Cell<'static> {
        Cell::from(Span::styled(clean(word), self.of(tone_of(word))))
    }
}

/// Lines that all of it needs: for a frame that is printed once.
pub fn height(view: &View) -> u16 {
    let rows = view.answers.status.injections.len() + view.answers.runs.len() + view.troubled().len();
    u16::try_from(rows + 3 + 3 * 3).unwrap_or(u16::MAX)
}

pub fn draw(frame: &mut Frame<'_>, view: &View, colours: Colours) {
    let injections = share(view.answers.status.injections.len());
    let hosts = share(view.troubled().len());
    let areas = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(injections),
        Constraint::Min(3),
        Constraint::Length(hosts),
        Constraint::Length(1),
    ]);
    let [head, acting, runs, troubled, foot] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(summary(view, colours)), head);
    draw_injections(frame, acting, view, colours);
    draw_runs(frame, runs, view, colours);
    draw_hosts(frame, troubled, view, colours);
    let told = view.told.as_ref().map(|told| format!("   {}", clean(told))).unwrap_or_default();
    frame.render_widget(Paragraph::new(format!("{KEYS}{told}")), foot);
    if let Some(typed) = &view.typed {
        ask(frame, typed, colours);
    }
}

/// A table with its border and head; a long one leaves room for the others.
fn share(rows: usize) -> u16 {
    u16::try_from(rows.clamp(1, 12) + 2).unwrap_or(3)
}

fn summary(view: &View, colours: Colours) -> Vec<Line<'static>> {
    let status = &view.answers.status;
    let halt = if status.halt.engaged {
        let words = format!("HALTED   {}; nothing starts until it is released", clean(&status.halt.words()));
        Span::styled(words, colours.of(Tone::Bad))
    } else {
        Span::styled("released", colours.of(Tone::Good))
    };
    let toned = |count: u32, word: &str, tone: Tone| {
        let style = if count > 0 { colours.of(tone) } else { Style::new() };
        Span::styled(format!("{count} {word}"), style)
    };
    let hosts = vec![
        Span::raw("hosts    "),
        toned(status.hosts_connected, "up", Tone::Good),
        Span::raw("   "),
        toned(status.hosts_lost, "lost", Tone::Bad),
        Span::raw("   "),
        toned(status.hosts_dirty, "dirty", Tone::Bad),
        Span::raw(format!("   runs {}   injections {}", status.runs_active, status.injections_active)),
    ];
    let place = match &view.trouble {
        Some(trouble) => Span::styled(
            format!("as of {} s ago: {}", view.age_ms / 1_000, clean(trouble)),
            colours.of(Tone::Bad),
        ),
        None => Span::raw(format!("at       {}   {}", clean(&view.place), status.now)),
    };
    vec![Line::from(vec![Span::raw("halt     "), halt]), Line::from(hosts), Line::from(place)]
}

fn draw_injections(frame: &mut Frame<'_>, area: Rect, view: &View, colours: Colours) {
    let rows = view.injections().into_iter().map(|injection| {
        let left = view.left_ms(injection);
        let lease = view
            .lease_age_ms(injection)
            .map(|ms| seconds(i64::try_from(ms).unwrap_or(i64::MAX)));
        let state = if injection.host_lost { "lost" } else { injection.state.as_str() };
        Row::new([
            Cell::from(clean(injection.host.as_str())),
            Cell::from(clean(injection.fault.as_str())),
            colours.word(state),
            Cell::from(left.map(countdown).unwrap_or_else(|| "-".to_owned())),
            Cell::from(lease.unwrap_or_else(|| "-".to_owned())),
            Cell::from(injection.run.to_string()),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(11),
        Constraint::Length(22),
        Constraint::Length(7),
        Constraint::Length(16),
    ];
    let head = ["HOST", "FAULT", "STATE", "UNDONE IN", "LEASE", "RUN"];
    table(frame, area, view, Panel::Injections, "acting now", head, widths, rows.collect());
}

fn draw_runs(frame: &mut Frame<'_>, area: Rect, view: &View, colours: Colours) {
    let now = view.answers.status.now;
    let rows = view.answers.runs.iter().map(|run| {
        Row::new([
            Cell::from(clean(&run.name)),
            Cell::from(run.state.as_str()),
            colours.word(run.verdict.map_or("-", |verdict| verdict.as_str())),
            colours.word(run.cleanup.as_str()),
            Cell::from(ago(run.created_at, now)),
            Cell::from(run.id.to_string()),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(16),
    ];
    let head = ["RUN", "STATE", "VERDICT", "CLEANUP", "AGE", "ID"];
    table(frame, area, view, Panel::Runs, "runs", head, widths, rows.collect());
}

fn draw_hosts(frame: &mut Frame<'_>, area: Rect, view: &View, colours: Colours) {
    let rows = view.troubled().into_iter().map(|host| {
        let state = if host.connection == Connection::Lost { "lost" } else { "connected" };
        Row::new([
            Cell::from(clean(host.name.as_str())),
            colours.word(state),
            colours.word(host.cleanliness.as_str()),
            Cell::from(clean(host.environment())),
            Cell::from(host.last_seen.map(|at| ago(at, view.answers.status.now)).unwrap_or_default()),
            Cell::from(clean(host.note.as_deref().unwrap_or_default())),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(12),
        Constraint::Length(6),
        Constraint::Fill(2),
    ];
    let head = ["HOST", "STATE", "CLEAN", "ENV", "SEEN", "NOTE"];
    table(
        frame,
        area,
        view,
        Panel::Hosts,
        "hosts lost, dirty or unproven",
        head,
        widths,
        rows.collect(),
    );
}

#[allow(clippy::too_many_arguments)]
fn table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &View,
    panel: Panel,
    title: &str,
    head: [&'static str; N],
    widths: [Constraint; N],
    rows: Vec<Row<'static>>,
) {
    let here = view.panel == panel;
    let count = rows.len();
    let mark = if here { "▸" } else { " " };
    let block = Block::new().title(format!("{mark} {title} ({count})"));
    let scrolled = rows.into_iter().skip(if here { view.scroll } else { 0 });
    let head = Row::new(head).style(Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Table::new(scrolled, widths).header(head).block(block), area);
}

/// Asks for the word in the middle of the screen.
fn ask(frame: &mut Frame<'_>, typed: &str, colours: Colours) {
    let lines = vec![
        Line::from(format!("Type {WORD} and press Enter to stop everything everywhere and undo it.")),
        Line::from("Nothing starts again until it is released. Esc gives up."),
        Line::from(format!("> {}", clean(typed))),
    ];
    let area = frame.area();
    let (width, height) = (76.min(area.width), 5.min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(" halt ").border_style(colours.of(Tone::Bad));
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

/// A bar of at most a minute, and the time; past its end it says so.
fn countdown(left_ms: i64) -> String {
    if left_ms <= 0 {
        return format!("{} over", seconds(-left_ms));
    }
    let parts = usize::try_from(left_ms.min(BAR_MS) * BAR as i64 / BAR_MS)
        .unwrap_or(0)
        .clamp(1, BAR);
    format!("{}{} {}", "█".repeat(parts), "·".repeat(BAR - parts), seconds(left_ms))
}

fn seconds(ms: i64) -> String {
    match ms / 1_000 {
        s if s < 60 => format!("{s}s"),
        s if s < 3_600 => format!("{}m {:02}s", s / 60, s % 60),
        s => format!("{}h {:02}m", s / 3_600, s % 3_600 / 60),
    }
}

/// What a host or a person named cannot steer the terminal.
fn clean(text: &str) -> String {
    visible(text)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::top::view::Answers;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    pub fn view() -> View {
        let injection = |host: &str, left: Option<i64>, lease: u64, lost: bool| {
            json!({"id": "aaaaaaaaaaaaaaaa", "run": "0123456789abcdef", "host": host, "fault": "cpu.burn", "state": "holding",
                "host_lost": lost, "left_ms": left, "lease_age_ms": lease})
        };
        let status = json!({"version": "0.1.0", "hosts_connected": 3, "hosts_lost": 1, "hosts_dirty": 0, "runs_active": 1,
            "injections_active": 2, "caller": "root@local", "now": "2026-11-23T13:00:00.000Z",
            "halt": {"epoch": 3, "engaged": false, "by": "", "reason": "", "at": "2026-11-23T12:00:00.000Z"},
            "injections": [injection("web-2", Some(125_000), 1_000, false), injection("web-1", Some(30_000), 4_000, true),
                injection("web-3", None, 0, false)]});
        let run = json!({"id": "0123456789abcdef", "name": "slow\u{1b}[31mpayments", "origin": "experiment", "service": null,
            "environment": "staging", "state": "finished", "verdict": "failed", "exit_code": 6, "ended_by": "completed",
            "cleanup": "proven", "reason": null, "plan": {"digest": "sha256:ab", "seed": 7}, "by": "root@local",
            "created_at": "2026-11-23T12:55:00.000Z", "started_at": null, "finished_at": null, "hosts_total": 2, "hosts_unclean": 0,
            "injections_total": 2, "detection_ms": null, "recovery_ms": null});
        let host = |name: &str, connection: &str, cleanliness: &str| {
            json!({"name": name, "labels": {"env": "staging"}, "connection": connection, "facts": {"hostname": name, "machine_id": "m",
                "boot_id": "b", "kernel": "6.1", "os": "Debian", "architecture": "x86_64", "cpus": 2, "memory_bytes": 1,
                "addresses": [], "cgroups": "v2", "agent_version": "0.1.0", "service_manager": "systemd"},
                "cleanliness": cleanliness, "availability": "open", "membership": "enrolled", "note": null, "catalogue_digest": "c",
                "active_injections": 0, "enrolled_at": "2026-11-23T12:00:00.000Z", "last_seen": "2026-11-23T12:58:00.000Z",
                "certificate_not_after": null, "source_address": null})
        };
        let read = |value: serde_json::Value| serde_json::from_value(value);
        let answers = Answers {
            status: read(status).unwrap(),
            runs: vec![serde_json::from_value(run).unwrap()],
            hosts: [
                host("web-1", "lost", "faulted"),
                host("web-2", "connected", "faulted"),
                host("db-1", "connected", "dirty"),
            ]
            .map(|host| serde_json::from_value(host).unwrap())
            .to_vec(),
        };
        View::new("local (/run/x.sock)".into(), answers)
    }

    fn drawn(view: &View, width: u16, height: u16, colours: bool) -> (Vec<String>, bool) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, Colours(colours))).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        let coloured = buffer
            .content()
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        ((0..height).map(|y| line(y).trim_end().to_owned()).collect(), coloured)
    }

    fn line<'a>(lines: &'a [String], word: &str) -> &'a str {
        lines
            .iter()
            .find(|line| line.contains(word))
            .unwrap_or_else(|| panic!("no line with {word}: {lines:#?}"))
    }

    #[test]
    fn everything_that_matters_is_on_one_screen() {
        let (lines, _) = drawn(&view(), 110, 24, false);
        assert_eq!(line(&lines, "halt  "), "halt     released");
        assert!(line(&lines, "3 up").contains("1 lost   0 dirty   runs 1   injections 2"));
        let first = line(&lines, "web-1 ");
        assert!(
            first.contains("lost") && first.contains("█████····· 30s") && first.contains("4s"),
            "{first}"
        );
        assert!(line(&lines, "web-2 ").contains("██████████ 2m 05s"));
        let order: Vec<usize> = ["web-1 ", "web-2 ", "web-3 "]
            .map(|word| lines.iter().position(|line| line.contains(word)).unwrap())
            .to_vec();
        assert!(order.is_sorted(), "what ends first is on top: {order:?}");
        assert!(
            line(&lines, "failed").contains("slow\\u{1b}[31mpayments"),
            "a name steers the terminal"
        );
        assert!(line(&lines, "db-1").contains("dirty"));
        assert!(line(&lines, "q quit").contains("h halt"));
    }

    #[test]
    fn countdowns_go_on_between_answers_and_past_their_end() {
        let mut view = view();
        view.age_ms = 10_000;
        let (lines, _) = drawn(&view, 110, 24, false);
        assert!(line(&lines, "web-1 ").contains("20s") && line(&lines, "web-1 ").contains("14s"));
        view.age_ms = 42_000;
        assert!(line(&drawn(&view, 110, 24, false).0, "web-1 ").contains("12s over"));
    }

    #[test]
    fn a_halt_and_a_silent_controller_are_said_first() {
        let mut view = view();
        let halt = &mut view.answers.status.halt;
        (halt.engaged, halt.by, halt.reason) = (true, "root@local".into(), "drill".into());
        (view.trouble, view.age_ms) = (Some("the controller did not answer".into()), 7_000);
        let (lines, coloured) = drawn(&view, 110, 24, true);
        assert!(lines[0].contains("HALTED   halted by root@local: drill"), "{lines:#?}");
        assert!(lines[2].contains("as of 7 s ago: the controller did not answer"), "{lines:#?}");
        assert!(coloured);
        assert!(!drawn(&view, 110, 24, false).1, "NO_COLOR is no colour");
    }

    #[test]
    fn any_size_can_be_drawn_and_the_question_is_on_top() {
        let mut view = view();
        view.typed = Some("hal".into());
        assert!(line(&drawn(&view, 110, 24, false).0, "> hal").contains('│'));
        for (width, height) in [(1, 1), (10, 3), (20, 8), (300, 100)] {
            drawn(&view, width, height, true);
        }
    }

    #[test]
    fn a_frame_for_a_pipe_has_room_for_all() {
        let view = view();
        let (lines, _) = drawn(&view, 110, height(&view), false);
        for word in ["web-1 ", "web-3 ", "failed", "db-1", "q quit"] {
            line(&lines, word);
        }
    }
}
