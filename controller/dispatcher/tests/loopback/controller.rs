//! A controller's half on a thread of its own, so that it can be killed without farewell and started again on the same port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use controller_conductor::{HostEvent, HostGateway};
use controller_dispatcher::{Dispatcher, DispatcherParts, DispatcherSettings, HaltLatch};
use controller_store::{Actor, HostRecord, SqliteStore, StoreHandle, TokenRecord, hash_secret};
use proto_model::event::FleetEventBody;
use proto_model::host::{Connection, Host};
use proto_model::id::{HostName, InjectionId};
use proto_model::time::Timestamp;
use proto_transport::{AUTHORITY_LIFE_MS, Admission, Authorities, Authority, JoinToken, Limits, ServerTls, incoming};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

pub const SETTINGS: DispatcherSettings = DispatcherSettings {
    heartbeat_ms: 200,
    certificate_ms: 24 * 3_600_000,
    hello_within_ms: 2_000,
    preflight_within_ms: 2_000,
    verify_within_ms: 2_000,
    clone_ping_ms: 1_000,
};

pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

pub fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

pub struct Controller {
    pub dispatcher: Dispatcher,
    pub said: mpsc::Receiver<HostEvent>,
    pub known: Arc<std::sync::Mutex<std::collections::BTreeSet<InjectionId>>>,
    pub store: StoreHandle,
    pub latch: Arc<HaltLatch>,
    pub address: SocketAddr,
    pub authority: Arc<Authority>,
    pub authorities: Arc<Authorities>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, SETTINGS, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_with(dir: &Path, settings: DispatcherSettings, address: SocketAddr) -> Self {
        let authorities = Arc::new(Authorities::open_or_create(&dir.join("authority"), AUTHORITY_LIFE_MS, now()).unwrap());
        let authority = authorities.current();
        let store = StoreHandle::spawn(Box::new(store(dir).await));
        let latch = Arc::new(HaltLatch::open(
            &dir.join("halted"),
            store.call(|store| store.halt()).await.unwrap(),
        ));
        let (sender, said) = mpsc::channel(64);
        let known = Arc::default();
        let parts = DispatcherParts {
            store: store.clone(),
            authorities: authorities.clone(),
            latch: latch.clone(),
            said: sender,
            known: Arc::clone(&known),
            settings,
            now,
        };
        let dispatcher = Dispatcher::new(parts).await.unwrap();
        let (kill, killed) = oneshot::channel();
        let (bound, at) = oneshot::channel();
        let (serving, tls) = (dispatcher.clone(), tls(&authority));
        let thread = std::thread::spawn(move || serve(&serving, tls, address, bound, killed));
        Self {
            dispatcher,
            said,
            known,
            store,
            latch,
            address: at.await.unwrap(),
            authority,
            authorities,
            kill: Some(kill),
            thread: Some(thread),
        }
    }

    /// As by SIGKILL: nobody is told anything. Returns the address, for a successor.
    pub async fn killed(mut self) -> SocketAddr {
        drop(self.kill.take());
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
        self.address
    }

    pub async fn token(&self, uses: u32, ttl_ms: u64) -> JoinToken {
        self.token_for(uses, ttl_ms, None).await
    }

    /// A token for the machine that takes this host's place.
    pub async fn replacement(&self, host: &str) -> JoinToken {
        self.token_for(1, 60_000, Some(name(host))).await
    }

    async fn token_for(&self, uses: u32, ttl_ms: u64, replaces: Option<HostName>) -> JoinToken {
        let token = JoinToken::generate(&self.authority.fingerprint());
        let record = TokenRecord {
            id: token.id.clone(),
            secret_hash: hash_secret(&token.secret),
            labels: BTreeMap::from([("env".to_owned(), "staging".to_owned())]),
            uses,
            used: 0,
            created_at: now(),
            expires_at: now().plus_ms(ttl_ms),
            revoked: false,
            created_by: "ann".into(),
            replaces,
        };
        self.store.call(move |store| store.add_token(&record, &actor())).await.unwrap();
        token
    }

    /// Stores a record as an operator's call does, and lets the dispatcher read it again.
    pub async fn save(&self, record: &HostRecord) {
        let event = FleetEventBody::HostLabelled {
            host: record.name.clone(),
            set: BTreeMap::new(),
            removed: Vec::new(),
        };
        let put = record.clone();
        self.store
            .call(move |store| store.put_host(&put, event, &actor(), now()))
            .await
            .unwrap();
        self.dispatcher.refresh(&record.name).await;
    }

    pub async fn used(&self, token: &JoinToken) -> u32 {
        let tokens = self.store.call(|store| store.tokens()).await.unwrap();
        tokens.iter().find(|t| t.id == token.id).unwrap().used
    }

    pub fn host(&self, host: &str) -> Option<Host> {
        self.dispatcher.host(&name(host)).map(|host| Host::clone(&host))
    }

    pub fn is_connected(&self, host: &str) -> bool {
        self.host(host).is_some_and(|h| h.connection == Connection::Connected)
    }

    /// The next thing a host says that fits, within 15 s; the others are let go.
    pub async fn hears<T>(&mut self, what: &str, mut fits: impl FnMut(HostEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let said = self.said.recv().await.expect("the dispatcher lives");
                if let Some(found) = fits(said) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(15), found)
            .await
            .unwrap_or_else(|_| panic!("not heard within 15 s: {what}"))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.kill.take());
    }
}

/// A predecessor's store is let go of shortly after its last handle.
async fn store(dir: &Path) -> SqliteStore {
    let until = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        match SqliteStore::open(dir.join("store.db")) {
            Ok(store) => return store,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn actor() -> Actor {
    Actor {
        by: "ann".into(),
        address: "local".into(),
    }
}

pub fn tls(authority: &Authority) -> ServerTls {
    let (certificate, key) = authority.issue_server(now(), 3_600_000).unwrap();
    ServerTls::new(&[authority.certificate().clone()], certificate, &key).unwrap()
}

fn serve(dispatcher: &Dispatcher, tls: ServerTls, address: SocketAddr, bound: oneshot::Sender<SocketAddr>, killed: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        bound.send(listener.local_addr().unwrap()).unwrap();
        let connections = incoming(listener, tls, &Admission::new(Limits::default()));
        tokio::select! {
            served = dispatcher.serve_agents(connections, std::future::pending()) => served.unwrap(),
            _ = killed => {}
        }
    });
    // Every task and socket ends here.
    drop(runtime);
}

pub fn identity(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}
