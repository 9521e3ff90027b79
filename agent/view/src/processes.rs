//! Lists of processes: one at which a look hangs is listed with what the kernel keeps of it, and the look goes on behind it; it signals none.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};

use crate::bounded::{Bounded, Failure, PROCESS_LOOKS, Subject, Words};
use crate::error::ViewError;
use crate::process::{Process, alone, named, pids, process, words};
use crate::users::Users;

/// What a look at many is called. It is overdue itself only where it has not begun; else it is stuck at one of them.
const MANY: &str = "processes";

/// Why a look at all takes too long although it goes on, and what to do.
const TOO_MANY: &str = "too many processes run, or the processors are too busy (fix: try again when the host is less busy)";

/// All of them; an error where that takes too long, or looks hang at too many of them.
pub(crate) fn processes() -> Result<Vec<Process>, ViewError> {
    let all = |pid: u32| Words {
        what: format!("the processes of this host, as far as {}", named(pid)),
        fix: TOO_MANY.to_owned(),
    };
    each(&PROCESS_LOOKS, all, alone, pids()?, seeing())
}

/// One of them; `None` when it has ended.
pub(crate) fn process_in_time(pid: u32) -> Result<Option<Process>, ViewError> {
    Ok(each(&PROCESS_LOOKS, move |_| words(pid), alone, vec![pid], seeing())?.pop())
}

/// The users are read where the look may take its time.
fn seeing() -> impl Fn(u32) -> Result<Option<Process>, ViewError> + Clone + Send + 'static {
    let users = Arc::new(OnceLock::new());
    move |pid| process(pid, users.get_or_init(Users::read_if_readable))
}

/// What `see` sees of those with these numbers, in rising order. Where it stands still at one, another helper begins again there: `see` does
/// not wait for that one a second time, or the look fails.
fn each<T: Send + 'static>(
    looks: &Bounded,
    all: impl Fn(u32) -> Words + Clone + Send + 'static,
    one: fn(u32) -> Subject,
    mut left: Vec<u32>,
    see: impl Fn(u32) -> Result<Option<T>, ViewError> + Clone + Send + 'static,
) -> Result<Vec<T>, ViewError> {
    let patience = looks.patience();
    let (mut seen, mut stuck) = (Vec::new(), None);
    loop {
        let reached = Arc::new(AtomicU32::new(0));
        let (far, all) = (reached.clone(), all.clone());
        let subject = Subject::new(MANY, move || all(far.load(Ordering::Relaxed))).with_progress(reached.clone(), one);
        let (found, finds) = channel();
        let (numbers, see) = (left.clone(), see.clone());
        let looked = looks.look_for(subject, patience, move || {
            for number in numbers {
                reached.store(number, Ordering::Relaxed);
                if found.send((number, see(number)?)).is_err() {
                    // The look has gone on without this helper.
                    break;
                }
            }
            Ok(())
        });
        seen.extend(finds.try_iter());
        match looked {
            Ok(()) => return Ok(seen.into_iter().filter_map(|(_, found)| found).collect()),
            Err(Failure::StandsStill(number, _)) if stuck != Some(number) => {
                stuck = Some(number);
                // It may have answered at the last moment.
                seen.retain(|(of, _)| *of < number);
                left.retain(|of| *of >= number);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::process::{Child, Command};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::*;

    /// A quarter of it is enough for the second helper, on a busy machine too.
    const LIMIT: Duration = Duration::from_secs(2);

    fn thing(number: u32) -> Words {
        Words {
            what: format!("thing {number}"),
            fix: "unmount it".to_owned(),
        }
    }

    fn one_thing(number: u32) -> Subject {
        Subject::new(format!("thing {number}"), move || thing(number))
    }

    #[test]
    fn a_look_goes_on_behind_the_one_at_which_it_hangs() {
        let looks = Bounded::new(LIMIT);
        let (end, hangs) = channel::<()>();
        let hangs = Arc::new(Mutex::new(Some(hangs)));
        let see = move |number: u32| {
            let hangs = if number == 2 { hangs.lock().unwrap().take() } else { None };
            if let Some(hangs) = hangs {
                hangs.recv().ok();
            }
            Ok((number != 3).then_some(number))
        };
        assert_eq!(each(&looks, thing, one_thing, vec![1, 2, 3, 4], see).unwrap(), [1, 2, 4]);
        assert!(looks.overdue("thing 2").is_some() && looks.overdue("thing 4").is_none());
        drop(end);
    }

    #[test]
    fn a_look_that_stands_still_at_the_same_one_again_fails_and_names_it() {
        let looks = Bounded::new(LIMIT);
        let see = |number: u32| {
            if number == 2 {
                std::thread::sleep(Duration::from_secs(60));
            }
            Ok(Some(number))
        };
        let error = each(&looks, thing, one_thing, vec![1, 2, 3], see).unwrap_err();
        assert_eq!((error.what.as_str(), error.source.kind()), ("thing 2", io::ErrorKind::TimedOut));
        let fails = |_: u32| Err::<Option<()>, _>(ViewError::new("x", io::ErrorKind::NotFound.into()));
        assert_eq!(each(&looks, thing, one_thing, vec![1], fails).unwrap_err().what, "x");
    }

    #[test]
    fn we_see_ourselves_and_not_what_never_was() {
        let own = process_in_time(std::process::id()).unwrap().unwrap();
        assert_eq!(own.unread, None);
        assert!(processes().unwrap().iter().any(|p| p.is(own.pid, own.start_time)));
        assert_eq!(process_in_time(u32::MAX).unwrap(), None);
    }

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn a_process_at_which_a_look_hangs_is_listed_with_what_the_kernel_keeps_until_the_look_returns() {
        let sleeper = Sleeper(Command::new("/bin/sleep").arg("60").spawn().unwrap());
        let pid = sleeper.0.id();
        let (end, hangs) = channel::<()>();
        let hung = PROCESS_LOOKS.look(alone(pid), move || {
            hangs.recv().ok();
            Ok(())
        });
        assert!(hung.is_err());
        let listed = processes().unwrap();
        let of_pid = listed.iter().find(|process| process.pid == pid).unwrap();
        for seen in [&process_in_time(pid).unwrap().unwrap(), of_pid] {
            let unread = seen.unread.as_deref().unwrap();
            assert!(
                unread.starts_with(&format!("process {pid} (sleep) gave no answer within ")) && unread.contains("(fix: "),
                "{unread}"
            );
            let program = std::fs::canonicalize("/bin/sleep").unwrap().display().to_string();
            assert_eq!((seen.name.as_str(), seen.exe.as_deref()), ("sleep", Some(program.as_str())));
            assert!(seen.command_line.is_empty() && !seen.installed_program && !seen.our_program);
            assert_eq!(seen.parent, std::process::id());
        }
        let own = listed.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(own.unread.is_none() && !own.command_line.is_empty());

        end.send(()).unwrap();
        let began = Instant::now();
        while process_in_time(pid).unwrap().unwrap().unread.is_some() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is not read again");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(process_in_time(pid).unwrap().unwrap().command_line, ["/bin/sleep", "60"]);
    }
}
