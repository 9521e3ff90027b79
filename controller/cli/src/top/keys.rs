//! What keys mean: q leaves, h asks for a halt that has to be typed, arrows move. Pure: it changes the view and says what to do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::top::view::{Panel, View};

/// What has to be typed before everything is stopped.
pub const WORD: &str = "halt";
/// Rows that a page is.
const PAGE: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Nothing,
    Leave,
    Halt,
}

pub fn press(view: &mut View, key: KeyEvent) -> Deed {
    if key.kind == KeyEventKind::Release {
        return Deed::Nothing;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
        return Deed::Leave;
    }
    match view.typed.take() {
        Some(typed) => confirm(view, typed, key.code),
        None => command(view, key.code),
    }
}

/// The word, and then Enter; anything else of it is given up.
fn confirm(view: &mut View, mut typed: String, key: KeyCode) -> Deed {
    match key {
        KeyCode::Esc => view.told = Some("nothing was halted".to_owned()),
        KeyCode::Enter if typed == WORD => return Deed::Halt,
        KeyCode::Enter => view.told = Some(format!("{typed:?} is not {WORD:?}: nothing was halted")),
        KeyCode::Backspace => {
            typed.pop();
            view.typed = Some(typed);
        }
        KeyCode::Char(letter) if typed.chars().count() < 2 * WORD.len() => {
            typed.push(letter);
            view.typed = Some(typed);
        }
        _ => view.typed = Some(typed),
    }
    Deed::Nothing
}

fn command(view: &mut View, key: KeyCode) -> Deed {
    let last = view.rows().saturating_sub(1);
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return Deed::Leave,
        KeyCode::Char('h') => view.typed = Some(String::new()),
        KeyCode::Up => view.scroll = view.scroll.saturating_sub(1),
        KeyCode::Down => view.scroll = (view.scroll + 1).min(last),
        KeyCode::PageUp => view.scroll = view.scroll.saturating_sub(PAGE),
        KeyCode::PageDown => view.scroll = (view.scroll + PAGE).min(last),
        KeyCode::Right | KeyCode::Tab => turn(view, 1),
        KeyCode::Left | KeyCode::BackTab => turn(view, 2),
        _ => {}
    }
    Deed::Nothing
}

fn turn(view: &mut View, steps: usize) {
    let panels = [Panel::Injections, Panel::Runs, Panel::Hosts];
    let here = panels.iter().position(|panel| *panel == view.panel).unwrap_or(0);
    view.panel = panels[(here + steps) % panels.len()];
    view.scroll = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::draw::tests::view;

    fn type_in(view: &mut View, text: &str) -> Deed {
        let mut deed = Deed::Nothing;
        for letter in text.chars() {
            let code = if letter == '\n' { KeyCode::Enter } else { KeyCode::Char(letter) };
            deed = press(view, KeyEvent::from(code));
        }
        deed
    }

    #[test]
    fn a_halt_has_to_be_typed_in_full() {
        let mut view = view();
        for (text, expected) in [
            ("h\n", Deed::Nothing),
            ("hhal\n", Deed::Nothing),
            ("hHALT\n", Deed::Nothing),
            ("hhaltx\n", Deed::Nothing),
            ("hhalt\n", Deed::Halt),
        ] {
            assert_eq!(type_in(&mut view, text), expected, "{text:?}");
            assert_eq!(view.typed, None, "{text:?}");
        }
        assert_eq!(type_in(&mut view, "hhalq"), Deed::Nothing, "q is a letter here");
        assert_eq!(press(&mut view, KeyEvent::from(KeyCode::Backspace)), Deed::Nothing);
        assert_eq!(type_in(&mut view, "t\n"), Deed::Halt);
        type_in(&mut view, "hhalt");
        assert_eq!(press(&mut view, KeyEvent::from(KeyCode::Esc)), Deed::Nothing);
        assert_eq!(type_in(&mut view, "\n"), Deed::Nothing);
    }

    #[test]
    fn q_escape_and_control_c_leave() {
        for key in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut view(), KeyEvent::from(key)), Deed::Leave);
        }
        let mut asked = view();
        press(&mut asked, KeyEvent::from(KeyCode::Char('h')));
        assert_eq!(
            press(&mut asked, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)),
            Deed::Leave
        );
    }

    #[test]
    fn arrows_move_within_what_there_is() {
        let mut view = view();
        for _ in 0..9 {
            press(&mut view, KeyEvent::from(KeyCode::Down));
        }
        assert_eq!(view.scroll, view.rows() - 1);
        press(&mut view, KeyEvent::from(KeyCode::Right));
        assert_eq!((view.panel, view.scroll), (Panel::Runs, 0));
        press(&mut view, KeyEvent::from(KeyCode::Up));
        assert_eq!(view.scroll, 0);
        press(&mut view, KeyEvent::from(KeyCode::Left));
        press(&mut view, KeyEvent::from(KeyCode::Left));
        assert_eq!(view.panel, Panel::Hosts);
    }
}
