//! The halt as a session begins: the newest of what the controller and the host know holds for both.

use std::sync::atomic::Ordering;

use controller_conductor::{HostEvent, HostGateway};
use proto_model::halt::HaltState;
use proto_model::id::HostName;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{Halt, Hello, Release};
use tokio::sync::mpsc::error::TrySendError;

use crate::dispatcher::Dispatcher;
use crate::gateway::newer_store;
use crate::latch::Claim;
use crate::link::Link;

impl Dispatcher {
    /// The newest halt wins: the host hears ours, or we hear of a newer one from the host.
    pub(crate) async fn tell_halt(&self, name: &HostName, hello: &Hello, link: &Link) {
        let latch = &self.0.parts.latch;
        match latch.hear(hello.halt_epoch, hello.halted, &hello.halt_reason, name, self.now()) {
            Claim::Known => {}
            Claim::Engaged(newer) => {
                tracing::error!(host = %name, epoch = newer.epoch, "a host knows of a newer halt than this controller: every host is halted");
                // Before the hosts, so that runs end as halted and not by what their hosts undo; but hosts do not wait for a full queue.
                let queued = self.0.parts.said.try_send(HostEvent::Halted(newer.clone()));
                self.halt_everywhere(newer.clone());
                self.keep_halt(newer, name).await;
                if let Err(TrySendError::Full(event)) = queued {
                    let _ = self.0.parts.said.send(event).await;
                }
            }
            Claim::Adopted(newer) => {
                tracing::warn!(host = %name, epoch = newer.epoch, "a host knows of newer halts than this controller");
                self.keep_halt(newer, name).await;
            }
            Claim::Ignored => tracing::error!(
                host = %name,
                epoch = hello.halt_epoch,
                "a host claims a newer halt again, or one that is not credible: it is ignored, and the host refuses what is started on it"
            ),
        }
        let state = latch.get();
        self.0.epochs.halt.fetch_max(state.epoch, Ordering::SeqCst);
        let own = self.0.epochs.store.load(Ordering::SeqCst);
        if hello.store_epoch > own {
            tracing::error!(host = %name, why = newer_store(name, hello.store_epoch, own), "a host refuses what this controller would start");
        }
        if state.engaged {
            link.send_first(Body::Halt(Halt { reason: state.reason }));
        } else if hello.halted || hello.halt_epoch < state.epoch {
            // Also to one that has seen this epoch: it may have ended before it obeyed. Its own latch does not listen to this.
            link.send_first(Body::Release(Release { reason: state.reason }));
        }
    }

    /// Behind the back of the session that brought it: hosts are told at once, and nobody waits for their answers.
    fn halt_everywhere(&self, state: HaltState) {
        let this = self.clone();
        tokio::spawn(async move {
            let outcome = this.halt(state, this.0.parts.settings.verify_within_ms).await;
            tracing::warn!(
                hosts = outcome.told.len(),
                answered = outcome.answered.len(),
                undone = outcome.undone,
                "every host is halted"
            );
        });
    }

    async fn keep_halt(&self, state: HaltState, name: &HostName) {
        if let Err(error) = self.0.parts.latch.set(state.clone()) {
            tracing::error!(%error, "the halt latch could not be written");
        }
        let actor = controller_store::Actor {
            by: name.to_string(),
            address: String::new(),
        };
        if let Err(error) = self.0.parts.store.call(move |store| store.set_halt(&state, &actor)).await {
            tracing::error!(%error, "the halt could not be recorded");
        }
    }
}
