//! One agent's stream: who it is, whether it may speak, what it owes, and what it says from then on.

use std::time::Duration;

use proto_model::catalogue::Catalogue;
use proto_model::event::FleetEventBody;
use proto_model::host::HostFacts;
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{AgentReport, Cleanliness, EndedBy};
use proto_model::probe::Sample;
use proto_transport::{Identity, PeerInfo};
use proto_wire::v1::agent_message::Body as Said;
use proto_wire::v1::agents_server::Agents;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{AgentMessage, ControllerMessage, Hello, RenewReply, RenewRequest, Stop, Welcome};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::dispatcher::Dispatcher;
use crate::enrolment::peer;
use crate::fleet::Live;
use crate::link::{Answer, Link};
use crate::settings::MISSED_HEARTBEATS;
use crate::voice::FromHost;

#[async_trait]
impl Agents for Dispatcher {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;

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
        let (link, out) = Link::new(hello.nonce.clone(), self.0.epochs.clone());
        self.admit(&name, &peer, hello, link.clone()).await?;
        let this = self.clone();
        tokio::spawn(async move { this.listen(name, link, stream).await });
        Ok(Response::new(ReceiverStream::new(out)))
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

    async fn admit(&self, name: &HostName, peer: &PeerInfo, hello: Hello, link: Link) -> Result<(), Status> {
        let facts: HostFacts = decode("facts", &hello.facts_json)?;
        let catalogue: Catalogue = decode("catalogue", &hello.catalogue_json)?;
        let cleanliness: Cleanliness = decode("cleanliness", &format!("{:?}", hello.cleanliness))?;
        let inventory = inventory(&hello)?;
        self.note_clone(name, &hello).await;
        let (now, halt) = (self.now(), self.halt_state());
        let live = Live {
            link: link.clone(),
            instance: hello.instance.clone(),
            boot_id: hello.boot_id.clone(),
            agent_version: hello.agent_version.clone(),
            facts,
            catalogue,
            catalogue_digest: hello.catalogue_digest.clone(),
            source_address: peer.address.ip().to_string(),
            cleanliness,
            halted: hello.halted,
            active: u32::try_from(inventory.iter().filter(|(_, _, finished)| !finished).count()).unwrap_or(u32::MAX),
            heard_at: now,
        };
        let (boot_before, last_seen) = self.install(name, live);
        self.remember(name, peer).await;
        link.send_first(Body::Welcome(Welcome {
            host: name.to_string(),
            heartbeat_ms: u32::try_from(self.0.parts.settings.heartbeat_ms).unwrap_or(u32::MAX),
            halted: halt.engaged,
            halt_reason: halt.reason,
        }));
        for (injection, _, finished) in &inventory {
            if !finished && !self.knows(injection) {
                tracing::warn!(host = %name, %injection, "an injection that no run answers for is stopped");
                link.send_first(Body::Stop(Stop {
                    injection: injection.to_string(),
                    cause: EndedBy::Stop.as_str().to_owned(),
                }));
            }
        }
        tracing::info!(host = %name, address = %peer.address, version = hello.agent_version, "session up");
        let returned = FromHost::Returned {
            host: name.clone(),
            rebooted: !boot_before.is_empty() && boot_before != hello.boot_id,
            boot_id: hello.boot_id,
            downtime_ms: last_seen.map_or(0, |seen| now.since(seen)),
            inventory,
        };
        self.0
            .parts
            .said
            .send(returned)
            .await
            .map_err(|_| Status::unavailable("the controller is shutting down"))
    }

    /// A second machine with this identity while the first still answers: both are named, neither is cut.
    async fn note_clone(&self, name: &HostName, hello: &Hello) {
        let old = self.fleet().0.get(name).and_then(|e| e.live.clone());
        let Some(old) = old.filter(|old| old.instance != hello.instance) else {
            return;
        };
        let asked = old.link.ask(|request| {
            Body::Preflight(proto_wire::v1::Preflight {
                request,
                wishes_json: "[]".to_owned(),
            })
        });
        let within = Duration::from_millis(self.0.parts.settings.clone_ping_ms);
        let answers = match asked {
            Some(answer) => matches!(tokio::time::timeout(within, answer).await, Ok(Ok(_))),
            None => false,
        };
        if answers {
            let note = format!(
                "two machines use this identity: boot {} and boot {}; enrol one of them again",
                old.boot_id, hello.boot_id
            );
            tracing::error!(host = %name, note, "clone");
            if let Some(entry) = self.fleet().0.get_mut(name) {
                entry.cloned = Some(note.clone());
            }
            let actor = controller_store::Actor {
                by: "controller".to_owned(),
                address: String::new(),
            };
            let event = FleetEventBody::HostCloneSeen { host: name.clone(), note };
            if let Err(error) = self.0.parts.store.fleet(event, &actor, self.now()).await {
                tracing::warn!(error = %error, "clone not stored");
            }
        }
    }

    /// The new session takes the old one's place. Returns the boot id known before, and when the host was last seen.
    fn install(&self, name: &HostName, live: Live) -> (String, Option<proto_model::time::Timestamp>) {
        let mut fleet = self.fleet();
        let Some(entry) = fleet.0.get_mut(name) else {
            return (String::new(), None);
        };
        let before = entry.record.last_boot_id.clone();
        let seen = entry.live.as_ref().map(|l| l.heard_at).or(entry.last_seen);
        if let Some(old) = entry.live.replace(live) {
            old.link.hang_up();
        }
        (before, seen)
    }

    /// Stores what a host says of itself, when it is news.
    async fn remember(&self, name: &HostName, peer: &PeerInfo) {
        let changed = {
            let fleet = self.fleet();
            let Some((entry, live)) = fleet.0.get(name).and_then(|e| Some((e, e.live.as_ref()?))) else {
                return;
            };
            let same =
                entry.record.facts == live.facts && entry.record.catalogue == live.catalogue && entry.record.last_boot_id == live.boot_id;
            (!same).then(|| {
                let mut record = entry.record.clone();
                record.facts = live.facts.clone();
                record.catalogue = live.catalogue.clone();
                record.last_boot_id.clone_from(&live.boot_id);
                let event = FleetEventBody::HostDescribed {
                    host: name.clone(),
                    agent_version: live.agent_version.clone(),
                    boot_id: live.boot_id.clone(),
                    catalogue_digest: live.catalogue_digest.clone(),
                };
                (record, event)
            })
        };
        if let Some((record, event)) = changed
            && let Err(error) = self.put(record, event, name.as_str(), &peer.address.to_string()).await
        {
            tracing::error!(host = %name, error = %error, "the host's facts could not be stored");
        }
    }

    /// Until the stream ends or the host falls silent.
    async fn listen(&self, name: HostName, link: Link, mut stream: Streaming<AgentMessage>) {
        let patience = Duration::from_millis(self.0.parts.settings.heartbeat_ms * MISSED_HEARTBEATS);
        let why = loop {
            match tokio::time::timeout(patience, stream.message()).await {
                Err(_) => break "silent for three heartbeats".to_owned(),
                Ok(Err(status)) => break status.message().to_owned(),
                Ok(Ok(None)) => break "closed".to_owned(),
                Ok(Ok(Some(message))) => {
                    if let Some(body) = message.body {
                        self.hear(&name, &link, body).await;
                    }
                }
            }
        };
        link.hang_up();
        let last_seen = {
            let mut fleet = self.fleet();
            let Some(entry) = fleet.0.get_mut(&name) else { return };
            if entry.live.as_ref().is_none_or(|live| live.link.nonce != link.nonce) {
                // Another session has taken its place.
                return;
            }
            let last_seen = entry.live.take().map_or_else(|| self.now(), |live| live.heard_at);
            entry.last_seen = Some(last_seen);
            last_seen
        };
        tracing::warn!(host = %name, why, "session over");
        let _ = self.0.parts.said.send(FromHost::Lost { host: name, last_seen }).await;
    }

    async fn hear(&self, name: &HostName, link: &Link, body: Said) {
        let now = self.now();
        let with_live = |change: &dyn Fn(&mut Live)| {
            if let Some(live) = self
                .fleet()
                .0
                .get_mut(name)
                .and_then(|e| e.live.as_mut())
                .filter(|l| l.link.nonce == link.nonce)
            {
                live.heard_at = now;
                change(live);
            }
        };
        with_live(&|_| {});
        match body {
            Said::Hello(_) => tracing::warn!(host = %name, "a second hello is left out"),
            Said::Heartbeat(beat) => with_live(&|live| {
                (live.active, live.halted) = (beat.active, beat.halted);
                if let Ok(cleanliness) = decode("cleanliness", &format!("{:?}", beat.cleanliness)) {
                    live.cleanliness = cleanliness;
                }
            }),
            Said::Report(report) => self.hear_report(name, &report).await,
            Said::Preflight(answer) => link.answered(answer.request, Answer::Preflight(answer)),
            Said::Verified(answer) => link.answered(answer.request, Answer::Verify(answer)),
            Said::Samples(samples) => self.hear_samples(name, &samples.run, &samples.samples_json),
            Said::Refused(refused) => {
                tracing::warn!(host = %name, order = refused.order_seq, code = refused.code, message = refused.message, "order refused");
            }
            Said::Halt(answer) => {
                if let Some(entry) = self.fleet().0.get_mut(name) {
                    entry.halt_answer = Some((answer.epoch, answer.undone));
                    if let Some(live) = entry.live.as_mut() {
                        live.halted = answer.halted;
                    }
                }
                self.0.halt_heard.notify_waiters();
            }
        }
    }

    async fn hear_report(&self, name: &HostName, report: &proto_wire::v1::InjectionReport) {
        let (Ok(injection), Ok(fact)) = (InjectionId::parse(&report.injection), decode("fact", &report.body_json)) else {
            return tracing::warn!(host = %name, injection = report.injection, "a report cannot be understood");
        };
        let report = AgentReport {
            injection,
            run: report.run.clone(),
            agent_seq: report.agent_seq,
            boot_id: report.boot_id.clone(),
            boot_ms: report.boot_ms,
            fact,
        };
        // Waits for room: an end is never dropped.
        let _ = self
            .0
            .parts
            .said
            .send(FromHost::Report {
                host: name.clone(),
                report,
            })
            .await;
    }

    fn hear_samples(&self, name: &HostName, run: &str, samples_json: &str) {
        let (Ok(run), Ok(samples)) = (RunId::parse(run), decode::<Vec<Sample>>("samples", samples_json)) else {
            return tracing::warn!(host = %name, "samples cannot be understood");
        };
        if self
            .0
            .parts
            .said
            .try_send(FromHost::Samples {
                host: name.clone(),
                run,
                samples,
            })
            .is_err()
        {
            tracing::warn!(host = %name, "samples dropped under load");
        }
    }
}

fn inventory(hello: &Hello) -> Result<Vec<(InjectionId, String, bool)>, Status> {
    let one = |item: &proto_wire::v1::InventoryItem| {
        let id = InjectionId::parse(&item.injection).map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok((id, item.run.clone(), item.finished))
    };
    hello.inventory.iter().map(one).collect()
}

fn decode<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T, Status> {
    serde_json::from_str(json).map_err(|e| Status::invalid_argument(format!("{what}: {e}")))
}
