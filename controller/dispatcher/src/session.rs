//! One agent's stream: who it is, whether it may speak, what it owes, and what it says from then on.

use std::sync::Arc;
use std::time::Duration;

use controller_conductor::HostEvent;
use proto_model::event::FleetEventBody;
use proto_model::host::Membership;
use proto_model::id::{HostName, InjectionId};
use proto_model::time::Timestamp;
use proto_transport::{Identity, PeerInfo};
use proto_wire::convert;
use proto_wire::v1;
use proto_wire::v1::agent_message::Body as Said;
use proto_wire::v1::agents_server::Agents;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{AgentMessage, Hello, RenewReply, RenewRequest, Stop, Welcome};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::catalogues::{CatalogueError, KnownCatalogue};
use crate::dispatcher::{Dispatcher, barred, described};
use crate::fleet::Live;
use crate::gateway::probe_start;
use crate::link::{Link, Orders};
use crate::peer::peer;
use crate::settings::{MAX_SESSIONS, MISSED_HEARTBEATS, SESSION_TURN, TOLERATED_OFFSET_MS};

#[async_trait]
impl Agents for Dispatcher {
    type SessionStream = Orders;

    async fn session(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        let peer = peer(&request)?;
        let Identity::Host(name) = peer.identity.clone() else {
            return Err(Status::unauthenticated("a session needs a host's certificate; enrol first"));
        };
        if peer.is_expired(self.now()) {
            return Err(Status::unauthenticated("the certificate has expired; renew it"));
        }
        self.member(&name, &peer)?;
        let mut stream = request.into_inner();
        let hello = self.hello(&mut stream).await?;
        // Before it counts as a session that begins: one whose catalogue is not known yet begins a moment later.
        let catalogue = self.catalogue(&hello)?;
        let hello = later(hello, self.turn().await?);
        let (link, out) = Link::new(hello.nonce.clone(), self.0.epochs.clone());
        let this = self.clone();
        // A task of its own: a host that goes away in the midst of it must still be heard to go.
        let admitted = tokio::spawn(async move {
            this.admit(&name, &peer, hello, catalogue, &link).await?;
            tokio::spawn(this.listen(name, link, stream));
            Ok::<(), Status>(())
        });
        admitted.await.map_err(|_| Status::internal("the session could not be begun"))??;
        Ok(Response::new(out))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let peer = peer(&request)?;
        self.renewed(&peer, &request.into_inner().csr_der).await.map(Response::new)
    }
}

impl Dispatcher {
    async fn hello(&self, stream: &mut Streaming<AgentMessage>) -> Result<Hello, Status> {
        let within = Duration::from_millis(self.0.parts.settings.hello_within_ms);
        let first = tokio::time::timeout(within, stream.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello within 5 s"))??;
        match first.and_then(|m| m.body) {
            Some(Said::Hello(hello)) if !hello.nonce.is_empty() => Ok(hello),
            _ => Err(Status::invalid_argument("a session begins with hello and its nonce")),
        }
    }

    /// Waits while many hosts return at once: dialling again would cost both sides another handshake.
    async fn turn(&self) -> Result<Duration, Status> {
        let busy = || Status::resource_exhausted("many hosts return at this moment; dial again in a few seconds");
        let wait = self.0.sessions.turn(self.now(), SESSION_TURN).ok_or_else(busy)?;
        tokio::time::sleep(wait).await;
        Ok(wait)
    }

    fn catalogue(&self, hello: &Hello) -> Result<Arc<KnownCatalogue>, Status> {
        let shared = self.0.catalogues.shared(&hello.catalogue_digest, &hello.catalogue_json);
        shared.map_err(|error| match error {
            CatalogueError::Unknown(_) => Status::failed_precondition(error.to_string()),
            _ => malformed(error),
        })
    }

    async fn admit(
        &self,
        name: &HostName,
        peer: &PeerInfo,
        hello: Hello,
        catalogue: Arc<KnownCatalogue>,
        link: &Link,
    ) -> Result<(), Status> {
        let inventory = inventory(&hello)?;
        let live = self.live(peer, &hello, catalogue, link, &inventory)?;
        let replaced = self.replaced(name, &hello).await?;
        let heartbeat_ms = self.heartbeat_ms();
        link.send_first(Body::Welcome(Welcome {
            host: name.to_string(),
            heartbeat_ms: u32::try_from(heartbeat_ms).unwrap_or(u32::MAX),
            halted: self.halt_state().engaged,
            halt_reason: self.halt_state().reason,
            clock_ms: self.now().0,
        }));
        if let Some(offset_ms) = live.clock_offset_ms.filter(|offset| offset.saturating_abs() > TOLERATED_OFFSET_MS) {
            tracing::warn!(host = %name, offset_ms, "the host's clock differs from the controller's; set the one that is wrong");
        }
        // It may have waited for its turn since it was asked.
        self.still_trusted(peer)?;
        let arrival = self.install(name, live, &replaced)?;
        // Only now: a halt from here on finds the session, and one before is in the latch.
        self.tell_halt(name, &hello, link).await;
        self.stop_strangers(name, link, &inventory);
        tracing::info!(host = %name, address = %peer.address, version = hello.agent_version, first = arrival.cloned.is_none(), "session up");
        if let Some(note) = arrival.cloned {
            self.record_clone(name, note).await;
            return Ok(());
        }
        self.remember(name).await;
        self.tell_authorities_to(name, link);
        self.probe_again(name, link);
        let returned = HostEvent::Returned {
            host: name.clone(),
            rebooted: !arrival.boot_before.is_empty() && arrival.boot_before != hello.boot_id,
            boot_ms: hello.boot_ms,
            boot_id: hello.boot_id,
            downtime_ms: arrival.last_seen.map_or(0, |seen| self.now().since(seen)),
            inventory,
        };
        let heard = self.0.parts.said.send(returned).await;
        heard.map_err(|_| Status::unavailable("the controller is shutting down"))
    }

    pub(crate) fn heartbeat_ms(&self) -> u64 {
        let hosts = self.fleet().len();
        self.0.parts.settings.heartbeat_for(hosts)
    }

    /// Sessions that the new one replaces: of the same process (a redial), or silent to a ping.
    async fn replaced(&self, name: &HostName, hello: &Hello) -> Result<Vec<String>, Status> {
        let old: Vec<Live> = self.fleet().get(name).into_iter().flat_map(|e| e.sessions().cloned()).collect();
        let (same, others): (Vec<Live>, Vec<Live>) = old
            .into_iter()
            .partition(|old| old.instance == hello.instance && old.boot_id == hello.boot_id);
        if others.len() >= MAX_SESSIONS {
            return Err(Status::resource_exhausted(format!(
                "{} machines use the identity of {name}; enrol each of them under its own name",
                others.len()
            )));
        }
        let ping = |request| {
            Body::Preflight(proto_wire::v1::Preflight {
                request,
                questions: Vec::new(),
            })
        };
        let until = tokio::time::Instant::now() + Duration::from_millis(self.0.parts.settings.clone_ping_ms);
        let asked: Vec<_> = others.iter().map(|old| (old, old.link.ask(ping))).collect();
        let mut replaced: Vec<String> = same.into_iter().map(|old| old.link.nonce).collect();
        for (old, asked) in asked {
            let answers = match asked {
                Some(answer) => matches!(tokio::time::timeout_at(until, answer).await, Ok(Ok(_))),
                None => false,
            };
            if !answers {
                replaced.push(old.link.nonce.clone());
            }
        }
        Ok(replaced)
    }

    /// The new session takes its place: the first, or beside another machine that answers.
    fn install(&self, name: &HostName, live: Live, replaced: &[String]) -> Result<Arrival, Status> {
        let mut fleet = self.fleet();
        let gone = || Status::permission_denied(format!("host {name} is not enrolled here"));
        let entry = fleet.get_mut(name).ok_or_else(gone)?;
        if entry.record.membership != Membership::Enrolled {
            return Err(barred(&entry.record));
        }
        let seen = entry.live.as_ref().map(|l| l.heard_at).or(entry.last_seen);
        for nonce in replaced {
            if let Some((old, _)) = entry.over(nonce) {
                old.link.end(Status::aborted("a newer session of this host has taken over"));
            }
        }
        // Under the same lock: from the moment that there are two, nothing starts on either.
        let cloned = match &entry.live {
            None => {
                entry.catalogue = Some(live.catalogue.clone());
                entry.live = Some(live);
                None
            }
            Some(first) => {
                entry.cloned = Some(two_machines(first, &live));
                entry.clones.push(live);
                entry.cloned.clone()
            }
        };
        Ok(Arrival {
            cloned,
            boot_before: entry.record.last_boot_id.clone(),
            last_seen: seen,
        })
    }

    /// What a session shows of itself as it begins.
    fn live(
        &self,
        peer: &PeerInfo,
        hello: &Hello,
        catalogue: Arc<KnownCatalogue>,
        link: &Link,
        inventory: &[(InjectionId, String, bool)],
    ) -> Result<Live, Status> {
        let unfinished = inventory.iter().filter(|(_, _, finished)| !finished);
        let now = self.now();
        Ok(Live {
            link: link.clone(),
            instance: hello.instance.clone(),
            boot_id: hello.boot_id.clone(),
            agent_version: hello.agent_version.clone(),
            facts: Arc::new(convert::facts_or_missing(hello.facts.clone()).map_err(malformed)?),
            catalogue,
            source_address: peer.address.ip().to_canonical().to_string(),
            cleanliness: convert::cleanliness(hello.cleanliness).map_err(malformed)?,
            halted: hello.halted,
            acting: unfinished.map(|(id, _, _)| id.clone()).collect(),
            heard_at: now,
            store_epoch: hello.store_epoch,
            authority: self.authority_of(peer, hello.trust.as_ref()),
            clock_offset_ms: (hello.clock_ms != 0).then(|| hello.clock_ms.saturating_sub(now.0)),
        })
    }

    /// What no run answers for is stopped where it is found.
    fn stop_strangers(&self, name: &HostName, link: &Link, inventory: &[(InjectionId, String, bool)]) {
        for (injection, _, finished) in inventory {
            if !finished && !self.knows(injection) {
                tracing::warn!(host = %name, %injection, "an injection that no run answers for is stopped");
                link.send_first(Body::Stop(Stop {
                    injection: injection.to_string(),
                    cause: v1::EndedBy::Stop.into(),
                }));
            }
        }
    }

    /// Probes end with a session; those that are still wanted begin again with the next.
    fn probe_again(&self, name: &HostName, link: &Link) {
        let probes = self.fleet().get(name).map(|entry| entry.probes.clone()).unwrap_or_default();
        for (run, probe) in probes {
            match v1::Probe::try_from(&probe) {
                Ok(probe) => drop(link.send(probe_start(&run, probe))),
                Err(error) => tracing::error!(host = %name, %run, %error, "a probe cannot be sent again"),
            }
        }
    }

    /// A second machine with this identity while the first still answers: both are named, neither is cut.
    async fn record_clone(&self, name: &HostName, note: String) {
        tracing::error!(host = %name, note, "a clone is seen");
        let actor = controller_store::Actor {
            by: "controller".to_owned(),
            address: String::new(),
        };
        let event = FleetEventBody::HostCloneSeen { host: name.clone(), note };
        let now = self.now();
        if let Err(error) = self.0.parts.store.call(move |store| store.fleet(event, &actor, now)).await {
            tracing::warn!(error = %error, "a clone could not be recorded");
        }
    }

    /// Stores what a host says of itself, when it is news. Beyond its quota that waits for one of the next heartbeats; only the newest
    /// word is written then, and what is known here is always that.
    pub(crate) async fn remember(&self, name: &HostName) {
        let changed = {
            let mut fleet = self.fleet();
            let Some((entry, live)) = fleet.get(name).and_then(|e| Some((e, e.live.as_ref()?))) else {
                return;
            };
            let same = entry.record.facts == live.facts
                && entry.record.authority == live.authority
                && entry.record.catalogue_digest == live.catalogue.digest
                && entry.record.last_boot_id == live.boot_id;
            if same {
                // Read from the store and said anew, it is the same twice.
                let shared = entry.record.facts.clone();
                if !Arc::ptr_eq(&shared, &live.facts)
                    && let Some(live) = fleet.get_mut(name).and_then(|entry| entry.live.as_mut())
                {
                    live.facts = shared;
                }
                return;
            }
            let mut record = entry.record.clone();
            record.facts = live.facts.clone();
            record.authority = live.authority.clone();
            record.catalogue_digest.clone_from(&live.catalogue.digest);
            record.last_boot_id.clone_from(&live.boot_id);
            let news = (described(&record), live.catalogue.clone(), live.source_address.clone());
            let may_write = fleet.get_mut(name).is_some_and(|entry| entry.writes.take(self.now()));
            may_write.then_some((record, news))
        };
        let Some((record, (event, catalogue, address))) = changed else {
            return tracing::debug!(host = %name, "what the host says of itself changes often; it is stored later");
        };
        if let Err(error) = self.update(record, Some(catalogue), event, &address).await {
            tracing::error!(host = %name, error = %error, "the host's facts could not be stored");
        }
    }

    /// Until the stream ends or the host falls silent.
    #[expect(clippy::manual_async_fn, reason = "an async fn would keep its arguments twice, for each host")]
    fn listen(self, name: HostName, link: Link, mut stream: Streaming<AgentMessage>) -> impl Future<Output = ()> + Send {
        async move {
            // Three and a half heartbeats, which come with a jitter of a tenth.
            let patience = Duration::from_millis(self.heartbeat_ms() * (2 * MISSED_HEARTBEATS + 1) / 2);
            let why = loop {
                let message = tokio::select! {
                    message = tokio::time::timeout(patience, stream.message()) => message,
                    () = link.ended() => break "ended by the controller".to_owned(),
                };
                match message {
                    Err(_) => break "silent for three and a half heartbeats".to_owned(),
                    Ok(Err(status)) => break status.message().to_owned(),
                    Ok(Ok(None)) => break "closed".to_owned(),
                    Ok(Ok(Some(message))) => {
                        if let Some(body) = message.body {
                            // In a box while it lasts: it is many times as large as what a session keeps while it waits.
                            Box::pin(self.hear(&name, &link, body)).await;
                        }
                    }
                }
            };
            Box::pin(self.session_over(name, link, why)).await;
        }
    }

    async fn session_over(self, name: HostName, link: Link, why: String) {
        link.end(Status::aborted("the session is over"));
        let last_seen = {
            let mut fleet = self.fleet();
            let Some(entry) = fleet.get_mut(&name) else { return };
            // Replaced, or only a clone: the host itself is not lost.
            let Some((ended, true)) = entry.over(&link.nonce) else { return };
            entry.last_seen = Some(ended.heard_at);
            ended.heard_at
        };
        tracing::warn!(host = %name, why, "session over");
        let _ = self.0.parts.said.send(HostEvent::Lost { host: name, last_seen }).await;
    }
}

/// What a host said of its clocks, as they are after a wait.
fn later(hello: Hello, waited: Duration) -> Hello {
    let ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Hello {
        boot_ms: hello.boot_ms.saturating_add(ms),
        // Nothing stands for a host that does not say it.
        clock_ms: match hello.clock_ms {
            0 => 0,
            clock_ms => clock_ms.saturating_add_unsigned(ms),
        },
        ..hello
    }
}

fn two_machines(first: &Live, second: &Live) -> String {
    let one = |live: &Live| format!("boot {} at {}", live.boot_id, live.source_address);
    format!(
        "two machines use this identity: {}, and {}; nothing starts on either: enrol one of them again",
        one(first),
        one(second)
    )
}

/// How a session arrived.
struct Arrival {
    /// Both machines in words, when another one has this identity now.
    cloned: Option<String>,
    boot_before: String,
    last_seen: Option<Timestamp>,
}

fn malformed(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn inventory(hello: &Hello) -> Result<Vec<(InjectionId, String, bool)>, Status> {
    let one = |item: &proto_wire::v1::InventoryItem| {
        convert::injection_state(item.state).map_err(malformed)?;
        let id = InjectionId::parse(&item.injection).map_err(malformed)?;
        Ok((id, item.run.clone(), item.finished))
    };
    hello.inventory.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_on_while_a_hello_waits_for_its_turn() {
        let said = |boot_ms, clock_ms| Hello {
            boot_ms,
            clock_ms,
            ..Hello::default()
        };
        let waited = Duration::from_millis(1_500);
        assert_eq!(later(said(10, 1_000), waited), said(1_510, 2_500));
        assert_eq!(later(said(10, 0), waited), said(1_510, 0));
    }
}
