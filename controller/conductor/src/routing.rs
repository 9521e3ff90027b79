//! What hosts say without being asked, brought to the run it is about; ends of runs that are over are kept and settled too.

use std::sync::{MutexGuard, PoisonError};

use controller_report::RunState;
use controller_store::StoreError;
use proto_model::event::{AgentSource, EventBody, NewEvent};
use proto_model::halt::HaltState;
use proto_model::host::{Connection, Host, Membership};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{AgentReport, EndedBy};
use proto_model::probe::{Sample, SampledBy};
use proto_model::time::Timestamp;
use tokio::sync::mpsc;

use crate::admissible::bounded;
use crate::host_gateway::HostEvent;
use crate::late::Late;
use crate::machine::Input;
use crate::mass_loss::Losses;
use crate::supervisor::{Supervisor, tell};

/// Who halts when too many hosts are lost at once.
const BY_ITSELF: &str = "controller: mass loss";

impl Supervisor {
    /// Until the dispatcher is gone. One host's words stay in their order.
    pub async fn route(&self, mut from_hosts: mpsc::Receiver<HostEvent>) {
        while let Some(said) = from_hosts.recv().await {
            match said {
                HostEvent::Report { host, report } => self.route_report(host, report).await,
                HostEvent::Samples { host, run, samples } => self.route_samples(&host, &run, samples),
                HostEvent::Halted(state) => self.route_halt(state),
                HostEvent::Lost { host, last_seen } => self.route_loss(&host, last_seen).await,
                HostEvent::Returned {
                    host,
                    boot_id,
                    boot_ms,
                    rebooted,
                    downtime_ms,
                    inventory,
                } => {
                    self.hear_clock(&host, &boot_id, boot_ms);
                    self.losses().returned(&host);
                    let known = inventory.iter().map(|(id, _, _)| id.clone()).collect::<Vec<_>>();
                    let input = || Input::HostReturned {
                        host: host.clone(),
                        boot_id: boot_id.clone(),
                        rebooted,
                        downtime_ms,
                        inventory: known.clone(),
                    };
                    self.tell_runs_on(&host, input).await;
                    self.ask_returned(&host);
                    self.stop_strangers(host, inventory);
                }
            }
        }
    }

    /// Beside what else hosts say: a stuck run delays no other message. What was released meanwhile ends nothing that began after it.
    fn route_halt(&self, state: HaltState) {
        let latched = self.0.parts.latch.get();
        if latched.engaged && latched.epoch >= state.epoch {
            tokio::spawn(self.clone().stop_runs(latched));
        }
    }

    /// A hello says what the host's boot clock says.
    fn hear_clock(&self, host: &HostName, boot_id: &str, boot_ms: u64) {
        let heard_ms = self.0.parts.clock.elapsed_ms();
        let mut anchors = self.0.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        anchors.hear(host, boot_id, boot_ms, heard_ms);
    }

    async fn route_report(&self, host: HostName, report: AgentReport) {
        let Ok(run) = RunId::parse(&report.run) else {
            return tracing::warn!(%host, run = report.run, "a report names no run");
        };
        // A broken driver hears nothing; whoever takes the run up again reads it from the record.
        match self.inbox(&run).filter(|inbox| !inbox.is_closed()) {
            Some(inbox) => {
                let happened_at = self.happened_at(&host, &report);
                tell(&inbox, Input::Report { host, report, happened_at }).await;
            }
            None => self.keep_late(host, run, report).await,
        }
    }

    /// When the fact was, by the clock of runs: a report may be late by as long as its host was away.
    fn happened_at(&self, host: &HostName, report: &AgentReport) -> Timestamp {
        let clock = &self.0.parts.clock;
        let heard_ms = clock.elapsed_ms();
        let mut anchors = self.0.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        anchors.hear(host, &report.boot_id, report.boot_ms, heard_ms);
        let mapped = anchors.map(host, &report.boot_id, report.boot_ms, heard_ms);
        clock.at(mapped.unwrap_or(heard_ms))
    }

    /// Samples may be dropped under load: their silence counts as missing.
    fn route_samples(&self, host: &HostName, run: &RunId, samples: Vec<Sample>) {
        let Some(inbox) = self.inbox(run) else {
            return self.0.parts.voice.probe_stop(host, run);
        };
        for sample in samples {
            let from = SampledBy::Host(host.clone());
            if inbox.try_send(Input::Sample { from, sample }).is_err() {
                tracing::warn!(%host, %run, "a sample was dropped: the run is behind or over");
            }
        }
    }

    async fn route_loss(&self, host: &HostName, last_seen: Timestamp) {
        self.suspect_itself(host);
        self.tell_runs_on(host, || Input::HostLost {
            host: host.clone(),
            last_seen,
        })
        .await;
    }

    /// Many hosts do not fall silent at once by themselves: then everything is halted, whoever is to blame.
    fn suspect_itself(&self, host: &HostName) {
        let parts = &self.0.parts;
        if self.is_leaving() || parts.latch.get().engaged || self.runs().is_empty() {
            return self.losses().forget();
        }
        let expected = |of: &Host| of.membership != Membership::Enrolled || self.is_to_be_silent(&of.name);
        // One that is removed is no longer among them.
        if parts.voice.host(host).is_none_or(|of| expected(&of)) {
            return;
        }
        let hosts = parts.voice.hosts();
        let connected = hosts
            .iter()
            .filter(|of| of.connection == Connection::Connected && !expected(of))
            .count();
        let loss = self.losses().lost(host, connected, parts.settings.mass_loss, parts.clock.now());
        if let Some(loss) = loss {
            self.losses().forget();
            tracing::error!(%loss, "mass loss: everything is halted");
            let this = self.clone();
            tokio::spawn(async move { this.halt(BY_ITSELF, &loss.to_string()).await });
        }
    }

    /// An active run holds a fault there that cuts the host off from here.
    fn is_to_be_silent(&self, host: &HostName) -> bool {
        let runs = self.runs();
        let mut all = runs.values().flat_map(|going| &going.injections);
        all.any(|injection| &injection.host == host && injection.silences_host())
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.0.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell_runs_on(&self, host: &HostName, input: impl Fn() -> Input) {
        let concerned = self
            .runs()
            .values()
            .filter(|going| going.hosts.contains(host))
            .map(|going| going.inbox.clone())
            .collect::<Vec<_>>();
        for inbox in concerned {
            tell(&inbox, input()).await;
        }
    }

    /// An injection that no active run owns has no business on a host.
    fn stop_strangers(&self, host: HostName, inventory: Vec<(InjectionId, String, bool)>) {
        let unfinished = inventory.into_iter().filter(|(_, _, finished)| !finished).map(|(id, _, _)| id);
        let strangers: Vec<InjectionId> = {
            let runs = self.runs();
            let owned = |id: &InjectionId| runs.values().any(|going| going.injections.iter().any(|i| &i.id == id));
            unfinished.filter(|id| !owned(id)).collect()
        };
        if strangers.is_empty() {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            for id in strangers {
                tracing::warn!(%host, injection = %id, "the host holds an injection of no active run; it is stopped");
                if let Err(error) = this.0.parts.voice.stop(&host, &id, EndedBy::Stop).await {
                    tracing::warn!(%host, injection = %id, %error, "stop not delivered; its lease ends it");
                }
            }
        });
    }

    /// A fact of a run that is over or unknown: it counts only from the host of its injection, and after the verdict only as an end
    /// that was not known. It never changes a verdict.
    async fn keep_late(&self, host: HostName, run: RunId, report: AgentReport) {
        let (injection, terminal) = (report.injection.clone(), report.fact.is_terminal());
        let late = match self.judge_late(&host, &run, &report).await {
            Ok(late) => late,
            Err(error) => return tracing::warn!(%host, %run, %error, "a late report could not be looked up; the host repeats its ends"),
        };
        match late {
            Late::Counts => {
                if let Err(error) = self.append_late(&host, &run, report).await {
                    return tracing::warn!(%host, %run, %error, "a late fact could not be stored; the host repeats it");
                }
            }
            Late::Known => {}
            Late::Foreign => {
                if let Some(reports) = self.0.late.count_foreign(&host) {
                    tracing::warn!(%host, %run, %injection, reports, "reports of this host are about no injection that it had; they are left out");
                }
            }
        }
        if terminal {
            self.0.parts.voice.settle(&host, &[injection]);
        }
    }

    async fn judge_late(&self, host: &HostName, run: &RunId, report: &AgentReport) -> Result<Late, StoreError> {
        let (late, injection, fact) = (&self.0.late, &report.injection, &report.fact);
        if let Some(known) = late.remembered(run, host, injection, fact) {
            return Ok(known);
        }
        let id = run.clone();
        match self.0.parts.store.call(move |store| store.find_run(id.as_str())).await {
            Ok(known) if &known == run => {}
            Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(Late::Foreign),
            Err(error) => return Err(error),
        }
        let run = run.clone();
        let events = self.0.parts.store.call(move |store| store.run_events(&run, 1)).await?;
        let state = RunState::of(&events);
        Ok(state.map_or(Late::Foreign, |state| late.read(&state, host, injection, fact)))
    }

    async fn append_late(&self, host: &HostName, run: &RunId, mut report: AgentReport) -> Result<(), StoreError> {
        let (parts, injection) = (&self.0.parts, report.injection.clone());
        let happened_at = self.happened_at(host, &report);
        report.fact = bounded(report.fact);
        let id = run.clone();
        let events = vec![late(host, report, parts.clock.now(), happened_at)];
        let stored = parts.store.call(move |store| store.append(&id, events)).await?;
        stored.into_iter().for_each(|event| drop(self.0.news.send(event)));
        self.0.late.close(run, &injection);
        Ok(())
    }
}

fn late(host: &HostName, report: AgentReport, at: Timestamp, happened_at: Timestamp) -> NewEvent {
    let source = AgentSource {
        boot_id: report.boot_id,
        boot_ms: report.boot_ms,
        agent_seq: report.agent_seq,
        happened_at: Some(happened_at),
    };
    NewEvent {
        at,
        by: host.to_string(),
        source: Some(source),
        body: EventBody::from_fact(report.injection, report.fact),
    }
}
