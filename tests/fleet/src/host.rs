//! One simulated host: dials, says hello, obeys by its script, and dials again when its session ends.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto_model::host::HostFacts;
use proto_model::id::InstanceId;
use proto_model::injection::{CleanProof, Cleanliness, EndedBy, PreflightAnswer};
use proto_transport::{Authority, Backoff, MAX_MESSAGE, Trust};
use proto_wire::v1::RenewRequest;
use proto_wire::v1::agents_client::AgentsClient;
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::behaviour::Behaviour;
use crate::connection::Connection;
use crate::counts::{add, stamp, subtract};
use crate::fleet::Shared;
use crate::identity::Member;
use crate::injection::{Boot, Injection};
use crate::wire::{self, AgentMessage, ControllerMessage, Greeting, Hello, Order, Said, Start};

/// What may be on its way to the controller at the same time.
const OUT: usize = 16;
/// What may wait to be sent; a host that has more ends its session.
const WAITING: usize = 4_096;
const BEGIN_WITHIN: Duration = Duration::from_secs(15);
/// A session that lasted so long was a good one: the next dial is quick again.
const GOOD_SESSION: Duration = Duration::from_secs(10);
const FIRST_HEARTBEAT: Duration = Duration::from_secs(5);
/// A clock that is wrong: longer than a certificate lives.
const CLOCK_AHEAD: Duration = Duration::from_secs(48 * 3_600);
/// How often a host renews whose clock makes its certificate look expired.
const RENEW_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Host {
    member: Arc<Member>,
    behaviour: Behaviour,
    shared: Arc<Shared>,
    facts: HostFacts,
    boot: Boot,
    instance: String,
    injections: Vec<Injection>,
    halted: Option<String>,
    halt_epoch: u64,
    store_epoch: u64,
    /// It is not coming back.
    gone: bool,
}

impl Host {
    pub fn new(member: Arc<Member>, behaviour: Behaviour, shared: Arc<Shared>) -> Self {
        let boot = Boot {
            id: format!("boot-{}", InstanceId::generate()),
            at: Instant::now(),
        };
        Self {
            facts: facts(&member, &boot.id),
            member,
            behaviour,
            shared,
            boot,
            instance: InstanceId::generate().to_string(),
            injections: Vec::new(),
            halted: None,
            halt_epoch: 0,
            store_epoch: 0,
            gone: false,
        }
    }

    /// Lives until it is aborted, or is not coming back.
    pub async fn live(mut self, first_dial_after: Duration) {
        sleep(first_dial_after).await;
        let mut backoff = Backoff::default();
        while !self.gone {
            let began = Instant::now();
            let ended = self.session().await;
            if ended.is_err() {
                add(&self.shared.counters.refused);
            }
            if began.elapsed() >= GOOD_SESSION {
                backoff.reset();
            }
            sleep(backoff.next_wait()).await;
        }
    }

    async fn session(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let controller = *self.shared.controller.borrow();
        let trust = Trust::Authorities(vec![self.member.authority.clone()]);
        let connection = Connection::open(self.member.address, controller, trust, Some(&self.member.identity)).await?;
        let mut client = AgentsClient::with_origin(connection, Connection::origin()).max_decoding_message_size(MAX_MESSAGE);
        let nonce = InstanceId::generate().to_string();
        let hello = self.hello(&nonce);
        let mut session = Session {
            nonce,
            orders: 0,
            said: 0,
            queue: VecDeque::new(),
            next_heartbeat: Instant::now() + jittered(FIRST_HEARTBEAT),
            heartbeat: FIRST_HEARTBEAT,
            welcomed: false,
            next_renewal: Instant::now(),
        };
        let (out, inbound) = match call(&mut client, session.number(Said::Hello(hello.clone()))).await? {
            Err(status) if status.code() == Code::FailedPrecondition => {
                session.said = 0;
                let shown = wire::with_catalogue(hello, &self.shared.description);
                call(&mut client, session.number(Said::Hello(shown))).await??
            }
            called => called?,
        };
        for injection in &mut self.injections {
            injection.begin_session();
        }
        self.report_news(&mut session);
        let ended = self.converse(&mut session, inbound, out, client).await;
        if session.welcomed {
            subtract(&self.shared.counters.connected);
        }
        ended
    }

    fn hello(&self, nonce: &str) -> Hello {
        let owed = |injection: &Injection| (injection.id.to_string(), injection.run.clone(), injection.finished);
        let greeting = Greeting {
            nonce,
            instance: &self.instance,
            facts: &self.facts,
            boot_ms: self.boot.ms(Instant::now()),
            clock_ms: self.clock_ms(),
            halt_epoch: self.halt_epoch,
            store_epoch: self.store_epoch,
            halted: self.halted.as_deref(),
            inventory: self.injections.iter().map(owed).collect(),
            cleanliness: self.cleanliness(),
        };
        wire::hello(&self.shared.description, greeting)
    }

    async fn converse(
        &mut self,
        session: &mut Session,
        mut inbound: Streaming<ControllerMessage>,
        out: mpsc::Sender<Box<AgentMessage>>,
        mut client: AgentsClient<Connection>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut moved = self.shared.controller.subscribe();
        loop {
            let now = Instant::now();
            let due = session.queue.front().map(|(due, _)| *due);
            let wake = self
                .wake_at(session)
                .min(due.filter(|due| *due > now).unwrap_or(session.next_heartbeat));
            tokio::select! {
                order = inbound.message() => match order? {
                    Some(order) => self.read(session, order),
                    None => return Ok(()),
                },
                permit = out.reserve(), if due.is_some_and(|due| due <= now) => {
                    if let Some((_, body)) = session.queue.pop_front() {
                        permit?.send(session.number(body));
                    }
                },
                () = sleep_until(wake) => self.tick(session),
                _ = moved.changed() => return Ok(()),
            }
            if self.gone {
                return Ok(());
            }
            if session.queue.len() > WAITING {
                return Err("too much waits to be sent".into());
            }
            if self.behaviour == Behaviour::WrongClock && session.next_renewal <= Instant::now() {
                session.next_renewal = Instant::now() + RENEW_EVERY;
                self.renew(&mut client).await;
            }
        }
    }

    fn wake_at(&self, session: &Session) -> Instant {
        let next = self.injections.iter().filter_map(Injection::next_event).min();
        let renewal = (self.behaviour == Behaviour::WrongClock).then_some(session.next_renewal);
        let times = [Some(session.next_heartbeat), next, renewal];
        times.into_iter().flatten().min().unwrap_or(session.next_heartbeat)
    }

    fn tick(&mut self, session: &mut Session) {
        let now = Instant::now();
        if session.next_heartbeat <= now {
            session.next_heartbeat = now + jittered(session.heartbeat);
            let acting = self.injections.iter().filter(|injection| !injection.finished).count();
            // A heartbeat is the one thing that a silent host still says.
            let beat = wire::heartbeat(self.boot.ms(now), acting, self.cleanliness(), self.halted.is_some());
            session.queue.push_back((now, beat));
        }
        for injection in &mut self.injections {
            if injection.advance(&self.boot, now) {
                ended(&self.shared);
            }
        }
        self.report_news(session);
    }

    fn read(&mut self, session: &mut Session, message: ControllerMessage) {
        session.orders += 1;
        if message.nonce != session.nonce || message.seq != session.orders {
            add(&self.shared.counters.violations);
        }
        self.store_epoch = self.store_epoch.max(message.store_epoch);
        match Order::read(message.body) {
            None | Some(Order::Unsupported) => self.say(session, wire::refused(message.seq, "the simulator does not do that")),
            Some(order) => self.obey(session, order, message.halt_epoch),
        }
        self.report_news(session);
    }

    fn obey(&mut self, session: &mut Session, order: Order, halt_epoch: u64) {
        let now = Instant::now();
        match order {
            Order::Welcome { heartbeat_ms } => self.welcomed(session, Duration::from_millis(heartbeat_ms)),
            Order::Start(start) => self.start(start, now),
            Order::Stop { injection, cause } => {
                self.end(|known| known.id.as_str() == injection, cause);
            }
            Order::Lease { injections, lease_ms } => {
                for injection in self
                    .injections
                    .iter_mut()
                    .filter(|known| injections.iter().any(|id| id == known.id.as_str()))
                {
                    injection.renew(lease_ms, now);
                }
            }
            Order::Preflight { request, questions } => {
                add(&self.shared.counters.preflights);
                self.say(session, wire::preflight(request, vec![accepted(); questions], &self.facts));
            }
            Order::Verify { request } => {
                add(&self.shared.counters.proofs);
                let proof = CleanProof::of(vec![], vec![], vec![], vec![], &self.boot.id);
                self.say(session, wire::proof(request, proof));
            }
            Order::Halt { reason } => {
                self.note_halt(halt_epoch);
                self.halted = Some(reason);
                let undone = self.end(|_| true, EndedBy::Halt);
                self.say(session, wire::halt_answer(halt_epoch, true, undone));
            }
            Order::Release => {
                self.note_halt(halt_epoch);
                self.halted = None;
                self.say(session, wire::halt_answer(halt_epoch, false, 0));
            }
            Order::Settled { injections } => self.settle(&injections),
            Order::Unsupported => {}
        }
    }

    fn welcomed(&self, session: &mut Session, heartbeat: Duration) {
        session.heartbeat = heartbeat;
        session.next_heartbeat = Instant::now() + jittered(heartbeat);
        if !session.welcomed {
            session.welcomed = true;
            add(&self.shared.counters.connected);
            add(&self.shared.counters.sessions);
            stamp(&self.shared.counters.session_ns);
        }
    }

    fn start(&mut self, start: Start, now: Instant) {
        match self.behaviour {
            Behaviour::Silent => {}
            Behaviour::NeverReturns => self.gone = true,
            Behaviour::Obedient | Behaviour::Slow(_) | Behaviour::WrongClock => {
                // An injection is applied at most once.
                if self.injections.iter().any(|known| known.id == start.injection) {
                    return;
                }
                add(&self.shared.counters.applied);
                add(&self.shared.counters.acting);
                self.injections.push(Injection::start(start, &self.boot, now));
            }
        }
    }

    /// Ends those that are meant; returns how many were not over yet.
    fn end(&mut self, meant: impl Fn(&Injection) -> bool, cause: EndedBy) -> usize {
        let now = Instant::now();
        let mut count = 0;
        for injection in self.injections.iter_mut().filter(|known| meant(known)) {
            if injection.end(cause, &self.boot, now) {
                ended(&self.shared);
                count += 1;
            }
        }
        count
    }

    fn settle(&mut self, settled: &[String]) {
        let before = self.injections.len();
        self.injections
            .retain(|known| !known.finished || settled.iter().all(|id| id != known.id.as_str()));
        let gone = before - self.injections.len();
        self.shared.counters.unsettled.fetch_sub(gone as u64, Ordering::Relaxed);
    }

    /// Each epoch counts once, however often it is told.
    fn note_halt(&mut self, epoch: u64) {
        if epoch > self.halt_epoch {
            self.halt_epoch = epoch;
            self.shared.counters.halt_arrived(epoch);
        }
    }

    fn report_news(&mut self, session: &mut Session) {
        let Some(delay) = self.behaviour.delay() else { return };
        let due = Instant::now() + delay;
        for injection in &mut self.injections {
            let news = injection.unsent().iter().map(|report| (due, wire::report(report)));
            session.queue.extend(news);
        }
    }

    fn say(&self, session: &mut Session, body: Said) {
        if let Some(delay) = self.behaviour.delay() {
            session.queue.push_back((Instant::now() + delay, body));
        }
    }

    async fn renew(&self, client: &mut AgentsClient<Connection>) {
        let Ok(csr_der) = Authority::csr_for(&self.member.identity.key_pem) else {
            return;
        };
        if let Ok(Ok(_)) = timeout(BEGIN_WITHIN, client.renew(RenewRequest { csr_der })).await {
            add(&self.shared.counters.renewals);
        }
    }

    /// By its own wall clock.
    fn clock_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ahead = if self.behaviour == Behaviour::WrongClock {
            CLOCK_AHEAD
        } else {
            Duration::ZERO
        };
        i64::try_from((since + ahead).as_millis()).unwrap_or(i64::MAX)
    }

    fn cleanliness(&self) -> Cleanliness {
        match self.injections.iter().any(|injection| !injection.finished) {
            true => Cleanliness::Faulted,
            false => Cleanliness::Clean,
        }
    }
}

type Called = (mpsc::Sender<Box<AgentMessage>>, Streaming<ControllerMessage>);

async fn call(client: &mut AgentsClient<Connection>, hello: Box<AgentMessage>) -> Result<Result<Called, Status>, Elapsed> {
    let (out, messages) = mpsc::channel::<Box<AgentMessage>>(OUT);
    drop(out.try_send(hello));
    let called = timeout(BEGIN_WITHIN, client.session(ReceiverStream::new(messages).map(|message| *message))).await?;
    Ok(called.map(|answer| (out, answer.into_inner())))
}

/// What belongs to one session only.
struct Session {
    nonce: String,
    orders: u64,
    said: u64,
    /// What to say, and not before when.
    queue: VecDeque<(Instant, Said)>,
    next_heartbeat: Instant,
    heartbeat: Duration,
    welcomed: bool,
    next_renewal: Instant,
}

impl Session {
    fn number(&mut self, body: Said) -> Box<AgentMessage> {
        self.said += 1;
        Box::new(AgentMessage {
            seq: self.said,
            body: Some(body),
        })
    }
}

fn ended(shared: &Shared) {
    subtract(&shared.counters.acting);
    add(&shared.counters.undone);
    stamp(&shared.counters.undone_ns);
    add(&shared.counters.unsettled);
}

fn accepted() -> PreflightAnswer {
    PreflightAnswer {
        accepted: true,
        refusals: Vec::new(),
        warnings: Vec::new(),
        undo: vec!["end the worker processes and remove their group".to_owned()],
        touches: vec!["a group of its own".to_owned()],
        engine: None,
    }
}

/// What an ordinary machine says of itself, with addresses as a network would give them.
fn facts(member: &Member, boot_id: &str) -> HostFacts {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 16, 0, 0).to_bits() + 1 + member.number);
    HostFacts {
        hostname: member.name.clone(),
        machine_id: format!("{:032x}", member.number),
        boot_id: boot_id.to_owned(),
        kernel: "6.1.0-28-cloud-amd64".to_owned(),
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 4,
        memory_bytes: 16 << 30,
        addresses: vec![IpAddr::V4(address)],
        cgroups: "v2".to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        service_manager: "systemd".to_owned(),
    }
}

/// Between 0.9 and 1.1 times as long, so that a fleet does not beat as one.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}
