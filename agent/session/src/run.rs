//! Keeps a session to the controller for as long as the agent runs: dials, renews, redials with full jitter. It never gives up.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use agent_warden::{Command, WardenHandle};
use proto_model::id::{HostName, InstanceId};
use proto_model::injection::AgentReport;
use proto_transport::{Backoff, ClientIdentity, Identity, TransportError, connect};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use crate::clock::ControllerClock;
use crate::epochs::EpochFile;
use crate::files::{Files, IdentityError, Loaded};
use crate::options::SessionOptions;
use crate::renew::{RenewError, due_in, renew, retry_in, validity};
use crate::session::{End, Lasting, hold};
use crate::trust::Renewals;

/// How often to look whether the host has been enrolled.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a name may take to resolve.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// A session that lasted so long was a good one: the next redial is quick again.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// The longest wait while this host itself has no way to the controller, as before its network is up.
const NO_WAY_OUT: Duration = Duration::from_secs(3);
/// The shortest time between two renewals, whatever the clock says.
const RENEW_PAUSE: Duration = Duration::from_millis(200);

/// Serves until the warden has ended and everything it told has been passed on. `told` is where the warden reports.
pub async fn run(options: SessionOptions, warden: WardenHandle, told: mpsc::Receiver<AgentReport>) {
    let files = Files::of(options.identity.clone());
    let mut agent = Agent {
        epochs: EpochFile::open(files.epochs()),
        backoff: Backoff::default(),
        instance: InstanceId::generate(),
        files,
        options,
        warden,
        told,
        addresses: Vec::new(),
        log: FailureLog::default(),
        must_renew: false,
        unenrolled: false,
        clock: ControllerClock::new(),
    };
    loop {
        let wait = match agent.once().await {
            Ok(Once::Left) => return,
            Ok(Once::Again(wait)) => wait,
            Err(error) if has_no_way_out(&error) => {
                // Nothing has left this host, so trying often costs nobody else anything, and the way may be there any moment.
                let wait = NO_WAY_OUT.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                agent.log.failed(&error, wait);
                wait
            }
            Err(error) => {
                let wait = agent.backoff.next_wait();
                agent.log.failed(&error, wait);
                wait
            }
        };
        if agent.told.is_closed() {
            return;
        }
        sleep(wait).await;
    }
}

struct Agent {
    options: SessionOptions,
    instance: InstanceId,
    warden: WardenHandle,
    told: mpsc::Receiver<AgentReport>,
    files: Files,
    epochs: EpochFile,
    backoff: Backoff,
    /// Where the controller was found last: a name may stop to resolve just when it is needed.
    addresses: Vec<SocketAddr>,
    log: FailureLog,
    /// The controller has refused the certificate.
    must_renew: bool,
    /// Said once, and again when it is over.
    unenrolled: bool,
    clock: ControllerClock,
}

enum Once {
    Left,
    Again(Duration),
}

#[derive(Debug, thiserror::Error)]
enum NoSession {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("resolve {name}: {source}")]
    Resolve { name: String, source: std::io::Error },
    #[error(transparent)]
    Connect(#[from] TransportError),
    #[error("the certificate is no host's; enrol this host again with a new token")]
    Nameless,
    #[error("renew the certificate: {0}")]
    Renew(#[from] RenewError),
    #[error(transparent)]
    Ended(#[from] End),
}

/// Whether this host cannot send anything to the controller: no route, no address, no resolver.
fn has_no_way_out(error: &NoSession) -> bool {
    let is_local = |error: &std::io::Error| {
        matches!(
            error.kind(),
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable
        )
    };
    if matches!(error, NoSession::Resolve { .. }) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(is_local) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Logs failed dials: each other reason at once, and one that repeats less and less often.
#[derive(Default)]
struct FailureLog {
    last: String,
    times: u32,
}

impl FailureLog {
    fn is_due(&mut self, text: String) -> bool {
        if text != self.last {
            (self.last, self.times) = (text, 0);
        }
        self.times = self.times.saturating_add(1);
        self.times.is_power_of_two()
    }
}

impl FailureLog {
    fn failed(&mut self, error: &NoSession, wait: Duration) {
        if self.is_due(error.to_string()) {
            tracing::warn!(%error, times = self.times, again_in_ms = wait.as_millis(), "no session with the controller");
        }
    }
}

impl Agent {
    /// One dial and the session that it gives.
    async fn once(&mut self) -> Result<Once, NoSession> {
        let Some(loaded) = self.files.load()? else {
            if !std::mem::replace(&mut self.unenrolled, true) {
                tracing::warn!("this host is not enrolled with a controller: run the command that `fracas tokens create` prints");
            }
            return Ok(Once::Again(LOOK_EVERY));
        };
        if std::mem::take(&mut self.unenrolled) {
            tracing::info!(controller = loaded.controller, "this host is enrolled now");
        }
        let Identity::Host(host) = Identity::of_certificate(&loaded.client.certificate) else {
            return Err(NoSession::Nameless);
        };
        let channel = self.dial(&loaded).await?;
        self.log = FailureLog::default();
        // Whether it has ended is for the controller to say: this host's clock may be wrong.
        if self.must_renew {
            renew(channel, &self.files, &loaded.client, &self.clock).await?;
            self.must_renew = false;
            tracing::info!("the certificate was refused and is renewed");
            return Ok(Once::Again(self.backoff.next_wait()));
        }
        let began = Instant::now();
        let end = self.hold(channel, &host, &loaded).await;
        if began.elapsed() >= GOOD_SESSION {
            self.backoff.reset();
        }
        match end {
            End::Leaving => Ok(Once::Left),
            end => {
                self.must_renew = matches!(&end, End::Status(status) if status.code() == Code::Unauthenticated);
                Err(end.into())
            }
        }
    }

    /// Tries each address of the controller in turn.
    async fn dial(&mut self, loaded: &Loaded) -> Result<Channel, NoSession> {
        match resolve(&loaded.controller).await {
            Ok(addresses) => self.spare(addresses),
            Err(error) if self.addresses.is_empty() => return Err(error),
            Err(error) => tracing::warn!(%error, "the controller is tried where it was found last"),
        }
        let mut last = TransportError::Address(loaded.controller.clone());
        for address in &self.addresses {
            match connect(&address.to_string(), loaded.trust(), Some(&loaded.client)).await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// Tells the warden which addresses no fault may cut, before they are used.
    fn spare(&mut self, addresses: Vec<SocketAddr>) {
        if self.addresses == addresses {
            return;
        }
        if let Err(error) = self.warden.send(Command::Controllers(addresses.clone())) {
            tracing::warn!(%error, "the warden does not know the controller's addresses");
            return;
        }
        self.addresses = addresses;
    }

    async fn hold(&mut self, channel: Channel, host: &HostName, loaded: &Loaded) -> End {
        let renewals = Renewals::default();
        let mut renewal = pin!(keep_fresh(channel.clone(), &self.files, &loaded.client, &self.clock, &renewals));
        let lasting = Lasting {
            options: &self.options,
            instance: &self.instance,
            warden: &self.warden,
            told: &mut self.told,
            epochs: &mut self.epochs,
            clock: &self.clock,
            files: &self.files,
            renewals: &renewals,
            renewal: renewal.as_mut(),
        };
        hold(channel, host, lasting).await
    }
}

async fn resolve(name: &str) -> Result<Vec<SocketAddr>, NoSession> {
    let failed = |source| NoSession::Resolve {
        name: name.to_owned(),
        source,
    };
    let found = timeout(RESOLVE_WITHIN, lookup_host(name))
        .await
        .map_err(|late| failed(late.into()))?;
    let found: Vec<SocketAddr> = found.map_err(failed)?.collect();
    if found.is_empty() {
        return Err(failed(std::io::ErrorKind::NotFound.into()));
    }
    Ok(found)
}

/// Renews the certificate over this connection each time it is due or asked for; it never ends.
async fn keep_fresh(channel: Channel, files: &Files, client: &ClientIdentity, clock: &ControllerClock, renewals: &Renewals) {
    let mut valid = validity(client);
    let mut failures = Backoff::default();
    let mut wait = due_in(valid, clock.now().await);
    loop {
        tokio::select! {
            () = sleep(wait) => {}
            within = renewals.asked() => sleep(within.mul_f64(rand::random::<f64>())).await,
        }
        match renew(channel.clone(), files, client, clock).await {
            Ok(renewed) => {
                failures.reset();
                valid = validity(&renewed);
                wait = due_in(valid, clock.now().await).max(RENEW_PAUSE);
                tracing::info!(until = %valid.1, "the certificate is renewed");
                renewals.tell_done();
            }
            Err(error) => {
                wait = retry_in(valid, clock.now().await).max(failures.next_wait());
                tracing::warn!(%error, again_in_ms = wait.as_millis(), "the certificate cannot be renewed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto_transport::Trust;

    use super::*;

    #[tokio::test]
    async fn a_host_without_a_network_tries_often_and_one_that_was_refused_does_not() {
        proto_transport::install_provider();
        let dial = |address: String| async move {
            let trust = Trust::Fingerprint("00".repeat(32));
            NoSession::from(connect(&address, trust, None).await.err().unwrap())
        };
        // A connection to a group of hosts has no route, whatever the network.
        let no_route = dial("224.0.0.1:7400".into()).await;
        assert!(has_no_way_out(&no_route), "{no_route}");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = dial(closed.to_string()).await;
        assert!(!has_no_way_out(&refused), "{refused}");
        assert!(has_no_way_out(&resolve("no-such-name.invalid:1").await.unwrap_err()));
        assert!(!has_no_way_out(&NoSession::Nameless));
    }

    #[test]
    fn a_failure_that_repeats_is_logged_less_and_less_often_and_another_at_once() {
        let mut log = FailureLog::default();
        let due: Vec<bool> = (0..9).map(|_| log.is_due("refused".into())).collect();
        assert_eq!(due, [true, true, false, true, false, false, false, true, false]);
        assert!(log.is_due("no route".into()) && log.is_due("refused".into()));
    }
}
