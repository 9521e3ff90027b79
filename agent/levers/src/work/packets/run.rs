//! The loop of the packet engine: take packets, decide, let go what is due, tell; until it is told to stop, when it lets everything go.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::delay_queue::{Held, Room};
use super::order::{Harm, PacketWork};
use super::queue::{ALL, AT_ONCE, Packet, QueueSocket, Terms, Verdict};
use super::random_model::{Holds, Losses};
use super::reinject::{Again, Parcel};
use super::rtt_probe::Prober;
use super::stats_page::{PacketNote, Page};

/// How long it may be before a stop is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The kernel waits for verdicts on so many packets more than may be held: those that were not read yet.
const UNREAD: u32 = 4_096;
/// Enough of a packet to know its addresses and ports.
const HEADERS: u32 = 128;
/// What is still in the queues at the end is let go in at most so many rounds.
const LAST_ROUNDS: usize = 64;

/// Works until `should_stop`, then lets go of everything that it holds, at once.
pub fn run(work: &PacketWork, should_stop: &dyn Fn() -> bool) -> io::Result<()> {
    let mut engine = Engine::open(work)?;
    let mut page = Page::open()?;
    let prober = work.probe.map(|probe| Prober::start(probe, engine.longest)).transpose()?;
    engine.prober = prober;
    engine.take_queues(work)?;
    page.write(&engine.note)?;
    while !should_stop() {
        engine.wait(page.next())?;
        engine.take_packets()?;
        engine.let_go(Some(Instant::now()))?;
        if page.is_due(Instant::now()) {
            engine.note.echoes = engine.prober.as_ref().map(Prober::echoes);
            engine.note.held = (engine.out.len() + engine.inward.len()) as u64;
            page.write(&engine.note)?;
        }
    }
    engine.end()
}

/// Which way a queue's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// What becomes of a packet.
enum Fate {
    Hold(Duration),
    Lose,
    Pass,
}

enum Model {
    Delay { out: Holds, inward: Holds },
    Loss { out: Losses, inward: Losses },
}

impl Model {
    fn new(work: &PacketWork) -> Self {
        let (one, other) = (work.seed, work.seed.wrapping_add(1));
        match work.harm {
            Harm::Delay(delay) => Self::Delay {
                out: Holds::new(delay, one),
                inward: Holds::new(delay, other),
            },
            Harm::Loss(model) => Self::Loss {
                out: Losses::new(model, one),
                inward: Losses::new(model, other),
            },
        }
    }

    fn fate(&mut self, way: Way) -> Fate {
        match (self, way) {
            (Self::Delay { out: holds, .. }, Way::Out) | (Self::Delay { inward: holds, .. }, Way::In) => {
                Fate::Hold(Duration::from_micros(holds.next_us()))
            }
            (Self::Loss { out: losses, .. }, Way::Out) | (Self::Loss { inward: losses, .. }, Way::In) => {
                if losses.next_is_lost() {
                    Fate::Lose
                } else {
                    Fate::Pass
                }
            }
        }
    }
}

/// One packet as it was read; the bytes only when they are needed.
struct Read {
    way: Way,
    queue: u16,
    id: u32,
    length: usize,
    /// Of our own probe: held like any other, and not counted.
    is_ours: bool,
    parcel: Option<Parcel>,
}

struct Engine {
    queues: QueueSocket,
    again: Again,
    out_queue: Option<u16>,
    model: Model,
    copies: bool,
    /// Copies of what was about to leave.
    out: Held<Parcel>,
    /// Queues and ids of what the kernel holds for us.
    inward: Held<(u16, u32)>,
    read: Vec<Read>,
    prober: Option<Prober>,
    longest: Duration,
    note: PacketNote,
}

impl Engine {
    fn open(work: &PacketWork) -> io::Result<Self> {
        let room = room(work);
        Ok(Self {
            queues: QueueSocket::open()?,
            again: Again::open()?,
            out_queue: work.queues.out,
            model: Model::new(work),
            copies: matches!(work.harm, Harm::Delay(_)),
            out: Held::new(room),
            inward: Held::new(room),
            read: Vec::with_capacity(AT_ONCE),
            prober: None,
            longest: match work.harm {
                Harm::Delay(delay) => delay.longest(),
                Harm::Loss(_) => Duration::ZERO,
            },
            note: PacketNote::default(),
        })
    }

    fn take_queues(&mut self, work: &PacketWork) -> io::Result<()> {
        let holds = u32::try_from(room(work).packets).unwrap_or(u32::MAX);
        for queue in work.queues.numbers() {
            let copied_whole = self.copies && self.way_of(queue) == Way::Out;
            let terms = Terms {
                copied: if copied_whole { ALL } else { HEADERS },
                length: if copied_whole { UNREAD } else { UNREAD + holds },
                whole: !copied_whole,
            };
            self.queues.take(queue, terms)?;
        }
        Ok(())
    }

    fn way_of(&self, queue: u16) -> Way {
        if self.out_queue == Some(queue) { Way::Out } else { Way::In }
    }

    /// Until a packet comes, one is due, or the note is.
    fn wait(&self, note_due: Instant) -> io::Result<()> {
        let due = [self.out.next_due(), self.inward.next_due(), Some(note_due)];
        let first = due.into_iter().flatten().min().unwrap_or(note_due);
        let wait = first.saturating_duration_since(Instant::now()).min(LOOK_EVERY);
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut fds = [PollFd::from_borrowed_fd(self.queues.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read_packets(&mut self) -> io::Result<usize> {
        let (out_queue, copies, read) = (self.out_queue, self.copies, &mut self.read);
        let prober = self.prober.as_ref();
        read.clear();
        self.queues.receive(|packet| {
            let way = if out_queue == Some(packet.queue) { Way::Out } else { Way::In };
            let is_whole = packet.bytes.len() == packet.length;
            read.push(Read {
                way,
                queue: packet.queue,
                id: packet.id,
                length: packet.length,
                is_ours: prober.is_some_and(|prober| prober.sent(packet.bytes)),
                parcel: (copies && way == Way::Out && is_whole).then(|| parcel(&packet)),
            });
        })
    }

    fn take_packets(&mut self) -> io::Result<()> {
        self.read_packets()?;
        let now = Instant::now();
        let mut gone_up_to = None;
        let mut read = std::mem::take(&mut self.read);
        for packet in read.drain(..) {
            self.note.met += u64::from(!packet.is_ours);
            match self.model.fate(packet.way) {
                Fate::Lose => {
                    self.note.lost += 1;
                    self.queues.decide(packet.queue, packet.id, Verdict::Drop)?;
                }
                Fate::Pass => self.queues.decide(packet.queue, packet.id, Verdict::Accept)?,
                Fate::Hold(time) if packet.way == Way::In => self.hold_in_kernel(&packet, now + time)?,
                Fate::Hold(time) => gone_up_to = self.hold_copy(packet, now + time)?.or(gone_up_to),
            }
        }
        self.read = read;
        // Copies are ours now; all that the kernel still has up to here is dropped with one word.
        if let Some((queue, id)) = gone_up_to {
            self.queues.decide_up_to(queue, id, Verdict::Drop)?;
        }
        self.queues.flush()
    }

    fn hold_in_kernel(&mut self, packet: &Read, due: Instant) -> io::Result<()> {
        if self.inward.hold(due, packet.length, (packet.queue, packet.id)).is_ok() {
            return Ok(());
        }
        self.note.overflowed += 1;
        self.queues.decide(packet.queue, packet.id, Verdict::Drop)
    }

    /// Up to where the kernel's packets may be dropped.
    fn hold_copy(&mut self, packet: Read, due: Instant) -> io::Result<Option<(u16, u32)>> {
        let Some(parcel) = packet.parcel else {
            self.note.passed_by += 1;
            self.queues.decide(packet.queue, packet.id, Verdict::Accept)?;
            return Ok(None);
        };
        if self.out.hold(due, packet.length, parcel).is_err() {
            self.note.overflowed += 1;
        }
        Ok(Some((packet.queue, packet.id)))
    }

    /// What is due by now; without a time, everything.
    fn let_go(&mut self, now: Option<Instant>) -> io::Result<()> {
        while let Some((queue, id)) = self.inward.take_due(now) {
            self.note.released += 1;
            self.queues.decide(queue, id, Verdict::Accept)?;
        }
        self.queues.flush()?;
        let parcels: Vec<Parcel> = std::iter::from_fn(|| self.out.take_due(now)).collect();
        let sent = self.again.send(&parcels);
        self.note.released += sent.sent;
        self.note.refused += sent.refused;
        Ok(())
    }

    /// Holds nothing any more; what comes in meanwhile passes.
    fn end(&mut self) -> io::Result<()> {
        for _ in 0..LAST_ROUNDS {
            self.let_go(None)?;
            if self.read_packets()? == 0 {
                break;
            }
            for packet in self.read.drain(..) {
                self.queues.decide(packet.queue, packet.id, Verdict::Accept)?;
            }
            self.queues.flush()?;
        }
        Ok(())
    }
}

fn room(work: &PacketWork) -> Room {
    match work.harm {
        Harm::Delay(delay) => Room::for_delay(delay.longest()),
        Harm::Loss(_) => Room::for_delay(Duration::ZERO),
    }
}

fn parcel(packet: &Packet<'_>) -> Parcel {
    Parcel {
        bytes: packet.bytes.to_vec(),
        out_interface: packet.out_interface,
        mark: packet.mark,
        priority: packet.priority,
    }
}
